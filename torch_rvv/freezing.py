"""options={"freezing": True}: parameters as constants of the graph, so that they can be repacked at compile time.

    lift      placeholders that are a module's own tensors → attributes of the graph (Dynamo passes them in as inputs)
    freeze    what stands in for Inductor's: parameters become constants, and those that products read are turned
              round (packing.py). Its own rewrites are for the host: layouts of its math library, weights of int8
              widened once and for all.

For inference, under torch.no_grad(). As with Inductor, later changes of the parameters go unnoticed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch._guards import TracingContext
from torch._inductor import config
from torch._inductor import freezing as theirs
from torch.fx import GraphModule

from torch_rvv.packing import pack
from torch_rvv.runtime.context import placed


def lift(gm: GraphModule, inputs: Sequence[Any]) -> tuple[GraphModule, list[int]]:
    """The graph with a module's own tensors as attributes, and the positions of the inputs that it still takes.

    A copy, for Dynamo goes on to read the placeholders of its own.
    """
    lifted = GraphModule(gm, copy.deepcopy(gm.graph))
    lifted.meta = gm.meta
    graph = lifted.graph
    first = next(node for node in graph.nodes if node.op != "placeholder")
    sources = lifted.__dict__["_param_name_to_source"] = dict(getattr(gm, "_param_name_to_source", None) or {})
    kept = []
    pairs = zip(gm.graph.find_nodes(op="placeholder"), graph.find_nodes(op="placeholder"), inputs, strict=True)
    for position, (original, node, value) in enumerate(pairs):
        source = node._dynamo_source = getattr(original, "_dynamo_source", None)  # Not in the copy.
        own = "_dynamo_static_input_type" in (original.meta.get("tensor_dict") or {})
        if not own or not isinstance(value, torch.Tensor):
            kept.append(position)
            continue
        name = f"_rvv_frozen_{position}"
        if isinstance(value, torch.nn.Parameter):
            lifted.register_parameter(name, value)
        else:
            lifted.register_buffer(name, value)
        sources[name] = source
        with graph.inserting_before(first):
            constant = graph.get_attr(name)
        constant.meta = dict(original.meta)
        node.replace_all_uses_with(constant)
        graph.erase_node(node)
    lifted.recompile()
    return lifted, kept


def without(compiled: Callable[..., Any], kept: Sequence[int]) -> Callable[..., Any]:
    """The compiled graph for callers that still pass all inputs."""

    def call(*inputs: Any) -> Any:
        return compiled(*[inputs[i] for i in kept])

    return call


def _freeze(dynamo_gm: GraphModule, aot_gm: GraphModule, inputs: Any) -> tuple[GraphModule, list[int]]:
    context = TracingContext.get()
    assert context.params_flat_unwrap_subclasses is not None and context.fw_metadata is not None
    kept = theirs.replace_params_with_constants(aot_gm, context.params_flat_unwrap_subclasses, context.fw_metadata)
    pack(aot_gm)
    if config.freezing_discard_parameters:
        theirs.invalidate_eager_modules()
        theirs.discard_traced_gm_params(dynamo_gm)
    return aot_gm, kept


@cache
def register() -> None:
    """Put ours in place of Inductor's while a compile of ours is under way."""
    freeze = theirs.freeze

    def chosen(dynamo_gm: GraphModule, aot_gm: GraphModule, inputs: Any) -> tuple[GraphModule, list[int]]:
        return (_freeze if placed() else freeze)(dynamo_gm, aot_gm, inputs)

    theirs.freeze = chosen  # type: ignore[assignment]
