"""Average pooling and its gradient.

    avg_pool*             of overlapping windows: sums by one axis after the other, which read 3 + 3 elements and not 9
    avg_pool*_backward    with windows that end with the image: Inductor divides by the whole window's size

Largest of a window: simplify.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from torch_rvv.obstacles import FLOATS
from torch_rvv.stored import stored

aten = torch.ops.aten
# Windows of at least so many elements along two axes are separated; Inductor unrolls those of at most so many.
SEPARATED, UNROLLED = 3, 25


def table() -> dict[Any, Callable[..., Any]]:
    """Rules by operator."""
    return {
        aten.avg_pool2d.default: partial(avg_pool, aten.avg_pool2d.default, 2),
        aten.avg_pool3d.default: partial(avg_pool, aten.avg_pool3d.default, 3),
        aten.avg_pool2d_backward.default: partial(avg_pool_backward, aten.avg_pool2d_backward.default, 2),
        aten.avg_pool3d_backward.default: partial(avg_pool_backward, aten.avg_pool3d_backward.default, 3),
    }


def _each(values: Any, d: int) -> list[int]:
    """A number a dimension."""
    return list(values) * d if len(values) == 1 else list(values)


def avg_pool(operator: Any, d: int, x: Tensor, kernel: list[int], stride: list[int] | None = None,
             padding: list[int] | None = None, ceil_mode: bool = False, count_include_pad: bool = True,
             divisor: int | None = None) -> Any:  # fmt: skip
    """aten.avg_pool2d and 3d of floats, where windows of several axes overlap. Sums are in f32, along the first of
    these axes first."""
    sizes = _each(kernel, d)
    steps, around = _each(stride or sizes, d), _each(padding or [0], d)
    axes = [axis for axis, (k, s) in enumerate(zip(sizes, steps, strict=True)) if k >= SEPARATED and k > s]
    if ceil_mode or x.dtype not in FLOATS or len(axes) < 2 or max(sizes) > UNROLLED:
        return NotImplemented
    total = x.float()
    for axis in axes:
        # The other axes go with the last.
        mine = [a == axis or (axis == axes[-1] and a not in axes) for a in range(d)]
        moves = ([v if here else neutral for v, here in zip(values, mine, strict=True)]
                 for values, neutral in ((sizes, 1), (steps, 1), (around, 0)))  # fmt: skip
        total = stored(operator(total, *moves, False, True, 1))
    if not any(around) or count_include_pad or divisor is not None:
        return (total * (1 / (divisor or math.prod(sizes)))).to(x.dtype)
    for axis in range(-d, 0):
        total = total * _shares(x, axis, total.shape[axis], sizes[axis], steps[axis], around[axis])
    return total.to(x.dtype)


def _shares(x: Tensor, axis: int, count: int, kernel: int, stride: int, padding: int) -> Tensor:
    """1 / elements of the image that each window has along an axis."""
    begin = torch.arange(count, device=x.device) * stride - padding
    has = (begin + kernel).clamp(max=x.shape[axis]) - begin.clamp(min=0)
    return stored(has.float().reciprocal().reshape(-1, *[1] * (-axis - 1)))


def avg_pool_backward(operator: Any, d: int, grad: Tensor, x: Tensor, kernel: list[int], stride: list[int],
                      padding: list[int], ceil_mode: bool, count_include_pad: bool,
                      divisor: int | None) -> Any:  # fmt: skip
    """aten.avg_pool2d_backward and 3d, where the last windows go beyond the padding: each gradient is divided by what
    its window has of image and padding."""
    if not ceil_mode or not count_include_pad or divisor is not None:
        return NotImplemented
    step, around = (list(stride) or list(kernel)), list(padding) or [0]
    kernel, step, around = (_each(v, d) for v in (kernel, step, around))
    for axis, (k, s, p) in enumerate(zip(kernel, step, around, strict=True), grad.dim() - d):
        begin = torch.arange(grad.shape[axis], device=grad.device) * s - p
        counted = (begin + k).clamp(max=x.shape[axis] + p) - begin
        grad = grad * (k / counted).to(grad.dtype).reshape(-1, *[1] * (grad.dim() - 1 - axis))
    return operator(grad, x, kernel, step, around, True, True, math.prod(kernel))
