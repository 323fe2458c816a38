"""exp, log and their kin. Range reduction by powers of two, polynomials of coefficients.py."""

from __future__ import annotations

from math import inf, nan

from torch_rvv.lowering.vecmath import coefficients as C
from torch_rvv.lowering.vecmath.builder import Builder, Term

LOG2E = 1.4426950408889634
LN2 = 0.6931471805599453
# ln 2 in two parts, the first with trailing zeros so that its multiples by exponents are exact.
LN2_PARTS = {"f32": (0.693359375, -2.1219444005469057e-4), "f64": (0.6931471803691238, 1.9082149292705877e-10)}
# log2(e) and log10(e) as the sum of two floats of the type.
LOG2E_PARTS = {
    "f32": (1.4426950216293335, 1.925963033500011519e-8),
    "f64": (1.4426950408889634, 2.0355273740931033e-17),
}
LOG10E_PARTS = {"f32": (0.4342944920063019, -1.010305042e-8), "f64": (0.4342944819032518, 1.098319650216765e-17)}
# Beyond these, e**x has overflowed or is zero.
RANGE = {"f32": (-104.0, 89.0), "f64": (-746.0, 710.0)}


def scale(b: Builder, value: Term, n: Term) -> Term:
    """value * 2**n, n possibly outside of the normal range: in two steps."""
    half = n >> 1
    return value * b.power_of_two(half) * b.power_of_two(n - half)


def reduce_exp(b: Builder, x: Term) -> tuple[Term, Term]:
    """(n, r) with x = n*ln2 + r, |r| <= ln2/2, n an integral float."""
    high, low = LN2_PARTS[b.elem]
    n = b.rint(x * LOG2E)
    r = b.fma(n, -high, x)
    return n, b.fma(n, -low, r)


def exp_poly(b: Builder, r: Term) -> Term:
    """e**r - 1 on the reduced range."""
    p = b.poly(r, C.EXP_F64 if b.wide else C.EXP_F32)
    return b.fma(p * r, r, r)


def exp(b: Builder, x: Term) -> Term:
    low, high = RANGE[b.elem]
    clamped = b.minimum(b.maximum(x, low), high)
    n, r = reduce_exp(b, clamped)
    value = scale(b, exp_poly(b, r) + 1.0, b.to_int(n))
    return b.select(x.is_nan(), x, value)


def exp2(b: Builder, x: Term) -> Term:
    low, high = (-1080.0, 1030.0) if b.wide else (-152.0, 130.0)
    clamped = b.minimum(b.maximum(x, low), high)
    n = b.rint(clamped)
    f = clamped - n
    high_part = f * LN2
    correction = b.fma(f, LN2, -high_part) if b.wide else None
    r = high_part + correction if correction is not None else high_part
    value = scale(b, exp_poly(b, r) + 1.0, b.to_int(n))
    return b.select(x.is_nan(), x, value)


def expm1(b: Builder, x: Term) -> Term:
    low, high = (-40.0, 710.0) if b.wide else (-20.0, 89.0)
    clamped = b.minimum(b.maximum(x, low), high)
    n, r = reduce_exp(b, clamped)
    half = b.power_of_two(b.to_int(n) - 1)
    value = b.fma(half, exp_poly(b, r), half - 0.5) * 2.0
    small = b.abs(x) < 1e-300 if b.wide else b.abs(x) < 1e-30
    return b.select(b.any(x.is_nan(), small), x, value)


def frexp_log(b: Builder, x: Term) -> tuple[Term, Term]:
    """(k, f) with x = 2**k * (1 + f), 1 + f in [sqrt(1/2), sqrt(2)); x positive and finite."""
    tiny = x < (2.2250738585072014e-308 if b.wide else 1.1754943508222875e-38)
    lift = 54 if b.wide else 25
    scaled = b.select(tiny, x * float(2**lift), x)
    root_half = 0x3FE6A09E667F3BCD if b.wide else 0x3F3504F3
    offset = b.bits(scaled) - root_half
    k = offset >> b.mantissa
    mask = (1 << b.mantissa) - 1
    m = b.float((offset & mask) + root_half)
    exponent = b.to_float(k) - b.select(tiny, float(lift), 0.0)
    return exponent, m - 1.0


def log_core(b: Builder, f: Term) -> tuple[Term, Term]:
    """log(1+f) as f - rest: returns (rest, half of f squared)."""
    s = f / (f + 2.0)
    z = s * s
    r = z * b.poly(z, C.LOG_F64 if b.wide else C.LOG_F32)
    square = f * f * 0.5
    return square - s * (square + r), square


def log_special(b: Builder, x: Term, value: Term) -> Term:
    """log's value at 0, negative numbers, infinity and NaN."""
    value = b.select(x.equals(0.0), -inf, value)
    value = b.select(b.any(x < 0.0, x.is_nan()), nan, value)
    return b.select(x.equals(inf), inf, value)


def log(b: Builder, x: Term) -> Term:
    k, f = frexp_log(b, x)
    rest, _ = log_core(b, f)
    high, low = LN2_PARTS[b.elem]
    value = b.fma(k, high, f - (rest - k * low))
    return log_special(b, x, value)


def _log_base(b: Builder, x: Term, parts: tuple[float, float], unit: tuple[float, float]) -> Term:
    """log(x) * (parts) with k * unit added: unit is log_base(2) in two parts."""
    k, f = frexp_log(b, x)
    rest, _ = log_core(b, f)
    y = f - rest
    error = (f - y) - rest
    high = y * parts[0]
    low = b.fma(y, parts[0], -high) + b.fma(y, parts[1], error * parts[0])
    value = b.fma(k, unit[0], high) + b.fma(k, unit[1], low) if unit[1] else b.fma(k, unit[0], high) + low
    return log_special(b, x, value)


def log2(b: Builder, x: Term) -> Term:
    return _log_base(b, x, LOG2E_PARTS[b.elem], (1.0, 0.0))


def log10(b: Builder, x: Term) -> Term:
    units = {"f32": (0.301025390625, 4.605038981e-6), "f64": (0.30102999566406, 1.1451100899212592e-10 - 9.7900e-11)}
    high = units[b.elem][0]
    low = 0.30102999566398119521373889472449302676 - high
    return _log_base(b, x, LOG10E_PARTS[b.elem], (high, low))


def log1p(b: Builder, x: Term) -> Term:
    u = x + 1.0
    lost = b.select(x > 1.0, 1.0 - (u - x), x - (u - 1.0))
    k, f = frexp_log(b, u)
    rest, _ = log_core(b, f)
    high, low = LN2_PARTS[b.elem]
    value = b.fma(k, high, f - (rest - b.fma(k, low, lost / u)))
    value = log_special(b, u, value)
    tiny = b.abs(x) < (1e-18 if b.wide else 1e-9)
    value = b.select(b.any(tiny, x.is_nan()), x, value)
    return b.select(x.equals(inf), inf, value)


def sigmoid(b: Builder, x: Term) -> Term:
    return 1.0 / (exp(b, -x) + 1.0)
