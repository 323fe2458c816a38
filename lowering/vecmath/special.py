"""erf and its kin, gamma functions, powers, roots, remainders, predicates."""

from __future__ import annotations

from math import inf, nan, pi

from torch_rvv.lowering.vecmath import coefficients as C
from torch_rvv.lowering.vecmath.builder import Builder, Term
from torch_rvv.lowering.vecmath.exponential import (
    LN2_PARTS,
    RANGE,
    exp,
    exp_poly,
    frexp_log,
    log,
    log1p,
    reduce_exp,
    scale,
)
from torch_rvv.lowering.vecmath.trigonometric import sinpi


def _exp_minus_square(b: Builder, a: Term) -> Term:
    """exp(-a²) with the rounding error of a² made good."""
    square = a * a
    error = b.fma(a, a, -square)
    e = exp(b, -square)
    return b.fma(e, -error, e)


def erfc_positive(b: Builder, a: Term) -> Term:
    """erfc of a >= 0: exp(-a²) times erfcx, whose (1+2a)-fold is a polynomial in (a-k)/(a+k)."""
    k = 4.0 if b.wide else 2.0
    a = b.minimum(a, 28.0 if b.wide else 11.0)
    q = (a - k) / (a + k)
    p = b.poly(q, C.ERFCX_F64 if b.wide else C.ERFCX_F32)
    return _exp_minus_square(b, a) * (p / b.fma(a, 2.0, 1.0))


def erf(b: Builder, x: Term) -> Term:
    a = b.abs(x)
    small = x * b.poly(x * x, C.ERF_F64 if b.wide else C.ERF_F32)
    big = b.copysign(1.0 - erfc_positive(b, a), x)
    value = b.select(a < 1.0, small, big)
    return b.select(x.is_nan(), x, value)


def erfc(b: Builder, x: Term) -> Term:
    a = b.abs(x)
    tail = erfc_positive(b, a)
    value = b.select(x < 0.0, 2.0 - tail, tail)
    near = 1.0 - x * b.poly(x * x, C.ERF_F64 if b.wide else C.ERF_F32)
    value = b.select(a < 0.5, near, value)
    return b.select(x.is_nan(), x, value)


def normcdf(b: Builder, x: Term) -> Term:
    return erfc(b, x * -0.7071067811865476) * 0.5


def erfinv(b: Builder, x: Term) -> Term:
    """A logarithmic start (S. Winitzki's), then Halley's steps on erf or erfc, whichever is exact there."""
    a = b.abs(x)
    t = log1p(b, -(x * x))
    c = 2.0 / (pi * 0.147)
    u = t * 0.5 + c
    y = b.sqrt(b.sqrt(u * u - t * (1 / 0.147)) - u)
    gap = 1.0 - a
    for _ in range(3):
        near = y * b.poly(y * y, C.ERF_F64) - a
        far = gap - erfc_positive(b, y)
        error = b.select(y < 1.0, near, far)
        step = error * 0.8862269254527580 / _exp_minus_square(b, y)
        y = y - step / b.fma(y, step, 1.0)
    value = b.copysign(y, x)
    value = b.select(a.equals(1.0), b.copysign(b.const(inf), x), value)
    value = b.select(a < 1e-150, x * 0.8862269254527580, value)
    return b.select(b.any(a > 1.0, x.is_nan()), nan, value)


# Lanczos' approximation with g = 607/128, n = 15 (P. Godfrey's table).
_LANCZOS = (
    0.99999999999999709182, 57.156235665862923517, -59.597960355475491248, 14.136097974741747174,
    -0.49191381609762019978,
    0.33994649984811888699e-4, 0.46523628927048575665e-4, -0.98374475304879564677e-4, 0.15808870322491248884e-3,
    -0.21026444172410488319e-3, 0.21743961811521264320e-3, -0.16431810653676389022e-3, 0.84418223983852743293e-4,
    -0.26190838401581408670e-4, 0.36899182659531622704e-5,
)  # fmt: skip


