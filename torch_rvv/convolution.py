"""Convolutions and their gradients in terms of matrix products, which are kernels of ours (gemm.py).

    correlate         weights (O, C*k) @ patches (C*k, pixels): the patches are never stored as a whole, since Inductor
                      computes them where the product reads them (implicit GEMM)
                      3 x 3: by tiles, where that is faster (winograd.py)
    depthwise         a sum over the taps of the filter: elementwise (taps.py); of many taps: depthwise.py
    few channels      in a group, and strides with many taps: narrowgroups.py
    spread            a transposed convolution: so many correlations as there are phases of the stride, each with the
                      taps that meet its pixels, interleaved. No product with inserted zeros.
    filter_gradient   the result's gradient (O, N*pixels) @ patches (N*pixels, C*k)

The gradient of one of correlate and spread by its input is the other. What stays in aten: `_obstacles`.
Images are (N, C, pixels...), filters (O, C / groups, taps...), in 1 to 3 dimensions; those of `spread` have
(C, O / groups, taps...), as in PyTorch.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torch_rvv import depthwise, narrowgroups, winograd
from torch_rvv.geometry import Geometry, described, padded
from torch_rvv.obstacles import FLOATS, left_to_aten
from torch_rvv.stored import stored
from torch_rvv.taps import sum_of_taps

UNROLLED_TAPS = 9


def forward(x: Tensor, weight: Tensor, bias: Tensor | None, stride: list[int], padding: list[int],
            dilation: list[int], transposed: bool, output_padding: list[int], groups: int) -> Any:  # fmt: skip
    """aten.convolution."""
    what = "transposed convolution" if transposed else "convolution"
    if left_to_aten("conv", described(what, x, weight), _obstacles(x, weight)):
        return NotImplemented
    geometry = Geometry.of(weight, stride, padding, dilation, groups)
    d = x.dim() - 2
    if transposed:
        more = list(output_padding) * (d if len(output_padding) == 1 else 1)
        sizes = zip(x.shape[2:], geometry.stride, geometry.padding, geometry.reach(weight.shape[2:]), more, strict=True)
        out = spread(x, weight, geometry, [(n - 1) * s - 2 * p + reach + m for n, s, p, reach, m in sizes])
    else:
        out = correlate(x, weight, geometry)
    return out if bias is None else out + bias.reshape(-1, *[1] * d)


def backward(grad: Tensor, x: Tensor, weight: Tensor, bias_sizes: list[int] | None, stride: list[int],
             padding: list[int], dilation: list[int], transposed: bool, output_padding: list[int], groups: int,
             output_mask: list[bool]) -> Any:  # fmt: skip
    """aten.convolution_backward: gradients by x, weight and bias, those that output_mask asks for."""
    what = described("gradients of a convolution", x, weight)
    if left_to_aten("conv", what, (*_obstacles(x, weight), *_obstacles(grad, weight))):
        return NotImplemented
    geometry = Geometry.of(weight, stride, padding, dilation, groups)
    by_x = by_weight = by_bias = None
    grad = stored(grad)  # Each of the three reads it.
    if output_mask[0] and transposed:
        by_x = correlate(grad, weight, geometry)
        for axis in range(2, x.dim()):  # An output padding of a stride and more has room for further pixels.
            by_x = by_x.narrow(axis, 0, x.shape[axis])
    elif output_mask[0]:
        by_x = spread(grad, weight, geometry, x.shape[2:])
    if output_mask[1]:
        image, result = (grad, x) if transposed else (x, grad)
        by_weight = filter_gradient(image, result, weight.shape[2:], geometry)
    if output_mask[2]:
        by_bias = grad.sum((0, *range(2, grad.dim())))
    return by_x, by_weight, by_bias


def _obstacles(x: Tensor, weight: Tensor) -> tuple[tuple[bool, str], ...]:
    return (
        (x.dtype not in FLOATS or x.dtype != weight.dtype, "a type that has no kernel"),
        (
            x.dim() != weight.dim() or not all(isinstance(n, int) for n in (x.shape[1], *weight.shape)),
            "dynamic channels or taps",
        ),
        (x.numel() == 0 or weight.numel() == 0, "no elements"),
    )


# -- an image and a filter


def correlate(x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """The convolution of neural networks."""
    tiled = winograd.correlate(x, weight, geometry)
    if tiled is not None:
        return tiled
    apart = geometry.groups == x.shape[1] and weight.shape[1] == 1 and weight.shape[0] == geometry.groups
    taps = math.prod(weight.shape[2:])
    unrolled = apart and taps <= UNROLLED_TAPS
    if apart and not unrolled and depthwise.applies(x, weight, geometry):
        return depthwise.correlate(x, weight, geometry)
    if not unrolled and narrowgroups.applies(x, weight, geometry):
        return narrowgroups.correlate(x, weight, geometry)
    x = padded(x, geometry.padding, geometry.padding)
    # Read by each tap: without its edges that costs less than a copy does, but where few elements are read (taps.py).
    few = taps == 1 or (unrolled and any(s > 1 for s in geometry.stride))
    x = x if few else stored(x)
    return _depthwise(x, weight, geometry) if apart else _by_product(x, weight, geometry)


def _depthwise(x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    kernel, d = weight.shape[2:], weight.dim() - 2
    if math.prod(kernel) <= UNROLLED_TAPS:
        return sum_of_taps(x, weight, geometry.stride, geometry.dilation)
    patches = _patches(x, kernel, geometry).float()
    factors = weight.float().reshape(1, -1, *[1] * d, *kernel)
    return (patches * factors).sum(tuple(range(2 + d, 2 + 2 * d))).to(x.dtype)


def _patches(x: Tensor, kernel: Sequence[int], geometry: Geometry) -> Tensor:
    """(N, C, pixels..., taps...): a view of x."""
    d = len(kernel)
    for axis, (reach, s) in enumerate(zip(geometry.reach(kernel), geometry.stride, strict=True)):
        x = x.unfold(2 + axis, reach, s)
    for axis, step in enumerate(geometry.dilation):
        x = x[(slice(None),) * (2 + d + axis) + (slice(None, None, step),)]
    return x


def _by_product(x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    kernel, d, groups = weight.shape[2:], weight.dim() - 2, geometry.groups
    n, c, o = x.shape[0], x.shape[1], weight.shape[0]
    pixels = geometry.pixels(x.shape[2:], kernel)
    depth, count = c // groups * math.prod(kernel), math.prod(pixels)
    if math.prod(kernel) == 1:  # In fewer nodes.
        patches = x[(slice(None), slice(None), *(slice(None, None, s) for s in geometry.stride))]
    else:
        order = (0, 1, *range(2 + d, 2 + 2 * d), *range(2, 2 + d))
        patches = _patches(x, kernel, geometry).permute(order)
    matrices = weight.reshape(groups, o // groups, depth)
    if not (isinstance(n, int) and n == 1):
        matrices = matrices.expand(n, groups, o // groups, depth).reshape(-1, o // groups, depth)
    return torch.bmm(matrices, patches.reshape(n * groups, depth, count)).reshape(n, o, *pixels)


# -- the other way


@dataclass(frozen=True)
class Phase:
    """Pixels i of a result with (i + padding) % stride == residue, in one dimension: taps first, first + step, ...,
    `count` of them, the nearest of which reads `offset` pixels before the pixel's own."""

    first: int
    step: int
    count: int
    offset: int


