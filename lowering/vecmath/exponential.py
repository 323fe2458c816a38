"""exp, log and their kin: range reduction by powers of two, then a polynomial.

    e**x = 2**n * e**r,  x = n*ln2 + r,  |r| <= ln2/2
    log x = k*ln2 + log(1+f),  x = 2**k * (1+f),  -1/3 <= f < 1/3

What is beyond the range is left to arithmetic wherever that gives the right infinity or NaN by itself, since each
comparison with its select costs two instructions.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf, nan

from torch_rvv.lowering.vecmath import coefficients as C
from torch_rvv.lowering.vecmath.builder import Builder, Number, Term
from torch_rvv.lowering.vecmath.whole import Whole, nearest, power_of, power_of_two

LOG2E, LN_2, LOG2_10 = 1.4426950408889634, 0.6931471805599453, 3.321928094887362
# ln 2 in two parts, the first with so few digits that its multiples by exponents are exact.
LN2 = {"f32": (0.693115234375, 3.194618329871446e-05), "f64": (0.6931471805601177, -1.7239444525614835e-13)}
# log10(2) likewise, and log10(e) as the sum of two numbers.
LOG10_2 = {"f32": (0.301025390625, 4.605039066518657e-06), "f64": (0.3010299956640665, -8.532344317057107e-14)}
LOG10E = {"f32": (0.4342944920063019, -1.0103049952192578e-08), "f64": (0.4342944819032518, 1.098319650216765e-17)}
LOG2E_PARTS = {"f32": (1.4426950216293335, 1.925963033500011e-08), "f64": (LOG2E, 2.0355273740931033e-17)}
LN10 = {"f32": (2.3025851249694824, -3.1975435632602967e-08), "f64": (2.302585092994046, -2.1707562233822494e-16)}
# Arguments of exp, as multiples of ln 2: above these the result is infinite, below zero.
HIGHEST = {"f32": 130.0, "f64": 1030.0}
LOWEST = {"f32": -104.0, "f64": -746.0}
LOWEST_2 = {"f32": -151.0, "f64": -1076.0}
SMALLEST_NORMAL = {"f32": 2.0**-126, "f64": 2.0**-1022}


def _steps(b: Builder) -> int:
    """How many times the bias has to be added for `scale`. A value on its way to f32 has exponents to spare."""
    return 1 if b.narrowest != b.elem else 2


def scale(b: Builder, value: Term, n: Whole) -> Term:
    """value * 2**n where n, to which `_steps` biases are added, may be outside of the exponents of normal numbers: in
    two steps, rounded once."""
    if _steps(b) == 1:
        return value * power_of(b, n)
    bits = b.bits(n.shifted)
    half = bits.logical_shift(1)
    return value * b.float(half << b.mantissa) * b.float((bits - half) << b.mantissa)


def reduce_exp(b: Builder, x: Term, highest: float | None = None) -> tuple[Whole, Term]:
    """(n, r) with x = n*ln2 + r, for `scale`; n is at most `highest`, r then more than ln2/2."""
    high, low = LN2[b.elem]
    most = b.minimum(x, (highest or HIGHEST[b.narrowest]) * LN_2)
    n = nearest(b, most, LOG2E, _steps(b) * b.bias, fused=True)
    return n, b.fma(n.n, -low, b.fma(n.n, -high, x))


def exp_less_one(b: Builder, r: Term) -> Term:
    """e**r - 1 on the reduced range."""
    return b.fma(b.poly(r, b.pick(C, "EXP")), b.square(r), r)


def exp_reduced(b: Builder, r: Term) -> Term:
    """e**r on the reduced range."""
    # Not by Horner's scheme: that would keep a vector of ones.
    return exp_less_one(b, r) + 1.0


def exp_of_reduced(b: Builder, n: Whole, r: Term) -> Term:
    """2**n * e**r."""
    return scale(b, exp_reduced(b, r), n)


def exp(b: Builder, x: Term) -> Term:
    # By a select, which lets NaN pass; before the rest, so that no mask lives through it.
    x = b.select(x < LOWEST[b.narrowest], LOWEST[b.narrowest], x)
    return exp_of_reduced(b, *reduce_exp(b, x))


def exp_between(b: Builder, x: Term) -> Term:
    """e**x of an x for which the result is a normal number."""
    high, low = LN2[b.elem]
    n = nearest(b, x, LOG2E)
    r = b.fma(n.n, -low, b.fma(n.n, -high, x))
    return b.float(b.bits(exp_reduced(b, r)) + (b.bits(n.shifted) << b.mantissa))


def exp_pair(b: Builder, x: Term, correction: Term) -> Term:
    """e**(x + correction), the correction small; what LOWEST says is the caller's."""
    n, r = reduce_exp(b, x)
    return exp_of_reduced(b, n, r + correction)


