"""Rewrites of an ATen graph before Inductor lowers it: what decompositions leave for their neighbours to cancel, and
what is cheaper said otherwise.

    (p + s) - s, of integers  →  p        a product of unsigned bytes is written as one of signed bytes and a
                                          correction (decompositions.py), which torchao's graphs subtract again
    max pool, 3 x 3           →  3 x 1, then 1 x 3: two times three elements, and the first three side by side
    1 + tanh(u)               →  2 * sigmoid(2u), which is fewer instructions, and exact where the sum is near 0
    a softmax's division      →  one a row (quotient.py)
    a few rows times a weight →  with the rows by column (columns.py)

RULES: operator → rule(node) → the node that takes its place, or None.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, cast

import torch
from torch._inductor import inductor_prims
from torch.fx import GraphModule, Node

from torch_rvv.calls import call
from torch_rvv.columns import PRODUCTS, by_column
from torch_rvv.pooling import SEPARATED, UNROLLED
from torch_rvv.quotient import of_softmax

aten = torch.ops.aten
max_pool = inductor_prims._low_memory_max_pool_with_offsets
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


def separated_max_pool(node: Node) -> Node | None:
    """Pooling by one axis after the other, the last one last; where positions are not asked for, and a window is so
    long that the elements not read again pay for a result between the two."""
    x, kernel, *rest = cast("list[Any]", node.args)
    axes = [axis for axis, size in enumerate(kernel) if size > 1]
    if sum(size >= SEPARATED for size in kernel) < 2 or max(kernel) > UNROLLED or node.kwargs:
        return None
    if any(user.target is not operator.getitem or (user.args[1] != 0 and user.users) for user in node.users):
        return None
    rest += [[], 0, 1, False][len(rest) :]
    stride, padding, dilation = ([v] * len(kernel) if isinstance(v, int) else list(v) for v in rest[:3])
    moves, pool = (kernel, stride or kernel, padding, dilation), node
    with node.graph.inserting_before(node):
        for axis in axes:
            # Strides of the other axes, where nothing is compared, go with the last.
            others = axes[-1] == axis
            steps = [
                [v if a == axis or (others and a not in axes) else neutral for a, v in enumerate(values)]
                for values, neutral in zip(moves, (1, 1, 0, 1), strict=True)
            ]
            pool = call(node.graph, max_pool, x, *steps, rest[3])
            if axis != axes[-1]:
                x = call(node.graph, operator.getitem, pool, 0)
    return pool


def gate(node: Node) -> Node | None:
    """1 + tanh(u), as in GELU; where nobody else needs the tanh."""
    tanh, one = node.args[:2]
    if not isinstance(tanh, Node) or tanh.target != aten.tanh.default or len(tanh.users) > 1 or node.kwargs:
        return None
    if isinstance(one, Node) or one != 1 or not node.meta["val"].is_floating_point():
        return None
    (found,) = tanh.args
    with node.graph.inserting_before(node):
        for operator_, args in ((aten.mul.Tensor, (2.0,)), (aten.sigmoid.default, ()), (aten.mul.Tensor, (2.0,))):
            found = call(node.graph, operator_, found, *args)
    return cast(Node, found)


RULES: dict[Any, Callable[[Node], Node | None]] = {
    aten.sub.Tensor: cancelled_sum,
    aten.add.Tensor: gate,
    aten.div.Tensor: of_softmax,
    max_pool: separated_max_pool,
    **dict.fromkeys(PRODUCTS, by_column),
    aten.max_pool2d_with_indices.default: separated_max_pool,
    aten.max_pool3d_with_indices.default: separated_max_pool,
}


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
