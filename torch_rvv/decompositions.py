"""What Inductor is to write in other words than its own, in which it becomes kernels of ours.

mm, addmm, bmm        of one row, column or step: a reduction or an elementwise product
_int_mm               of uint8 as of int8 with a correction; with one row or column as a reduction
convolution           see convolution.py
attention             see attention.py
silu                  x * sigmoid(x)
hardtanh              two clamps
batch_norm            by running statistics: see batchnorm.py
var_mean              of nothing: NaN, and the mean as well (Inductor's is 0)
avg_pool*             see pooling.py
index_put, scatter_add   of rows that are added: see addrows.py
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._decomp.decompositions import pw_cast_for_opmath

from torch_rvv import addrows, attention, batchnorm, convolution, gemm, grouped, pooling
from torch_rvv.obstacles import FLOATS
from torch_rvv.runtime.context import current_placement
from torch_rvv.stored import stored

aten = torch.ops.aten


def table() -> dict[Any, Callable[..., Any]]:
    """Inductor's decompositions and ours, for the placement in force."""
    from torch._inductor.decomposition import select_decomp_table

    theirs = select_decomp_table()
    rules: dict[Any, Callable[..., Any]] = {
        aten.convolution.default: convolution.forward,
        aten.convolution_backward.default: convolution.backward,
        aten._scaled_dot_product_flash_attention_for_cpu.default: attention.forward,
        aten._scaled_dot_product_flash_attention_for_cpu_backward.default: attention.backward,
        aten._grouped_mm.default: grouped.grouped_mm,
        aten.cat.default: cat,
        aten.silu.default: silu,
        aten.var_mean.correction: var_mean,
        **pooling.table(),
    }
    for name, rule in _FOREIGN.items():
        if (found := getattr(torch.ops.transformers, name, None)) is not None:
            rules[found.default] = rule
    partial: dict[Any, Callable[..., Any]] = {
        aten.mm.default: mm, aten.addmm.default: addmm, aten.bmm.default: bmm, aten._int_mm.default: int_mm,
        aten._native_batch_norm_legit_no_training.default: batchnorm.batch_norm,
        aten.hardtanh.default: hardtanh, **addrows.TABLE,
    }  # fmt: skip
    for operator, rule in partial.items():
        rules[operator] = _first(rule, theirs.get(operator))
    return {**theirs, **rules}


# Operators of the library `transformers`, which has them once it is imported.
_FOREIGN: dict[str, Callable[..., Any]] = {
    "grouped_mm_fallback": grouped.mm_of_rows,
    "grouped_mm_fallback_backward": grouped.mm_of_rows_backward,
}


def _first(rule: Callable[..., Any], other: Callable[..., Any] | None) -> Callable[..., Any]:
    """Our rule, and where that says nothing Inductor's."""

    def both(*args: Any, **kwargs: Any) -> Any:
        result = rule(*args, **kwargs)
        return other(*args, **kwargs) if result is NotImplemented and other is not None else result

    return both


# -- products with a vector or a few: bound by memory, and so ordinary reductions

LEAST_COLUMNS, LEAST_DEPTH = 16, 128


def _thin(a: Tensor, b: Tensor) -> bool:
    """Whether a (..., m, k) @ b (..., k, n) has one row, column or step, and is for us."""
    m, k, n = a.shape[-2], a.shape[-1], b.shape[-1]
    return (
        current_placement().gemm != "aten"
        and a.dtype in FLOATS
        and a.dtype == b.dtype
        and any(isinstance(size, int) and size == 1 for size in (m, n, k))
    )


def _few(a: Tensor, b: Tensor) -> bool:
    """Whether a few rows meet a matrix that lies by column, as a linear layer has it, and is for us: lanes along k then
    read both where they stand, and a product would turn the matrix round first."""
    (m, k), n = a.shape[-2:], b.shape[-1]
    return (
        current_placement().gemm != "aten"
        and a.dim() == 2
        and a.dtype in FLOATS
        and a.dtype == b.dtype
        and all(isinstance(size, int) for size in (m, k, n))
        and 1 < m <= gemm.FEW_ROWS
        and n >= LEAST_COLUMNS
        and LEAST_DEPTH <= k <= gemm.TRITON_LIMIT // gemm.FEW_ROWS
        and b.stride(0) == 1
        and a.stride(1) == 1
    )


