"""Convolution and attention in terms of matrix products, which are kernels of ours (gemm.py).

    convolution           weights (O, C*k) @ patches (C*k, pixels): the patches are never stored as a whole, since
                          Inductor computes them where the product reads them (implicit GEMM)
    depthwise             a sum over the taps of the kernel, an elementwise kernel
    _int_mm               of uint8 as of int8 with a correction; with one row or column as a reduction
    attention             see attention.py
    silu                  x * sigmoid(x)

Transposed convolutions, other types and what the options leave to aten stay as they are. Gradients are aten's.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._decomp.decompositions import pw_cast_for_opmath
from torch._inductor.inductor_prims import fma

from torch_rvv import attention
from torch_rvv.obstacles import left_to_aten
from torch_rvv.runtime.context import current_placement
from torch_rvv.stored import stored

aten = torch.ops.aten
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
UNROLLED_TAPS = 9


def table() -> dict[Any, Callable[..., Any]]:
    """Inductor's decompositions and ours, for the placement in force."""
    from torch._inductor.decomposition import select_decomp_table

    theirs = select_decomp_table()
    rules: dict[Any, Callable[..., Any]] = {
        aten.convolution.default: convolution,
        aten._scaled_dot_product_flash_attention_for_cpu.default: attention.forward,
        aten._scaled_dot_product_flash_attention_for_cpu_backward.default: attention.backward,
        aten.silu.default: silu,
    }
    for name, rule in (("mm", mm), ("addmm", addmm), ("bmm", bmm), ("_int_mm", int_mm)):
        op = getattr(aten, name).default
        rules[op] = _first(rule, theirs.get(op))
    return {**theirs, **rules}


def _first(rule: Callable[..., Any], other: Callable[..., Any] | None) -> Callable[..., Any]:
    """Our rule, and where that says nothing Inductor's."""

    def both(*args: Any, **kwargs: Any) -> Any:
        result = rule(*args, **kwargs)
        return other(*args, **kwargs) if result is NotImplemented and other is not None else result

    return both


# -- products with a vector: bound by memory, and so ordinary reductions


def _thin(a: Tensor, b: Tensor) -> bool:
    """Whether a (..., m, k) @ b (..., k, n) has one row, column or step, and is for us."""
    m, k, n = a.shape[-2], a.shape[-1], b.shape[-1]
    return (
        current_placement().gemm != "aten"
        and a.dtype in DTYPES
        and a.dtype == b.dtype
        and any(isinstance(size, int) and size == 1 for size in (m, n, k))
    )


def bmm(a: Tensor, b: Tensor, out_dtype: torch.dtype | None = None) -> Any:
    """aten.bmm of (B, m, k) and (B, k, n) where m, n or k is 1."""
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
    if out_dtype is not None or not _thin(a, b):
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


# -- convolution


def convolution(x: Tensor, weight: Tensor, bias: Tensor | None, stride: list[int], padding: list[int],
                dilation: list[int], transposed: bool, output_padding: list[int], groups: int) -> Any:  # fmt: skip
    """aten.convolution in 1 to 3 dimensions: x (N, C, ...), weight (O, C / groups, ...)."""
    obstacles = (
        (transposed, "a transposed convolution"),
        (x.dtype not in DTYPES or x.dtype != weight.dtype, "a type that has no kernel"),
        (x.dim() != weight.dim() or not all(isinstance(n, int) for n in (*x.shape[1:], *weight.shape)),
         "dynamic channels or pixels"),
        (x.numel() == 0, "no elements"),
    )  # fmt: skip
    what = f"convolution {'x'.join(map(str, x.shape))} * {'x'.join(map(str, weight.shape))}"
    if left_to_aten("conv", what, obstacles):
        return NotImplemented
    d = x.dim() - 2
    stride, padding, dilation = (list(v) * d if len(v) == 1 else list(v) for v in (stride, padding, dilation))
    depthwise = groups == x.shape[1] and weight.shape[1] == 1 and weight.shape[0] == groups
    if any(padding):
        x = F.pad(x, [p for p in reversed(padding) for _ in range(2)])
        # Read by each tap: without its edges that costs less than the copy does, but where few elements are read.
        x = x if depthwise and any(s > 1 for s in stride) else stored(x)
    if depthwise:
        out = _depthwise(x, weight, stride, dilation)
    else:
        out = _by_product(x, weight, stride, dilation, groups)
    return out if bias is None else out + bias.reshape(-1, *[1] * d)


