"""Rewrites of an ATen graph before Inductor lowers it: what decompositions leave for their neighbours to cancel.

    (p + s) - s, of integers  →  p        a product of unsigned bytes is written as one of signed bytes and a
                                          correction (decompositions.py), which torchao's graphs subtract again

RULES: operator → rule(node) → the node that takes its place, or None.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.fx import GraphModule, Node

aten = torch.ops.aten
PURE = {aten.mul.Tensor, aten.sum.dim_IntList, aten.permute.default, aten.t.default, aten.view.default}


def same(a: Any, b: Any) -> bool:
    """Whether two arguments have the same value, by their form."""
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if not (isinstance(a, Node) and isinstance(b, Node)):
        return not isinstance(a, Node) and not isinstance(b, Node) and type(a) is type(b) and a == b
    return a is b or (
        a.target == b.target
        and a.target in PURE
        and same(a.args, b.args)
        and a.kwargs.keys() == b.kwargs.keys()
        and all(same(a.kwargs[k], b.kwargs[k]) for k in a.kwargs)
    )


def cancelled_sum(node: Node) -> Node | None:
    """(p + s) - s, where nothing is rounded and p has the result's shape and type."""
    total, taken = node.args[:2]
    if not isinstance(total, Node) or total.target != aten.add.Tensor or node.kwargs or total.kwargs:
        return None
    kept, added = total.args[:2]
    if not isinstance(kept, Node) or not same(added, taken):
        return None
    here, there = node.meta["val"], kept.meta["val"]
    exact = not here.dtype.is_floating_point and not here.dtype.is_complex and here.dtype != torch.bool
    return kept if exact and here.dtype == there.dtype and here.shape == there.shape else None


RULES: dict[Any, Callable[[Node], Node | None]] = {aten.sub.Tensor: cancelled_sum}


def simplify(graph: GraphModule) -> GraphModule:
    """Apply the rules, in place."""
    changed = False
    for node in list(graph.graph.nodes):
        rule = RULES.get(node.target)
        found = rule(node) if rule is not None else None
        if found is not None:
            node.replace_all_uses_with(found)
            graph.graph.erase_node(node)
            changed = True
    if changed:
        graph.graph.eliminate_dead_code()
        graph.recompile()
    return graph
