"""Inductor's `ops.dot` with the accumulator that its operands ask for.

    f32, f16, bf16 → f32        f64 → f64        int8 → int32

Inductor writes every product with an f32 accumulator and takes its result for f32: an f64 product would be rounded,
one of integers inexact. Here the accumulator's type goes into both, into type propagation and into the code; and
`aten._int_mm` is written as a product like mm's.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch._inductor.codegen.triton import TritonKernelOverrides, triton_type
from torch._inductor.dtype_propagation import DtypePropagationOpsHandler
from torch._inductor.lowering import lowerings, make_pointwise, make_reduction
from torch._inductor.virtualized import ops

from torch_rvv.runtime.context import placed

aten = torch.ops.aten
ACCUMULATORS = {torch.float64: torch.float64, torch.int8: torch.int32}


def accumulator(operand: torch.dtype) -> torch.dtype:
    """The type that products of this type are summed up in."""
    return ACCUMULATORS.get(operand, torch.float32)


def _int_mm(a: Any, b: Any) -> Any:
    """int32 a @ b of int8 a (m, k) and b (k, n)."""
    left, right = lowerings[aten.unsqueeze](a, -1), lowerings[aten.unsqueeze](b, 0)
    shape = [*left.get_size()[:-1], right.get_size()[-1]]
    pair = [lowerings[aten.expand](t, shape) for t in (left, right)]
    product = make_pointwise(ops.dot, override_return_dtype=torch.int32)(*pair)
    return make_reduction("dot", override_return_dtype=torch.int32)(product, 1)


@cache
def register(int_mm_is_ours: Callable[[Any, Any], bool]) -> None:
    """Put these in place of Inductor's while a compile of ours is under way. int_mm_is_ours(a, b): whether an
    `_int_mm` is to be a kernel of ours."""
    code, kind, int_mm = TritonKernelOverrides.dot, DtypePropagationOpsHandler.dot, lowerings[aten._int_mm.default]

    def dot(a: Any, b: Any) -> str:
        text = code(a, b)
        wanted = accumulator(a.dtype)
        if not placed() or wanted == torch.float32:
            return text
        return f"{text.removesuffix(')')}, out_dtype={triton_type(wanted)})"

    def result(x: Any, y: Any) -> torch.dtype:
        return accumulator(x.dtype) if placed() else kind(x, y)

    def lower_int_mm(a: Any, b: Any, **keywords: Any) -> Any:
        return _int_mm(a, b) if placed() and int_mm_is_ours(a, b) else int_mm(a, b, **keywords)

    TritonKernelOverrides.dot = staticmethod(dot)  # type: ignore[method-assign]
    DtypePropagationOpsHandler.dot = staticmethod(result)  # type: ignore[method-assign]
    lowerings[aten._int_mm.default] = lower_int_mm