def _pixels(x: Tensor, kernel: Sequence[int], stride: list[int], dilation: list[int]) -> list[int]:
    """The size of the result in each dimension."""
    reach = [(k - 1) * step + 1 for k, step in zip(kernel, dilation, strict=True)]
    return [(n - r) // s + 1 for n, r, s in zip(x.shape[2:], reach, stride, strict=True)]


def _tap(x: Tensor, tap: Sequence[int], pixels: list[int], stride: list[int], dilation: list[int]) -> Tensor:
    """What one tap of the kernel sees: x shifted by it, and every stride-th element."""
    for axis, (t, n, s, step) in enumerate(zip(tap, pixels, stride, dilation, strict=True)):
        x = x[(slice(None),) * (2 + axis) + (slice(t * step, t * step + (n - 1) * s + 1, s),)]
    return x


def _taps(kernel: Sequence[int]) -> list[tuple[int, ...]]:
    return list(itertools.product(*map(range, kernel)))


def _depthwise(x: Tensor, weight: Tensor, stride: list[int], dilation: list[int]) -> Tensor:
    kernel = weight.shape[2:]
    pixels = _pixels(x, kernel, stride, dilation)
    if math.prod(kernel) > UNROLLED_TAPS:
        patches = _patches(x, kernel, stride, dilation).float()
        d = len(kernel)
        factors = weight.float().reshape(1, -1, *[1] * d, *kernel)
        return (patches * factors).sum(tuple(range(2 + d, 2 + 2 * d))).to(x.dtype)
    total: Tensor | None = None
    for tap in _taps(kernel):
        one: Any = (slice(None), 0, *tap)
        factor = weight[one].float().reshape(-1, *[1] * len(kernel))
        seen = _tap(x, tap, pixels, stride, dilation).float()
        total = seen * factor if total is None else fma(seen, factor.expand_as(seen), total)
    assert total is not None
    return total.to(x.dtype)


def _patches(x: Tensor, kernel: Sequence[int], stride: list[int], dilation: list[int]) -> Tensor:
    """(N, C, pixels..., taps...): a view of x."""
    d = len(kernel)
    for axis, (k, s, step) in enumerate(zip(kernel, stride, dilation, strict=True)):
        x = x.unfold(2 + axis, (k - 1) * step + 1, s)
    for axis, step in enumerate(dilation):
        x = x[(slice(None),) * (2 + d + axis) + (slice(None, None, step),)]
    return x


def _by_product(x: Tensor, weight: Tensor, stride: list[int], dilation: list[int], groups: int) -> Tensor:
    kernel, d = weight.shape[2:], weight.dim() - 2
    n, c, o = x.shape[0], x.shape[1], weight.shape[0]
    pixels = _pixels(x, kernel, stride, dilation)
    depth, count = c // groups * math.prod(kernel), math.prod(pixels)
    order = (0, 1, *range(2 + d, 2 + 2 * d), *range(2, 2 + d))
    patches = _patches(x, kernel, stride, dilation).permute(order).reshape(n * groups, depth, count)
    matrices = weight.reshape(1, groups, o // groups, depth).expand(n, -1, -1, -1).reshape(-1, o // groups, depth)
    return torch.bmm(matrices, patches).reshape(n, o, *pixels)


# -- elementwise


@pw_cast_for_opmath
def silu(x: Tensor) -> Tensor:
    """aten.silu. Inductor's x / (1 + exp(-x)) divides a vector by a vector: three times the cycles of 1 / vector."""
    return x * torch.sigmoid(x)
