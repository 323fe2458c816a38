"""Convolutions whose groups have few channels, as a Triton kernel that a compiled graph launches.

    y[o, p] = sum over c, taps t of w[o, c, t] * x[group of o, c, p * stride + t * dilation]

As products they would have few rows, and gathering the taps for them costs more than the products do. Here an element
of x is read once for OUT channels of the result, and a row of pixels is a vector of memory: with a stride, rows and
columns of the image stand in memory apart by their remainder, so that what a tap reads lies side by side. A block goes
on from one row of the image to the next, and what it makes of their ends is cut off. Sums are in f32. Limits: two
dimensions, sizes that are numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch._inductor.runtime.runtime_utils import next_power_of_2

from torch_rvv.geometry import Geometry, padded
from torch_rvv.knobs import knobs
from torch_rvv.launch import REACH, launch
from torch_rvv.runtime.context import placed
from torch_rvv.stored import stored

# Pixels of a block.
BLOCK = 2048
# Products of an element of the result, all of them written out, by the channels that are made at once.
PRODUCTS = 300
# Channels of a result's group up to which this costs less than a matrix product.
ROWS = 4


@triton.jit
def _product(w, at: tl.constexpr, value, total):
    factor = tl.load(w + at)
    return tl.fma(value, tl.broadcast_to(factor, value.shape), total)


@triton.jit
def narrow_groups(
    x, w, y, x_image: tl.constexpr, x_channel: tl.constexpr, x_phase: tl.constexpr, pitch: tl.constexpr,
    y_image: tl.constexpr, y_channel: tl.constexpr, count: tl.constexpr, PARTS: tl.constexpr, C: tl.constexpr,
    KH: tl.constexpr, KW: tl.constexpr, SH: tl.constexpr, SW: tl.constexpr, DH: tl.constexpr, DW: tl.constexpr,
    OUT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A block of pixels of OUT (1, 2 or 4) channels, of which a group has PARTS times as many."""
    image, part = tl.program_id(2), tl.program_id(1)
    p = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = p < count
    at = x + image.to(tl.int64) * x_image + part // PARTS * (C * x_channel) + p
    w += part * (OUT * C * KH * KW)
    first = tl.zeros((BLOCK,), tl.float32)
    second, third, fourth = first, first, first
    for c in tl.static_range(C):
        for i in tl.static_range(KH):
            for j in tl.static_range(KW):
                phase = i * DH % SH * SW + j * DW % SW
                reads = c * x_channel + phase * x_phase + i * DH // SH * pitch + j * DW // SW
                value = tl.load(at + reads, mask=inside).to(tl.float32)
                tap = (c * KH + i) * KW + j
                first = _product(w, tap, value, first)
                if OUT > 1:
                    second = _product(w, C * KH * KW + tap, value, second)
                if OUT > 2:
                    third = _product(w, 2 * C * KH * KW + tap, value, third)
                    fourth = _product(w, 3 * C * KH * KW + tap, value, fourth)
    kind = y.dtype.element_ty
    to = y + image.to(tl.int64) * y_image + part * (OUT * y_channel) + p
    tl.store(to, first.to(kind), mask=inside)
    if OUT > 1:
        tl.store(to + y_channel, second.to(kind), mask=inside)
    if OUT > 2:
        tl.store(to + 2 * y_channel, third.to(kind), mask=inside)
        tl.store(to + 3 * y_channel, fourth.to(kind), mask=inside)


def at_once(rows: int) -> int:
    """How many channels of a group's result are made at once."""
    return math.gcd(rows, 4)


@dataclass(frozen=True)
class Pixels:
    """A result's pixels, and how many rows and columns of whole strides their taps see."""

    height: int
    width: int
    rows: int
    pitch: int

    @staticmethod
    def of(image: Sequence[int], kernel: Sequence[int], geometry: Geometry) -> Pixels:
        sizes, reaches = geometry.results(image, kernel), geometry.reach(kernel)
        seen = [-(-((m - 1) * s + r) // s) for m, s, r in zip(sizes, geometry.stride, reaches, strict=True)]
        return Pixels(*sizes, *seen)

    @property
    def count(self) -> int:
        """From the first pixel to the last, in rows of `pitch`."""
        return (self.height - 1) * self.pitch + self.width


def applies(x: Tensor, weight: Tensor, geometry: Geometry) -> bool:
    """Whether the kernel can do a convolution, and would do it sooner than a product."""
    if not placed() or knobs.force_fallback or weight.dim() != 4 or geometry.groups == 1:
        return False
    rows, kernel = weight.shape[0] // geometry.groups, weight.shape[2:]
    if rows > ROWS or math.prod(kernel) == 1 or at_once(rows) * math.prod(weight.shape[1:]) > PRODUCTS:
        return False
    if not all(isinstance(size, int) for size in x.shape):
        return False
    pixels = Pixels.of(x.shape[2:], kernel, geometry)
    image = x.shape[1] * math.prod(geometry.stride) * pixels.rows * pixels.pitch
    return max(image, weight.shape[0] * (pixels.height * pixels.pitch + BLOCK)) < REACH


def correlate(x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """The convolution."""
    n, channels = x.shape[:2]
    out, kernel, (down, across) = weight.shape[0], weight.shape[2:], geometry.stride
    pixels = Pixels.of(x.shape[2:], kernel, geometry)
    height, pitch, whole = pixels.height, pixels.pitch, (pixels.rows * down, pixels.pitch * across)
    after = [m - p - size for m, p, size in zip(whole, geometry.padding, x.shape[2:], strict=True)]
    x = padded(x, geometry.padding, after).reshape(n, channels, pixels.rows, down, pitch, across)
    x = stored(x.permute(0, 1, 3, 5, 2, 4).contiguous())
    block = max(16, min(next_power_of_2(pixels.count), BLOCK))
    # Whole blocks: a channel's pixels are known not to meet the next one's.
    y = torch.empty(n, out, -(-height * pitch // block) * block, dtype=x.dtype, device=x.device)
    made = at_once(out // geometry.groups)
    constants = {
        "x_image": x.stride(0), "x_channel": x.stride(1), "x_phase": pixels.rows * pitch, "pitch": pitch,
        "y_image": y.stride(0), "y_channel": y.stride(1), "count": pixels.count,
        "PARTS": out // geometry.groups // made, "C": channels // geometry.groups, "KH": kernel[0], "KW": kernel[1],
        "SH": down, "SW": across, "DH": geometry.dilation[0], "DW": geometry.dilation[1], "OUT": made, "BLOCK": block,
    }  # fmt: skip
    grid = (-(-pixels.count // block), out // made, n)
    done = launch(narrow_groups, grid, {"x": x, "w": weight.float().contiguous(), "y": y}, {}, constants, ["y"])
    return done["y"][..., : height * pitch].unflatten(-1, (height, pitch))[..., : pixels.width]
