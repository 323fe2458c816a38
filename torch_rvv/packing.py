"""Constant right operands of products, in the order in which products read them.

    mm(x, permute(weight, [1, 0]))   →   mm(x, packed)         packed: the weight's transpose, contiguous

A linear layer keeps its weight as (columns, depth); a product reads rows of columns. Where the weight is a constant
(options={"freezing": True}, under torch.no_grad()) it is turned round once, at compile time, and not at each run. The
original goes if nothing else in the graph reads it; what a module holds besides goes with Inductor's
freezing_discard_parameters.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch.fx import GraphModule, Node
from torch.utils._python_dispatch import _disable_current_modes

aten = torch.ops.aten
# Product → which argument is the right operand.
PRODUCTS = {aten.mm.default: 1, aten.addmm.default: 2, aten.bmm.default: 1, aten._int_mm.default: 1}
CONVERSIONS = {torch.ops.prims.convert_element_type.default, aten._to_copy.default}


def _only_right(node: Node) -> bool:
    """Whether a value is read as the right operand of products only, converted perhaps."""
    return bool(node.users) and all(
        (user.target in CONVERSIONS and _only_right(user))
        or (
            user.target in PRODUCTS
            and [i for i, a in enumerate(user.args) if a is node] == [PRODUCTS[user.target]]
            and node not in user.kwargs.values()
        )
        for user in node.users
    )


def _turned(node: Node) -> Any:
    """The constant that a permutation should be, or None if it should stay what it is."""
    if node.target != aten.permute.default:
        return None
    source, order = node.args[0], cast("list[int]", node.args[1])
    if not isinstance(source, Node) or source.op != "get_attr":
        return None
    weight = getattr(node.graph.owning_module, str(source.target))
    if not isinstance(weight, torch.Tensor) or set(source.users) != {node} or not _only_right(node):
        return None
    with _disable_current_modes():  # Constants are real among fake tensors.
        view = weight.detach().permute(order)
        return None if view.stride(-1) == 1 or view.numel() == 0 else view.contiguous()


def pack(graph: GraphModule) -> GraphModule:
    """Turn constants round, in place."""
    changed = False
    for number, node in enumerate(list(graph.graph.nodes)):
        packed = _turned(node)
        if packed is None:
            continue
        (source,) = node.all_input_nodes
        name = f"_rvv_packed_{number}"
        graph.register_buffer(name, packed)
        with graph.graph.inserting_before(node):
            constant = graph.graph.get_attr(name)
        constant.meta["val"] = node.meta["val"].contiguous()
        node.replace_all_uses_with(constant)
        graph.graph.erase_node(node)
        graph.graph.erase_node(source)
        delattr(graph, str(source.target))
        changed = True
    if changed:
        graph.recompile()
    return graph
