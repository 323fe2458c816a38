"""Convolutions of 3 x 3 as products of tiles, by Winograd's F(2 x 2, 3 x 3): 16 multiplications where a sum takes 36.

    split_filter   (O, C, 3, 3)  →  u (16, C, O)             G g Gᵀ of each filter
    split_image    (N, C, H, W)  →  v (16, tiles, C)         Bᵀ d B of each tile: 4 x 4 pixels, two apart
    torch.bmm      m = v @ u, (16, tiles, O)                 lanes along O, however few the pixels
    join           m             →  (N, O, rows, columns)    Aᵀ m A of each tile: 2 x 2 pixels

Winograd 1980; the matrices A, B and G are those of Lavin and Gray 2016. All of it in f32, whose errors here are about
those of the sum. Limits: stride and dilation 1, one group, sizes that are numbers, images large enough to pay
(`gain`). A NaN or an infinity reaches all four pixels of a tile that has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor
from torch._higher_order_ops.triton_kernel_wrap import kernel_side_table, triton_kernel_wrapper_functional
from torch._inductor.runtime.runtime_utils import next_power_of_2
from torch.fx import Node

from torch_rvv.geometry import Geometry, described, padded
from torch_rvv.knobs import knobs
from torch_rvv.launch import REACH, launch
from torch_rvv.runtime import record
from torch_rvv.runtime.context import current_placement
from torch_rvv.stored import stored

# Modelled cycles at VLEN 256: FLOPs a cycle of a product of matrices, and of one that gathers patches; then what a
# filter's channel takes, a tile's channel, and a tile's result.
PRODUCT, PATCHES = 13.0, 12.0
SPLIT_FILTER, SPLIT_IMAGE, JOIN = 19.0, 30.0, 11.0
# And cycles of main memory for a number, 4 bytes at 7 GB/s and 1.6 GHz, beyond those that the L2 cache holds.
MEMORY, CACHED = 0.91, 1 << 17
LEAST_GAIN = 1.1
# Results and channels below which lanes stay empty.
LEAST = 16
# Elements of a block.
BLOCK = 2048
# Lanes run along the channels of an image where its rows have fewer tiles, and so would fill few.
NARROW = 32
# Elements of a line of a cache.
LINE = 16


@triton.jit
def _image(a, b, c, d):
    """Bᵀ times a column."""
    return a - c, b + c, c - b, b - d


@triton.jit
def _filter(a, b, c):
    """G times a column."""
    outer = a + c
    return a, (outer + b) * 0.5, (outer - b) * 0.5, c


@triton.jit
def _result(a, b, c, d):
    """Aᵀ times a column."""
    return a + b + c, b - c - d


@triton.jit
def _four(at, step, inside):
    """A column of four elements."""
    a, b = tl.load(at, mask=inside), tl.load(at + step, mask=inside)
    c, d = tl.load(at + 2 * step, mask=inside), tl.load(at + 3 * step, mask=inside)
    return a.to(tl.float32), b.to(tl.float32), c.to(tl.float32), d.to(tl.float32)


@triton.jit
def _three(at, step, inside):
    a, b, c = tl.load(at, mask=inside), tl.load(at + step, mask=inside), tl.load(at + 2 * step, mask=inside)
    return a.to(tl.float32), b.to(tl.float32), c.to(tl.float32)


@triton.jit
def _put(at, plane: tl.constexpr, inside, a, b, c, d):
    """A row of a tile, each element into a matrix of its own."""
    tl.store(at, a, mask=inside)
    tl.store(at + plane, b, mask=inside)
    tl.store(at + 2 * plane, c, mask=inside)
    tl.store(at + 3 * plane, d, mask=inside)


@triton.jit
def split_image(
    x, v, x_image: tl.constexpr, x_channel: tl.constexpr, x_row: tl.constexpr, x_column: tl.constexpr,
    v_tile: tl.constexpr, v_channel: tl.constexpr, channels: tl.constexpr, columns: tl.constexpr,
    plane: tl.constexpr, BC: tl.constexpr, BT: tl.constexpr,
):  # fmt: skip
    """A row of tiles, for a block of channels."""
    image, row = tl.program_id(2), tl.program_id(1)
    c, t = tl.program_id(0) * BC + tl.arange(0, BC)[:, None], tl.arange(0, BT)[None, :]
    inside = (c < channels) & (t < columns)
    at = x + image.to(tl.int64) * x_image + 2 * row * x_row + c * x_channel + 2 * t * x_column
    to = v + ((image * tl.num_programs(1) + row) * columns + t) * v_tile + c * v_channel
    a0, b0, c0, d0 = _image(*_four(at, x_row, inside))
    a1, b1, c1, d1 = _image(*_four(at + x_column, x_row, inside))
    a2, b2, c2, d2 = _image(*_four(at + 2 * x_column, x_row, inside))
    a3, b3, c3, d3 = _image(*_four(at + 3 * x_column, x_row, inside))
    _put(to, plane, inside, *_image(a0, a1, a2, a3))
    _put(to + 4 * plane, plane, inside, *_image(b0, b1, b2, b3))
    _put(to + 8 * plane, plane, inside, *_image(c0, c1, c2, c3))
    _put(to + 12 * plane, plane, inside, *_image(d0, d1, d2, d3))


@triton.jit
def split_filter(
    w, u, w_result: tl.constexpr, w_channel: tl.constexpr, w_row: tl.constexpr, w_column: tl.constexpr,
    results: tl.constexpr, channels: tl.constexpr, row: tl.constexpr, BC: tl.constexpr, BO: tl.constexpr,
):  # fmt: skip
    """A block of channels of a block of filters."""
    c, o = tl.program_id(1) * BC + tl.arange(0, BC)[:, None], tl.program_id(0) * BO + tl.arange(0, BO)[None, :]
    inside = (c < channels) & (o < results)
    at, to, plane = w + o * w_result + c * w_channel, u + c * row + o, channels * row
    a0, b0, c0, d0 = _filter(*_three(at, w_row, inside))
    a1, b1, c1, d1 = _filter(*_three(at + w_column, w_row, inside))
    a2, b2, c2, d2 = _filter(*_three(at + 2 * w_column, w_row, inside))
    _put(to, plane, inside, *_filter(a0, a1, a2))
    _put(to + 4 * plane, plane, inside, *_filter(b0, b1, b2))
    _put(to + 8 * plane, plane, inside, *_filter(c0, c1, c2))
    _put(to + 12 * plane, plane, inside, *_filter(d0, d1, d2))


@triton.jit
def join(
    m, y, results: tl.constexpr, height: tl.constexpr, width: tl.constexpr, columns: tl.constexpr,
    plane: tl.constexpr, BT: tl.constexpr, BO: tl.constexpr,
):  # fmt: skip
    """Two rows of pixels, for a block of results."""
    image, row = tl.program_id(2), tl.program_id(1)
    o, t = tl.program_id(0) * BO + tl.arange(0, BO)[None, :], tl.arange(0, BT)[:, None]
    inside = (o < results) & (t < columns)
    at = m + ((image * tl.num_programs(1) + row) * columns + t) * results + o
    a0, b0 = _result(*_four(at, 4 * plane, inside))
    a1, b1 = _result(*_four(at + plane, 4 * plane, inside))
    a2, b2 = _result(*_four(at + 2 * plane, 4 * plane, inside))
    a3, b3 = _result(*_four(at + 3 * plane, 4 * plane, inside))
    a, b = _result(a0, a1, a2, a3)
    c, d = _result(b0, b1, b2, b3)
    to = y + (image.to(tl.int64) * results + o) * (height * width) + 2 * row * width + 2 * t
    kind = y.dtype.element_ty
    right, below = inside, inside
    if width % 2:
        right = inside & (2 * t + 1 < width)
    if height % 2:
        below = inside & (2 * row + 1 < height)
    tl.store(to, a.to(kind), mask=inside)
    tl.store(to + 1, b.to(kind), mask=right)
    tl.store(to + width, c.to(kind), mask=below)
    tl.store(to + width + 1, d.to(kind), mask=right & below)


def correlate(x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor | None:
    """convolution.correlate where tiles pay; None elsewhere."""
    if not has_tiles(x, weight, geometry):
        return None
    n, c, o = x.shape[0], x.shape[1], weight.shape[0]
    height, width = geometry.results(x.shape[2:], (3, 3))
    times = gain(n, c, o, height, width, current_placement().frozen)
    if times < LEAST_GAIN:
        return None
    what = described("convolution", x, weight)
    record.decide(what, f"goes by tiles (Winograd), {times:.1f} times as fast as the sum by the cost model")
    x = whole_tiles(x, geometry.padding, height, width)
    return joined(torch.bmm(image_tiles(x, height, width), filter_tiles(weight)), x, (n, o, height, width))


def has_tiles(x: Tensor, weight: Tensor, geometry: Geometry) -> bool:
    """Whether a convolution can be done so, and may be."""
    return (
        current_placement().winograd
        and not knobs.force_fallback
        and weight.shape[2:] == (3, 3)
        and geometry.stride == geometry.dilation == (1, 1)
        and geometry.groups == 1
        and all(isinstance(size, int) for size in x.shape)
        and min(weight.shape[:2]) >= LEAST
        and 16 * max(weight.shape[0] * weight.shape[1], x.numel(), x.numel() // x.shape[1] * weight.shape[0]) < REACH
    )


def gain(n: int, c: int, o: int, height: int, width: int, frozen: bool = False) -> float:
    """How many times as fast as a product of patches: by the cycles that each takes, or by what main memory takes
    where that is longer. frozen: filters are split when the model is compiled."""
    tiles = n * -(-height // 2) * -(-width // 2)
    cycles = tiles * (16 * 2 * c * o / PRODUCT + SPLIT_IMAGE * c + JOIN * o)
    moved = 16 * (c * o + 3 * tiles * (c + o))  # What is written is read before and after.
    if not frozen:
        cycles += SPLIT_FILTER * c * o
        moved += (2 * 16 + 9) * c * o
    pixels = n * height * width
    direct = max(pixels * 9 * 2 * c * o / PATCHES, MEMORY * (9 * c * o + pixels * (c + o) - CACHED))
    return direct / max(cycles, MEMORY * (moved - CACHED))


def whole_tiles(x: Tensor, padding: Sequence[int], height: int, width: int) -> Tensor:
    """The image with zeros around it, so that tiles for so many pixels have all of theirs."""
    sizes = zip(x.shape[2:], padding, (height, width), strict=True)
    return stored(padded(x, padding, [pixels + pixels % 2 + 2 - p - size for size, p, pixels in sizes]))


def image_tiles(x: Tensor, height: int, width: int) -> Tensor:
    """v, (16, tiles, C)."""
    n, c = x.shape[:2]
    rows, columns = -(-height // 2), -(-width // 2)
    tiles = n * rows * columns
    narrow = columns < NARROW
    v = torch.empty((16, tiles, c) if narrow else (16, c, tiles), dtype=torch.float32, device=x.device)
    v_tile, v_channel = (c, 1) if narrow else (1, tiles)
    block = next_power_of_2(columns)
    constants = {
        **dict(zip(("x_image", "x_channel", "x_row", "x_column"), x.stride(), strict=True)),
        "v_tile": v_tile, "v_channel": v_channel, "channels": c, "columns": columns, "plane": tiles * c,
        "BC": _block(c, BLOCK // block), "BT": block,
    }  # fmt: skip
    v = launch(split_image, (-(-c // constants["BC"]), rows, n), {"x": x, "v": v}, {}, constants, ["v"])["v"]
    return v if narrow else v.transpose(1, 2)


def filter_tiles(weight: Tensor) -> Tensor:
    """u, (16, C, O)."""
    o, c = weight.shape[:2]
    u = torch.empty(16, c, o + spare(o), dtype=torch.float32, device=weight.device)
    constants = {
        **dict(zip(("w_result", "w_channel", "w_row", "w_column"), weight.stride(), strict=True)),
        "results": o, "channels": c, "row": u.stride(1), "BC": 16, "BO": _block(o, BLOCK // 16),
    }  # fmt: skip
    grid = (-(-o // constants["BO"]), -(-c // 16), 1)
    return launch(split_filter, grid, {"w": weight, "u": u}, {}, constants, ["u"])["u"][:, :, :o]


def spare(results: int) -> int:
    """Elements that u has behind each row: rows a large power of two apart would share few lines of a cache."""
    return LINE if results % 256 == 0 else 0


def splits_filter(node: Node) -> bool:
    """Whether a node of a graph is filter_tiles' launch."""
    return (
        node.target is triton_kernel_wrapper_functional
        and kernel_side_table.get_kernel(cast(int, node.kwargs["kernel_idx"])) is split_filter
    )


