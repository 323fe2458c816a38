"""Vector math: every function that Inductor or libdevice names, as MLIR operations on f32 or f64.

`expand` writes a function for scalars or scalable vectors; `FUNCTIONS` says which there are. Functions
without an f32 form of their own are computed in f64 and rounded once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch_rvv.lowering.vecmath import exponential as E
from torch_rvv.lowering.vecmath import hyperbolic as H
from torch_rvv.lowering.vecmath import special as S
from torch_rvv.lowering.vecmath import trigonometric as T
from torch_rvv.lowering.vecmath.builder import Builder, Term


@dataclass(frozen=True)
class MathFunction:
    """One function: how to write it, whether f32 is computed in f64, and the type of its result.

    result: "float" or "i1".
    """

    name: str
    build: Callable[..., Term]
    arity: int = 1
    through_f64: bool = False
    result: str = "float"


FUNCTIONS: dict[str, MathFunction] = {
    f.name: f
    for f in (
        MathFunction("exp", E.exp),
        MathFunction("exp2", E.exp2),
        MathFunction("expm1", E.expm1),
        MathFunction("log", E.log),
        MathFunction("log2", E.log2),
        MathFunction("log10", E.log10),
        MathFunction("log1p", E.log1p),
        MathFunction("sigmoid", E.sigmoid),
        MathFunction("tanh", H.tanh),
        MathFunction("sinh", H.sinh, through_f64=True),
        MathFunction("cosh", H.cosh, through_f64=True),
        MathFunction("asinh", H.asinh, through_f64=True),
        MathFunction("acosh", H.acosh, through_f64=True),
        MathFunction("atanh", H.atanh, through_f64=True),
        MathFunction("sin", T.sin),
        MathFunction("cos", T.cos),
        MathFunction("tan", T.tan, through_f64=True),
        MathFunction("sinpi", T.sinpi),
        MathFunction("cospi", T.cospi),
        MathFunction("asin", T.asin, through_f64=True),
        MathFunction("acos", T.acos, through_f64=True),
        MathFunction("atan", T.atan, through_f64=True),
        MathFunction("atan2", T.atan2, 2, through_f64=True),
        MathFunction("erf", S.erf),
        MathFunction("erfc", S.erfc),
        MathFunction("erfinv", S.erfinv, through_f64=True),
        MathFunction("normcdf", S.normcdf),
        MathFunction("lgamma", S.lgamma, through_f64=True),
        MathFunction("tgamma", S.tgamma, through_f64=True),
        MathFunction("pow", S.pow_, 2, through_f64=True),
        MathFunction("cbrt", S.cbrt, through_f64=True),
        MathFunction("hypot", S.hypot, 2, through_f64=True),
        MathFunction("rsqrt", S.rsqrt),
        MathFunction("rcp", S.rcp),
        MathFunction("rcp_rn", S.rcp),
        MathFunction("fmod", S.fmod, 2, through_f64=True),
        MathFunction("remainder", S.remainder, 2, through_f64=True),
        MathFunction("nextafter", S.nextafter, 2),
        MathFunction("fdim", S.fdim, 2),
        MathFunction("trunc", lambda b, x: b.trunc(x)),
        MathFunction("isinf", S.is_infinite, result="i1"),
        MathFunction("isnan", S.is_nan, result="i1"),
        MathFunction("finite", S.is_finite, result="i1"),
        MathFunction("isfinited", S.is_finite, result="i1"),
        MathFunction("signbit", S.signbit, result="i1"),
    )
}


def expand(name: str, args: list[str], elem: str, lanes: int | None, emit: Callable[..., str]) -> str:
    """Write a function's operations through emit(rhs) → name; returns the result's SSA name.

    args: values of type elem ("f32" or "f64"); lanes None for scalars, n for `vector<[n]xelem>`.
    """
    function = FUNCTIONS[name]
    b = Builder(emit, elem, lanes)
    terms = [b.wrap(a) for a in args]
    if elem == "f64" or not function.through_f64:
        return function.build(b, *terms).name
    wide = b.widened()
    wide_terms = [wide.wrap(b.cast("arith.extf", t, "f64").name) for t in terms]
    result = function.build(wide, *wide_terms)
    if function.result != "float":
        return result.name
    return wide.cast("arith.truncf", result, "f32").name
