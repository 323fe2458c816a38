"""torch_rvv::quotient(x, by): x / by of a softmax, as a reciprocal a row and three operations an element.

    r = 1 / by;  q = x * r;  x / by = q + (x - q * by) * r

With fused multiply-adds and r rounded to nearest, that is the quotient rounded to nearest (Markstein, IBM Journal of
Research and Development 34, 1990), unless something overflows or underflows. In a softmax nothing does, but the last
digits of what is next to nothing: x = exp(row - its maximum) is at most 1, and its sum is from 1 to the length of the
row, or NaN. A vector divided by a number takes an X60 twelve times as long as one multiplied by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch._inductor import ir
from torch._inductor.lowering import register_lowering
from torch._inductor.virtualized import ops
from torch.fx import Node

from torch_rvv.calls import call

aten = torch.ops.aten
WIDE = (torch.float32, torch.float64)


@torch.library.custom_op("torch_rvv::quotient", mutates_args=())
def quotient(x: Tensor, by: Tensor) -> Tensor:
    """x (..., n) and by (..., 1), as PyTorch runs it."""
    return x / by


@quotient.register_fake
def _(x: Tensor, by: Tensor) -> Tensor:
    return torch.empty_like(x)


def of_softmax(node: Node) -> Node | None:
    """exp(x - amax(x)) / sum(exp(x - amax(x))) along the last dimension, perhaps with others."""
    power, total = node.args[:2]
    if not (isinstance(power, Node) and isinstance(total, Node)) or node.kwargs:
        return None
    value = node.meta["val"]
    rows = _over(total, aten.sum.dim_IntList, power)
    if rows is None or power.target != aten.exp.default or value.dtype not in WIDE or value.dim() == 0:
        return None
    difference = power.args[0]
    if not isinstance(difference, Node) or difference.target != aten.sub.Tensor or difference.kwargs:
        return None
    whole, top = difference.args
    same = isinstance(whole, Node) and isinstance(top, Node) and _over(top, aten.amax.default, whole) == rows
    if not same or value.dim() - 1 not in {dim % value.dim() for dim in rows}:
        return None
    with node.graph.inserting_before(node):
        return call(node.graph, torch.ops.torch_rvv.quotient.default, power, total)


def _over(node: Node, operator: Any, source: Node) -> list[int] | None:
    """The dimensions that an operator folds of a source and keeps as ones, if a node is that."""
    if node.target != operator or node.kwargs or node.args[:1] != (source,) or node.args[2:] != (True,):
        return None
    dims: Any = node.args[1]
    return list(dims)


@cache
def register() -> None:
    """Tell Inductor what the operator is."""

    @register_lowering(torch.ops.torch_rvv.quotient.default, type_promotion_kind=None)
    def lower(x: Any, by: Any) -> Any:
        read, divisor = x.make_loader(), by.make_loader()
        alone = [size == 1 for size in by.get_size()]

        def divided(index: Sequence[Any]) -> Any:
            number = divisor([0 if one else i for i, one in zip(index, alone, strict=True)])
            value, reciprocal = read(index), ops.reciprocal(number)
            near = ops.mul(value, reciprocal)
            return ops.fma(ops.fma(near, ops.neg(number), value), reciprocal, near)

        return ir.Pointwise.create(
            device=x.get_device(), dtype=x.get_dtype(), inner_fn=divided, ranges=list(x.get_size())
        )
