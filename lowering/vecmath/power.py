"""Powers and roots.

pow(x, y) = e**(y log x) with the logarithm and the product as sums of two numbers; in f32 plain f64 suffices.
"""

from __future__ import annotations

from math import inf, nan

from torch_rvv.lowering.vecmath import coefficients as C
from torch_rvv.lowering.vecmath.builder import Builder, Term
from torch_rvv.lowering.vecmath.exponential import (
    LN2,
    exp_less_one,
    exp_of_reduced,
    log_rest,
    reduce_exp,
    scale,
    split_log,
)


def log_pair(b: Builder, x: Term) -> tuple[Term, Term]:
    """log x of a positive finite x as a sum of two, good to some 68 bits; f64.

    With s = f/(2+f): log(1+f) = 2s + s (s² (c0 + s² P)), all but P as sums of two.
    """
    k, f = split_log(b, x)
    bottom, lost = b.fast_two_sum(2.0, f)
    inverse = 1.0 / bottom
    s = f * inverse
    s_low = (b.fma(-s, bottom, f) - s * lost) * inverse
    z = s * s
    z_low = b.fma(s + s, s_low, b.fma(s, s, -z))
    first, *others = C.LOG_F64
    t, t_low = b.two_product(z, first)
    w, w_low = b.fast_two_sum(t, b.fma(z * z, b.poly(z, others), b.fma(z_low, first, t_low)))
    product, rest = b.two_product(s, w)
    rest = b.fma(s, w_low, b.fma(s_low, w, rest))
    high, low = LN2["f64"]
    one, one_low = b.fast_two_sum(k * high, s + s)
    two, two_low = b.fast_two_sum(one, product)
    small = two_low + (one_low + b.fma(k, low, b.fma(s_low, 2.0, rest)))
    return b.fast_two_sum(two, small)


def power(b: Builder, a: Term, y: Term) -> Term:
    """a**y for a >= 0, but for what a = 0 or infinity, y infinite and NaN give."""
    if b.narrowest == "f32":
        k, f = split_log(b, a)
        high, low = LN2["f64"]
        p = y * b.fma(k, high, f + b.fma(k, low, log_rest(b, f)))
        # e**p leaves f32 long before f64; the clamp also keeps NaN out of the conversion to integers.
        n, r = reduce_exp(b, b.minimum(b.maximum(p, -200.0), 200.0))
        return exp_of_reduced(b, n, r)
    high, low = log_pair(b, a)
    p, rest = b.two_product(y, high)
    rest = b.fma(y, low, rest)
    rest = b.select(b.abs(p) < 800.0, rest, 0.0)
    n, r = reduce_exp(b, b.minimum(b.maximum(p, -800.0), 800.0))
    small = exp_less_one(b, r)
    return scale(b, (small + b.fma(small, rest, rest)) + 1.0, n)


def pow_(b: Builder, x: Term, y: Term) -> Term:
    """As C has it: pow(x, 0) = pow(1, y) = 1 even for NaN; odd integers y keep the sign of x."""
    a, size = b.abs(x), b.abs(y)
    value = power(b, a, y)
    half = y * 0.5
    whole, even = b.floor(y).equals(y), b.floor(half).equals(half)
    odd = whole & ~even
    grows = y > 0.0
    value = b.select(a.equals(0.0), b.select(grows, 0.0, inf), value)
    value = b.select(a.equals(inf), b.select(grows, inf, 0.0), value)
    limit = b.select((a > 1.0) ^ grows, 0.0, inf)
    value = b.select(size.equals(inf), b.select(a.equals(1.0), 1.0, limit), value)
    value = b.select(odd & (b.bits(x) < 0), -value, value)
    value = b.select((x < 0.0) & (a < inf) & ~whole, nan, value)
    value = b.select(b.any(x.is_nan(), y.is_nan()), nan, value)
    return b.select(b.any(y.equals(0.0), x.equals(1.0)), 1.0, value)


def _inverse_cube_root(b: Builder, a: Term) -> tuple[Term, Term, Term]:
    """(third, m, r): a = 8**third * m, 2/3 <= m < 16/3, r = m**(-1/3)."""
    k, f = split_log(b, a)
    third, floating = b.round(b.fma(k, 1 / 3, -1 / 3))
    rest = b.to_int(b.fma(floating, -3.0, k))
    m = b.float(b.bits(f + 1.0) + (rest << b.mantissa))
    r = b.poly(m, C.INVERSE_CUBE_ROOT)
    for _ in range(1 if b.narrowest == "f32" else 2):
        error = b.fma(-(m * r), r * r, 1.0)
        r = b.fma(r * error, b.fma(error, 2 / 9, 1 / 3), r)
    return third, m, r


def _unless_special(b: Builder, x: Term, value: Term, special: Term) -> Term:
    """`special` for zeros, infinities and NaN."""
    a = b.abs(x)
    return b.select((a > 0.0) & (a < inf), value, special)


def cbrt(b: Builder, x: Term) -> Term:
    third, m, r = _inverse_cube_root(b, b.abs(x))
    y = m * r * r
    if b.narrowest == "f64":
        square, lost = b.two_product(y, y)
        error = b.fma(-square, y, m) - lost * y
        y = b.fma(error * (r * r), 1 / 3, y)
    return _unless_special(b, x, b.copysign(y * b.power_of_two(third), x), x)


def rcbrt(b: Builder, x: Term) -> Term:
    third, m, r = _inverse_cube_root(b, b.abs(x))
    if b.narrowest == "f64":
        square, lost = b.two_product(r, r)
        product, more = b.two_product(square, r)
        # 1 - m r³, r³ as a sum of two
        error = b.fma(-m, product, 1.0) - m * b.fma(lost, r, more)
        r = b.fma(r * error, 1 / 3, r)
    value = b.copysign(r * b.power_of_two(0 - third), x)
    return _unless_special(b, x, value, 1.0 / x)


def hypot(b: Builder, x: Term, y: Term) -> Term:
    """Scaled by a power of two in f64 so that no square leaves the range."""
    ax, ay = b.abs(x), b.abs(y)
    a, c = ax, ay
    if b.narrowest == "f64":
        most = b.maximum(ax, ay)
        factor = b.select(most > 2.0**500, 2.0**-600, b.select(most < 2.0**-450, 2.0**600, 1.0))
        back = b.select(most > 2.0**500, 2.0**600, b.select(most < 2.0**-450, 2.0**-600, 1.0))
        a, c = ax * factor, ay * factor
    value = b.sqrt(b.fma(a, a, c * c))
    if b.narrowest == "f64":
        value = value * back
    return b.select(b.any(ax.equals(inf), ay.equals(inf)), inf, value)


def rsqrt(b: Builder, x: Term) -> Term:
    """1 / sqrt x, then one step with the exact residual."""
    r = 1.0 / b.sqrt(x)
    product, lost = b.two_product(x, r)
    error = b.fma(-product, r, 1.0) - lost * r
    value = b.fma(r * 0.5, error, r)
    # Zero, infinity and NaN have no residual.
    return b.select(error.equals(error), value, r)


def rcp(b: Builder, x: Term) -> Term:
    return 1.0 / x
