"""Conversions between f32 and narrower floats, by integer arithmetic, where the machine has none.

Values of the narrow type are carried as integers of its width. Rounding is to nearest even; NaN stays NaN,
overflow becomes infinity (fp8 e4m3 has none and saturates to NaN), denormals are exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch_rvv.lowering.vecmath.builder import Builder, Term


@dataclass(frozen=True)
class Format:
    """A narrow float: bits in all, in the mantissa, exponent bias, and whether it has infinities."""

    bits: int
    mantissa: int
    bias: int
    infinite: bool = True


FORMATS = {
    "f16": Format(16, 10, 15),
    "e5m2": Format(8, 2, 15),
    "e4m3fn": Format(8, 3, 7, infinite=False),
}
Emit = Callable[..., str]
# Lanes of f32 in a group of registers, in elements for each 64 bits of VLEN: intrinsics take no more.
WIDEST = 16


def bf16_to_f32(value: str, lanes: int | None, emit: Emit) -> str:
    """The bits 16 places up. On vectors a product with 65535 and one more: a shift takes twice as long on an X60."""
    b = Builder(emit, "f32", lanes)
    if lanes is None or lanes > WIDEST:
        wide = b.cast("arith.extui", b.wrap(value, "i16"), "i32")
        return b.float(wide << 16).name
    wide, half = b.type("i32"), b.type("i16")
    poison, most = emit(f"llvm.mlir.poison : {wide}"), emit("llvm.mlir.constant(-1 : i16) : i16")
    length = emit("llvm.mlir.constant(-1 : i64) : i64")
    product = emit(
        f'llvm.call_intrinsic "llvm.riscv.vwmulu"({poison}, {value}, {most}, {length})'
        f" : ({wide}, {half}, i16, i64) -> {wide}"
    )
    bits = emit(
        f'llvm.call_intrinsic "llvm.riscv.vwaddu.w"({poison}, {product}, {value}, {length})'
        f" : ({wide}, {wide}, {half}, i64) -> {wide}"
    )
    return b.float(b.wrap(bits, "i32")).name


def f32_to_bf16(value: str, lanes: int | None, emit: Emit, canonical_nan: bool = False) -> str:
    """Rounded to nearest even. canonical_nan: a NaN, if there is one, stays one if it is rounded (canonical_nan.py)."""
    b = Builder(emit, "f32", lanes)
    x = b.wrap(value)
    if lanes is not None and lanes <= WIDEST:
        rounded = _clipped(b, x)
        return (rounded if canonical_nan else b.select(x.is_nan(), b.const(0x7FC0, "i16"), rounded)).name
    bits = b.bits(x)
    odd = b.op("arith.shrui", bits, 16) & 1
    rounded = b.op("arith.shrui", bits + odd + 0x7FFF, 16)
    quiet = b.op("arith.shrui", bits, 16) | 0x40
    return b.cast("arith.trunci", b.select(x.is_nan(), quiet, rounded), "i16").name


def _clipped(b: Builder, x: Term) -> Term:
    """The upper halves of a vector's bits, rounded to nearest even (vxrm 1) by the fixed-point narrowing."""
    bits, half = b.bits(x), b.type("i16")
    poison = b.emit(f"llvm.mlir.poison : {half}")
    shift, mode, length = (b.emit(f"llvm.mlir.constant({n} : i64) : i64") for n in (16, 1, -1))
    text = f'llvm.call_intrinsic "llvm.riscv.vnclipu"({poison}, {bits.name}, {shift}, {mode}, {length})'
    return Term(b, b.emit(f"{text} : ({half}, {b.type('i32')}, i64, i64, i64) -> {half}"), "i16")


def _to_f32(form: Format, value: str, lanes: int | None, emit: Emit) -> str:
    """Widen: shift the fields into place, then multiply by a power of two to mend the bias."""
    b = Builder(emit, "f32", lanes)
    bits = b.cast("arith.extui", b.wrap(value, f"i{form.bits}"), "i32")
    magnitude = bits & ((1 << (form.bits - 1)) - 1)
    sign = (bits & (1 << (form.bits - 1))) << (32 - form.bits)
    scaled = b.float(magnitude << (23 - form.mantissa)) * float(2 ** (127 - form.bias))
    top = (1 << (form.bits - 1 - form.mantissa)) - 1
    if form.infinite:
        special = magnitude >= (top << form.mantissa)
        exact = b.float((magnitude << (23 - form.mantissa)) | 0x7F800000)
    else:
        special = magnitude.equals((1 << (form.bits - 1)) - 1)
        exact = b.float(b.const(0x7FC00000, "i32"))
    result = b.select(special, exact, scaled)
    return b.float(b.bits(result) | sign).name


def _from_f32(form: Format, value: str, lanes: int | None, emit: Emit) -> str:
    """Narrow with round to nearest even: normal numbers in the bits, denormals by a float addition."""
    b = Builder(emit, "f32", lanes)
    x = b.wrap(value)
    bits = b.bits(x)
    magnitude = bits & 0x7FFFFFFF
    shift = 23 - form.mantissa
    odd = b.op("arith.shrui", magnitude, shift) & 1
    rebias = (127 - form.bias) << 23
    normal = b.op("arith.shrui", magnitude - rebias + odd + ((1 << (shift - 1)) - 1), shift)
    # Adding this makes the float unit round at the narrow type's smallest step.
    anchor = (127 - form.bias + 1 + shift) << 23
    magic = b.float(b.const(anchor, "i32"))
    small = b.bits(b.float(magnitude) + magic) - anchor
    result = b.select(magnitude < ((128 - form.bias) << 23), small, normal)
    top = (1 << (form.bits - 1 - form.mantissa)) - 1
    if form.infinite:
        infinity = top << form.mantissa
        result = b.select(result > infinity, infinity, result)
        result = b.select(magnitude >= 0x7F800000, infinity, result)
        result = b.select(x.is_nan(), infinity | (1 << (form.mantissa - 1)), result)
    else:
        largest = (1 << (form.bits - 1)) - 1
        result = b.select(result > largest, largest, result)
        result = b.select(magnitude >= 0x7F800000, largest, result)
    sign = b.op("arith.shrui", bits, 32 - form.bits) & (1 << (form.bits - 1))
    return b.cast("arith.trunci", result | sign, f"i{form.bits}").name


def f16_to_f32(value: str, lanes: int | None, emit: Emit) -> str:
    return _to_f32(FORMATS["f16"], value, lanes, emit)


def f32_to_f16(value: str, lanes: int | None, emit: Emit) -> str:
    return _from_f32(FORMATS["f16"], value, lanes, emit)


def fp8_to_f32(value: str, name: str, lanes: int | None, emit: Emit) -> str:
    """name: "e4m3fn" or "e5m2"."""
    return _to_f32(FORMATS[name], value, lanes, emit)


def f32_to_fp8(value: str, name: str, lanes: int | None, emit: Emit) -> str:
    return _from_f32(FORMATS[name], value, lanes, emit)


__all__ = ["FORMATS", "Format", "Term"]
