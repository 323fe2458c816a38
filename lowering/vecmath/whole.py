"""Rounding to a whole number by an addition, which leaves its bits at the end of a float: for 2**n, or a sign.

    shifted = x + 1.5 * 2**23;  n = shifted - 1.5 * 2**23;  2**n = bits(shifted + 127) << 23

On the X60, conversions keep the unit of float arithmetic busy for as long as four additions; shifts of the bits are
another unit's, beside the polynomial.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch_rvv.lowering.vecmath.builder import Builder, Term


@dataclass(frozen=True)
class Whole:
    """A whole number n, and `shifted`: n + added + 1.5 * 2**mantissa as a float, whose last bits are of n + added.

    From 1.5 * 2**mantissa on floats are a unit apart; its own last 9 (f64: 12) bits are 0.
    """

    n: Term
    shifted: Term

    def __add__(self, more: Term) -> Whole:
        return Whole(self.n + more, self.shifted + more)


def nearest(b: Builder, x: Term, factor: float = 1.0, added: int = 0, fused: bool = False) -> Whole:
    """The whole number nearest to x * factor, ties to even; undefined if that has more digits than a float.

    fused: an instruction less, and a vector of the constant that is added: for functions that leave it a register."""
    start = 1.5 * 2.0**b.mantissa + added
    shifted = b.fma(x, factor, start) if fused else x * factor + start
    return Whole(shifted - start, shifted)


def power_of(b: Builder, n: Whole) -> Term:
    """2**n of a whole number with the exponents' bias added, in the range of normal numbers."""
    return b.float(b.bits(n.shifted) << b.mantissa)  # All other bits leave.


def power_of_two(b: Builder, n: Term) -> Term:
    """The same of a float that is whole."""
    return power_of(b, Whole(n, n + (1.5 * 2.0**b.mantissa + b.bias)))
