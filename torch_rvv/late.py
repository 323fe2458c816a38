"""Operators that Inductor's passes write once decompositions have gone by: decomposed after all.

softmax(q @ k.T * s) @ v   →   _scaled_dot_product_flash_attention_for_cpu(q, k, v)     by Inductor's patterns
                           →   kernels of ours (attention.py)
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch._dispatch.python import enable_python_dispatcher
from torch._guards import detect_fake_mode
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import free_symbols
from torch.fx.node import map_arg

from torch_rvv import decompositions
from torch_rvv.runtime import record

aten = torch.ops.aten
LATE = {
    aten._scaled_dot_product_flash_attention_for_cpu.default,
    aten._scaled_dot_product_flash_attention_for_cpu_backward.default,
}


def decompose(graph: GraphModule) -> GraphModule:
    """Put our decompositions in the place of such operators, in place; what they decline stays."""
    found = [node for node in graph.graph.nodes if node.target in LATE]
    rules = decompositions.table() if found else {}
    for node in found:
        if _is_dynamic(node):
            record.decide(f"{node.target} of dynamic sizes", f"{record.LEFT}: Inductor's patterns made it")
        else:
            _inline(node, rules)
    if found:
        graph.graph.eliminate_dead_code()
        graph.recompile()
    return graph


def _is_dynamic(node: Node) -> bool:
    values = [n.meta["val"] for n in node.all_input_nodes]
    return any(not isinstance(v, torch.Tensor) or free_symbols(v) for v in values)


def _inline(node: Node, rules: dict[Any, Any]) -> None:
    inputs = node.all_input_nodes
    traced = _traced(node, inputs, rules)
    if any(inner.target == node.target for inner in traced.graph.nodes):
        return
    graph = node.graph
    known = dict(zip(traced.graph.find_nodes(op="placeholder"), inputs, strict=True))
    with graph.inserting_before(node):
        results: Any = graph.graph_copy(traced.graph, known)
    for user in list(node.users):
        assert user.target is operator.getitem
        user.replace_all_uses_with(results[user.args[1]])
        graph.erase_node(user)
    graph.erase_node(node)


def _traced(node: Node, inputs: list[Node], rules: dict[Any, Any]) -> GraphModule:
    """A call, decomposed: a graph of its own, of tensors like the node's."""

    def call(*values: Any) -> Any:
        held = dict(zip(inputs, values, strict=True))
        args, kwargs = map_arg((node.args, node.kwargs), held.__getitem__)
        return node.target(*args, **kwargs)  # type: ignore[operator]

    values = [n.meta["val"] for n in inputs]
    mode = detect_fake_mode(values)
    assert mode is not None
    with mode, enable_python_dispatcher():
        return make_fx(call, rules, tracing_mode="real")(*values)
