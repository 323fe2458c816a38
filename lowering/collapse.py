"""Neighbouring dimensions of a loop nest that all accesses walk through as one.

    d0 < 16, d1 < 8;  x[8*d0 + d1], y[16*d0 + 2*d1]   →   d < 128;  x[d], y[2*d]

Long loops fill vectors where short ones do not. Two dimensions join if both or neither is reduced, the inner one
has no bound of its own, and the body asks for the index of neither.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from torch_rvv.lowering.linear import ZERO, Dim, Linear, Poly


@dataclass
class Collapsed:
    """dims: what is left, in order. forms: of the accesses, in order. high: bounds by dim. reduced: dims."""

    dims: list[Dim]
    forms: list[Linear]
    high: dict[Dim, list[Poly]]
    reduced: set[Dim]


def collapse(
    dims: Sequence[Dim],
    forms: Sequence[Linear],
    high: Mapping[Dim, list[Poly]],
    reduced: Collection[Dim],
    fixed: Collection[Dim],
) -> Collapsed:
    """Join what can be joined. fixed: dims whose index the body needs."""
    state = Collapsed(list(dims), list(forms), dict(high), set(reduced))
    at = 0
    while at + 1 < len(state.dims):
        outer, inner = state.dims[at], state.dims[at + 1]
        if _joins(state, outer, inner, fixed):
            _join(state, at, outer, inner)
        else:
            at += 1
    return state


def _joins(state: Collapsed, outer: Dim, inner: Dim, fixed: Collection[Dim]) -> bool:
    if (
        outer in fixed
        or inner in fixed
        or state.high.get(inner)
        or (outer in state.reduced) != (inner in state.reduced)
    ):
        return False
    size = Poly(inner.size)
    return all(f.coefs.get(outer, ZERO) == f.coefs.get(inner, ZERO) * size for f in state.forms)


def _join(state: Collapsed, at: int, outer: Dim, inner: Dim) -> None:
    joined = Dim(outer.size * inner.size, outer.name)
    state.dims[at : at + 2] = [joined]
    if outer in state.high:
        state.high[joined] = [p * Poly(inner.size) for p in state.high[outer]]
    if outer in state.reduced:
        state.reduced = (state.reduced - {outer, inner}) | {joined}
    for i, form in enumerate(state.forms):
        coef = form.coefs.get(inner)
        if coef is not None:
            rest = {d: c for d, c in form.coefs.items() if d not in (outer, inner)}
            state.forms[i] = Linear(form.const, {**rest, joined: coef})
