"""Reads of one piece of memory at known distances from each other, as those of a filter's taps are.

    y[i, j] = f(x[i, j], x[i, j + 1], x[i + 1, j], x[i + 1, j + 1])
    →
    two rows i at once: x of three rows is read, not of four; and each read is one pointer and a number

What lies where is compared as polynomials of the values at the linalg level (`Origins`). Limits: strides that are
numbers; rows side by side only in nests without reductions whose body writes nothing but its outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch_rvv.lowering.bounds import constant
from torch_rvv.lowering.linear import Atom, Poly
from torch_rvv.lowering.mlir import producer
from torch_rvv.lowering.nest import Nest, Operand


class Origins:
    """Offsets of views as polynomials: those that differ by a number are at a known distance."""

    def __init__(self) -> None:
        self._known: dict[Any, Poly] = {}

    def of(self, value: Any) -> Poly:
        """The polynomial of an index of MLIR."""
        if value not in self._known:
            op = producer(value)
            rule = _RULES.get(op.name) if op is not None else None
            self._known[value] = rule(self, op) if rule else Poly.of(Atom(value))
        return self._known[value]


_RULES: dict[str, Callable[[Origins, Any], Poly]] = {
    "arith.constant": lambda _, op: Poly(constant(op)),
    "arith.addi": lambda origins, op: origins.of(op.operands[0]) + origins.of(op.operands[1]),
    "arith.subi": lambda origins, op: origins.of(op.operands[0]) - origins.of(op.operands[1]),
    "arith.muli": lambda origins, op: origins.of(op.operands[0]) * origins.of(op.operands[1]),
}


@dataclass(frozen=True)
class Anchored:
    """A read so many elements behind another operand, the first of its kind."""

    anchor: Operand
    distance: int

    def after(self, place: dict[int, int]) -> int | None:
        """The distance in a copy of the body that is so many iterations on, if the strides are numbers."""
        total = self.distance
        for dim, rows in place.items():
            stride = self.anchor.stride(dim)
            if rows and not isinstance(stride, int):
                return None
            total += rows * int(stride) if rows else 0
        return total


def anchored(nest: Nest, vector: int | None) -> dict[Operand, Anchored]:
    """The reads in lanes that have neighbours; none where a body branches, for what is read in a branch is known there
    only."""
    if any(len(op.operation.regions) for op in nest.block.operations):
        return {}
    found: dict[Operand, Anchored] = {}
    firsts: dict[Any, Operand] = {}
    for operand in nest.operands:
        view = operand.view
        if operand.output or view.origin is None or operand.stride(vector) == 0:
            continue
        constant = view.origin.terms.get((), 0)
        key = (view.base, view.elem, view.addressed, operand.dims, view.strides, view.origin - Poly(constant))
        first = firsts.setdefault(key, operand)
        assert first.view.origin is not None
        found[operand] = Anchored(first, constant - first.view.origin.terms.get((), 0))
    return {o: a for o, a in found.items() if sum(b.anchor is a.anchor for b in found.values()) > 1}


def shared_along(nest: Nest, reads: dict[Operand, Anchored], dim: int) -> bool:
    """Whether an iteration of a dimension reads what the one before it does."""
    places = {(a.anchor, a.distance) for a in reads.values()}
    return any((a.anchor, a.after({dim: 1})) in places for a in reads.values())
