"""Bessel functions of orders 0 and 1.

    I  |x| small: the power series' shape; large: e**x / sqrt x times a polynomial in 1/x
    J  x < 8: the first two zeros as factors (z - a²)(z - b²), z = x², times a polynomial
    Y  x < 8: 2/pi log x J(x), and -2/(pi x) for order 1, plus a polynomial
       x >= 8: sqrt(2/(pi x)) (P cos(x - phase) - or + Q sin(x - phase)), P and Q polynomials in (8/x)²

Errors of J and Y are relative to the size that the wave has there, except at the factored zeros.
"""

from __future__ import annotations

from math import inf, nan

from torch_rvv.lowering.vecmath import coefficients as C
from torch_rvv.lowering.vecmath.builder import Builder, Term
from torch_rvv.lowering.vecmath.exponential import exp_less_one, log, reduce_exp, scale
from torch_rvv.lowering.vecmath.trigonometric import cos, sin

TWO_OVER_PI = 0.6366197723675814
ROOT_TWO_OVER_PI = 0.7978845608028654
ROOT_HALF = 0.7071067811865476
# Where the functions change from one form to the other.
LIMIT = 8.0
# The first two zeros of J0 and of J1, each as a sum of two.
ZEROS = {
    0: ((2.404825557695773, -1.176691651530894e-16), (5.520078110286311, 8.088597146146722e-17)),
    1: ((3.8317059702075125, -1.5269184090088067e-16), (7.015586669815619, -9.414165653410389e-17)),
}


def _exp_times(b: Builder, x: Term, factor: Term) -> Term:
    """e**x * factor, right also where only the product is in range."""
    n, r = reduce_exp(b, x, 200.0 if b.narrowest == "f32" else None)
    return scale(b, b.fma(exp_less_one(b, r), factor, factor), n)


def _far(b: Builder, a: Term, name: str) -> Term:
    """I of a large a."""
    inverse = LIMIT / a
    return _exp_times(b, a, b.poly(inverse, b.pick(C, name)) / b.sqrt(a))


def i0(b: Builder, x: Term) -> Term:
    a = b.abs(x)
    half = b.minimum(a, LIMIT) * 0.5
    z = half * half
    near = b.fma(z, b.poly(z, b.pick(C, "I0")), 1.0)
    value = b.select(a > LIMIT, _far(b, b.maximum(a, LIMIT), "I0_FAR"), near)
    value = b.select(a.equals(inf), inf, value)
    return b.select(x.is_nan(), x, value)


def i1(b: Builder, x: Term) -> Term:
    a = b.abs(x)
    half = b.minimum(a, LIMIT) * 0.5
    z = half * half
    near = b.fma(half * z, b.poly(z, b.pick(C, "I1")), half)
    value = b.select(a > LIMIT, _far(b, b.maximum(a, LIMIT), "I1_FAR"), near)
    value = b.select(a.equals(inf), inf, value)
    return b.select(x.is_nan(), x, b.copysign(value, x))


def _near_j(b: Builder, a: Term, order: int) -> Term:
    """J0, or J1 / x, of 0 <= a < 8."""
    z = a * a
    t = b.fma(z, 1 / 32, -1.0)
    value = b.poly(t, C.J0 if order == 0 else C.J1)
    for zero, rest in ZEROS[order]:
        value = value * ((a - zero) - rest) * (a + zero)
    return value


def _wave(b: Builder, a: Term, order: int) -> tuple[Term, Term]:
    """(J, Y) of a >= 8."""
    inverse = LIMIT / a
    u = inverse * inverse
    p = b.poly(u, C.P0 if order == 0 else C.P1)
    q = b.poly(u, C.Q0 if order == 0 else C.Q1) * inverse * 0.125
    s, c = sin(b, a), cos(b, a)
    # cos(a - pi/4) and sin(a - pi/4); for order 1 a quarter turn on.
    cosine, sine = (s + c) * ROOT_HALF, (s - c) * ROOT_HALF
    if order == 1:
        cosine, sine = sine, -cosine
    size = ROOT_TWO_OVER_PI / b.sqrt(a)
    return size * (p * cosine - q * sine), size * (p * sine + q * cosine)


def _j(b: Builder, x: Term, order: int) -> Term:
    b.narrowest = "f64"
    a = b.abs(x)
    near = _near_j(b, b.minimum(a, LIMIT), order)
    far, _ = _wave(b, b.maximum(a, LIMIT), order)
    if order == 1:
        near = near * a
    value = b.select(a < LIMIT, near, far)
    if order == 1:
        value = b.select(x < 0.0, -value, b.select(a.equals(0.0), x, value))
    value = b.select(a.equals(inf), 0.0, value)
    return b.select(x.is_nan(), x, value)


def j0(b: Builder, x: Term) -> Term:
    return _j(b, x, 0)


def j1(b: Builder, x: Term) -> Term:
    return _j(b, x, 1)


def _y(b: Builder, x: Term, order: int) -> Term:
    b.narrowest = "f64"
    a = b.minimum(x, LIMIT)
    t = b.fma(a * a, 1 / 32, -1.0)
    regular = b.poly(t, C.Y0 if order == 0 else C.Y1)
    j = _near_j(b, a, order)
    logarithm = log(b, a) * TWO_OVER_PI
    if order == 0:
        near = b.fma(logarithm, j, regular)
    else:
        near = b.fma(b.fma(logarithm, j, regular), a, -TWO_OVER_PI / a)
    _, far = _wave(b, b.maximum(x, LIMIT), order)
    value = b.select(x < LIMIT, near, far)
    value = b.select(x.equals(inf), 0.0, value)
    value = b.select(x.equals(0.0), -inf, value)
    return b.select(x >= 0.0, value, nan)


def y0(b: Builder, x: Term) -> Term:
    return _y(b, x, 0)


def y1(b: Builder, x: Term) -> Term:
    return _y(b, x, 1)
