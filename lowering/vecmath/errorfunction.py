"""The error function and what is made of it.

erf x  = x P(x²)                    near 0
erfc x = e**-x² P(q) / (x + 2),    q = (x-2)/(x+2), x >= 0; e**-x² with the rounding of x² made good
"""

from __future__ import annotations

from torch_rvv.lowering.vecmath import coefficients as C
from torch_rvv.lowering.vecmath.builder import Builder, Number, Term
from torch_rvv.lowering.vecmath.exponential import exp_between, exp_less_one, exp_pair, reduce_exp, scale
from torch_rvv.lowering.vecmath.whole import Whole

# Beyond, erfc is zero.
ERFCX_LIMIT = {"f32": 10.5, "f64": 28.25}
ROOT_HALF = (0.7071067811865476, -4.833646656726457e-17)


# Where erf changes from its own polynomial to erfc's.
NEAR = {"f32": 0.6, "f64": 1.0}


def erf_near(b: Builder, x: Term) -> Term:
    """erf of |x| < NEAR."""
    return b.fma(x, b.poly(x * x, b.pick(C, "ERF")), x)


def erfcx_positive(b: Builder, a: Term) -> tuple[Term, Term]:
    """e**a² erfc a of 0 <= a <= ERFCX_LIMIT, as a sum of two."""
    bottom, lost = b.fast_two_sum(b.maximum(a, 2.0), b.minimum(a, 2.0))
    inverse = 1.0 / bottom
    error = inverse * (b.fma(-inverse, bottom, 1.0) - inverse * lost)
    q = b.fma(inverse, -4.0, 1.0) - error * 4.0
    first, *others = b.pick(C, "ERFCX")
    p, small = b.fast_two_sum(first, q * b.poly(q, others))
    product, rest = b.two_product(p, inverse)
    return product, b.fma(p, error, b.fma(small, inverse, rest))


def erfc_parts(b: Builder, a: Term, rest: Number = 0.0) -> tuple[Term, Whole]:
    """erfc(a + rest) = m * 2**n, a >= 0 and rest tiny."""
    a = b.minimum(a, ERFCX_LIMIT[b.narrowest])
    square, lost = b.two_product(a, a)
    lost = b.fma(a + a, rest, lost) if isinstance(rest, Term) else lost
    n, r = reduce_exp(b, -square)
    factor, small = erfcx_positive(b, a)
    return factor + b.fma(exp_less_one(b, r - lost), factor, small), n


def erfc_positive(b: Builder, a: Term, rest: Number = 0.0) -> Term:
    """erfc of a + rest, a >= 0, rest tiny."""
    return scale(b, *erfc_parts(b, a, rest))


def erf(b: Builder, x: Term) -> Term:
    a = b.abs(x)
    if b.wide:
        tail = erfc_positive(b, a)
    else:
        tail = exp_between(b, b.poly(b.minimum(a, 4.0), C.LOG_ERFC_F32))
    return b.select(a >= NEAR[b.elem], b.copysign(1.0 - tail, x), erf_near(b, x))


def erfc(b: Builder, x: Term) -> Term:
    a = b.abs(x)
    tail = erfc_positive(b, a)
    value = b.select(x < 0.0, 2.0 - tail, tail)
    return b.select(a >= 0.46875, value, 1.0 - erf_near(b, x))


def erfcx(b: Builder, x: Term) -> Term:
    """e**x² erfc x; an asymptotic series where x is large, 2 e**x² less the value at |x| where it is negative."""
    a = b.abs(x)
    limit = ERFCX_LIMIT[b.narrowest]
    near, rest = erfcx_positive(b, b.minimum(a, limit))
    near = near + rest
    inverse = 1.0 / a
    z = inverse * inverse * 0.5
    far = inverse * 0.5641895835477563 * b.poly(z, (1.0, -1.0, 3.0, -15.0, 105.0, -945.0, 10395.0))
    value = b.select(a < limit, near, far)
    square, lost = b.two_product(b.minimum(a, limit), b.minimum(a, limit))
    value = b.select(x < 0.0, b.fma(exp_pair(b, square, lost), 2.0, -value), value)
    return b.select(x.is_nan(), x, value)


def normcdf(b: Builder, x: Term) -> Term:
    """erfc(-x / sqrt 2) / 2, the quotient in two parts."""
    a, rest = b.two_product(x, -ROOT_HALF[0])
    rest = b.fma(x, -ROOT_HALF[1], rest)
    size, sign = b.abs(a), b.copysign(b.const(1.0), a)
    limit = ERFCX_LIMIT[b.narrowest]
    tail = erfc_positive(b, size, b.select(size < limit, rest * sign, 0.0)) * 0.5
    value = b.select(a < 0.0, 1.0 - tail, tail)
    near = b.fma(erf_near(b, a), -0.5, 0.5)
    return b.select(size >= 0.46875, value, near)
