"""A product that is added to the sum of a reduction, in a loop body.

    %sum + %a * %b                       →    math.fma: one rounding, and one instruction, less
    %sum + extf %a * extf %b, of f16     →    vfwmacc.vv %sum, %a, %b

Returns None for an addition that is something else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch_rvv.lowering.values import Value

if TYPE_CHECKING:
    from torch_rvv.lowering.vector_body import Strip


def product_sum(strip: Strip, op: Any) -> Value | None:
    """The result of an arith.addf, if it adds a product to a sum."""
    for acc, other in (tuple(op.operands), tuple(op.operands)[::-1]):
        maker = _maker(other)
        if acc in strip.sums and str(other.type) in ("f32", "f64") and maker is not None and maker.name == "arith.mulf":
            factors = list(maker.operands)
            widened = _widened(strip, acc, factors)
            args = [*factors, acc]
            return widened or strip.apply("math.fma", "", [strip.get(v) for v in args], [str(acc.type)])[0]
    return None


def _maker(value: Any) -> Any | None:
    return getattr(value.owner, "operation", None)


def _widened(strip: Strip, acc: Any, factors: Sequence[Any]) -> Value | None:
    """By the widening instruction, which LLVM does not make of a widening that several products share."""
    makers = [_maker(factor) for factor in factors]
    if any(m is None or m.name != "arith.extf" or str(m.operands[0].type) != "f16" for m in makers):
        return None
    if strip.lanes is None or strip.operations.soft("f16") or str(acc.type) != "f32":
        return None
    a, b = (strip.get(m.operands[0]) for m in makers if m is not None)
    if not a.kind == b.kind == "vector":
        return None
    total = strip.vector(strip.get(acc))
    level = max(strip.level, a.level, b.level, total.level)
    # Rounding as the machine is set to; what lies behind the length may be anything, for it is merged away.
    mode, policy = (strip._once(("i64", n), 0, f"arith.constant {n} : i64") for n in (7, 3))
    values = [total.name, a.name, b.name, mode, strip.wide_length(level), policy]
    kind, narrow = strip.vector_type("f32"), strip.vector_type("f16")
    types = [kind, narrow, narrow, *["i64"] * 3]
    text = f'llvm.call_intrinsic "llvm.riscv.vfwmacc"({", ".join(values)}) : ({", ".join(types)}) -> {kind}'
    return Value(strip.emitter(level)(text), "f32", level, "vector")
