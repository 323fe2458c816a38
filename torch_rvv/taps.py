"""torch_rvv::taps(x, weight, stride, dilation): a depthwise convolution of a few taps, as one elementwise operator.

    y[n, c, p] = sum over taps t, in order, of x[n, c, p * stride + t * dilation] * weight[c, 0, t]

In aten's operators each tap is four nodes of the graph, and every pass of Inductor goes over all of them; as one node
with a lowering of its own it fuses all the same. Sums are in f32, tap by tap; x has its padding already, and is
computed first if it is more than an image with zeros around it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._inductor import ir
from torch._inductor.lowering import register_lowering
from torch._inductor.virtualized import ops
from torch.utils._sympy.functions import FloorDiv

from torch_rvv.stored import CHEAP, PADS, is_computed

CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


@torch.library.custom_op("torch_rvv::taps", mutates_args=())
def sum_of_taps(x: Tensor, weight: Tensor, stride: Sequence[int], dilation: Sequence[int]) -> Tensor:
    """x (N, C, pixels...) and weight (C, 1, taps...), as PyTorch runs it."""
    convolution: Any = CONVOLUTIONS[x.dim() - 2]
    wide = convolution(x.float(), weight.float(), None, tuple(stride), 0, tuple(dilation), weight.shape[0])
    return _like(x, weight, stride, dilation).copy_(wide)


@sum_of_taps.register_fake
def _like(x: Tensor, weight: Tensor, stride: Sequence[int], dilation: Sequence[int]) -> Tensor:
    """A result in the order of x's strides, as an elementwise operator has it."""
    for axis, (taps, s, step) in enumerate(zip(weight.shape[2:], stride, dilation, strict=True), 2):
        x = x[(slice(None),) * axis + (slice(0, x.shape[axis] - (taps - 1) * step, s),)]
    return torch.empty_like(x)


@cache
def register() -> None:
    """Tell Inductor what the operator is."""

    @register_lowering(torch.ops.torch_rvv.taps.default, type_promotion_kind=None)
    def lower(x: Any, weight: Any, stride: Sequence[int], dilation: Sequence[int]) -> Any:
        if is_computed(x, CHEAP | PADS):
            x.realize()
        dtype, kernel = x.get_dtype(), [int(size) for size in weight.get_size()[2:]]
        images, factors = x.make_loader(), weight.make_loader()

        def wide(value: Any) -> Any:
            return value if dtype == torch.float32 else ops.to_dtype(value, torch.float32)

        def total(index: Sequence[Any]) -> Any:
            n, channel, *pixel = index
            result = None
            for tap in itertools.product(*map(range, kernel)):
                at = [p * s + t * step for p, s, t, step in zip(pixel, stride, tap, dilation, strict=True)]
                seen, factor = wide(images([n, channel, *at])), wide(factors([channel, 0, *tap]))
                result = ops.mul(seen, factor) if result is None else ops.fma(seen, factor, result)
            return result if dtype == torch.float32 else ops.to_dtype(result, dtype)

        sizes = zip(x.get_size()[2:], kernel, stride, dilation, strict=True)
        pixels = [FloorDiv(size - (taps - 1) * step - 1, s) + 1 for size, taps, s, step in sizes]
        ranges = [*x.get_size()[:2], *pixels]
        return ir.Pointwise.create(device=x.get_device(), dtype=dtype, inner_fn=total, ranges=ranges)
