"""Elementwise operations: arithmetic, comparisons, bits, tl.math, libdevice."""

from __future__ import annotations

import torch

from tests.conformance.harness import (
    BF16,
    BOOL,
    EVERY,
    F16,
    F32,
    F64,
    FLOATS,
    I8,
    I16,
    I32,
    I64,
    INTEGERS,
    NUMBERS,
    U8,
    elementwise,
)

FAMILY = "arithmetic"
WIDE = (F32, F64)


def trunc_div(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.div(a, b, rounding_mode="trunc")


def nonzero(t: torch.Tensor) -> torch.Tensor:
    return torch.where(t == 0, 1, t)


for name, expression, function in [
    ("add", "x + y", torch.add),
    ("sub", "x - y", torch.sub),
    ("mul", "x * y", torch.mul),
    ("maximum", "tl.maximum(x, y)", torch.maximum),
    ("minimum", "tl.minimum(x, y)", torch.minimum),
    ("where", "tl.where(x > y, x, y + y)", lambda x, y: torch.where(x > y, x, y + y)),
]:
    elementwise(FAMILY, name, INTEGERS, expression, function, 2)
    elementwise(FAMILY, name, FLOATS, expression, function, 2, edges=name not in ("maximum", "minimum"))
for name, sign, function in [
    ("eq", "==", torch.eq), ("ne", "!=", torch.ne), ("lt", "<", torch.lt), ("le", "<=", torch.le),
    ("gt", ">", torch.gt), ("ge", ">=", torch.ge),
]:  # fmt: skip
    elementwise(FAMILY, name, EVERY, f"(x {sign} y).to(tl.int8)", function, 2, out=I8)
elementwise(FAMILY, "div", FLOATS, "x / y", torch.div, 2)
elementwise(
    FAMILY, "floordiv", INTEGERS, "x // tl.where(y == 0, 1, y)", lambda x, y: trunc_div(x, nonzero(y)), 2, edges=False
)
elementwise(
    FAMILY, "mod", INTEGERS, "x % tl.where(y == 0, 1, y)", lambda x, y: torch.fmod(x, nonzero(y)), 2, edges=False
)
elementwise(FAMILY, "mod", FLOATS, "x % (y * y + 1)", lambda x, y: torch.fmod(x, y * y + 1), 2, edges=False, scale=4)
elementwise(FAMILY, "neg", NUMBERS, "-x", torch.neg)
elementwise(FAMILY, "abs", NUMBERS, "tl.abs(x)", torch.abs)
elementwise(FAMILY, "and", INTEGERS, "x & y", torch.bitwise_and, 2)
elementwise(FAMILY, "or", INTEGERS, "x | y", torch.bitwise_or, 2)
elementwise(FAMILY, "xor", INTEGERS, "x ^ y", torch.bitwise_xor, 2)
elementwise(FAMILY, "invert", INTEGERS, "~x", torch.bitwise_not)
elementwise(FAMILY, "shl", INTEGERS, "x << (y & 7).to(x.dtype)", lambda x, y: x << (y & 7), 2)
elementwise(FAMILY, "shr", INTEGERS, "x >> (y & 7).to(x.dtype)", lambda x, y: x >> (y & 7), 2)
elementwise(FAMILY, "unsigned_shr", (U8,), "x >> (y & 7).to(x.dtype)", lambda x, y: x >> (y & 7), 2)
elementwise(FAMILY, "unsigned_div", (U8,), "x // tl.where(y == 0, 1, y)", lambda x, y: x // nonzero(y), 2)
elementwise(
    FAMILY, "logical_not", (BOOL,), "not_(x)", torch.logical_not, before="@triton.jit\ndef not_(x):\n    return ~x\n"
)
elementwise(FAMILY, "logical_and", (BOOL,), "x & y", torch.logical_and, 2)
elementwise(FAMILY, "cdiv", (I32, I64), "tl.cdiv(x * x, 7)", lambda x: (x * x + 6) // 7, edges=False)
for propagate in ("ALL", "NONE"):
    text = f"tl.minimum(x, y, propagate_nan=tl.PropagateNan.{propagate})"
    function = torch.minimum if propagate == "ALL" else torch.fmin
    elementwise(FAMILY, f"minimum_nan_{propagate.lower()}", FLOATS, text, function, 2)
    text = f"tl.maximum(x, y, propagate_nan=tl.PropagateNan.{propagate})"
    function = torch.maximum if propagate == "ALL" else torch.fmax
    elementwise(FAMILY, f"maximum_nan_{propagate.lower()}", FLOATS, text, function, 2)


def clamp_quiet(x: torch.Tensor) -> torch.Tensor:
    return torch.fmin(torch.fmax(x, torch.tensor(-1.0, dtype=x.dtype)), torch.tensor(2.0, dtype=x.dtype))


elementwise(
    FAMILY,
    "clamp",
    FLOATS,
    "tl.clamp(x, (x * 0 - 1).to(x.dtype), (x * 0 + 2).to(x.dtype))",
    lambda x: x.clamp(-1, 2),
    edges=False,
)
elementwise(
    FAMILY,
    "clamp_nan_none",
    (F32, F64),
    "tl.clamp(x, tl.full((64,), -1, x.dtype), tl.full((64,), 2, x.dtype))",
    clamp_quiet,
)
elementwise(
    FAMILY, "clamp_nan_all", (F32, F64),
    "tl.clamp(x, tl.full((64,), -1, x.dtype), tl.full((64,), 2, x.dtype), propagate_nan=tl.PropagateNan.ALL)",
    lambda x: x.clamp(-1, 2),
)  # fmt: skip
elementwise(FAMILY, "fma", WIDE, "tl.fma(x, y, z)", lambda x, y, z: x * y + z, 3)
elementwise(FAMILY, "fdiv", (F32,), "tl.fdiv(x, y)", torch.div, 2)
elementwise(FAMILY, "div_rn", (F32,), "tl.div_rn(x, y)", torch.div, 2)
elementwise(FAMILY, "sqrt_rn", (F32,), "tl.sqrt_rn(x)", torch.sqrt)
elementwise(
    FAMILY,
    "umulhi",
    (I32,),
    "tl.umulhi(x, y)",
    lambda x, y: ((x.long() & 0xFFFFFFFF) * (y.long() & 0xFFFFFFFF)) >> 32,
    2,
    edges=False,
)
for name, function in [
    ("exp", torch.exp), ("exp2", torch.exp2), ("log", torch.log), ("log2", torch.log2), ("cos", torch.cos),
    ("sin", torch.sin), ("sqrt", torch.sqrt), ("rsqrt", torch.rsqrt), ("abs", torch.abs), ("floor", torch.floor),
    ("ceil", torch.ceil), ("erf", torch.erf),
]:  # fmt: skip
    elementwise("math", name, WIDE, f"tl.math.{name}(x)", function, scale=2)
    elementwise("math", f"{name}_of_half", (F16, BF16), f"tl.math.{name}(x.to(tl.float32)).to(x.dtype)", function)
elementwise("math", "sigmoid", (F32,), "tl.sigmoid(x)", torch.sigmoid, scale=2)
elementwise("math", "softmax", (F32,), "tl.softmax(tl.where(m, x, float('-inf')), 0) * 0 + x", lambda x: x, edges=False)
for name, function in [
    ("tanh", torch.tanh), ("asin", torch.asin), ("acos", torch.acos), ("atan", torch.atan), ("sinh", torch.sinh),
    ("cosh", torch.cosh), ("expm1", torch.expm1), ("log1p", torch.log1p), ("log10", torch.log10), ("tan", torch.tan),
    ("asinh", torch.asinh), ("atanh", torch.atanh), ("erfc", torch.erfc), ("lgamma", torch.lgamma),
    ("trunc", torch.trunc), ("rint", torch.round), ("erfinv", torch.erfinv),
]:  # fmt: skip
    elementwise("libdevice", name, WIDE, f"libdevice.{name}(x)", function, scale=16)
for name, function in [
    ("pow", torch.pow), ("fmod", torch.fmod), ("atan2", torch.atan2), ("hypot", torch.hypot),
    ("copysign", torch.copysign),
]:  # fmt: skip
    elementwise("libdevice", name, WIDE, f"libdevice.{name}(x, y)", function, 2, scale=16)
elementwise("libdevice", "isnan", WIDE, "libdevice.isnan(x).to(tl.int8)", torch.isnan, out=I8)
elementwise("libdevice", "isinf", WIDE, "libdevice.isinf(x).to(tl.int8)", torch.isinf, out=I8)
elementwise(
    FAMILY, "promotion_i8_i32", (I8, I16), "x + i.to(tl.int32) * 0 + 100000", lambda x: x.int() + 100000, out=I32
)
elementwise(FAMILY, "i64_multiply", (I64,), "x * 3000000000", lambda x: x * 3000000000)
