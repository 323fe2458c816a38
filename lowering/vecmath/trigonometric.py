"""Circular functions and their inverses.

    x = n*pi/2 + r,  |r| <= pi/4;  sin x = ±sin r or ±cos r, by n mod 4

pi/2 in three parts and fused products make r right to a rounding or two below LARGE. Beyond it, the bits of 2/pi
that matter for the exponent of x are multiplied with its significand in integers (Payne and Hanek's way): exact to
the largest number. That path runs only if a lane needs it.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf, nan, pi

from torch_rvv.lowering.vecmath import coefficients as C
from torch_rvv.lowering.vecmath.builder import Builder, Number, Term
from torch_rvv.lowering.vecmath.whole import nearest

# Truncated, so that all parts are positive: a zero r then keeps the sign of x.
TWO_OVER_PI = 0.6366197723675814
HALF_PI = {
    "f32": (1.570796251296997, 7.549789415861596e-08, 5.390302529957765e-15),
    "f64": (1.5707963267948966, 6.123233995736765e-17, 1.0828566739219139e-32),
}
LARGE = {"f32": 1.0e5, "f64": 2.0**28}
# 2/pi = 0.A2F9836E..., 1216 bits of it.
TWO_OVER_PI_BITS = int(
    "a2f9836e4e441529fc2757d1f534ddc0db6295993c439041fe5163abdebbc561b7246e3a424dd2e006492eea09d1921cfe1deb1cb129a73e"
    "e88235f52ebb4484e99c7026b45f7e413991d639835339f49c845f8bbdf9283b1ff897ffde05980fef2f118b5a0a6d1f6d367ecf27cb09b7"
    "4f463f669e5fea2d7527bac7ebe5f17b3d0739f78a5292ea6bfb5fb11f8d5d0856033046fc7b6bab",
    16,
)


def _words(width: int, count: int) -> list[int]:
    """A zero word, then the first words of 2/pi."""
    bits = 1216
    return [0, *[(TWO_OVER_PI_BITS >> (bits - width * (i + 1))) & ((1 << width) - 1) for i in range(count)]]


def _window(b: Builder, at: Term, width: int, count: int, steps: tuple[int, ...]) -> list[Term]:
    """`count` words of 2/pi from bit `at` of _words on: a barrel shifter over the table, then over bits."""
    index, rest = at.logical_shift(width.bit_length() - 1), at & (width - 1)
    table = [b.const(word, b.int) for word in _words(width, 19 if width == 64 else 7)]
    for step in steps:
        taken = (index & step).differs(0)
        keep = step + count
        table = [
            b.select(taken, table[i + step], table[i]) if i + step < len(table) else table[i]
            for i in range(min(keep, len(table)))
        ]
    back = (width - 1) - rest
    return [(table[i] << rest) | table[i + 1].logical_shift(1).logical_shift(back) for i in range(count)]


def _fraction32(b: Builder, x: Term) -> tuple[Term, Term, Term]:
    """(quadrant, remainder, what its rounding lost) of a large |x| in f32."""
    bits = b.bits(x)
    at = bits.logical_shift(23) - 120
    wide = b.widened()
    significand = b.cast("arith.extui", (bits & 0x7FFFFF) | 0x800000, "i64")
    a0, a1, a2 = (b.cast("arith.extui", word, "i64") for word in _window(b, at, 32, 3, (4, 2, 1)))
    p1 = significand * a1 + (significand * a2).logical_shift(32)
    p0 = significand * a0 + p1.logical_shift(32)
    fraction = (p0 << 32) | (p1 & 0xFFFFFFFF)
    quadrant = (fraction + (1 << 61)).logical_shift(62)
    rest = wide.cast("arith.sitofp", fraction - (quadrant << 62), "f64")
    exact = rest * (pi / 2 * 2.0**-62)
    r = b.cast("arith.truncf", exact, "f32")
    lost = b.cast("arith.truncf", exact - b.cast("arith.extf", r, "f64"), "f32")
    return b.cast("arith.trunci", quadrant, "i32"), r, lost


def _fraction64(b: Builder, x: Term) -> tuple[Term, Term, Term]:
    """(quadrant, remainder, what its rounding lost) of a large |x| in f64."""
    bits = b.bits(x)
    at = bits.logical_shift(52) - (1075 - 62)
    significand = (bits & ((1 << 52) - 1)) | (1 << 52)
    mask = 0xFFFFFFFF
    high, low = significand.logical_shift(32), significand & mask
    words = _window(b, at, 64, 3, (16, 8, 4, 2, 1))
    limbs = [half for word in reversed(words) for half in (word & mask, word.logical_shift(32))]
    lows = [low * limb for limb in limbs]
    carry: Number = 0
    columns: list[Term] = []
    for k in range(1, 6):
        column = (lows[k] & mask) + lows[k - 1].logical_shift(32) + high * limbs[k - 1] + carry
        columns.append(column & mask)
        carry = column.logical_shift(32)
    top, bottom = (columns[4] << 32) | columns[3], (columns[2] << 32) | columns[1]
    quadrant = (top + (1 << 61)).logical_shift(62)
    rest = top - (quadrant << 62)
    first = b.to_float(rest)
    second = b.to_float(rest - b.to_int(first)) + b.to_float(bottom.logical_shift(1)) * 2.0**-63
    total, error = b.fast_two_sum(first, second)
    part = 2.0**-62
    product, lost = b.two_product(total, HALF_PI["f64"][0] * part)
    lost = b.fma(error, HALF_PI["f64"][0] * part, b.fma(total, HALF_PI["f64"][1] * part, lost))
    return quadrant, *b.fast_two_sum(product, lost)


def reduce(b: Builder, x: Term) -> tuple[Term, Term, Term]:
    """(quadrant as integer, but for its first bits, remainder r, |x|): right where |x| is at most LARGE."""
    n = nearest(b, x, TWO_OVER_PI)
    r = x
    for part in HALF_PI[b.elem]:
        r = b.fma(n.n, -part, r)
    return b.bits(n.shifted), r, b.abs(x)


def sin_poly(b: Builder, r: Term) -> Term:
    z = b.square(r)
    # A least positive number as constant term keeps the sign of a zero r.
    return b.fma(b.poly(z, (b.least, *b.pick(C, "SIN"))), r, r)


def cos_poly(b: Builder, r: Term) -> Term:
    z = b.square(r)
    half = z * 0.5
    w = 1.0 - half
    return w + b.fma(b.square(z), b.poly(z, b.pick(C, "COS")), (1.0 - w) - half)


def _circular(b: Builder, quadrant: Term, r: Term) -> Term:
    value = b.select((quadrant & 1).differs(0), cos_poly(b, r), sin_poly(b, r))
    sign_bit = b.mantissa + b.bias.bit_length() + 1
    return b.float(b.bits(value) ^ ((quadrant & 2) << (sign_bit - 1)))


def _with_large(b: Builder, x: Term, a: Term, value: Term, function: Callable[..., Term]) -> Term:
    """`value`, or the function of (quadrant, remainder, its rest) of |x| in lanes where |x| is large."""

    def rare() -> Term:
        return b.select(a < inf, function(*(_fraction64 if b.wide else _fraction32)(b, a)), nan)

    return b.where_any(a > LARGE[b.elem], value, rare)


def _half_turns(b: Builder, x: Term, shift: float) -> Term:
    """sin(x + shift*pi) in f32, shift 0 or 1/2: ±sin r, x = (n - shift)*pi + r, |r| <= pi/2."""
    turns = x * (TWO_OVER_PI / 2)
    n = nearest(b, turns + shift if shift else turns)
    r = x
    for part in HALF_PI[b.elem]:
        r = b.fma(n.n - shift if shift else n.n, -2.0 * part, r)
    z = b.square(r)
    value = b.fma(b.poly(z, (b.least, *C.SINE_F32)), r, r)
    return b.float(b.bits(value) ^ (b.bits(n.shifted) << 31))


def sin(b: Builder, x: Term) -> Term:
    if not b.wide:
        return _with_large(b, x, b.abs(x), _half_turns(b, x, 0.0), _large_sin(b, x))
    quadrant, r, a = reduce(b, x)
    return _with_large(b, x, a, _circular(b, quadrant, r), _large_sin(b, x))


def _large_sin(b: Builder, x: Term) -> Callable[..., Term]:
    def of_large(q: Term, r: Term, _: Term) -> Term:
        value = _circular(b, q, r)
        return b.select(x < 0.0, -value, value)

    return of_large


def cos(b: Builder, x: Term) -> Term:
    def of_large(q: Term, r: Term, _: Term) -> Term:
        return _circular(b, q + 1, r)

    if not b.wide:
        return _with_large(b, x, b.abs(x), _half_turns(b, x, 0.5), of_large)
    quadrant, r, a = reduce(b, x)
    return _with_large(b, x, a, _circular(b, quadrant + 1, r), of_large)


def _tangent(b: Builder, quadrant: Term, r: Term, rest: Term) -> Term:
    """tan of r + rest in a quadrant; rest is tiny."""
    odd = (quadrant & 1).differs(0)
    z = b.square(r)
    t, lost = b.fast_two_sum(r, b.fma(b.poly(z, b.pick(C, "TAN")) * z, r, b.fma(z, rest, rest)))
    top, bottom = b.select(odd, -1.0, t), b.select(odd, t, 1.0)
    inverse = 1.0 / bottom
    quotient = top * inverse
    lost = b.select(odd, -quotient * lost, lost)
    return b.fma(b.fma(-quotient, bottom, top) + lost, inverse, quotient)


def tan(b: Builder, x: Term) -> Term:
    """Near its poles tan shows the rounding of r twice over, so r has a second part here."""
    n = nearest(b, x, TWO_OVER_PI)
    first, second, third = HALF_PI[b.elem]
    whole = b.fma(n.n, -first, x)
    product, lost = b.two_product(n.n, second)
    r = whole - product
    rest = (whole - r) - product - b.fma(n.n, third, lost)
    value = _tangent(b, b.bits(n.shifted), r, rest)

    def of_large(q: Term, r: Term, rest: Term) -> Term:
        value = _tangent(b, q, r, rest)
        return b.select(x < 0.0, -value, value)

    return _with_large(b, x, b.abs(x), b.select(x.equals(0.0), x, value), of_large)


def reduce_pi(b: Builder, x: Term) -> tuple[Term, Term]:
    """(quadrant, remainder) of pi*x: exact up to the last product."""
    t = b.fma(b.rint(x * 0.5), -2.0, x)
    n = nearest(b, t, 2.0)
    return b.bits(n.shifted), b.fma(n.n, -0.5, t) * pi


def sinpi(b: Builder, x: Term) -> Term:
    value = _circular(b, *reduce_pi(b, x))
    return b.select(value.equals(0.0), b.copysign(b.const(0.0), x), value)


def cospi(b: Builder, x: Term) -> Term:
    quadrant, r = reduce_pi(b, x)
    value = _circular(b, quadrant + 1, r)
    # Zero at the halves is positive.
    return value + 0.0


def atan_unit(b: Builder, t: Term) -> Term:
    """atan of 0 <= t <= 1, f32."""
    z = b.square(t)
    return b.fma(b.poly(z, C.ATAN_F32) * z, t, t)


def atan_ratio(b: Builder, top: Term, bottom: Term) -> Term:
    """atan of top / bottom, both positive. Angles are counted from 0 or pi/2, in f64 also from pi/4."""
    high, low = HALF_PI[b.elem][:2]
    if not b.wide:
        steep = top > bottom
        t = b.minimum(top, bottom) / b.maximum(top, bottom)
        angle = atan_unit(b, t)
        return b.select(steep, high - (angle - low), angle)
    steep, middle = top > bottom * 2.414213562373095, top > bottom * 0.41421356237309503
    num = b.select(steep, -bottom, b.select(middle, top - bottom, top))
    den = b.select(steep, top, b.select(middle, top + bottom, bottom))
    t = num / den
    z = b.square(t)
    base = b.select(steep, high, b.select(middle, high / 2, 0.0))
    rest = b.select(steep, low, b.select(middle, low / 2, 0.0))
    return base + (b.fma(b.poly(z, C.ATAN_F64) * z, t, rest) + t)


def atan(b: Builder, x: Term) -> Term:
    a = b.abs(x)
    value = b.copysign(atan_ratio(b, a, b.const(1.0)), x)
    if b.wide:
        value = b.select(a.equals(inf), b.copysign(b.const(HALF_PI["f64"][0]), x), value)
    return b.select(x.is_nan(), x, value)


def atan2(b: Builder, y: Term, x: Term) -> Term:
    """Two infinities count as equal, two zeros as 0 / 1. Sizes are brought to where no quotient can leave the range."""
    ay, ax = b.abs(y), b.abs(x)
    infinite = ay.equals(inf) & ax.equals(inf)
    if b.wide:
        large, small = b.maximum(ay, ax), b.minimum(ay, ax)
        factor = b.select(large > 2.0**1000, 2.0**-100, b.select(large < 2.0**-900, 2.0**120, 1.0))
        ay, ax = ay * factor, ax * factor
        del small
    top, bottom = b.select(infinite, 1.0, ay), b.select(infinite, 1.0, ax)
    bottom = b.select(b.any(top.equals(0.0), bottom.equals(inf)), 1.0, bottom)
    top = b.select(ax.equals(inf) & ~infinite, 0.0, top)
    angle = atan_ratio(b, top, bottom)
    high, low = HALF_PI[b.elem][:2]
    if b.wide:
        angle = b.select(top.equals(inf), high, angle)
    negative = b.bits(x) < 0
    angle = b.select(negative, 2 * high - (angle - 2 * low), angle)
    value = b.copysign(angle, y)
    return b.select(b.any(x.is_nan(), y.is_nan()), nan, value)


def asin_reduced(b: Builder, a: Term) -> tuple[Term, Term]:
    """(a > 9/16, asin of a or, where a > 9/16, asin of sqrt((1-a)/2), which is then under 1/2)."""
    big = a > 0.5625
    z = b.select(big, 0.5 - a * 0.5, a * a)
    s = b.select(big, b.sqrt(z), a)
    return big, b.fma(b.poly(z, C.ASIN_F64 if b.wide else C.ASIN_F32) * z, s, s)


def asin(b: Builder, x: Term) -> Term:
    high, low = HALF_PI[b.elem][:2]
    big, p = asin_reduced(b, b.abs(x))
    return b.copysign(b.select(big, high - (p * 2.0 - low), p), x)


def acos(b: Builder, x: Term) -> Term:
    high, low = HALF_PI[b.elem][:2]
    big, p = asin_reduced(b, b.abs(x))
    inner = high - (b.copysign(p, x) - low)
    twice = p + p
    outer = b.select(x < 0.0, 2 * high - (twice - 2 * low), twice)
    return b.select(big, outer, inner)
