"""Hyperbolic functions and their inverses, from expm1, exp and log1p."""

from __future__ import annotations

from math import inf

from torch_rvv.lowering.vecmath.builder import Builder, Term
from torch_rvv.lowering.vecmath.exponential import LN2, exp, expm1, log, log1p


def tanh(b: Builder, x: Term) -> Term:
    a = b.abs(x)
    e = expm1(b, b.minimum(a, 20.0 if b.wide else 10.0) * 2.0)
    value = b.copysign(e / (e + 2.0), x)
    return b.select(x.is_nan(), x, value)


def sinh(b: Builder, x: Term) -> Term:
    a = b.abs(x)
    e = expm1(b, a)
    small = (e + e / (e + 1.0)) * 0.5
    half = exp(b, a * 0.5)
    big = half * 0.5 * half
    limit = 40.0 if b.wide else 20.0
    return b.copysign(b.select(a < limit, small, big), x)


def cosh(b: Builder, x: Term) -> Term:
    half = exp(b, b.abs(x) * 0.5)
    rest = 0.5 / half
    return b.fma(half * 0.5, half, rest / half)


def asinh(b: Builder, x: Term) -> Term:
    a = b.abs(x)
    small = log1p(b, a + a * a / (b.sqrt(b.fma(a, a, 1.0)) + 1.0))
    big = log(b, a) + LN2
    return b.copysign(b.select(a < 1e8, small, big), x)


def acosh(b: Builder, x: Term) -> Term:
    t = x - 1.0
    small = log1p(b, t + b.sqrt(b.fma(t, t, t * 2.0)))
    big = log(b, x) + LN2
    return b.select(x < 1e8, small, b.select(x >= 1e8, big, small))


def atanh(b: Builder, x: Term) -> Term:
    a = b.abs(x)
    value = log1p(b, (a + a) / (1.0 - a)) * 0.5
    return b.copysign(b.select(a.equals(1.0), inf, value), x)