def _phases(kernel: int, stride: int, dilation: int) -> list[Phase]:
    """One a residue. Tap t adds to pixel q from pixel (q - t * dilation) / stride, where that is whole."""
    step = stride // math.gcd(stride, dilation)
    found = []
    for residue in range(stride):
        taps = [t for t in range(kernel) if t * dilation % stride == residue]
        offset = (taps[0] * dilation - residue) // stride if taps else 0
        found.append(Phase(taps[0] if taps else 0, step, len(taps), offset))
    return found


def spread(x: Tensor, weight: Tensor, geometry: Geometry, size: Sequence[int]) -> Tensor:
    """What each pixel of x adds to a result of `size` pixels, whose stride and padding are the geometry's."""
    d, groups = x.dim() - 2, geometry.groups
    c, o, kernel = weight.shape[0], weight.shape[1], weight.shape[2:]
    # The filter of a correlation has the result's channels first.
    turned = weight.reshape(groups, c // groups, o, *kernel).transpose(1, 2).reshape(groups * o, c // groups, *kernel)
    begin = [p // s for p, s in zip(geometry.padding, geometry.stride, strict=True)]
    count = [
        (p + n - 1) // s - b + 1 for p, n, s, b in zip(geometry.padding, size, geometry.stride, begin, strict=True)
    ]
    apart = tuple(step // math.gcd(s, step) for s, step in zip(geometry.stride, geometry.dilation, strict=True))
    walk = Geometry((1,) * d, (0,) * d, apart, groups)
    phases = [_phases(*axis) for axis in zip(kernel, geometry.stride, geometry.dilation, strict=True)]
    # Where in x each phase of an axis starts to read, and where it ends; then all of them read one image.
    spans = [
        [(b - p.offset - (p.count - 1) * step, b - p.offset + n) for p in axis if p.count]
        for axis, b, n, step in zip(phases, begin, count, apart, strict=True)
    ]
    start = [min(first for first, _ in axis) for axis in spans]
    after = [max(end for _, end in axis) - n for axis, n in zip(spans, x.shape[2:], strict=True)]
    x = padded(x, [-first for first in start], after)
    x = stored(x) if any(first < 0 for first in start) or any(n > 0 for n in after) else x
    parts = [
        _phase(x, turned, walk, corner, [b - first for b, first in zip(begin, start, strict=True)], count)
        if all(phase.count for phase in corner)
        else x.new_zeros(x.shape[0], groups * o, *count)
        for corner in itertools.product(*phases)
    ]
    return _interleaved(parts, geometry, begin, count, size)


def _phase(
    x: Tensor, weight: Tensor, walk: Geometry, corner: Sequence[Phase], begin: Sequence[int], count: Sequence[int]
) -> Tensor:
    """The correlation that makes one phase's `count` pixels, the first of which has its own place at `begin` in x."""
    for axis, (phase, b, n, step) in enumerate(zip(corner, begin, count, walk.dilation, strict=True)):
        taps = slice(phase.first, phase.first + (phase.count - 1) * phase.step + 1, phase.step)
        weight = weight[(slice(None),) * (2 + axis) + (taps,)].flip(2 + axis)
        reach = (phase.count - 1) * step
        x = x.narrow(2 + axis, b - phase.offset - reach, n + reach)
    return correlate(x, weight, walk)


def _interleaved(
    parts: list[Tensor], geometry: Geometry, begin: Sequence[int], count: Sequence[int], size: Sequence[int]
) -> Tensor:
    """Phases side by side, from where the padding ends."""
    d = len(size)
    whole = parts[0]
    if len(parts) > 1:
        order = [0, 1, *(axis for i in range(d) for axis in (2 + i, 2 + d + i))]
        stacked = torch.stack(parts, -1).reshape(*whole.shape, *geometry.stride)
        lengths = [n * s for n, s in zip(count, geometry.stride, strict=True)]
        whole = stacked.permute(order).reshape(*whole.shape[:2], *lengths)
    for axis, (p, s, b, n) in enumerate(zip(geometry.padding, geometry.stride, begin, size, strict=True)):
        whole = whole.narrow(2 + axis, p - b * s, n)
    return whole


def filter_gradient(x: Tensor, grad: Tensor, kernel: Sequence[int], geometry: Geometry) -> Tensor:
    """The gradient by the filter, of the image that taps walk over and the gradient of the result."""
    n, c, o, d, groups = x.shape[0], x.shape[1], grad.shape[1], len(kernel), geometry.groups
    pixels = list(grad.shape[2:])
    # Only what taps see: a stride may leave some pixels at the end out.
    needs = [(m - 1) * s + reach for m, s, reach in zip(pixels, geometry.stride, geometry.reach(kernel), strict=True)]
    after = [need - p - size for need, p, size in zip(needs, geometry.padding, x.shape[2:], strict=True)]
    if any((*geometry.padding, *after)):
        x = stored(padded(x, geometry.padding, after))
    patches = _patches(x, kernel, geometry)
    if groups == c == o:
        factors = grad.float().reshape(*grad.shape, *[1] * d)
        return (patches.float() * factors).sum((0, *range(2, 2 + d))).to(x.dtype).reshape(c, 1, *kernel)
    count = n * math.prod(pixels)
    left = grad.reshape(n, groups, o // groups, -1).permute(1, 2, 0, 3).reshape(groups, o // groups, count)
    grouped = patches.reshape(n, groups, c // groups, *patches.shape[2:])
    order = (1, 0, *range(3, 3 + d), 2, *range(3 + d, 3 + 2 * d))
    right = grouped.permute(order).reshape(groups, count, -1)
    return torch.bmm(left, right).reshape(o, c // groups, *kernel)
