"""A product that is added to the sum of a reduction, in a loop body.

    %sum + %a * %b                       →    math.fma: one rounding, and one instruction, less
    %sum + extf %a * extf %b, of f16     →    vfwmacc.vv %sum, %a, %b
                              of bf16    →    pairs of elements as words, whose upper half is one of them as it stands,
                                              and whose lower half is the other, shifted; a half of %sum for each

Pairs need one operation an element where widening needs two. Elements change their lanes, so only sums over all lanes
are made of them, and only of whole strips. Returns None for an addition that is something else.
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
            widened = _widened(strip, acc, factors) or _in_pairs(strip, acc, factors, op)
            args = [*factors, acc]
            return widened or strip.apply("math.fma", "", [strip.get(v) for v in args], [str(acc.type)])[0]
    return None


def _maker(value: Any) -> Any | None:
    return getattr(value.owner, "operation", None)


def _of(factors: Sequence[Any], elem: str) -> list[Any] | None:
    """What factors are before they are widened, if they are of one type of element."""
    makers = [_maker(factor) for factor in factors]
    if any(m is None or m.name != "arith.extf" or str(m.operands[0].type) != elem for m in makers):
        return None
    return [m.operands[0] for m in makers if m is not None]


def _widened(strip: Strip, acc: Any, factors: Sequence[Any]) -> Value | None:
    """By the widening instruction, which LLVM does not make of a widening that several products share."""
    narrow_factors = _of(factors, "f16")
    if narrow_factors is None or strip.lanes is None or strip.operations.soft("f16") or str(acc.type) != "f32":
        return None
    a, b = map(strip.get, narrow_factors)
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


def _in_pairs(strip: Strip, acc: Any, factors: Sequence[Any], op: Any) -> Value | None:
    """Of bf16, two elements of a word at a time."""
    narrow_factors = _of(factors, "bf16")
    if narrow_factors is None or not (strip.whole and strip.folds) or str(acc.type) != "f32":
        return None
    # Nobody else may ask which lane an element's sum is in.
    if len(list(acc.uses)) != 1 or [use.owner.name for use in op.results[0].uses] != ["linalg.yield"]:
        return None
    a, b = map(strip.get, narrow_factors)
    if strip.lanes is None or strip.lanes < 4 or not a.kind == b.kind == "vector":
        return None
    total = strip.vector(strip.get(acc))
    level, half = max(strip.level, a.level, b.level, total.level), strip.lanes // 2
    # What is read next (by the next row) comes with what is done here, not before all of it.
    strip.writers[level].here()
    emit, whole, part = strip.emitter(level), strip.vector_type("f32"), f"vector<[{half}]xf32>"
    result = total.name
    for at, x, y in zip((0, half), _halves(strip, a, half), _halves(strip, b, half), strict=True):
        before = emit(f"vector.scalable.extract {total.name}[{at}] : {part} from {whole}")
        after = emit(f"math.fma {x}, {y}, {before} : {part}")
        result = emit(f"vector.scalable.insert {after}, {result}[{at}] : {part} into {whole}")
    return Value(result, "f32", level, "vector")


def _halves(strip: Strip, value: Value, half: int) -> tuple[str, str]:
    """The elements at even places of a vector of bf16, and those at odd ones, as f32."""
    words, part = f"vector<[{half}]xi32>", f"vector<[{half}]xf32>"
    pairs = strip._once(
        ("pairs", value.name), value.level, f"llvm.bitcast {value.name} : {strip.vector_type('bf16')} to {words}"
    )
    sixteen, upper = (strip._once(("words", n, half), 0, f"arith.constant dense<{n}> : {words}") for n in (16, -65536))
    found = []
    for name, text in (("even", f"arith.shli {pairs}, {sixteen}"), ("odd", f"arith.andi {pairs}, {upper}")):
        bits = strip._once((name, value.name), value.level, f"{text} : {words}")
        found.append(strip._once((name, "f32", value.name), value.level, f"arith.bitcast {bits} : {words} to {part}"))
    return found[0], found[1]
