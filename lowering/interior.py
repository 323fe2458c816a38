"""Masks that bound a dimension: a space in pieces, in each of which they hold or fail.

    d < n:            y[d] = select(0 < d and d < m, f(x[d - 1]), 0)        a row of an image with its padding
    →
    d < 1:            y[d] = 0
    1 <= d < m:       y[d] = f(x[d - 1])
    m <= d < n:       y[d] = 0

Without masks reads are affine, and what f takes from elsewhere (a channel's scale, the root of its variance) is worked
out once and not lane by lane. The ends of the pieces are worked out at run time, so pieces may be empty. Limits:
statements that store element by element; bounds of one dimension each, at known distances from each other or one at
each end. A dimension outside of another one that is bounded is taken apart first only if all reads have the same bounds
there, else within the inner one's piece where all masks hold: the body is written few times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch_rvv.lowering.access import Space
from torch_rvv.lowering.linear import ONE, ZERO, Atom, Dim, Linear, Poly
from torch_rvv.lowering.nodes import Fill, Root, Scan, Store
from torch_rvv.lowering.writer import Writer

# Bounds of a dimension at most: one more piece than bounds.
BOUNDS = 4
# Where one read alone is masked, pieces pay for rows that are long.
LONG = 64
# Lines of bodies at most, of all pieces together: as long as the whole body, each.
LINES = 1500


@dataclass(frozen=True)
class Bound:
    """A form that is > 0 from `at` on (rising), or just before it."""

    form: Linear
    at: Poly
    rising: bool


def pieces(space: Space, roots: Sequence[Root], writer: Writer, length: int) -> list[Space]:
    """The space in pieces by the masks that were in the way of its reads (`Space.edges`); none where that cannot be or
    does not pay. Writes where pieces begin and end. length: of the body, in lines."""
    if space.splits or space.closed or not all(isinstance(r, Store | Fill) and not isinstance(r, Scan) for r in roots):
        return []
    found = _dimension(space)
    if found is None or length * (len(found[1]) + 1) > LINES:
        return []
    dim, bounds, shared = found
    size = writer.at_most(space.high.get(dim, []), dim.size)
    places = list(dict.fromkeys(b.at for b in bounds))
    ends = [writer.constant(0)]
    for at in places:
        ends.append(_clamped(writer, at, ends[-1], size))
    ends.append(size)
    beyond = [Poly(dim.size), *space.high.get(dim, [])]
    made = []
    for number, (begin, end) in enumerate(pairwise(ends)):
        if begin == end:
            continue
        count = end if number == 0 else writer.op(f"arith.subi {end}, {begin} : index")
        start = Poly.of(Atom(begin, nonnegative=True)) if number else ZERO
        most = [_most(at - (places[number - 1] if number else ZERO)) for at in places[number : number + 1] or beyond]
        counts = [Poly.of(Atom(count, nonnegative=True)), *(Poly(n) for n in most if n is not None)]
        facts = _facts(bounds, places, number)
        part = space.part(dim, start, counts, facts)
        # Where some masks fail and others hold, pieces of pieces would be many and small.
        part.closed = not shared and any(b.form not in facts for b in bounds)
        made.append(part)
    return made


def _facts(bounds: Sequence[Bound], places: Sequence[Poly], number: int) -> list[Linear]:
    """What is > 0 in a piece: each bound's form or its opposite; of two of unknown order, what their clamping says."""
    if _distance(bounds[0], bounds[-1]) is not None:
        return [b.form if b.rising == (places.index(b.at) < number) else _not(b.form) for b in bounds]
    low, high = bounds
    return [[_not(low.form)], [low.form, high.form], [_not(high.form)]][number]


def _most(length: Poly) -> int | None:
    """The largest that a length can be, where what is no number makes it smaller."""
    rest = {monomial: -c for monomial, c in length.terms.items() if monomial}
    return max(length.terms.get((), 0), 0) if Poly(rest).nonnegative else None


def _dimension(space: Space) -> tuple[Dim, list[Bound], bool] | None:
    """The dimension to take apart, its bounds in ascending order, and whether all reads have all of them."""
    last = max(space.edges, key=space.dims.index, default=None)
    for dim, forms in space.edges.items():
        shared = all(count == space.masked for count in forms.values())
        pays = space.masked > 1 or dim.size >= LONG
        bounds = _ordered([_bound(form, dim) for form in forms]) if pays and (shared or dim is last) else None
        if bounds is not None:
            return dim, bounds, shared
    return None


def _bound(form: Linear, dim: Dim) -> Bound | None:
    """k*d + c > 0 as a bound of d, if c / k is a form."""
    step = form.coefs[dim].constant
    assert step is not None
    whole, rest = form.const.split(abs(step))
    if rest.constant is None:
        return None
    if step > 0:  # d > -c / k
        return Bound(form, Poly(-rest.constant // step + 1) - whole, True)
    return Bound(form, whole + Poly(-(-rest.constant // -step)), False)  # d < c / k


def _distance(a: Bound, b: Bound) -> int | None:
    return (b.at - a.at).constant


def _ordered(found: Sequence[Bound | None]) -> list[Bound] | None:
    """In ascending order, if all are at known distances from each other and few; or one that rises and one that
    falls."""
    bounds = [b for b in found if b is not None]
    distances = [_distance(bounds[0], b) for b in bounds]
    if len(bounds) < len(found) or len(set(distances)) > BOUNDS:
        return None
    known = [(distance, b) for distance, b in zip(distances, bounds, strict=True) if distance is not None]
    if len(known) == len(bounds):
        return [b for _, b in sorted(known, key=lambda pair: pair[0])]
    low, high = [b for b in bounds if b.rising], [b for b in bounds if not b.rising]
    return [*low, *high] if len(low) == len(high) == 1 else None


def _clamped(w: Writer, at: Poly, before: str, size: str) -> str:
    """A place, but not before the one before it nor behind the dimension's end."""
    inside = w.op(f"arith.minsi {w.poly(at)}, {size} : index")
    return w.op(f"arith.maxsi {inside}, {before} : index")


def _not(form: Linear) -> Linear:
    """> 0 just where the form is not."""
    return Linear(ONE) - form
