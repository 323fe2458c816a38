"""Circular functions. Arguments are reduced by multiples of pi/2 held in several parts.

f32 arguments are reduced in f64, right up to |x| = 2**28; f64 arguments in f64 with fused products, right up to
|x| = 2**25 or so. Beyond that the error grows with |x|: docs say so.
"""

from __future__ import annotations

from math import nan

from torch_rvv.lowering.vecmath import coefficients as C
from torch_rvv.lowering.vecmath.builder import Builder, Term

TWO_OVER_PI = 0.6366197723675814
# pi/2 as a sum of doubles of 53 bits each.
HALF_PI = (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591833e-33)
# pi/2 as a sum of short floats: products with numbers under 2**11 or so are exact.
HALF_PI_F32 = (1.5703125, 4.837512969970703125e-4, 7.549789948768648e-8)


def reduce(b: Builder, x: Term) -> tuple[Term, Term]:
    """(quadrant as integer, remainder r in [-pi/4, pi/4]) with x = quadrant*pi/2 + r."""
    if not b.wide:
        w = b.widened()
        wide = w.wrap(b.cast("arith.extf", x, "f64").name)
        n = w.rint(wide * TWO_OVER_PI)
        r = w.fma(n, -HALF_PI[0], wide)
        r = w.fma(n, -HALF_PI[1], r)
        narrow = b.cast("arith.truncf", b.wrap(r.name, "f64"), "f32")
        return b.cast("arith.trunci", b.wrap(w.to_int(n).name, "i64"), "i32"), narrow
    n = b.rint(x * TWO_OVER_PI)
    r = x
    for part in HALF_PI:
        r = b.fma(n, -part, r)
    return b.to_int(n), r


def sin_poly(b: Builder, r: Term) -> Term:
    z = r * r
    return b.fma(b.poly(z, C.SIN_F64 if b.wide else C.SIN_F32) * z, r, r)


def cos_poly(b: Builder, r: Term) -> Term:
    z = r * r
    half = z * 0.5
    w = 1.0 - half
    return w + b.fma(z * z, b.poly(z, C.COS_F64 if b.wide else C.COS_F32), (1.0 - w) - half)


def _circular(b: Builder, x: Term, quadrant: Term, r: Term) -> Term:
    swap = (quadrant & 1).equals(1)
    value = b.select(swap, cos_poly(b, r), sin_poly(b, r))
    sign = (quadrant & 2) << (b.mantissa + (b.bias.bit_length() + 1) - 1)
    return b.float(b.bits(value) ^ sign)


def sin(b: Builder, x: Term) -> Term:
    quadrant, r = reduce(b, x)
    value = _circular(b, x, quadrant, r)
    value = b.select(x.equals(0.0), x, value)
    return b.select((x - x).equals(0.0), value, nan)


def cos(b: Builder, x: Term) -> Term:
    quadrant, r = reduce(b, x)
    return b.select((x - x).equals(0.0), _circular(b, x, quadrant + 1, r), nan)


def tan(b: Builder, x: Term) -> Term:
    quadrant, r = reduce(b, x)
    s, c = sin_poly(b, r), cos_poly(b, r)
    odd = (quadrant & 1).equals(1)
    value = b.select(odd, -c, s) / b.select(odd, s, c)
    value = b.select(x.equals(0.0), x, value)
    return b.select((x - x).equals(0.0), value, nan)


def sinpi(b: Builder, x: Term) -> Term:
    n = b.rint(x * 2.0)
    r = (x - n * 0.5) * 3.141592653589793
    whole = b.to_int(n - b.trunc(n * 0.25) * 4.0)
    return b.select((x - x).equals(0.0), _circular(b, x, whole, r), nan)


def cospi(b: Builder, x: Term) -> Term:
    n = b.rint(x * 2.0)
    r = (x - n * 0.5) * 3.141592653589793
    whole = b.to_int(n - b.trunc(n * 0.25) * 4.0)
    return b.select((x - x).equals(0.0), _circular(b, x, whole + 1, r), nan)


def atan_positive(b: Builder, a: Term) -> Term:
    """atan of a >= 0: pi/4 steps around tan(pi/8) and tan(3pi/8)."""
    big, middle = a > 2.414213562373095, a > 0.41421356237309503
    top = b.select(big, -1.0, b.select(middle, a - 1.0, a))
    bottom = b.select(big, a, b.select(middle, a + 1.0, 1.0))
    t = top / bottom
    z = t * t
    base = b.select(big, HALF_PI[0], b.select(middle, HALF_PI[0] / 2, 0.0))
    rest = b.select(big, HALF_PI[1], b.select(middle, HALF_PI[1] / 2, 0.0))
    return base + (b.poly(z, C.ATAN_F64) * t + rest)


def atan(b: Builder, x: Term) -> Term:
    return b.copysign(atan_positive(b, b.abs(x)), x)


def atan2(b: Builder, y: Term, x: Term) -> Term:
    ay, ax = b.abs(y), b.abs(x)
    both_infinite = ay.equals(float("inf")) & ax.equals(float("inf"))
    both_zero = ay.equals(0.0) & ax.equals(0.0)
    ratio = b.select(both_infinite, 1.0, b.select(both_zero, 0.0, ay / ax))
    angle = atan_positive(b, ratio)
    negative = b.bits(x) < 0
    angle = b.select(negative, HALF_PI[0] * 2 - (angle - HALF_PI[1] * 2), angle)
    value = b.copysign(angle, y)
    return b.select(b.any(x.is_nan(), y.is_nan()), nan, value)


def asin_positive(b: Builder, a: Term) -> tuple[Term, Term]:
    """(a > 1/2, asin of a or, where a > 1/2, 2*asin(sqrt((1-a)/2)))."""
    big = a > 0.5
    z = b.select(big, (1.0 - a) * 0.5, a * a)
    s = b.select(big, b.sqrt(z), a)
    p = b.fma(b.poly(z, C.ASIN_F64) * z, s, s)
    return big, b.select(big, p * 2.0, p)


def asin(b: Builder, x: Term) -> Term:
    big, p = asin_positive(b, b.abs(x))
    return b.copysign(b.select(big, HALF_PI[0] - (p - HALF_PI[1]), p), x)


def acos(b: Builder, x: Term) -> Term:
    big, p = asin_positive(b, b.abs(x))
    negative = x < 0.0
    inner = HALF_PI[0] - (b.copysign(p, x) - HALF_PI[1])
    outer = b.select(negative, HALF_PI[0] * 2 - (p - HALF_PI[1] * 2), p)
    return b.select(big, outer, inner)
