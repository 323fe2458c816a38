"""Vector math: every function that Inductor or libdevice names, as MLIR operations on f32 or f64.

`expand` writes a function for scalars or scalable vectors; `FUNCTIONS` says which there are. Functions without an
f32 form of their own are computed in f64, to f32's accuracy, and rounded once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch_rvv.lowering.vecmath import bessel as B
from torch_rvv.lowering.vecmath import errorfunction as X
from torch_rvv.lowering.vecmath import exponential as E
from torch_rvv.lowering.vecmath import gamma as G
from torch_rvv.lowering.vecmath import hyperbolic as H
from torch_rvv.lowering.vecmath import inverseerror as I
from torch_rvv.lowering.vecmath import power as P
from torch_rvv.lowering.vecmath import rounding as R
from torch_rvv.lowering.vecmath import trigonometric as T
from torch_rvv.lowering.vecmath.builder import Builder, Term


@dataclass(frozen=True)
class MathFunction:
    """One function: how to write it, and what it promises.

    arity: arguments, all of one float type. max_ulp: the largest error in units in the last place, in f32 and in
    f64 (0: exact, so correctly signed zeros and NaN too). through_f64: f32 is computed in f64. result: "float" for
    the arguments' type, or "i1".
    """

    name: str
    build: Callable[..., Term]
    arity: int = 1
    max_ulp: tuple[float, float] = (0.0, 0.0)
    through_f64: bool = False
    result: str = "float"


def _f32(name: str, build: Callable[..., Term], *max_ulp: float, arity: int = 1) -> MathFunction:
    """A function with an f32 form of its own."""
    return MathFunction(name, build, arity, (max_ulp[0], max_ulp[-1]))


def _f64(name: str, build: Callable[..., Term], max_ulp: float, arity: int = 1) -> MathFunction:
    """A function computed in f64; rounded to f32, its error is little more than that of the rounding."""
    return MathFunction(name, build, arity, (0.0 if max_ulp == 0.0 else 0.6, max_ulp), through_f64=True)


def _predicate(name: str, build: Callable[..., Term]) -> MathFunction:
    return MathFunction(name, build, result="i1")


FUNCTIONS: dict[str, MathFunction] = {
    f.name: f
    for f in (
        _f32("exp", E.exp, 1.0),
        _f32("exp2", E.exp2, 1.0),
        _f32("exp10", E.exp10, 1.5),
        _f32("expm1", E.expm1, 1.5, 2.0),
        _f32("log", E.log, 1.0),
        _f32("log2", E.log2, 2.0, 1.0),
        _f32("log10", E.log10, 1.0),
        _f32("log1p", E.log1p, 2.0, 1.5),
        _f32("sigmoid", E.sigmoid, 2.5),
        _f32("tanh", H.tanh, 1.0),
        _f64("sinh", H.sinh, 2.0),
        _f64("cosh", H.cosh, 2.0),
        _f64("asinh", H.asinh, 2.0),
        _f64("acosh", H.acosh, 2.0),
        _f64("atanh", H.atanh, 2.0),
        _f32("sin", T.sin, 2.0),
        _f32("cos", T.cos, 2.0),
        _f32("tan", T.tan, 1.5),
        _f32("sinpi", T.sinpi, 2.0),
        _f32("cospi", T.cospi, 2.0),
        _f32("asin", T.asin, 2.0),
        _f32("acos", T.acos, 1.5),
        _f32("atan", T.atan, 1.5),
        _f32("atan2", T.atan2, 2.0, arity=2),
        _f32("erf", X.erf, 2.0, 1.5),
        _f64("erfc", X.erfc, 2.5),
        _f64("erfcx", X.erfcx, 2.5),
        _f64("erfinv", I.erfinv, 2.5),
        _f64("erfcinv", I.erfcinv, 2.5),
        _f64("normcdf", X.normcdf, 3.0),
        _f64("normcdfinv", I.normcdfinv, 3.0),
        _f64("lgamma", G.lgamma, 4.0),
        _f64("tgamma", G.tgamma, 5.0),
        _f64("cyl_bessel_i0", B.i0, 4.0),
        _f64("cyl_bessel_i1", B.i1, 4.0),
        # In units of the last place of the wave's height, about 0.8 / sqrt x.
        _f64("j0", B.j0, 40.0),
        _f64("j1", B.j1, 40.0),
        _f64("y0", B.y0, 40.0),
        _f64("y1", B.y1, 40.0),
        _f64("pow", P.pow_, 2.0, arity=2),
        MathFunction("cbrt", P.cbrt, 1, (1.0, 0.6), through_f64=True),
        _f64("rcbrt", P.rcbrt, 0.6),
        _f64("hypot", P.hypot, 1.5, arity=2),
        _f32("rsqrt", P.rsqrt, 0.6),
        _f32("rcp", P.rcp, 0.5),
        _f64("fmod", R.fmod, 0.0, arity=2),
        _f64("remainder", R.remainder, 0.0, arity=2),
        _f32("nextafter", R.nextafter, 0.0, arity=2),
        _f32("fdim", R.fdim, 0.5, arity=2),
        _f32("trunc", R.trunc, 0.0),
        _predicate("isinf", R.is_infinite),
        _predicate("isnan", R.is_nan),
        _predicate("finite", R.is_finite),
        _predicate("isfinited", R.is_finite),
        _predicate("signbit", R.signbit),
    )
}
FUNCTIONS["rcp_rn"] = FUNCTIONS["rcp"]


def expand(
    name: str,
    args: list[str],
    elem: str,
    lanes: int | None,
    emit: Callable[..., str],
    length: str | None = None,
) -> str:
    """Write a function's operations through emit(rhs) → name; returns the result's SSA name.

    args: values of type elem ("f32" or "f64"); lanes None for scalars, n for `vector<[n]xelem>`, the first
    `length` (an i32) of them in use. An operation
    with a region (a path that few arguments need) is one rhs of several lines.
    """
    function = FUNCTIONS[name]
    b = Builder(emit, elem, lanes, length)
    terms = [b.wrap(a) for a in args]
    if elem == "f64" or not function.through_f64:
        return function.build(b, *terms).name
    wide = b.widened()
    wide_terms = [wide.wrap(b.cast("arith.extf", t, "f64").name) for t in terms]
    result = function.build(wide, *wide_terms)
    if function.result != "float":
        return result.name
    return wide.cast("arith.truncf", result, "f32").name