def bmm(a: Tensor, b: Tensor, out_dtype: torch.dtype | None = None) -> Any:
    """aten.bmm of (B, m, k) and (B, k, n) where m, n or k is 1."""
    if out_dtype is None and _few(a, b):
        return (stored(a)[:, None].float() * b.t()[None].float()).sum(-1).to(a.dtype)
    if out_dtype is not None or not _thin(a, b):
        return NotImplemented
    if a.shape[-1] == 1:
        return a * b
    if a.shape[-2] == 1:
        return (stored(a).transpose(-1, -2).float() * b.float()).sum(-2, keepdim=True).to(a.dtype)
    return (a.float() * stored(b).transpose(-1, -2).float()).sum(-1, keepdim=True).to(a.dtype)


def mm(a: Tensor, b: Tensor, out_dtype: torch.dtype | None = None) -> Any:
    """aten.mm, likewise."""
    return bmm(a, b, out_dtype)


def addmm(c: Tensor, a: Tensor, b: Tensor, out_dtype: torch.dtype | None = None, *, beta: float = 1,
          alpha: float = 1) -> Any:  # fmt: skip
    """aten.addmm, likewise; as there, c is not read where beta is 0."""
    if out_dtype is not None or not (_thin(a, b) or _few(a, b)):
        return NotImplemented
    product = bmm(a.float(), b.float())
    product = product if alpha == 1 else product * alpha
    return (product if beta == 0 else product + (c.float() if beta == 1 else c.float() * beta)).to(a.dtype)


def int_mm(a: Tensor, b: Tensor) -> Any:
    """aten._int_mm of int8 or uint8 (m, k) and int8 (k, n) to int32, where it is thin or unsigned."""
    sizes = (*a.shape, b.shape[1])
    if current_placement().gemm == "aten" or b.dtype != torch.int8 or 0 in sizes:
        return NotImplemented
    if a.dtype == torch.uint8:
        # In the words of torchao, which takes it off again (simplify.py).
        return aten._int_mm((a.int() - 128).to(torch.int8), b) + torch.sum(b, (0,), True, dtype=torch.int32) * 128
    if 1 in sizes:
        a, b = (stored(a), b) if sizes[0] == 1 else (a, stored(b))
        return (a[:, :, None].int() * b[None].int()).sum(1, dtype=torch.int32)
    return NotImplemented


# -- elementwise


MOST_STACKED = 8


def cat(tensors: list[Tensor], dim: int = 0) -> Any:
    """aten.cat of bytes, which Inductor leaves to aten on CPUs. Tensors of size 1, as `torch.stack` makes of unpacked
    int4 weights: chosen by index, which fuses with what reads it. Others: of 16-bit integers that are bytes."""
    (dtype, *others) = {t.dtype for t in tensors}
    if others or dtype not in (torch.int8, torch.uint8):
        return NotImplemented
    dim %= tensors[0].dim()
    if len(tensors) <= MOST_STACKED and all(isinstance(t.shape[dim], int) and t.shape[dim] == 1 for t in tensors):
        behind = [1] * (tensors[0].dim() - 1 - dim)
        index = torch.arange(len(tensors), device=tensors[0].device).reshape(-1, *behind)
        found = tensors[0]
        for number, one in enumerate(tensors[1:], 1):
            found = torch.where(index == number, one, found)
        return found
    return aten.cat([t.to(torch.int16) for t in tensors], dim).to(dtype)


@pw_cast_for_opmath
def silu(x: Tensor) -> Tensor:
    """aten.silu. Inductor's x / (1 + exp(-x)) divides a vector by a vector: three times the cycles of 1 / vector."""
    return x * torch.sigmoid(x)


def hardtanh(x: Tensor, min_val: float = -1, max_val: float = 1) -> Any:
    """aten.hardtanh, as ReLU6 is one: PyTorch's own asks the same in many more calls."""
    return x.clamp_min(min_val).clamp_max(max_val) if x.dtype in FLOATS else NotImplemented


def var_mean(x: Tensor, dim: list[int] | None = None, *, correction: Any = None, keepdim: bool = False) -> Any:
    """aten.var_mean over dims that are known to be empty."""
    axes = {d % max(x.dim(), 1) for d in dim or range(x.dim())}
    if not any(isinstance(x.shape[d], int) and x.shape[d] == 0 for d in axes if x.dim()):
        return NotImplemented
    shape = [1 if d in axes else n for d, n in enumerate(x.shape) if keepdim or d not in axes]
    dtypes = x.dtype.to_real() if x.is_complex() else x.dtype, x.dtype
    return tuple(x.new_full(shape, math.nan, dtype=dtype) for dtype in dtypes)
