"""Remainders (in f64 arithmetic for f32 too), neighbours and predicates: all exact."""

from __future__ import annotations

from math import inf, nan

from torch_rvv.lowering.vecmath.builder import Builder, Term

# A step takes 26 bits off a quotient, which has at most 277 in f32 and 2098 in f64.
_STEPS = {"f32": 12, "f64": 82}


def _positive_fmod(b: Builder, a: Term, d: Term) -> Term:
    """a - trunc(a/d)*d of positive numbers. A quotient that fits the significand takes one step, others a loop."""
    quotient = a / d
    r = _into_range(b, b.fma(-b.trunc(quotient), d, a), d)

    def rare() -> Term:
        # A denormal d is made normal, and steps below it taken back by `down`.
        tiny = d < 2.0**-1022
        normal = b.select(tiny, d * 2.0**54, d)
        exponent, least = b.bits(normal).logical_shift(52), b.select(tiny, b.const(-54, "i64"), b.const(0, "i64"))

        def step(r: Term) -> Term:
            """Takes off the multiple of d, shifted to 26 bits below r, that fits: product and difference are exact."""
            shift = b.op("arith.maxsi", b.bits(r).logical_shift(52) - exponent - 26, least)
            down = b.op("arith.minsi", shift, 0)
            unit = b.float(b.bits(normal) + ((shift - down) << 52)) * b.power_of_two(down)
            return b.fma(-b.trunc(r / unit), unit, r)

        return _into_range(b, b.repeat(_STEPS[b.narrowest], a, step), d)

    return b.where_any((quotient >= 2.0**53) & (a < inf) & (d > 0.0), r, rare)


def _into_range(b: Builder, r: Term, d: Term) -> Term:
    """r in [0, d), of a quotient that was one off."""
    r = b.select(r < 0.0, r + d, r)
    return b.select(r >= d, r - d, r)


def fmod(b: Builder, x: Term, y: Term) -> Term:
    """x - trunc(x/y)*y."""
    a, d = b.abs(x), b.abs(y)
    value = b.copysign(b.select(a < d, a, _positive_fmod(b, a, d)), x)
    return b.select((a < inf) & (d > 0.0), value, nan)


def remainder(b: Builder, x: Term, y: Term) -> Term:
    """x - n*y, n the integer nearest to x/y, ties to even: from the remainder by 2|y|."""
    a, d = b.abs(x), b.abs(y)
    double = d + d
    # Where 2d is infinite a is smaller, and fmod's NaN not taken.
    r = b.select(a < double, a, _positive_fmod(b, a, double))
    over = r > d - r
    less = r - d
    r = b.select(over, b.select(less >= d - less, less - d, less), r)
    value = b.float(b.bits(r) ^ (b.bits(x) & b.sign_mask))
    return b.select((a < inf) & (d > 0.0), b.select(d.equals(inf), x, value), nan)


def nextafter(b: Builder, x: Term, y: Term) -> Term:
    bits = b.bits(x)
    grows = (y > x) ^ (bits < 0)
    moved = b.float(bits + b.select(grows, b.const(1, b.int), b.const(-1, b.int)))
    least = b.copysign(b.const(b.least), y)
    value = b.select(x.equals(0.0), least, moved)
    value = b.select(x.equals(y), y, value)
    return b.select(b.any(x.is_nan(), y.is_nan()), nan, value)


def fdim(b: Builder, x: Term, y: Term) -> Term:
    value = b.select(x > y, x - y, 0.0)
    return b.select(b.any(x.is_nan(), y.is_nan()), nan, value)


def trunc(b: Builder, x: Term) -> Term:
    return b.trunc(x)


def is_infinite(b: Builder, x: Term) -> Term:
    return b.abs(x).equals(inf)


def is_finite(b: Builder, x: Term) -> Term:
    return b.abs(x) < inf


def is_nan(b: Builder, x: Term) -> Term:
    return x.is_nan()


def signbit(b: Builder, x: Term) -> Term:
    return b.bits(x) < 0
