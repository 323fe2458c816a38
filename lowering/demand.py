"""Products of what is stored only: the mask of the store that an accumulator is for bounds the products that fill it.

    Fill(c, 0); For %k { Dot(a, b, c) }; Store(p, f(c), rows < %M)    →    Dot(a, b, c, rows < %M), and so its operands

Blocks at the end of an axis read rows or columns that nobody stores: all 64 of a block where 4 are left, the others
wrapped around to the first ones. Only for accumulators that nothing but one store reads, each element for its own
place, for the conditions of its mask that say where rows and columns end, by numbers known before the products, and for
operands that are copied first: a whole block that is read where it stands is best multiplied whole. A left operand
that needs no copy once the rest of it is not asked for is read where it stands.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch_rvv.lowering.convert_dot import bounds_loops, conjuncts, direct
from torch_rvv.lowering.convert_shape import view
from torch_rvv.lowering.graph import Graph
from torch_rvv.lowering.hazards import elementwise, every, long_axes
from torch_rvv.lowering.nodes import Dot, Fill, Node, Region, Root, Statement, Store, walk


def settle(graph: Graph) -> None:
    """Put the bounds into effect."""
    statements = [statement for statement, _, _ in every(graph.region)]
    for buffer in dict.fromkeys(s.buffer for s in statements if isinstance(s, Dot) and s.buffer is not None):
        store = _only_reader(buffer, statements)
        if store is not None:
            _bound(graph, buffer, list(_ends(graph, store, buffer)), statements)


def _only_reader(buffer: Node, statements: list[Statement]) -> Store | None:
    """The store that an accumulator is for; None if it is for anything else."""
    readers = []
    for statement in statements:
        if not isinstance(statement, Root):
            # A matrix unit's product, a scalar read from it, its address, its print.
            if any(node is buffer for node in (*statement.inputs(), *vars(statement).values())):
                return None
        elif any(node is buffer for node in walk(statement.inputs())):
            readers.append(statement)
    if len(readers) != 1 or not isinstance(readers[0], Store) or buffer.shape is None or len(buffer.shape) != 2:
        return None
    (store,) = readers
    assert store.value is not None and store.pointer is not None
    others = [store.pointer, *([store.domain] if store.domain is not None else [])]
    apart = long_axes(store.shape) == long_axes(buffer.shape) and elementwise(store.value, buffer, unit_axes=True)
    return store if apart and all(node is not buffer for node in walk(others)) else None


def _ends(graph: Graph, store: Store, buffer: Node) -> Iterator[tuple[int, Node]]:
    """(axis, condition along that axis alone) of a store's mask."""
    if store.domain is None:
        return
    axes = [i for i, n in enumerate(store.shape) if n != 1]
    if len(axes) != 2:
        axes = [0, 1] if store.shape == buffer.shape else []
    for part in conjuncts(graph, store.domain):
        if part.kind != "broadcast" or part.args[0].shape is None:
            continue
        (condition,) = part.args
        for axis, place in enumerate(axes):
            shape = tuple(n if i == axis else 1 for i, n in enumerate(buffer.shape or ()))
            if condition.shape == tuple(n if i == place else 1 for i, n in enumerate(store.shape)):
                along = view(graph, "reshape", condition, shape)
                if bounds_loops(along) and all(_known_before(node, buffer) for node in walk([along])):
                    yield axis, along


def _known_before(node: Node, buffer: Node) -> bool:
    """Whether a part of a condition can be asked where the accumulator begins."""
    return node.kind not in ("load", "buffer", "gather") and (node.kind != "scalar" or node.id < buffer.id)


def _bound(graph: Graph, buffer: Node, ends: list[tuple[int, Node]], statements: list[Statement]) -> None:
    for dot in statements:
        if not isinstance(dot, Dot) or dot.buffer is not buffer:
            continue
        for axis, condition in ends:
            assert condition.shape is not None and dot.a is not None and dot.b is not None
            fill = private((dot.a, dot.b)[axis], dot, statements)
            if fill is not None:
                along = view(graph, "expand_dims", condition, (*condition.shape, 1), 2)
                _restrict(graph, dot, view(graph, "broadcast", along, dot.shape))
                _restrict(graph, fill, view(graph, "broadcast", condition, fill.shape))
                if axis == 0 and _needs_no_copy(fill) and (region := _just_before(graph, fill, dot)) is not None:
                    dot.a = fill.value
                    region.statements.remove(fill)


def _needs_no_copy(fill: Fill) -> bool:
    """Whether a left operand may be read where it stands, now that nobody asks for the rest of it."""
    return fill.value is not None and direct(fill.value, columns=False, domain=fill.domain)


def _just_before(graph: Graph, fill: Fill, dot: Dot) -> Region | None:
    """The region of a copy and a product between which nothing is written but other copies; None if they are apart."""
    for statement, region, _ in every(graph.region):
        if statement is fill:
            behind = region.statements[region.statements.index(fill) :]
            between = behind[: behind.index(dot)] if dot in behind else [dot]
            return region if all(isinstance(s, Fill) for s in between) else None
    return None


def private(operand: Node, dot: Dot, statements: list[Statement]) -> Fill | None:
    """The statement that makes an operand for this product alone, whole and at its own place."""
    fills = [s for s in statements if isinstance(s, Fill) and s.buffer is operand]
    users = [s for s in statements if isinstance(s, Root) and any(n is operand for n in walk(s.inputs()))]
    return fills[0] if len(fills) == 1 and fills[0].at is None and users == [dot] else None


def _restrict(graph: Graph, root: Root, mask: Node) -> None:
    root.domain = mask if root.domain is None else graph.map("arith.andi", [root.domain, mask], "i1")
