"""Loops around products: several rounds in one product, as deep as all of them together.

    for %k: %acc = tt.dot (load A, %k), (load B, %k), %acc       32 steps of depth a round
    →
    for groups of 4 rounds: Dot(load A, load B, into the accumulator)    up to 128 steps, bounded where the rounds end

An accumulator stands in scratch memory between products: each loads and stores a tile of it, for which a block of K as
a GPU wants it (32) is too short. The operands of the first round of a group are widened along the depth; that is right
where step s of round u is step 32*u + s of the wide one, which is shown for every address and mask by comparing their
linear forms. Steps follow each other as in the loop, so that results are the same to the last bit.

Declines (None; then each round is a product of its own): a body that does anything but load and compute, products of
which something but the next round sees the result, operands for which the above is not shown, blocks of K that are
long, and a matrix unit, which has tiles of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch_rvv.lowering import convert_dot
from torch_rvv.lowering.access import VIEWS, Analysis, Element, Index, Space, step
from torch_rvv.lowering.convert_shape import view
from torch_rvv.lowering.graph import Graph, check_elements
from torch_rvv.lowering.linear import Atom, Linear, Poly
from torch_rvv.lowering.nodes import BYTES, For, Node, Region, ids, parse_type
from torch_rvv.lowering.ttir import source_line

# Steps of a product to aim at: loading and storing its tile is then a twentieth of the work.
DEPTH = 128
# Bytes of both operands that a quarter of a cluster's L2 cache holds.
MOST_BYTES = 128 << 10
_PURE = ("arith.", "math.")
_ALSO = frozenset({
    "tt.load", "tt.addptr", "tt.advance", "tt.splat", "tt.broadcast", "tt.expand_dims", "tt.trans", "tt.make_range",
    "tt.reshape", "tt.bitcast", "tt.fp_to_fp", "tt.descriptor_load",
})  # fmt: skip


@dataclass(frozen=True)
class Product:
    """A `tt.dot` of the loop's, the carried value that it updates, and the shape (rows, columns, depth)."""

    op: Any
    argument: Any
    shape: tuple[int, int, int]
    elem: str


def products(graph: Graph, op: Any) -> list[Product] | None:
    """The products of a `scf.for` that is nothing but products, of which several rounds make a group; or None."""
    block = op.regions[0].blocks[0]
    *operations, last = [o.operation for o in block.operations]
    found = []
    for inner in operations:
        if inner.name == "tt.dot":
            product = _product(inner, list(block.arguments)[1:], list(last.operands))
            if product is None:
                return None
            found.append(product)
        elif not (inner.name.startswith(_PURE) or inner.name in _ALSO) or _volatile(inner):
            return None
    return found if found and graph.matrix is None and rounds_at_once(found) > 1 else None


def _volatile(op: Any) -> bool:
    return "isVolatile" in op.attributes and str(op.attributes["isVolatile"]) == "true"


def _product(op: Any, arguments: Sequence[Any], yields: Sequence[Any]) -> Product | None:
    a, _, c = op.operands
    result = op.results[0]
    number = next((n for n, argument in enumerate(arguments) if argument == c), None)
    if number is None or yields[number] != result or any(sum(1 for _ in v.uses) != 1 for v in (c, result)):
        return None
    (left, _), (shape, elem) = parse_type(str(a.type)), parse_type(str(c.type))
    if left is None or shape is None or len(shape) != 2 or elem not in ("f64", "f32", "i32"):
        return None
    return Product(op, c, (*shape, left[-1]), elem)


