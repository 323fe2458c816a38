"""Depthwise convolutions with large filters, as a Triton kernel that a compiled graph launches.

    y[i, j] = sum over a, b of w[a, b] * x[i + a, j + b]    four rows of y at once: each row of x that they share is
                                                            read once and serves as many sums as there are rows

Filters of a few taps are written out instead (convolution.py), and then fused with what surrounds them. Sums are in
f32, tap by tap, as there. Limits: stride 1, sizes that are numbers.
"""

from __future__ import annotations

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

# Elements of a block, in one of the rows that are made at once.
BLOCK = 2048


@triton.jit
def _tap(value, column, total, i: tl.constexpr, w_row: tl.constexpr, KH: tl.constexpr, DH: tl.constexpr):
    """A row's sum with one more tap, if an element that is i rows below the row's first has one."""
    if i >= 0 and i % DH == 0 and i // DH < KH:
        factor = tl.load(column + i // DH * w_row)
        total = tl.fma(value, tl.broadcast_to(factor, value.shape), total)
    return total


@triton.jit
def depthwise(
    x, w, y, x_image: tl.constexpr, x_channel: tl.constexpr, x_row: tl.constexpr, x_column: tl.constexpr,
    w_channel: tl.constexpr, w_row: tl.constexpr, w_column: tl.constexpr, channels: tl.constexpr,
    groups: tl.constexpr, width: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr, DH: tl.constexpr,
    DW: tl.constexpr, ROWS: tl.constexpr, BG: tl.constexpr, BT: tl.constexpr,
):  # fmt: skip
    """Blocks of groups of ROWS (2 or 4) rows of a channel."""
    image, channel = tl.program_id(2), tl.program_id(1)
    g, t = tl.program_id(0) * BG + tl.arange(0, BG)[:, None], tl.arange(0, BT)[None, :]
    inside = (g < groups) & (t < width)
    at = x + image.to(tl.int64) * x_image + channel * x_channel + ROWS * g * x_row + t * x_column
    w += channel * w_channel
    first = tl.zeros((BG, BT), tl.float32)
    second, third, fourth = first, first, first
    for i in tl.static_range((KH - 1) * DH + ROWS):
        for b in tl.static_range(KW):
            if i % DH < ROWS:  # Else no row has a tap here.
                value = tl.load(at + i * x_row + b * DW * x_column, mask=inside).to(tl.float32)
                column = w + b * w_column
                first = _tap(value, column, first, i, w_row, KH, DH)
                second = _tap(value, column, second, i - 1, w_row, KH, DH)
                if ROWS == 4:
                    third = _tap(value, column, third, i - 2, w_row, KH, DH)
                    fourth = _tap(value, column, fourth, i - 3, w_row, KH, DH)
    kind = y.dtype.element_ty
    to = y + ((image.to(tl.int64) * channels + channel) * groups + g) * (ROWS * width) + t
    tl.store(to, first.to(kind), mask=inside)
    tl.store(to + width, second.to(kind), mask=inside)
    if ROWS == 4:
        tl.store(to + 2 * width, third.to(kind), mask=inside)
        tl.store(to + 3 * width, fourth.to(kind), mask=inside)


def applies(x: Tensor, weight: Tensor, geometry: Geometry) -> bool:
    """Whether the kernel can do a depthwise convolution."""
    return (
        placed()
        and not knobs.force_fallback
        and weight.dim() == 4
        and geometry.stride == (1, 1)
        and all(isinstance(size, int) for size in x.shape)
        and 2 * x.numel() < REACH
    )


def rows_of(height: int) -> int:
    """How many rows to make at once: two where four would make many that nobody asked for."""
    return 4 if -height % 4 <= height // 8 else 2


def correlate(x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """The convolution."""
    n, channels = x.shape[:2]
    kernel, padding = weight.shape[2:], geometry.padding
    height, width = geometry.results(x.shape[2:], kernel)
    rows = rows_of(height)
    groups = -(-height // rows)
    x, weight = stored(padded(x, padding, [padding[0] + groups * rows - height, padding[1]])), weight.float()
    y = torch.empty(n, channels, groups * rows, width, dtype=x.dtype, device=x.device)
    columns = next_power_of_2(width)
    w_channel, _, w_row, w_column = weight.stride()
    constants = {
        **dict(zip(("x_image", "x_channel", "x_row", "x_column"), x.stride(), strict=True)),
        "w_channel": w_channel, "w_row": w_row, "w_column": w_column, "channels": channels,
        "groups": groups, "width": width, "KH": kernel[0], "KW": kernel[1],
        "DH": geometry.dilation[0], "DW": geometry.dilation[1],
        "ROWS": rows, "BG": max(1, min(next_power_of_2(groups), BLOCK // columns)), "BT": columns,
    }  # fmt: skip
    grid = (-(-groups // constants["BG"]), channels, n)
    done = launch(depthwise, grid, {"x": x, "w": weight, "y": y}, {}, constants, ["y"])
    return done["y"][:, :, :height]
