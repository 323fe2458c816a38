"""Rows added to the rows of a table that an index names, as a Triton kernel that a compiled graph launches.

    out[index[i], :] += source[i, :]    each program has columns of its own, and goes through the index in order

Inductor adds element by element with atomics, each a loop of load-reserved and store-conditional. With columns of its
own a program needs none, its lanes are neighbours in memory, and sums come in eager PyTorch's order, whatever the
number of threads; those of 16-bit floats are f32 until all have been added. index_put, index_add, the gradients of an
embedding and of x[index]; scatter_add of an index that was expanded. Limits: rows along the first dimension, of at
least LEAST elements, a number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch._inductor.runtime.runtime_utils import next_power_of_2

from torch_rvv.knobs import knobs
from torch_rvv.launch import launch
from torch_rvv.runtime.context import placed
from torch_rvv.stored import stored

aten = torch.ops.aten
# Columns of a row, at least; and of a program, at least and at most: fewer where that gives all cores work.
LEAST = 16
NARROWEST, WIDEST, PROGRAMS = 64, 2048, 8
TYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int32, torch.int64)


@triton.jit
def add_rows(index, source, out, count, rows, width: tl.constexpr, BLOCK: tl.constexpr):
    """A block of columns."""
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    for i in range(count):
        row = tl.load(index + i).to(tl.int64)
        row = tl.where(row < 0, row + rows, row)
        mask = (column < width) & (row >= 0) & (row < rows)
        more = tl.load(source + tl.cast(i, tl.int64) * width + column, mask=mask).to(out.dtype.element_ty)
        to = out + row * width + column
        tl.store(to, tl.load(to, mask=mask) + more, mask=mask)


def _applies(x: Tensor, index: Tensor) -> bool:
    width = x.shape[1:]
    return (
        placed()
        and not knobs.force_fallback
        and x.dim() > 1
        and x.dtype in TYPES
        and index.dtype in (torch.int64, torch.int32)
        and all(isinstance(n, int) for n in width)
        and math.prod(width) >= LEAST
    )


def _added(x: Tensor, index: Tensor, source: Tensor) -> Tensor:
    """x with source (N, *x.shape[1:]) added to the rows that an index (N) names."""
    rows, width = x.shape[0], math.prod(x.shape[1:])
    block = max(NARROWEST, min(WIDEST, next_power_of_2(-(-width // PROGRAMS))))
    wide = torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype
    tensors = {
        "index": stored(index.contiguous()),
        "source": stored(source.contiguous()),
        "out": x.to(wide).contiguous(),
    }
    numbers = {"count": index.shape[0], "rows": rows}
    done = launch(add_rows, (-(-width // block),), tensors, numbers, {"width": width, "BLOCK": block}, ["out"])
    return done["out"].to(x.dtype)


def index_add(x: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: float = 1) -> Any:
    """aten.index_add of rows."""
    if x.dim() < 2 or dim % x.dim() != 0 or not _applies(x, index):
        return NotImplemented
    _check(index, 0, x.shape[0])
    return _added(x, index.reshape(-1), source if alpha == 1 else source * alpha)


def index_put(x: Tensor, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool = False) -> Any:
    """aten.index_put of rows that are added."""
    result = unsafe_index_put(x, indices, values, accumulate)
    if result is not NotImplemented:
        _check(indices[0], -x.shape[0], x.shape[0])
    return result


def unsafe_index_put(x: Tensor, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool = False) -> Any:
    """aten._unsafe_index_put, likewise: nobody asks whether the rows are there, and others are left alone."""
    (index, *others) = indices
    if not accumulate or others or index is None or not _applies(x, index):
        return NotImplemented
    source = values.expand(*index.shape, *x.shape[1:]).reshape(-1, *x.shape[1:])
    return _added(x, index.reshape(-1), source)


def masked_index_put(x: Tensor, mask: Tensor, indices: Sequence[Tensor | None], values: Tensor) -> Any:
    """aten._unsafe_masked_index_put_accumulate, likewise."""
    return unsafe_index_put(x, indices, torch.where(mask, values, 0).to(values.dtype), accumulate=True)


def _check(index: Any, first: Any, end: Any) -> None:
    aten._assert_async.msg(
        ((index >= first) & (index < end)).all(), "index out of bounds of the rows that are added to"
    )


def scatter_add(x: Tensor, dim: int, index: Tensor, source: Tensor) -> Any:
    """aten.scatter_add of whole rows: of an index that is the same along each."""
    same = index.dim() == x.dim() > 1 and all(index.stride(d) == 0 for d in range(1, x.dim()))
    rows_only = same and dim % x.dim() == 0 and index.shape[1:] == source.shape[1:] == x.shape[1:]
    if not (rows_only and _applies(x, index)):
        return NotImplemented
    rows = index.flatten(1)[:, 0]
    _check(rows, 0, x.shape[0])
    return _added(x, rows, source[: index.shape[0]])


# Decompositions by operator.
TABLE: dict[Any, Callable[..., Any]] = {
    aten.index_add.default: index_add,
    aten.index_put.default: index_put,
    aten._unsafe_index_put.default: unsafe_index_put,
    aten._unsafe_masked_index_put_accumulate.default: masked_index_put,
    aten.scatter_add.default: scatter_add,
}
