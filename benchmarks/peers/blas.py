"""Products, convolutions and attention as calls of our C functions over OpenBLAS (native/openblas*.c).

Each function here takes tensors as a graph has them, with their strides, and gives the call. Where a form is not
known it raises Unavailable: nothing is copied into another form first.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch_rvv.benchmarks.jobs import CallStep, Job, Pointer
from torch_rvv.benchmarks.peers import Unavailable


@dataclass(frozen=True)
class Call:
    """A C function and its arguments after the output: tensors, bytes to point to, integers, or None for NULL."""

    symbol: str
    arguments: tuple[torch.Tensor | bytes | int | None, ...]

    def step(self, job: Job, out: Pointer, library: Path) -> CallStep:
        """The call as a step of a job, which gets the arguments' memory."""
        given = (a if isinstance(a, int) else 0 if a is None else job.add(a) for a in self.arguments)
        return CallStep(library, self.symbol, (out, *given))


def product(a: torch.Tensor, b: torch.Tensor, bias: torch.Tensor | None = None) -> Call:
    """a @ b, of matrices [m, k] and [k, n] or of as many in a batch, plus a bias that fits the result."""
    _single(a, b)
    batch, m, n, k = a.shape[0] if a.dim() == 3 else 1, a.shape[-2], b.shape[-1], a.shape[-1]
    steps = [t.stride(0) if t.dim() == 3 else 0 for t in (a, b)]
    rows = (0, 0)
    if bias is not None:
        _single(bias)
        step, row, one = bias.expand(batch, m, n).stride()
        if one != 1 and n != 1:
            raise Unavailable("a bias of a column")
        rows = (row, step)
    return Call("product", (a, b, bias, batch, m, n, k, *_matrix(a), steps[0], *_matrix(b), steps[1], *rows))


def convolution(
    x: torch.Tensor,
    w: torch.Tensor,
    bias: torch.Tensor | None,
    stride: int | Sequence[int],
    padding: int | Sequence[int],
    groups: int,
) -> Call:
    """A convolution of two dimensions, x and w both channels first or both channels last; the result is as they are."""
    _single(x, w, *([] if bias is None else [bias]))
    arguments = (x, w, bias, *convolution_sizes(x, w, stride, padding, groups))
    if x.is_contiguous() and w.is_contiguous():
        return Call("convolution", arguments)
    if channels_last(x, w):
        return Call("convolution_last", arguments)
    raise Unavailable("a convolution with two layouts")


def channels_last(x: torch.Tensor, w: torch.Tensor) -> bool:
    """Whether both are; a filter of one channel is in any case."""
    form = torch.channels_last
    return x.is_contiguous(memory_format=form) and (w.is_contiguous(memory_format=form) or w.shape[1] == 1)


def convolution_sizes(
    x: torch.Tensor, w: torch.Tensor, stride: int | Sequence[int], padding: int | Sequence[int], groups: int
) -> tuple[int, ...]:
    """The integers that a C function with the arguments of native/convolution.h takes after its pointers."""
    if x.dim() != 4:
        raise Unavailable("not a convolution of two dimensions")
    (stride_y, stride_x), (padding_y, padding_x) = _pair(stride), _pair(padding)
    filters, _, *kernel = w.shape
    return (*x.shape, filters, *kernel, stride_y, stride_x, padding_y, padding_x, groups)


def attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> Call:
    """softmax(scale q kᵀ + mask) v of [batch, heads, length, width]; several heads of q may share one of k and v.

    The result is written contiguously.
    """
    _single(q, k, v, *([] if mask is None else [mask]))
    batch, heads, length, width = q.shape
    shape = (batch, heads, k.shape[1], length, k.shape[2], width, int(causal))
    result = (heads * length * width, length * width, width)
    held = [_rows(t) for t in (q, k, v)]
    masks = (0, 0, 0) if mask is None else _rows(mask.expand(batch, heads, length, k.shape[2]))
    if v.shape[3] != width:
        raise Unavailable("values of another width than keys")
    numbers = [*shape, *result, *(step for steps in held for step in steps), *masks]
    packed = struct.pack(f"<{len(numbers)}qd", *numbers, width**-0.5 if scale is None else scale)
    return Call("attention", (q, k, v, mask, packed))


def _single(*tensors: torch.Tensor) -> None:
    if any(t.dtype != torch.float32 for t in tensors):
        raise Unavailable("OpenBLAS has no kernel for it but in f32")


def _matrix(t: torch.Tensor) -> tuple[int, int]:
    """(whether the last two dimensions are stored transposed, the leading dimension in elements)."""
    (rows, columns), (row, column) = t.shape[-2:], t.stride()[-2:]
    if column == 1 or columns == 1:
        return 0, max(row, columns)
    if row == 1 or rows == 1:
        return 1, max(column, rows)
    raise Unavailable("a matrix with gaps between elements")


def _rows(t: torch.Tensor) -> tuple[int, int, int]:
    """Steps from one batch, head and row to the next, of what has whole rows."""
    if t.stride(3) != 1 and t.shape[3] != 1:
        raise Unavailable("rows with gaps between elements")
    return t.stride(0), t.stride(1), t.stride(2)


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])
