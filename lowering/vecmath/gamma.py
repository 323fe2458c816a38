"""The gamma function and its logarithm.

x < 8    gamma x = gamma(2+v) * or / a product of x+k,  -1/2 <= v < 1
x >= 8   Stirling's series
x < 0    gamma(-x) by reflection: gamma(x) gamma(-x) = -pi / (x sin pi x)
"""

from __future__ import annotations

from math import inf, nan, pi

from torch_rvv.lowering.vecmath import coefficients as C
from torch_rvv.lowering.vecmath.builder import Builder, Term
from torch_rvv.lowering.vecmath.exponential import exp_less_one, log, reduce_exp, scale
from torch_rvv.lowering.vecmath.power import log_pair
from torch_rvv.lowering.vecmath.trigonometric import sinpi

HALF_LOG_2PI = (0.9189385332046728, -3.8782941580672414e-17)
LARGE = 8.0


def _reduced(b: Builder, x: Term) -> tuple[Term, Term, Term]:
    """(v, product, below) for 0 < x < 8: gamma x = gamma(2+v) * product, or / product where `below`."""
    below = x < 1.5
    lower = x < 0.5
    v = b.select(lower, x, x - 1.0)
    product = b.select(lower, b.fma(x, x, x), x)
    v = b.select(below, v, x - 2.0)
    product = b.select(below, product, 1.0)
    for k in range(1, 6):
        take = x >= float(k + 2)
        product = b.select(take, product * (x - float(k)), product)
        v = b.select(take, x - float(k + 2), v)
    return v, product, below


def _stirling(b: Builder, x: Term) -> Term:
    inverse = 1.0 / x
    return b.poly(inverse * inverse, C.STIRLING_F64) * inverse


def lgamma_positive(b: Builder, x: Term) -> Term:
    """log gamma of x > 0."""
    large = x >= LARGE
    v, product, below = _reduced(b, x)
    logarithm = log(b, b.select(large, x, product))
    middle = b.poly(v, C.LOG_GAMMA_F64) * (v * (v + 1.0))
    small = b.select(below, middle - logarithm, middle + logarithm)
    # (x - 1/2) (log x - 1) - 1/2 + log(2 pi)/2 + ...
    rest = _stirling(b, x) + (HALF_LOG_2PI[0] - 0.5)
    return b.select(large, b.fma(x - 0.5, logarithm - 1.0, rest), small)


def lgamma(b: Builder, x: Term) -> Term:
    """log |gamma x|: of negative numbers by reflection, with an error near its zeros of the size of the terms there."""
    b.narrowest = "f64"  # f32 needs all digits near the zeros
    a = b.abs(x)
    positive = lgamma_positive(b, a)
    tiny = a < 2.0**-70
    sine = b.abs(sinpi(b, a))
    reflected = log(b, b.select(tiny, a, pi / (a * sine)))
    reflected = b.select(tiny, -reflected, reflected - positive)
    value = b.select(x < 0.0, reflected, positive)
    value = b.select((x <= 0.0) & sine.equals(0.0), inf, value)
    value = b.select(a.equals(inf), inf, value)
    return b.select(x.is_nan(), x, value)


def tgamma(b: Builder, x: Term) -> Term:
    """gamma x. Large x: e to Stirling's sum in two parts, its sign turned for negative x instead of a division."""
    b.narrowest = "f64"  # for its exponents
    a = b.abs(x)
    negative = x < 0.0
    large = a >= LARGE
    v, product, below = _reduced(b, a)
    middle = b.poly(v, C.GAMMA_F64)
    small = b.select(below, middle / product, middle * product)
    big = b.minimum(b.maximum(a, LARGE), 200.0)
    high, low = log_pair(b, big)
    factor = big - 0.5
    p, rest = b.two_product(factor, high)
    total, more = b.two_sum(p, -big)
    rest = more + b.fma(factor, low, rest) + (_stirling(b, big) + HALF_LOG_2PI[0])
    total, rest = b.fast_two_sum(total, rest)
    total, rest = b.select(negative, -total, total), b.select(negative, -rest, rest)
    n, r = reduce_exp(b, total)
    e = exp_less_one(b, r)
    power = scale(b, (e + b.fma(e, rest, rest)) + 1.0, n)
    # 1 / gamma(-x), or gamma x
    value = b.select(large, power, b.select(negative, 1.0 / small, small))
    reflected = value * (-pi / (x * sinpi(b, x)))
    value = b.select(negative, reflected, value)
    tiny = a < 2.0**-60
    value = b.select(tiny, 1.0 / x, value)
    value = b.select(a > 199.0, b.select(negative, b.copysign(b.const(0.0), reflected), inf), value)
    pole = negative & b.floor(x).equals(x)
    return b.select(b.any(pole, x.is_nan()), nan, value)
