"""Stores through one pointer that never meet, so that they may share a loop.

    y[2*i], y[2*i + 1]                   apart modulo 2
    v[96*c + t], v[6144 + 96*c + t]      apart by more than c < 64 and t < 96 reach
    y[196*c + 2*t], y[196*c + 2*t + 14]  apart modulo 196, for 2*t stays below 14

Limits: strides and distances that are numbers, elements of one type.
"""

from __future__ import annotations

from dataclasses import replace

from torch_rvv.lowering.access import Analysis, Space
from torch_rvv.lowering.linear import Linear
from torch_rvv.lowering.nodes import Root, Store


def disjoint(first: Root, second: Root, space: Space) -> bool:
    """Whether no element that one of two stores over a space writes is one that the other does."""
    if not (isinstance(first, Store) and isinstance(second, Store)):
        return False
    a, b = first.pointer, second.pointer
    if a is None or b is None or a.args[0] is not b.args[0] or a.elem != b.elem:
        return False
    analysis = Analysis(replace(space, requests={}, edges={}))  # Asked, not told: the space's own plans stay.
    return never_equal(*(analysis.linear(p.args[1], space.index) for p in (a, b)), space)


def never_equal(a: Linear, b: Linear, space: Space) -> bool:
    """Whether two forms differ, each at any place of a space."""
    if not (a.affine and b.affine):
        return False
    strides = {abs(n) for form in (a, b) for coef in form.coefs.values() if (n := coef.constant)}
    return any(_apart(a, b, modulus, space) for modulus in (0, *strides))


def _apart(a: Linear, b: Linear, modulus: int, space: Space) -> bool:
    """Whether a - b is never a multiple of a number (0: never 0)."""
    between = _modulo(Linear(a.const - b.const), modulus).constant
    reaches = [space.range(Linear(coefs=_modulo(form, modulus).coefs)) for form in (a, b)]
    if between is None or None in reaches:
        return False
    (least, most), (other_least, other_most) = reaches  # type: ignore[misc]
    low, high = between + least - other_most, between + most - other_least
    if modulus:
        return low % modulus != 0 and low // modulus == high // modulus
    return low > 0 or high < 0


def _modulo(form: Linear, modulus: int) -> Linear:
    """Without the terms that a number divides."""
    return form.split(modulus)[1] if modulus else form
