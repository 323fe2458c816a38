"""Inverses of erf, erfc and the normal distribution.

A polynomial in w = -log(1 - x²) or its root gives nine digits (after M. Giles, "Approximating the erfinv
function", whose choice of variable this is; the coefficients are ours); in f64 one step of Halley's on erf or on
erfc, whichever keeps its digits there, gives the rest.
"""

from __future__ import annotations

from math import inf, nan

from torch_rvv.lowering.vecmath import coefficients as C
from torch_rvv.lowering.vecmath.builder import Builder, Term
from torch_rvv.lowering.vecmath.errorfunction import erf_near, erfc_parts, erfcx_positive
from torch_rvv.lowering.vecmath.exponential import exp_between, log, scale

HALF_ROOT_PI = 0.886226925452758


def _start(b: Builder, w: Term, far: bool) -> Term:
    """erfinv(x) / x of w = -log(1 - x²); `far`: also for w > 20."""
    s = b.sqrt(w)
    value = b.select(w < 5.0, b.poly(w - 2.5, C.ERFINV_NEAR), b.poly(s - 3.0, C.ERFINV_MIDDLE))
    return b.select(s > 4.45, b.poly(1.0 / s, C.ERFINV_FAR) * s, value) if far else value


def _near(b: Builder, a: Term, y: Term) -> Term:
    """y, nearly erfinv(a), mended with erf: for y < 1."""
    step = (a - erf_near(b, y)) * HALF_ROOT_PI / exp_between(b, -(y * y))
    # Halley: the second derivative of erf over the first is -2y.
    return y + step / b.fma(y, -step, 1.0)


def _far(b: Builder, p: Term, y: Term) -> Term:
    """y, nearly erfcinv(p), mended with erfc relative to p; small p is scaled up to keep its digits."""
    tiny = p < 2.0**-900
    mantissa, exponent = erfc_parts(b, y)
    shift = b.select(tiny, 200.0, 0.0)
    ratio = b.select(tiny, p * 2.0**200, p) / scale(b, mantissa, exponent + shift)
    factor, rest = erfcx_positive(b, y)
    step = (1.0 - ratio) * ((factor + rest) * HALF_ROOT_PI)
    return y + step / b.fma(y, -step, 1.0)


def erfinv(b: Builder, x: Term) -> Term:
    a = b.abs(x)
    gap = 1.0 - a
    w = -log(b, gap * (1.0 + a))
    y = a * _start(b, w, far=b.narrowest == "f64")
    if b.narrowest == "f64":
        y = b.select(y < 0.9, _near(b, a, y), _far(b, gap, b.maximum(y, 0.5)))
    value = b.select(a.equals(1.0), inf, y)
    # erfinv x = x sqrt(pi)/2 to all digits
    value = b.select(a < 2.0**-40, a * HALF_ROOT_PI, value)
    return b.select(a <= 1.0, b.copysign(value, x), nan)


def erfcinv(b: Builder, x: Term) -> Term:
    """Of 1 - x where that is exact, else from the tail that x or 2 - x is."""
    middle = erfinv(b, 1.0 - x)
    p = b.minimum(x, 2.0 - x)
    y = (1.0 - p) * _start(b, -log(b, p * (2.0 - p)), far=True)
    if b.narrowest == "f64":
        y = _far(b, p, b.maximum(y, 0.3))
    y = b.select(p.equals(0.0), inf, y)
    value = b.select(x > 1.0, -y, y)
    value = b.select(p > 0.5, middle, value)
    return b.select((x >= 0.0) & (x <= 2.0), value, nan)


def normcdfinv(b: Builder, x: Term) -> Term:
    y = erfcinv(b, x + x)
    value = b.fma(y, -1.4142135623730951, y * 9.667293313452913e-17)
    return b.select(b.abs(y) < inf, value, -y)