def _lgamma_positive(b: Builder, x: Term) -> Term:
    """log gamma of x >= 1/2."""
    y = x - 1.0
    total: Term = b.const(_LANCZOS[0])
    for i, c in enumerate(_LANCZOS[1:], 1):
        total = total + c / (y + float(i))
    t = y + (607 / 128 + 0.5)
    return (y + 0.5) * log(b, t) - t + log(b, total * 2.5066282746310005)


def lgamma(b: Builder, x: Term) -> Term:
    reflect = x < 0.5
    at = b.select(reflect, 1.0 - x, x)
    positive = _lgamma_positive(b, at)
    reflected = log(b, pi / b.abs(sinpi(b, x))) - positive
    value = b.select(reflect, reflected, positive)
    value = b.select(b.any(x.equals(1.0), x.equals(2.0)), 0.0, value)
    pole = (x <= 0.0) & b.op("math.floor", x).equals(x)
    value = b.select(b.any(pole, b.abs(x).equals(inf)), inf, value)
    return b.select(x.is_nan(), x, value)


def tgamma(b: Builder, x: Term) -> Term:
    reflect = x < 0.5
    at = b.select(reflect, 1.0 - x, x)
    positive = exp(b, _lgamma_positive(b, at))
    value = b.select(reflect, pi / (sinpi(b, x) * positive), positive)
    value = b.select(x.equals(0.0), b.copysign(b.const(inf), x), value)
    pole = (x < 0.0) & b.op("math.floor", x).equals(x)
    value = b.select(b.any(pole, x.is_nan(), x.equals(-inf)), nan, value)
    return b.select(x.equals(inf), inf, value)


def _split(b: Builder, x: Term) -> tuple[Term, Term]:
    """log x of a positive x as a sum of two: the second holds what the first rounds away."""
    k, f = frexp_log(b, x)
    d = f + 2.0
    high = f / d
    low = (b.fma(-high, d, f) - high * (f - (d - 2.0))) / d
    z = high * high
    rest = high * z * b.poly(z, C.LOG_F64)
    ln2_high, ln2_low = LN2_PARTS["f64"]
    a, c = k * ln2_high, high * 2.0
    total = a + c
    big = b.abs(a) >= b.abs(c)
    error = b.select(big, c - (total - a), a - (total - c))
    small = error + (b.fma(k, ln2_low, low * 2.0) + rest)
    out = total + small
    return out, small - (out - total)


def pow_(b: Builder, x: Term, y: Term) -> Term:
    a = b.abs(x)
    high, low = _split(b, a)
    p = y * high
    error = b.fma(y, high, -p) + y * low
    lowest, highest = RANGE["f64"]
    clamped = b.minimum(b.maximum(p, lowest), highest)
    n, r = reduce_exp(b, clamped)
    r = r + b.select(p.equals(clamped), error, 0.0)
    value = scale(b, exp_poly(b, r) + 1.0, b.to_int(n))
    whole = b.op("math.floor", y).equals(y)
    half = y * 0.5
    odd = whole & b.op("math.floor", half).equals(half).__xor__(b.const(1, "i1")) & (b.abs(y) < 9007199254740992.0)
    grows = y > 0.0
    value = b.select(a.equals(0.0), b.select(grows, 0.0, inf), value)
    value = b.select(a.equals(inf), b.select(grows, inf, 0.0), value)
    infinite_y = b.abs(y).equals(inf)
    bigger = a > 1.0
    limit = b.select(bigger.__xor__(grows), 0.0, inf)
    value = b.select(infinite_y, b.select(a.equals(1.0), 1.0, limit), value)
    value = b.select(odd & (b.bits(x) < 0), -value, value)
    invalid = (x < 0.0) & whole.__xor__(b.const(1, "i1")) & b.abs(y).equals(inf).__xor__(b.const(1, "i1"))
    invalid = invalid & a.equals(inf).__xor__(b.const(1, "i1"))
    value = b.select(b.any(invalid, x.is_nan(), y.is_nan()), nan, value)
    return b.select(b.any(y.equals(0.0), x.equals(1.0)), 1.0, value)