def exp2(b: Builder, x: Term) -> Term:
    x = b.select(x < LOWEST_2[b.narrowest], LOWEST_2[b.narrowest], x)
    n = nearest(b, b.minimum(x, HIGHEST[b.narrowest]), added=_steps(b) * b.bias)
    f = x - n.n
    return scale(b, b.fma(f, b.poly(f, b.pick(C, "EXP2")), 1.0), n)


def exp10(b: Builder, x: Term) -> Term:
    """10**x: x*log2(10) reduced with log10(2) in two parts, the rest times ln 10."""
    high, low = LOG10_2[b.elem]
    most = b.minimum(x, HIGHEST[b.narrowest] / LOG2_10)
    n = nearest(b, most, LOG2_10, _steps(b) * b.bias)
    r = b.fma(n.n, -low, b.fma(n.n, -high, x))
    product, lost = b.two_product(r, LN10[b.elem][0])
    value = scale(b, exp_less_one(b, product) + b.fma(r, LN10[b.elem][1], lost) + 1.0, n)
    value = b.select(x < (-324.5 if b.narrowest == "f64" else -45.5), 0.0, value)
    return b.select(x > (309.0 if b.narrowest == "f64" else 39.0), inf, value)


def expm1(b: Builder, x: Term) -> Term:
    """2**n * (e**r - 1) + (2**n - 1); for the largest n at half the size, then doubled."""
    most = b.bias
    n, r = reduce_exp(b, x, min(most + 1.0, HIGHEST[b.narrowest]))
    power = power_of_two(b, b.minimum(n.n, float(most)))
    value = b.fma(power, exp_less_one(b, r), power - 1.0)
    value = b.select(n.n > float(most), value + value, value)
    value = b.select(x.equals(0.0), x, value)
    return b.select(x < (-38.0 if b.wide else -18.0), -1.0, value)


def split_log(b: Builder, x: Term, normal: bool = False) -> tuple[Term, Term]:
    """(k, f) with x = 2**k * (1 + f), k as a float; x positive and finite. normal: not subnormal either."""
    start = 0x3FE5555555555555 if b.wide else 0x3F2AAAAB
    if normal or b.narrowest != b.elem:
        offset = b.bits(x) - start
    else:
        lift = b.mantissa + 1
        tiny = x < SMALLEST_NORMAL[b.elem]
        offset = b.bits(b.select(tiny, x * float(2**lift), x)) - start
    k = offset >> b.mantissa
    if not normal and b.narrowest == b.elem:
        k = b.select(tiny, k - lift, k)
    m = b.float((offset & ((1 << b.mantissa) - 1)) + start)
    return b.to_float(k), m - 1.0


def log_rest(b: Builder, f: Term) -> Term:
    """log(1+f) - f on the reduced range."""
    if not b.wide:
        return b.poly(f, C.LOG_F32) * b.square(f)
    s = f / (f + 2.0)
    z = s * s
    square = f * f * 0.5
    return b.fma(s, b.fma(z, b.poly(z, b.pick(C, "LOG")), square), -square)


