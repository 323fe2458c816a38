"""Where memory is touched: integer tensors as linear forms, masks as loop bounds.

    x = pid*1024 + range;  mask = x < n;  pointer = p + x % 100 * 7
    Space: one dim d < min(1024, n - pid*1024), split at 100: d = 100*q + r - pid*1024
    offset: 7*r        (a loop over q around a loop over r; unit structure kept)

`Analysis.linear` gives an integer node, seen at an index, as a `Linear` over the loop nest's dims. What it
does not understand becomes a varying atom, computed element by element in the loop body; an
access through one is a gather. `Space` turns a mask's conjuncts into bounds (`high`), conditions on the
whole nest (`guards`), or leaves them to be evaluated for each element.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from torch_rvv.lowering.linear import ONE, ZERO, Atom, Dim, Linear, Poly
from torch_rvv.lowering.nodes import Node, atom_of

Index = tuple[Linear, ...]
NOTHING = Linear()
ZERO_INDEX = Linear()


@dataclass(eq=False)
class Split:
    """Dim d (base + d >= 0) iterated as base + d = divisor*quotient + low + rest, rest a new dim."""

    base: Poly
    divisor: int
    quotient: Atom
    low: Atom
    rest: Dim


@dataclass(eq=False)
class Space:
    """The iterations of a loop nest: index (d0, d1, ...) with 0 <= d < min(size, *high[d]).

    facts: forms that are > 0 everywhere in it. edges: forms of one dim that would have to be > 0 for reads not to need
    a mask, each with how many reads; masked: how many reads those are in all. closed: not worth further pieces.
    """

    shape: tuple[int, ...]
    dims: list[Dim]
    index: Index
    high: dict[Dim, list[Poly]] = field(default_factory=dict)
    guards: list[Node] = field(default_factory=list)
    splits: dict[Dim, Split] = field(default_factory=dict)
    requests: dict[tuple[Dim, Poly], set[int]] = field(default_factory=dict)
    facts: frozenset[Linear] = frozenset()
    edges: dict[Dim, dict[Linear, int]] = field(default_factory=dict)
    masked: int = 0
    closed: bool = False

    @staticmethod
    def over(shape: tuple[int, ...], start: dict[int, int] | None = None) -> Space:
        """All of a shape; dims of size 1 need no loop. start: first index along an axis (others 0)."""
        dims, index = [], []
        for axis, n in enumerate(shape):
            first = (start or {}).get(axis, 0)
            if n - first == 1:
                index.append(Linear(Poly(first)))
                continue
            dim = Dim(n - first, f"d{axis}")
            dims.append(dim)
            index.append(Linear(Poly(first), {dim: ONE}))
        return Space(shape, dims, tuple(index))

    def in_two(self, dim: Dim, divisor: int) -> Space:
        """The same iterations with a dim, whose bound is a multiple of divisor, as divisor*outer + inner."""
        outer, inner = Dim(self.bound(dim) // divisor, dim.name + "q"), Dim(divisor, dim.name + "r")
        space = self._instead(dim, [outer, inner], Linear(ZERO, {outer: Poly(divisor), inner: ONE}))
        space.high = {d: ends for d, ends in self.high.items() if d is not dim}
        return space

    def part(self, dim: Dim, start: Poly, counts: list[Poly], facts: Iterable[Linear]) -> Space:
        """As many iterations of a dim, from `start` on, as the least of `counts`. facts: of them, in terms of dim."""
        inner = Dim(dim.size, dim.name)
        ends = [Linear(end) - Linear.of(dim) for end in (Poly(dim.size), *self.high.get(dim, []))]
        known = replace(self, facts=self.facts | frozenset([*facts, *ends]))
        part = known._instead(dim, [inner], Linear(start, {inner: ONE}))
        part.high = {**{d: ends for d, ends in self.high.items() if d is not dim}, inner: counts}
        return part

    def _instead(self, dim: Dim, dims: list[Dim], value: Linear) -> Space:
        """With other dims in the place of one, which has a value in terms of them."""
        at = self.dims.index(dim)
        return replace(
            self, dims=[*self.dims[:at], *dims, *self.dims[at + 1 :]],
            index=tuple(form.put(dim, value) for form in self.index),
            facts=frozenset(form.put(dim, value) for form in self.facts), requests={}, edges={}, masked=0,
        )  # fmt: skip

    def bound(self, dim: Dim) -> int:
        """A number that dim stays below."""
        numbers = [k for p in self.high.get(dim, ()) if (k := p.constant) is not None]
        return min([dim.size, *numbers])

    def range(self, form: Linear) -> tuple[int, int] | None:
        """Inclusive bounds of a form over this space."""
        low = high = form.const.constant
        if low is None or high is None:
            return None
        for dim, coef in form.coefs.items():
            k = coef.constant
            if k is None:
                return None
            reach = k * (max(self.bound(dim), 1) - 1)
            low, high = low + min(reach, 0), high + max(reach, 0)
        return low, high

    def key(self) -> tuple[object, ...]:
        """Two roots with equal keys run over the same iterations, dimension by dimension."""
        highs = tuple(frozenset(self.high.get(d, ())) for d in self.dims)
        return self.shape, tuple(d.size for d in self.dims), highs, frozenset(self.guards)


def step(node: Node, index: Index, divmod_: Callable[[Linear, int], tuple[Linear, Linear]]) -> tuple[Node, Index]:
    """The source of a shape operation, and which of its elements `index` is."""
    (source,) = node.args
    assert source.shape is not None and node.shape is not None
    if node.kind == "expand_dims":
        return source, index[: node.attr] + index[node.attr + 1 :]
    if node.kind == "broadcast":
        return source, tuple(ZERO_INDEX if n == 1 else i for n, i in zip(source.shape, index, strict=True))
    if node.kind == "trans":
        out: list[Linear] = [NOTHING] * len(index)
        for position, axis in enumerate(node.attr):
            out[axis] = index[position]
        return source, tuple(out)
    if node.kind == "split":
        return source, (*index, Linear(Poly(node.attr)))
    assert node.kind == "reshape", node.kind
    flat = NOTHING
    for n, i in zip(node.shape, index, strict=True):
        flat = flat.scale(Poly(n)) + i
    parts: list[Linear] = []
    for axis in range(len(source.shape) - 1, 0, -1):
        n = source.shape[axis]
        if n == 1:
            parts.append(ZERO_INDEX)
            continue
        flat, rest = divmod_(flat, n)
        parts.append(rest)
    parts.append(flat)
    return source, tuple(reversed(parts))


VIEWS = frozenset({"expand_dims", "broadcast", "trans", "split", "reshape"})


@dataclass(eq=False)
class Quotient:
    """The value of an atom: a polynomial divided by a number (what = 0), or the remainder (what = 1)."""

    form: Linear
    divisor: int
    what: int


@dataclass(eq=False)
class Element:
    """The value of a varying atom: a node evaluated at an index."""

    node: Node
    index: Index


class Analysis:
    """Linear forms of integer nodes over one space; the same question gets the same answer."""

    def __init__(self, space: Space):
        self.space = space
        self._forms: dict[tuple[Node, Index], Linear] = {}
        self._quotients: dict[tuple[Linear, int], tuple[Linear, Linear]] = {}

    def linear(self, node: Node, index: Index) -> Linear:
        """An integer node's value at an index."""
        key = (node, index)
        if key not in self._forms:
            form = self._linear(node, index)
            if form is None or self._overflows(form, node.elem):
                atom = Atom(Element(node, index), nonnegative=node.nonnegative, varying=True)
                form = Linear(Poly.of(atom))
            self._forms[key] = form
        return self._forms[key]

    def _overflows(self, form: Linear, elem: str) -> bool:
        bounds = self.space.range(form)
        limit = 1 << (63 if elem in ("i64", "index") else int(elem[1:]) - 1)
        return bounds is not None and not -limit <= bounds[0] <= bounds[1] < limit

    def _linear(self, node: Node, index: Index) -> Linear | None:
        if node.kind == "splat":
            scalar = node.args[0]
            return Linear(scalar.poly if scalar.poly is not None else atom_of(scalar))
        if node.kind == "range":
            return index[0] + Linear(Poly(node.attr))
        if node.kind in VIEWS:
            return self.linear(*step(node, index, self.divide))
        if node.kind == "map" and node.op in _LINEAR_OPS:
            return _LINEAR_OPS[node.op](self, node, index)
        return None

    def divide(self, form: Linear, divisor: int) -> tuple[Linear, Linear]:
        """(form // divisor, form % divisor) of a form that is never negative; varying if need be."""
        key = (form, divisor)
        if key not in self._quotients:
            found = self.exact(form, divisor)
            if found is None:
                q = Atom(Quotient(form, divisor, 0), nonnegative=True, varying=True)
                r = Atom(Quotient(form, divisor, 1), nonnegative=True, varying=True)
                found = Linear(Poly.of(q)), Linear(Poly.of(r))
            self._quotients[key] = found
        return self._quotients[key]

    def exact(self, form: Linear, divisor: int) -> tuple[Linear, Linear] | None:
        """Quotient and remainder as linear forms, if they are; asks for a split where one would help."""
        if divisor == 1:
            return form, NOTHING
        quotient, rest = form.split(divisor)
        bounds = self.space.range(rest)
        if bounds is not None and bounds[0] >= 0 and bounds[1] < divisor:
            return quotient, rest
        if not form.affine or not form.nonnegative:
            return None
        if not form.coefs:
            atoms = [Atom(Quotient(form, divisor, what), nonnegative=True) for what in (0, 1)]
            return Linear(Poly.of(atoms[0])), Linear(Poly.of(atoms[1]))
        return self._split(form, quotient, rest, divisor)

    def _split(self, form: Linear, quotient: Linear, rest: Linear, divisor: int) -> tuple[Linear, Linear] | None:
        if len(rest.coefs) != 1:
            return None
        ((dim, coef),) = rest.coefs.items()
        if coef.constant != 1:
            return None
        split = self.space.splits.get(dim)
        if split is None:
            self.space.requests.setdefault((dim, rest.const), set()).add(divisor)
            return None
        if divisor % split.divisor or split.base.split(divisor)[1] != rest.const:
            return None
        low = Linear(Poly.of(split.low), {split.rest: ONE})
        first = Linear(Poly.of(split.quotient)) + Linear((rest.const - split.base).split(split.divisor)[0])
        if divisor == split.divisor:
            return quotient + first, low
        inner = self.divide(first, divisor // split.divisor)
        return quotient + inner[0], inner[1].scale(Poly(split.divisor)) + low

    def positive(self, leaf: Node, index: Index) -> Linear | None:
        """A form that is > 0 just where an integer comparison holds."""
        if leaf.kind != "map" or leaf.op != "arith.cmpi" or not leaf.args[0].elem.startswith("i"):
            return None
        predicate = int(str(leaf.attr[0]).split("predicate = ")[1].split(" ")[0])
        if predicate not in _COMPARISONS:
            return None
        left, right = (self.linear(a, index) for a in leaf.args)
        signed, swapped, or_equal = _COMPARISONS[predicate]
        if not signed and not (left.nonnegative and right.nonnegative):
            return None
        form = left - right if swapped else right - left
        return form + Linear(ONE) if or_equal else form

    def implied(self, leaf: Node, index: Index) -> bool:
        """Whether a conjunct of a mask holds everywhere in the space."""
        if leaf.kind == "splat":
            return leaf.args[0] in self.space.guards or leaf.args[0].attr == "true"
        form = self.positive(leaf, index)
        return form is not None and self.certain(form)

    def left(self, mask: Node, index: Index) -> list[tuple[Node, Index]] | None:
        """The conjuncts of a mask that do not hold everywhere in the space; None where one of them fails everywhere."""
        left = [c for c in self.conjuncts(mask, index) if not self.implied(*c)]
        return None if any(self._refuted(*c) for c in left) else left

    def _refuted(self, leaf: Node, index: Index) -> bool:
        form = self.positive(leaf, index) if self.space.facts else None
        return form is not None and self.certain(Linear(ONE) - form)

    def unproven(self, mask: Node, index: Index) -> list[tuple[Node, Index]] | None:
        """The conjuncts of a read's mask that must be evaluated; None where one of them fails everywhere. Where bounds
        of single dims are all that is missing, the space is told."""
        left = self.left(mask, index)
        if left is None:
            return None
        forms = [self.positive(*c) for c in left]
        if forms and all(form is not None and _is_edge(form) for form in forms):
            self.space.masked += 1
            for form in dict.fromkeys(forms):
                (dim,) = form.coefs  # type: ignore[union-attr]
                counts = self.space.edges.setdefault(dim, {})
                counts[form] = counts.get(form, 0) + 1  # type: ignore[index]
        return left

    def certain(self, form: Linear) -> bool:
        """Whether a form is > 0 throughout."""
        bounds = self.space.range(form)
        if bounds is not None and bounds[0] > 0:
            return True
        beyond = (form - fact for fact in self.space.facts)
        return any(not more.coefs and more.const.nonnegative for more in beyond) or self._positive_everywhere(form)

    def _positive_everywhere(self, form: Linear) -> bool:
        """Whether a form is > 0 throughout, by the space's bounds: d < n - 64*pid makes n - d - 64*pid positive."""
        least = [form.const - ONE]
        for dim, coef in form.coefs.items():
            if coef.nonnegative:
                continue
            if not (-coef).nonnegative:
                return False
            ends = [Poly(dim.size), *self.space.high.get(dim, ())]
            least = [total + coef * (end - ONE) for total in least for end in ends]
            if len(least) > _MOST_ENDS:
                return False
        known = [ZERO, *(fact.const - ONE for fact in self.space.facts if not fact.coefs)]
        return any((total - fact).nonnegative for total in least for fact in known)

    def conjuncts(self, mask: Node, index: Index) -> Iterable[tuple[Node, Index]]:
        """The conditions whose conjunction a mask is, each with the index that it is seen at."""
        if mask.kind in VIEWS:
            yield from self.conjuncts(*step(mask, index, self.divide))
        elif mask.kind == "map" and mask.op == "arith.andi":
            for part in mask.args:
                yield from self.conjuncts(part, index)
        else:
            yield mask, index

    def restrict(self, mask: Node) -> list[tuple[Node, Index]]:
        """Narrow the space to a mask as far as bounds and guards can; the conjuncts left over."""
        left = []
        for leaf, index in self.conjuncts(mask, self.space.index):
            if self.implied(leaf, index):
                continue
            if leaf.kind == "splat":
                self.space.guards.append(leaf.args[0])
                continue
            form = self.positive(leaf, index)
            limit = _upper_bound(form) if form is not None else None
            if limit is None:
                left.append((leaf, index))
            else:
                self.space.high.setdefault(limit[0], []).append(limit[1])
        return left


# Combinations of the bounds of several dims that are tried at most.
_MOST_ENDS = 16
# predicate of arith.cmpi → (signed, operands swapped, holds on equality)
_COMPARISONS = {
    2: (True, False, False), 3: (True, False, True), 4: (True, True, False), 5: (True, True, True),
    6: (False, False, False), 7: (False, False, True), 8: (False, True, False), 9: (False, True, True),
}  # fmt: skip


def _is_edge(form: Linear) -> bool:
    """Whether `form > 0` bounds one dim."""
    return len(form.coefs) == 1 and form.affine and all(c.constant is not None for c in form.coefs.values())


def _upper_bound(form: Linear) -> tuple[Dim, Poly] | None:
    """(d, K) if `form > 0` says d < K."""
    if len(form.coefs) != 1 or form.const.varying:
        return None
    ((dim, coef),) = form.coefs.items()
    if coef.constant == -1:
        return dim, form.const
    if coef.constant is not None and coef.constant < 0 and form.const.constant is not None:
        return dim, Poly(-(form.const.constant // coef.constant))
    return None


def _binary(combine: Callable[[Linear, Linear], Linear | None]) -> Callable[[Analysis, Node, Index], Linear | None]:
    def form(analysis: Analysis, node: Node, index: Index) -> Linear | None:
        return combine(analysis.linear(node.args[0], index), analysis.linear(node.args[1], index))

    return form


def _product(a: Linear, b: Linear) -> Linear | None:
    if not a.coefs:
        return b.scale(a.const)
    return a.scale(b.const) if not b.coefs else None


def _shift_left(a: Linear, b: Linear) -> Linear | None:
    k = b.constant
    return a.scale(Poly(1 << k)) if k is not None and 0 <= k < 63 else None


def _same(analysis: Analysis, node: Node, index: Index) -> Linear:
    return analysis.linear(node.args[0], index)


def _zero_extended(analysis: Analysis, node: Node, index: Index) -> Linear | None:
    form = analysis.linear(node.args[0], index)
    return form if form.nonnegative and node.args[0].elem != "i1" else None


def _division(which: int) -> Callable[[Analysis, Node, Index], Linear | None]:
    def form(analysis: Analysis, node: Node, index: Index) -> Linear | None:
        value, divisor = (analysis.linear(a, index) for a in node.args)
        if not value.nonnegative:
            return None
        if analysis.certain(divisor - value):  # As where (start + range) % n is asked for below n only.
            return (NOTHING, value)[which]
        if divisor.constant is None or divisor.constant <= 0:
            return None
        found = analysis.exact(value, divisor.constant)
        return None if found is None else found[which]

    return form


_LINEAR_OPS: dict[str, Callable[[Analysis, Node, Index], Linear | None]] = {
    "arith.addi": _binary(lambda a, b: a + b),
    "arith.subi": _binary(lambda a, b: a - b),
    "arith.muli": _binary(_product),
    "arith.shli": _binary(_shift_left),
    "arith.extsi": _same,
    "arith.index_cast": _same,
    "arith.extui": _zero_extended,
    "arith.divsi": _division(0),
    "arith.divui": _division(0),
    "arith.remsi": _division(1),
    "arith.remui": _division(1),
}
