"""Hyperbolic functions and their inverses."""

from __future__ import annotations

from math import inf, nan

from torch_rvv.lowering.vecmath import coefficients as C
from torch_rvv.lowering.vecmath.builder import Builder, Term
from torch_rvv.lowering.vecmath.exponential import LN2, LOG2E, log, log1p, reduce_exp
from torch_rvv.lowering.vecmath.whole import nearest, power_of, power_of_two


def tanh(b: Builder, x: Term) -> Term:
    return _tanh_wide(b, x) if b.wide else _tanh(b, x)


def _tanh(b: Builder, x: Term) -> Term:
    """x + x**3 P(x²) below 1, else 1 - 2 / (e**2|x| + 1), whose divisor is rounded only once."""
    a = b.abs(x)
    high, low = (part / 2 for part in LN2[b.elem])
    capped = b.minimum(a, 10.0)
    n = nearest(b, capped, 2 * LOG2E, b.bias)
    r, power = b.fma(n.n, -low, b.fma(n.n, -high, capped)), power_of(b, n)
    # In terms of r, which is half the exponent's rest: e**2r - 1 = 2r + 4r² P(2r).
    doubled = [c * 2.0 ** (i + 2) for i, c in enumerate(C.EXP_F32)]
    p = b.fma(b.poly(r, doubled), b.square(r), r + r)
    far = 1.0 - 2.0 / b.fma(power, p, power + 1.0)
    z = b.square(x)
    near = b.fma(b.poly(z, C.TANH_F32) * z, a, a)
    # Unordered, so that NaN takes the path on which it stays.
    return b.copysign(b.select(b.compare("uge", "", 1.0, a), near, far), x)


def _tanh_wide(b: Builder, x: Term) -> Term:
    """m / (m + 2) with m = e**2|x| - 1; numerator and denominator carry what they round away."""
    a = b.minimum(b.abs(x), 20.0)
    a = a + a
    high, low = LN2[b.elem]
    n = nearest(b, a, LOG2E, b.bias)
    whole, part = b.fma(n.n, -high, a), n.n * low
    r = whole - part
    tail = b.poly(r, b.pick(C, "EXP")) * r
    p = b.fma(tail, r, r)
    lost = b.fma(tail, r, r - p) + ((whole - r) - part)
    power = power_of(b, n)
    start = power - 1.0
    top = b.fma(power, p, start)
    top_rest = b.fma(power, lost, b.fma(power, p, start - top))
    bottom, bottom_rest = b.two_sum(top, 2.0)
    bottom_rest = bottom_rest + top_rest
    inverse = 1.0 / bottom
    quotient = top * inverse
    rest = b.fma(-quotient, bottom, top) + b.fma(-quotient, bottom_rest, top_rest)
    value = b.copysign(b.fma(rest, inverse, quotient), x)
    return b.select(x.is_nan(), x, value)


def _halves(b: Builder, a: Term) -> tuple[Term, Term, Term, Term]:
    """(d, s, S, C) with 8 sinh a = d (1+C) + s S and 8 cosh a = s (1+C) + d S, for a >= 0.

    a = n*ln2 + r; S = sinh r, 1 + C = cosh r; d and s are the difference and the sum of 2**(n-3) and 2**(-n-3),
    small enough for the largest n.
    """
    n, r = reduce_exp(b, a, 1026.0 if b.narrowest == "f64" else None)
    z = b.square(r)
    odd = b.fma(b.poly(z, b.pick(C, "SINH")) * z, r, r)
    even = b.poly(z, b.pick(C, "COSH")) * z
    up, down = power_of_two(b, n.n - 3.0), power_of_two(b, -3.0 - b.minimum(n.n, 900.0))
    return up - down, up + down, odd, even


def sinh(b: Builder, x: Term) -> Term:
    a = b.abs(x)
    difference, total, odd, even = _halves(b, a)
    value = (difference + b.fma(difference, even, total * odd)) * 4.0
    return b.copysign(b.select(a < 2.0**-30, a, value), x)


def cosh(b: Builder, x: Term) -> Term:
    difference, total, odd, even = _halves(b, b.abs(x))
    return (total + b.fma(total, even, difference * odd)) * 4.0


def asinh(b: Builder, x: Term) -> Term:
    a = b.abs(x)
    small = log1p(b, a + a * a / (b.sqrt(b.fma(a, a, 1.0)) + 1.0))
    big = log(b, a) + 0.6931471805599453
    return b.copysign(b.select(a < 1e8, small, big), x)


def acosh(b: Builder, x: Term) -> Term:
    t = x - 1.0
    small = log1p(b, t + b.sqrt(b.fma(t, t, t * 2.0)))
    big = log(b, x) + 0.6931471805599453
    value = b.select(x < 1e8, small, big)
    return b.select(x < 1.0, nan, value)


def atanh(b: Builder, x: Term) -> Term:
    a = b.abs(x)
    value = log1p(b, (a + a) / (1.0 - a)) * 0.5
    return b.copysign(b.select(a.equals(1.0), inf, value), x)