def joined(m: Tensor, x: Tensor, shape: tuple[int, int, int, int]) -> Tensor:
    """The image of a result's tiles m, in the type of x."""
    n, o, height, width = shape
    rows, columns = -(-height // 2), -(-width // 2)
    y = torch.empty(shape, dtype=x.dtype, device=x.device)
    block = next_power_of_2(columns)
    constants = {
        "results": o, "height": height, "width": width, "columns": columns, "plane": n * rows * columns * o,
        "BT": block, "BO": _block(o, BLOCK // block),
    }  # fmt: skip
    return launch(join, (-(-o // constants["BO"]), rows, n), {"m": m, "y": y}, {}, constants, ["y"])["y"]


def _block(size: int, most: int) -> int:
    """The largest power of two within both."""
    return 1 << (max(1, min(size, most)).bit_length() - 1)


def packed_filter(weight: Tensor) -> Tensor:
    """What split_filter leaves in memory, for weights that are constants."""
    return F.pad(plain_filter_tiles(weight), (0, spare(weight.shape[0])))


def plain_filter_tiles(weight: Tensor) -> Tensor:
    """filter_tiles in PyTorch's operators, the twin of the kernel."""
    g = weight.new_tensor([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], dtype=torch.float32)
    return torch.einsum("ai,ocij,bj->abco", g, weight.float(), g).reshape(16, *weight.shape[1::-1])


def plain(x: Tensor, weight: Tensor, padding: tuple[int, int]) -> Tensor:
    """The whole of it in PyTorch's operators, the twin of the kernels."""
    height, width = (size + 2 * p - 2 for size, p in zip(x.shape[2:], padding, strict=True))
    x = whole_tiles(x, padding, height, width)
    d = x.float().unfold(2, 4, 2).unfold(3, 4, 2)
    b = x.new_tensor([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]], dtype=torch.float32)
    a = x.new_tensor([[1, 1, 1, 0], [0, 1, -1, -1]], dtype=torch.float32)
    v = torch.einsum("ai,nctsij,bj->abntsc", b, d, b)
    m = torch.einsum("abntsc,abco->abntso", v, plain_filter_tiles(weight).reshape(4, 4, *weight.shape[1::-1]))
    y = torch.einsum("ia,abntso,jb->notisj", a, m, a)
    n, o, rows, _, columns, _ = y.shape
    return y.reshape(n, o, 2 * rows, 2 * columns)[:, :, :height, :width].to(x.dtype)