def cbrt(b: Builder, x: Term) -> Term:
    a = b.abs(x)
    k, f = frexp_log(b, a)
    third = b.op("math.floor", k * (1 / 3) + 1e-9)
    rest = k - third * 3.0
    m = (f + 1.0) * b.select(rest.equals(0.0), 1.0, b.select(rest.equals(1.0), 2.0, 4.0))
    y = b.poly(b.select(m < 1.0, m * 8.0, m), C.CBRT_F64)
    y = b.select(m < 1.0, y * 0.5, y)
    for _ in range(3):
        y = y - (y * y * y - m) / (y * y * 3.0)
    value = b.copysign(scale(b, y, b.to_int(third)), x)
    return b.select(b.any(a.equals(0.0), (x - x).equals(0.0).__xor__(b.const(1, "i1"))), x, value)


def hypot(b: Builder, x: Term, y: Term) -> Term:
    ax, ay = b.abs(x), b.abs(y)
    value = b.sqrt(b.fma(ax, ax, ay * ay))
    value = b.select(b.any(x.is_nan(), y.is_nan()), nan, value)
    return b.select(b.any(ax.equals(inf), ay.equals(inf)), inf, value)


def rsqrt(b: Builder, x: Term) -> Term:
    return 1.0 / b.sqrt(x)


def rcp(b: Builder, x: Term) -> Term:
    return 1.0 / x


def fmod(b: Builder, x: Term, y: Term) -> Term:
    """x - trunc(x/y)*y, exact: the quotient is taken off 26 bits at a time, so that no product is rounded."""
    a, d = b.abs(x), b.abs(y)
    r = a
    for _ in range(_FMOD_ROUNDS[b.narrowest]):
        q = b.trunc(r / d)
        r = b.fma(-b.float(b.bits(q) & -(1 << (b.mantissa // 2 + 1))), d, r)
    r = b.select(r < 0.0, r + d, r)
    r = b.select(r >= d, r - d, r)
    value = b.copysign(b.select(a < d, a, r), x)
    bad = b.any(d.equals(0.0), x.is_nan(), y.is_nan(), (x - x).equals(0.0).__xor__(b.const(1, "i1")))
    return b.select(bad, nan, b.select(d.equals(inf), x, value))


# Each round takes 26 bits off the quotient, which has at most 277 in f32 and 2098 in f64.
_FMOD_ROUNDS = {"f32": 12, "f64": 82}


def remainder(b: Builder, x: Term, y: Term) -> Term:
    """IEEE remainder, for quotients that fit the mantissa."""
    n = b.rint(x / y)
    r = b.fma(-n, y, x)
    r = b.select(b.abs(y).equals(inf), x, r)
    return b.select(r.equals(0.0), b.copysign(r, x), r)


def nextafter(b: Builder, x: Term, y: Term) -> Term:
    bits = b.bits(x)
    away = (b.abs(y) > b.abs(x)) | (b.bits(x) ^ b.bits(y) < 0).__and__(b.const(0, "i1"))
    up = y > x
    grows = up.__xor__(bits < 0)
    moved = b.float(bits + b.select(grows, b.const(1, b.int), b.const(-1, b.int)))
    least = b.copysign(b.float(b.const(1, b.int)), y)
    value = b.select(x.equals(0.0), least, moved)
    value = b.select(x.equals(y), y, value)
    del away
    return b.select(b.any(x.is_nan(), y.is_nan()), nan, value)


def fdim(b: Builder, x: Term, y: Term) -> Term:
    value = b.select(x > y, x - y, 0.0)
    return b.select(b.any(x.is_nan(), y.is_nan()), nan, value)


def is_infinite(b: Builder, x: Term) -> Term:
    return b.abs(x).equals(inf)


def is_finite(b: Builder, x: Term) -> Term:
    return (x - x).equals(0.0)


def is_nan(b: Builder, x: Term) -> Term:
    return x.is_nan()


def signbit(b: Builder, x: Term) -> Term:
    return b.bits(x) < 0
