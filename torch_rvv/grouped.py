"""aten._grouped_mm: products of groups whose sizes are known when it runs, as a Triton kernel of ours.

    a (M, K),    b (G, K, N)   rows of a by group: mixtures of experts
    a (G, M, K), b (K, N)      columns of b by group
    a (M, K),    b (K, N)      steps of both by group, (G, M, N): their gradients
    a (G, M, K), b (G, K, N)   torch.bmm

offsets (G,) are where each group ends. Rows (columns) beyond the last are not written, as in aten. Sums are in f32.
The library `transformers` has operators of its own for the first form and its gradients, with zeros beyond.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from torch_rvv.knobs import knobs
from torch_rvv.launch import block, launch
from torch_rvv.obstacles import FLOATS, left_to_aten

ROWS, COLUMNS, STEPS = 64, 128, 256
BY_ROW, BY_COLUMN, BY_STEP = 0, 1, 2


@triton.jit
def grouped_product(
    a, b, c, offsets, rows, columns, steps,
    a_group, a_row, a_step, b_group, b_step, b_column, c_group, c_row, c_column,
    RAGGED: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """A block of columns of one group: all of its rows pass by."""
    group = tl.program_id(1)
    begin, end = tl.load(offsets + group - 1, mask=group > 0, other=0), tl.load(offsets + group)
    first_row, last_row, first_column, last_column, first_step, last_step = 0, rows, 0, columns, 0, steps
    if RAGGED == 0:
        first_row, last_row = max(begin, 0), min(end, rows)
    elif RAGGED == 1:
        first_column, last_column = max(begin, 0), min(end, columns)
    else:
        first_step, last_step = max(begin, 0), min(end, steps)
    j = first_column + tl.program_id(0) * BN + tl.arange(0, BN)
    right = b + group.to(tl.int64) * b_group + j[None, :] * b_column
    if first_column + tl.program_id(0) * BN < last_column:
        for row in range(first_row, last_row, BM):
            i = row + tl.arange(0, BM)
            left = a + group.to(tl.int64) * a_group + i[:, None] * a_row
            total = tl.zeros((BM, BN), tl.float32)
            for step in range(first_step, last_step, BK):
                k = step + tl.arange(0, BK)
                x = tl.load(
                    left + k[None, :] * a_step, mask=(i[:, None] < last_row) & (k[None, :] < last_step), other=0
                )
                y = tl.load(
                    right + k[:, None] * b_step, mask=(k[:, None] < last_step) & (j[None, :] < last_column), other=0
                )
                total = tl.dot(x, y, total)
            out = c + group.to(tl.int64) * c_group + i[:, None] * c_row + j[None, :] * c_column
            tl.store(out, total.to(c.dtype.element_ty), mask=(i[:, None] < last_row) & (j[None, :] < last_column))


def grouped_mm(a: Tensor, b: Tensor, offs: Tensor | None = None, bias: Tensor | None = None,
               out_dtype: torch.dtype | None = None, make: Callable[..., Tensor] = torch.empty) -> Any:  # fmt: skip
    """aten._grouped_mm. make: the result before it is written."""
    what = f"grouped product {'x'.join(map(str, a.shape))} @ {'x'.join(map(str, b.shape))}"
    obstacles = (
        (a.dtype not in FLOATS or a.dtype != b.dtype or out_dtype not in (None, a.dtype), "a type that has no kernel"),
        (bias is not None, "a bias"),
        (any(isinstance(n, int) and n == 0 for n in (*a.shape, *b.shape)), "no elements"),
        (knobs.force_fallback, "TORCH_RVV_FORCE_FALLBACK"),
    )
    if left_to_aten("gemm", what, obstacles):
        return NotImplemented
    if a.dim() == 3 == b.dim():
        return torch.bmm(a, b)
    assert offs is not None
    rows, steps, columns = a.shape[-2], a.shape[-1], b.shape[-1]
    groups = offs.shape[0]
    ragged = BY_ROW if b.dim() == 3 else BY_COLUMN if a.dim() == 3 else BY_STEP
    size = (groups, rows, columns) if ragged == BY_STEP else (rows, columns)
    out = make(size, dtype=a.dtype, device=a.device)
    strides = {
        f"{name}_{axis}": n
        for name, t, axes in (("a", a, "row step"), ("b", b, "step column"), ("c", out, "row column"))
        for axis, n in zip(("group", *axes.split()), (0, *t.stride())[-3:], strict=True)
    }
    constants = {"RAGGED": ragged, "BM": block(rows, ROWS), "BN": block(columns, COLUMNS), "BK": block(steps, STEPS)}
    grid = (-(-columns // constants["BN"]), groups, 1)
    numbers = {**strides, "rows": rows, "columns": columns, "steps": steps}
    done = launch(grouped_product, grid, {"a": a, "b": b, "c": out, "offsets": offs}, numbers, constants, ["c"])
    return done["c"]


def mm_of_rows(a: Tensor, b: Tensor, offs: Tensor) -> Any:
    """transformers::grouped_mm_fallback."""
    return grouped_mm(a, b, offs, make=torch.zeros)


def mm_of_rows_backward(a: Tensor, b: Tensor, offs: Tensor, grad: Tensor) -> Any:
    """transformers::grouped_mm_fallback_backward: the gradients of a and b."""
    by_a = grouped_mm(grad, b.transpose(1, 2), offs, make=torch.zeros)
    by_b = grouped_mm(a.t(), grad, offs)
    return NotImplemented if by_a is NotImplemented or by_b is NotImplemented else (by_a, by_b)
