"""Constant weights, in the form in which products read them.

    mm(x, permute(weight, [1, 0]))   →   mm(x, packed)         packed: the weight's transpose, contiguous
    split_filter(weight)             →   packed                its tiles (winograd.py)

A linear layer keeps its weight as (columns, depth); a product reads rows of columns. Where the weight is a constant
(options={"freezing": True}, under torch.no_grad()) it is packed once, at compile time, and not at each run. The
original goes if nothing else in the graph reads it; what a module holds besides goes with Inductor's
freezing_discard_parameters.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, cast

import torch
from torch.fx import GraphModule, Node
from torch.utils._python_dispatch import _disable_current_modes

from torch_rvv import winograd
from torch_rvv.calls import LEFT

aten = torch.ops.aten
CONVERSIONS = {torch.ops.prims.convert_element_type.default, aten._to_copy.default}


def _only_right(node: Node) -> bool:
    """Whether a value is read as the right operand of products only, converted perhaps."""
    return bool(node.users) and all(
        (user.target in CONVERSIONS and _only_right(user))
        or (
            user.target in LEFT
            and [i for i, a in enumerate(user.args) if a is node] == [LEFT[user.target] + 1]
            and node not in user.kwargs.values()
        )
        for user in node.users
    )


def _constant(source: Any, reader: Node) -> torch.Tensor | None:
    """The tensor that a node stands for, if it is a constant that nobody else reads."""
    if not isinstance(source, Node) or source.op != "get_attr" or set(source.users) != {reader}:
        return None
    weight = getattr(source.graph.owning_module, str(source.target))
    return weight.detach() if isinstance(weight, torch.Tensor) else None


def _turned(node: Node) -> torch.Tensor | None:
    """What a permutation of a weight should be, or None if it should stay what it is."""
    weight = _constant(node.args[0], node)
    if weight is None or not _only_right(node):
        return None
    view = weight.permute(cast("list[int]", node.args[1]))
    return None if view.stride(-1) == 1 or view.numel() == 0 else view.contiguous()


def _tiled(node: Node) -> torch.Tensor | None:
    """The tiles of a filter."""
    launched = node.args[0]
    assert isinstance(launched, Node)
    if not winograd.splits_filter(launched):
        return None
    weight = _constant(cast("dict[str, Any]", launched.kwargs["kwargs"])["w"], launched)
    return None if weight is None else winograd.packed_filter(weight)


RULES: dict[Any, Callable[[Node], torch.Tensor | None]] = {aten.permute.default: _turned, operator.getitem: _tiled}


def _erase(graph: GraphModule, node: Node) -> None:
    """A node and what only it reads; with constants, what they are."""
    read = node.all_input_nodes
    graph.graph.erase_node(node)
    if node.op == "get_attr":
        delattr(graph, str(node.target))
    for one in read:
        if not one.users and one.op != "placeholder":
            _erase(graph, one)


def pack(graph: GraphModule) -> GraphModule:
    """Pack constants, in place."""
    changed = False
    for number, node in enumerate(list(graph.graph.nodes)):
        rule = RULES.get(node.target)
        if rule is None:
            continue
        with _disable_current_modes():  # Constants are real among fake tensors.
            packed = rule(node)
        if packed is None:
            continue
        name = f"_rvv_packed_{number}"
        graph.register_buffer(name, packed)
        with graph.graph.inserting_before(node):
            constant = graph.graph.get_attr(name)
        constant.meta["val"] = node.meta["val"].contiguous()
        node.replace_all_uses_with(constant)
        _erase(graph, node)
        changed = True
    if changed:
        graph.recompile()
    return graph
