"""Index algebra: polynomials over scalar atoms, and forms linear in the dimensions of a loop nest.

    offset of element (i, j):   128*pid*1000 + 1000*i + j
    Linear(const=Poly({(pid,): 128000}), coefs={i: Poly(1000), j: Poly(1)})

An atom is a scalar the program computes at run time (a program id, a size, a loop variable); a
varying atom is one computed anew for each element. All arithmetic is that of the integers: index
computations are taken not to wrap, as Triton's own overflow sanitizer demands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, eq=False)
class Atom:
    """A scalar known at run time. Identity is equality. value: what it stands for, for who emits it.

    nonnegative: known to be >= 0. varying: computed for each element, inside a loop body.
    """

    value: Any
    nonnegative: bool = False
    varying: bool = False


Monomial = tuple[Atom, ...]


class Poly:
    """An integer polynomial over atoms: a map from monomial (atoms sorted by identity) to coefficient."""

    __slots__ = ("_hash", "terms")

    def __init__(self, terms: Mapping[Monomial, int] | int = 0):
        if isinstance(terms, int):
            terms = {(): terms}
        self.terms: dict[Monomial, int] = {m: c for m, c in terms.items() if c}
        self._hash = hash(frozenset(self.terms.items()))

    @staticmethod
    def of(atom: Atom) -> Poly:
        return Poly({(atom,): 1})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Poly) and self.terms == other.terms

    def __hash__(self) -> int:
        return self._hash

    def __add__(self, other: Poly) -> Poly:
        terms = dict(self.terms)
        for m, c in other.terms.items():
            terms[m] = terms.get(m, 0) + c
        return Poly(terms)

    def __neg__(self) -> Poly:
        return Poly({m: -c for m, c in self.terms.items()})

    def __sub__(self, other: Poly) -> Poly:
        return self + -other

    def __mul__(self, other: Poly) -> Poly:
        terms: dict[Monomial, int] = {}
        for m1, c1 in self.terms.items():
            for m2, c2 in other.terms.items():
                m = tuple(sorted(m1 + m2, key=id))
                terms[m] = terms.get(m, 0) + c1 * c2
        return Poly(terms)

    @property
    def constant(self) -> int | None:
        """The value, if it is a plain number."""
        if not self.terms:
            return 0
        return self.terms[()] if len(self.terms) == 1 and () in self.terms else None

    @property
    def nonnegative(self) -> bool:
        """Whether it is certainly >= 0."""
        return all(c > 0 and all(a.nonnegative for a in m) for m, c in self.terms.items())

    @property
    def varying(self) -> bool:
        return any(a.varying for m in self.terms for a in m)

    def split(self, divisor: int) -> tuple[Poly, Poly]:
        """(q, r) with self == divisor*q + r, r holding just the terms that divisor does not divide."""
        quotient = {m: c // divisor for m, c in self.terms.items() if c % divisor == 0}
        rest = {m: c for m, c in self.terms.items() if c % divisor}
        return Poly(quotient), Poly(rest)

    def __repr__(self) -> str:
        return " + ".join(f"{c}*{'*'.join(str(a.value) for a in m)}" if m else str(c) for m, c in self.terms.items())


ZERO, ONE = Poly(0), Poly(1)


@dataclass(frozen=True, eq=False)
class Dim:
    """One dimension of a loop nest: a static bound on its size. Identity is equality."""

    size: int
    name: str = "d"


class Linear:
    """const + sum of coefs[d] * d over the dimensions of a loop nest."""

    __slots__ = ("coefs", "const")

    def __init__(self, const: Poly = ZERO, coefs: Mapping[Dim, Poly] | None = None):
        self.const = const
        self.coefs = {d: c for d, c in (coefs or {}).items() if c.terms}

    @staticmethod
    def of(dim: Dim) -> Linear:
        return Linear(ZERO, {dim: ONE})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Linear) and self.const == other.const and self.coefs == other.coefs

    def __hash__(self) -> int:
        return hash((self.const, frozenset(self.coefs.items())))

    def __add__(self, other: Linear) -> Linear:
        coefs = dict(self.coefs)
        for d, c in other.coefs.items():
            coefs[d] = coefs[d] + c if d in coefs else c
        return Linear(self.const + other.const, coefs)

    def __sub__(self, other: Linear) -> Linear:
        return self + other.scale(Poly(-1))

    def scale(self, factor: Poly) -> Linear:
        return Linear(self.const * factor, {d: c * factor for d, c in self.coefs.items()})

    def put(self, dim: Dim, value: Linear) -> Linear:
        """With a form in the place of a dimension."""
        if dim not in self.coefs:
            return self
        rest = Linear(self.const, {d: c for d, c in self.coefs.items() if d is not dim})
        return rest + value.scale(self.coefs[dim])

    @property
    def affine(self) -> bool:
        """No part of it is computed element by element."""
        return not self.const.varying and not any(c.varying for c in self.coefs.values())

    @property
    def constant(self) -> int | None:
        return self.const.constant if not self.coefs else None

    @property
    def nonnegative(self) -> bool:
        return self.const.nonnegative and all(c.nonnegative for c in self.coefs.values())

    def range(self) -> tuple[int, int] | None:
        """Inclusive bounds over the dimensions' static sizes, where all coefficients are numbers."""
        low = high = self.const.constant
        if low is None or high is None:
            return None
        for d, c in self.coefs.items():
            k = c.constant
            if k is None:
                return None
            reach = k * (d.size - 1)
            low, high = low + min(reach, 0), high + max(reach, 0)
        return low, high

    def split(self, divisor: int) -> tuple[Linear, Linear]:
        """(q, r) with self == divisor*q + r, term by term."""
        q_const, r_const = self.const.split(divisor)
        q, r = {}, {}
        for d, c in self.coefs.items():
            q[d], r[d] = c.split(divisor)
        return Linear(q_const, q), Linear(r_const, r)

    def __repr__(self) -> str:
        return " + ".join([repr(self.const)] + [f"({c})*{d.name}" for d, c in self.coefs.items()])