def log_special(b: Builder, x: Term, value: Term) -> Term:
    """log's value at 0, negative numbers, infinity and NaN put in."""
    value = b.select(x < inf, value, x)
    value = b.select(x.equals(0.0), -inf, value)
    return b.select(x < 0.0, nan, value)


def _of_split(b: Builder, x: Term, function: Callable[[Builder, Term, Term], Term]) -> Term:
    """function(k, f) of x = 2**k * (1 + f); zero, subnormal, negative, infinite and NaN lanes only if there are any."""
    usual = function(b, *split_log(b, x, normal=True))
    least, most = 1 << b.mantissa, (2 * b.bias + 1) << b.mantissa
    special = b.compare("", "uge", b.bits(x) - least, most - least)

    def rare() -> Term:
        return log_special(b, x, function(b, *split_log(b, x)))

    return b.where_any(special, usual, rare)


def log(b: Builder, x: Term) -> Term:
    return _of_split(b, x, _log)


def _log(b: Builder, k: Term, f: Term) -> Term:
    high, low = LN2[b.elem]
    if not b.wide:
        # Where the sum cancels it is exact, so that the error of its smaller part is all there is.
        return b.fma(k, b.nearest(LN_2), b.fma(b.square(f), b.poly(f, C.LOG_F32), f))
    total, rest = b.fast_two_sum(k * high, f)
    return total + (b.fma(k, low, log_rest(b, f)) + rest)


def log2(b: Builder, x: Term) -> Term:
    return _of_split(b, x, _log2)


def _log2(b: Builder, k: Term, f: Term) -> Term:
    y, rest = b.fast_two_sum(f, log_rest(b, f))
    high, low = LOG2E_PARTS[b.elem]
    return b.fma(y, high, b.fma(rest, high, y * low) + k) if not b.wide else _wide_log2(b, k, y, rest)


def _wide_log2(b: Builder, k: Term, y: Term, rest: Term) -> Term:
    high, low = LOG2E_PARTS["f64"]
    product, lost = b.two_product(y, high)
    total, more = b.fast_two_sum(k, product)
    return total + (b.fma(rest, high, b.fma(y, low, lost)) + more)


def log10(b: Builder, x: Term) -> Term:
    return _of_split(b, x, _log10)


def _log10(b: Builder, k: Term, f: Term) -> Term:
    y, rest = b.fast_two_sum(f, log_rest(b, f))
    high, low = LOG10E[b.elem]
    product, lost = b.two_product(y, high)
    total, more = b.fast_two_sum(k * LOG10_2[b.elem][0], product)
    small = b.fma(k, LOG10_2[b.elem][1], b.fma(rest, high, b.fma(y, low, lost)) + more)
    return total + small


def log1p(b: Builder, x: Term) -> Term:
    """log of u = 1 + x, with f found from x itself so that nothing is lost in the sum."""
    u = x + 1.0
    start = 0x3FE5555555555555 if b.wide else 0x3F2AAAAB
    k = (b.bits(u) - start) >> b.mantissa
    # 2**(2-k): 2**-k is not a normal number for the last k.
    down = b.float((b.bias + 2 - k) << b.mantissa)
    f = b.fma(down, x * 0.25, b.fma(down, 0.25, -1.0))
    floating = b.to_float(k)
    high, low = LN2[b.elem]
    total, rest = b.fast_two_sum(floating * high, f)
    value = total + (b.fma(floating, low, log_rest(b, f)) + rest)
    value = b.select(x < inf, value, x)
    value = b.select(u.equals(0.0), -inf, value)
    value = b.select(b.abs(x) < 2.0**-64, x, value)
    return b.select(u < 0.0, nan, value)


def sigmoid(b: Builder, x: Term) -> Term:
    """1 / (1 + e**-x), without overflow where x is negative."""
    e = exp(b, -b.abs(x))
    top: Number = b.select(x < 0.0, e, 1.0)
    return top / (e + 1.0)