def rounds_at_once(found: Sequence[Product]) -> int:
    """How many rounds a group has: as many as make DEPTH steps, in the cache; 1 for no group."""
    longest = max(product.shape[2] for product in found)
    size = sum((p.shape[0] + p.shape[1]) * p.shape[2] * BYTES[p.elem] for p in found)
    return max(1, min(DEPTH // longest, MOST_BYTES // size))


def write(
    graph: Graph, op: Any, found: Sequence[Product], trips: Node, enter: Callable[[Node], None],
    accumulators: Sequence[Node],
) -> bool:  # fmt: skip
    """Write all rounds of a loop in groups; False, and nothing is written, if that cannot be shown to be the same.

    trips: how many rounds there are. enter: gives the loop's values their nodes in a round, by its number.
    """
    at_once = rounds_at_once(found)
    zero, size = (graph.constant(str(n), trips.elem) for n in (0, at_once))
    loop = For(source_line(op), lower=zero, upper=trips, step=size)
    first = graph.scalar(trips.elem, nonnegative=True)
    loop.body.arguments.append(first)
    around = graph.region
    graph.append(loop)
    with graph.inside(loop.body):
        left = graph.map("arith.subi", [trips, first], trips.elem)
        count = graph.map("arith.minsi", [left, size], trips.elem)
        operands = _wide(graph, op, found, at_once, (first, count), enter)
        if operands is None:
            around.statements.remove(loop)
            return False
        for product, (a, b), buffer in zip(found, operands, accumulators, strict=True):
            convert_dot.product(graph, a, b, buffer, True, source_line(product.op))
    loop.last = graph.position
    return True


def _wide(
    graph: Graph, op: Any, found: Sequence[Product], at_once: int, rounds: tuple[Node, Node],
    enter: Callable[[Node], None],
) -> list[tuple[Node, Node]] | None:  # fmt: skip
    """Each product's operands over a group of rounds: (the first of them, how many there are)."""
    first, count = rounds
    some = graph.scalar(first.elem, nonnegative=True)
    with graph.inside(Region()):  # Nothing of it is kept: a later round, to compare with.
        enter(graph.map("arith.addi", [first, some], first.elem))
        later = _round(graph, op, found)
    enter(first)
    wide = []
    for product, now, then in zip(found, _round(graph, op, found), later, strict=True):
        steps = product.shape[2]
        assert some.poly is not None
        behind = Linear(some.poly * Poly(steps))
        end = graph.map("arith.muli", [count, graph.constant(str(steps), count.elem)], count.elem)
        pair = []
        for operand, other, axis in zip(now, then, (1, 0), strict=True):
            longer = _longer(operand, axis, at_once * steps)
            if longer is None or not _same(longer, other, axis, behind):
                return None
            pair.append(_until(graph, longer, axis, end))
        wide.append((pair[0], pair[1]))
    return wide


def _until(graph: Graph, node: Node, axis: int, end: Node) -> Node:
    """A tensor up to an index along an axis, 0 behind it; nothing is read there."""
    if node.kind == "map" and node.op in ("arith.extf", "arith.extsi"):  # Products widen by themselves.
        return graph.map(node.op, [_until(graph, node.args[0], axis, end)], node.elem, *node.attr)
    assert node.shape is not None
    inside = _below(graph, node.shape, axis, end)
    zero = graph.splat(graph.constant("0" if node.elem[0] == "i" else "0.0", node.elem), node.shape)
    return graph.map("arith.select", [inside, _guarded(graph, node, axis, end), zero], node.elem)


def _guarded(graph: Graph, node: Node, axis: int, end: Node) -> Node:
    """The same tree with the bound in the mask of each load."""
    below = _SOURCE_AXIS[node.kind](node, axis) if node.kind in _SOURCE_AXIS else None
    if node.shape is None or below is None or node.shape[axis] == 1:
        return node
    if node.kind == "load":
        mask, *rest = node.attr
        inside = _below(graph, node.shape, axis, end)
        return replace(
            node, attr=(inside if mask is None else graph.map("arith.andi", [mask, inside], "i1"), *rest), id=next(ids)
        )
    args = tuple(_guarded(graph, arg, below, end) if arg.shape is not None else arg for arg in node.args)
    return replace(node, args=args, id=next(ids))


def _below(graph: Graph, shape: tuple[int, ...], axis: int, end: Node) -> Node:
    """The mask of a shape that holds where the index along an axis is below a number."""
    index = Node("range", (shape[axis],), end.elem, attr=0, nonnegative=True)
    for new in range(len(shape)):
        if new != axis:
            assert index.shape is not None
            index = view(graph, "expand_dims", index, (*index.shape[:new], 1, *index.shape[new:]), new)
    assert index.shape is not None
    inside = graph.map("arith.cmpi", [index, graph.splat(end, index.shape)], "i1", "predicate = 2 : i64")
    return view(graph, "broadcast", inside, shape)


def _round(graph: Graph, op: Any, found: Sequence[Product]) -> list[tuple[Node, Node]]:
    """The operands of the products in one round."""
    *operations, _ = [o.operation for o in op.regions[0].blocks[0].operations]
    ours = [product.op for product in found]
    operands = []
    for inner in operations:
        if inner in ours:
            a, b, _ = inner.operands
            check_elements(inner, graph[a], graph[b])
            operands.append((graph[a], graph[b]))
        else:
            graph.apply(inner)
    return operands


# -- one node over the depth of several rounds


def _longer(node: Node, axis: int, size: int) -> Node | None:
    """A node with so many elements along an axis, the first of which are its own; None where that is not known."""
    if node.shape is None:
        return None
    shape = (*node.shape[:axis], size, *node.shape[axis + 1 :])
    if node.kind in ("splat", "range"):
        return replace(node, shape=shape, id=next(ids))
    if node.kind == "broadcast" and (node.args[0].shape or ())[axis] == 1:
        return replace(node, shape=shape, id=next(ids))
    if node.kind not in _SOURCE_AXIS:
        return None
    below = _SOURCE_AXIS[node.kind](node, axis)
    parts = [arg if arg.shape is None else (None if below is None else _longer(arg, below, size)) for arg in node.args]
    args = tuple(part for part in parts if part is not None)
    if len(args) != len(parts):
        return None
    if node.kind != "load":
        return replace(node, shape=shape, args=args, id=next(ids))
    mask, other, *rest = node.attr
    held = [n if n is None else _longer(n, axis, size) for n in (mask, other)]
    if any((a is None) != (b is None) for a, b in zip((mask, other), held, strict=True)):
        return None
    return replace(node, shape=shape, args=args, attr=(*held, *rest), id=next(ids))


def _below_new_axis(node: Node, axis: int) -> int | None:
    return None if axis == node.attr else axis - (axis > node.attr)


# Which axis of its operands an axis of a node is.
_SOURCE_AXIS: dict[str, Callable[[Node, int], int | None]] = {
    "map": lambda node, axis: axis,
    "pointer": lambda node, axis: axis,
    "load": lambda node, axis: axis,
    "broadcast": lambda node, axis: axis,
    "trans": lambda node, axis: node.attr[axis],
    "expand_dims": _below_new_axis,
}


# -- the same values


def _same(wide: Node, later: Node, axis: int, behind: Linear) -> bool:
    """Whether a later round's tensor is the wide one from index `behind` on along an axis."""
    assert later.shape is not None and wide.shape is not None
    compare = _Compare(Analysis(Space.over(wide.shape)), Analysis(Space.over(later.shape)))
    index = compare.theirs.space.index
    moved = tuple(form + behind if i == axis else form for i, form in enumerate(index))
    return compare.equal(wide, moved, later, index)


@dataclass
class _Compare:
    """Two trees made by the same operations, element by element, each with its own linear forms."""

    ours: Analysis
    theirs: Analysis
    shared: dict[tuple[Node, Index], Atom] = field(default_factory=dict)

    def equal(self, a: Node, at: Index, b: Node, there: Index) -> bool:
        while a.kind in VIEWS and a.kind == b.kind:
            a, at = step(a, at, self.ours.divide)
            b, there = step(b, there, self.theirs.divide)
        if a is b and at == there:
            return True
        if a.kind != b.kind:
            return False
        if a.kind == "load":
            others = list(zip(a.attr, b.attr, strict=True))
            return self.equal(a.args[0], at, b.args[0], there) and all(
                x is y or (isinstance(x, Node) and isinstance(y, Node) and self.equal(x, at, y, there)) or x == y
                for x, y in others
            )
        if a.kind == "pointer":
            return a.args[0] is b.args[0] and self._number(a.args[1], at, b.args[1], there)
        if a.elem[0] == "i" and a.elem != "i1" and self._number(a, at, b, there):
            return True
        if a.kind == "splat":
            return a.args[0] is b.args[0] or _same_constant(a.args[0], b.args[0])
        if a.kind != "map" or a.op != b.op or a.attr != b.attr:
            return False
        if a.op == "arith.cmpi":
            one, other = self.ours.positive(a, at), self.theirs.positive(b, there)
            if one is not None and one.affine and one == other:
                return True
        return all(self.equal(x, at, y, there) for x, y in zip(a.args, b.args, strict=True))

    def _number(self, a: Node, at: Index, b: Node, there: Index) -> bool:
        """Whether two integers are the same linear form, elements of one node taken for numbers."""
        one, other = self._named(self.ours.linear(a, at)), self._named(self.theirs.linear(b, there))
        return one is not None and one == other

    def _named(self, form: Linear) -> Linear | None:
        """A form with one atom for each element of a node, whoever asked for it; None if that does not say it all."""
        polys = [self._named_poly(poly) for poly in (form.const, *form.coefs.values())]
        if any(poly is None for poly in polys):
            return None
        const, *coefs = (poly for poly in polys if poly is not None)
        return Linear(const, dict(zip(form.coefs, coefs, strict=True)))

    def _named_poly(self, poly: Poly) -> Poly | None:
        total = Poly()
        for monomial, factor in poly.terms.items():
            product = Poly(factor)
            for atom in monomial:
                if atom.varying:
                    if not isinstance(atom.value, Element):
                        return None
                    atom = self.shared.setdefault((atom.value.node, atom.value.index), atom)
                product = product * Poly.of(atom)
            total = total + product
        return total


def _same_constant(a: Node, b: Node) -> bool:
    return isinstance(a.attr, str) and a.attr == b.attr and a.elem == b.elem
