"""Loads that must not wait: read into scratch memory where they stand, before a store changes what they read.

    %x = tt.load %p ; tt.store %p, ... ; tt.store %q, %x     →   %x is materialised at its load

A lazy load is read by the statement that needs it. Between the two, a store to memory that may be the
same would be seen. A store that reads and writes the very same elements (x[i] = f(x[i])) is harmless.
Distinct arguments are taken not to overlap when `noalias` says so; pointers of unknown origin always may.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch_rvv.lowering.access import Analysis, Space
from torch_rvv.lowering.graph import Graph
from torch_rvv.lowering.nodes import Atomic, Fill, For, If, Node, Region, Root, Statement, Store, While, walk


def regions(statement: Statement) -> list[Region]:
    """The regions inside a statement."""
    if isinstance(statement, For):
        return [statement.body]
    if isinstance(statement, If):
        return [statement.then, statement.other]
    if isinstance(statement, While):
        return [statement.before, statement.after]
    return []


def every(
    region: Region, loops: tuple[Statement, ...] = ()
) -> Iterator[tuple[Statement, Region, tuple[Statement, ...]]]:
    """All statements, each with its region and the loops around it, outermost first."""
    for statement in region.statements:
        yield statement, region, loops
        for inner in regions(statement):
            around = loops if isinstance(statement, If) else (*loops, statement)
            yield from every(inner, around)


def may_alias(a: Node, b: Node, noalias: bool) -> bool:
    """Whether two base pointers may reach the same memory. Node.attr is the argument's number."""
    known = isinstance(a.attr, int) and isinstance(b.attr, int)
    if known:
        return a.attr == b.attr or not noalias
    return True


@dataclass
class _Write:
    statement: Store | Atomic
    position: int
    base: Node


def _base(pointer: Node) -> Node:
    return pointer.args[0]


def _same_elements(load: Node, store: Statement) -> bool:
    """Whether a store writes element i of its block to where the load read element i."""
    if not isinstance(store, Store) or store.pointer is None or load.shape != store.shape:
        return False
    mine, theirs = load.args[0], store.pointer
    if _base(mine) is not _base(theirs):
        return False
    if mine.args[1] is theirs.args[1]:
        return True
    space = Space.over(store.shape)
    analysis = Analysis(space)
    a, b = (analysis.linear(p.args[1], space.index) for p in (mine, theirs))
    return a == b and a.affine


def elementwise(root: Node, load: Node, unit_axes: bool = False) -> bool:
    """Whether `root` uses `load` only at the same element. unit_axes: or at that of a view which differs in axes of one
    element only. Each node is looked at once: values that are used often make as many paths as there are subsets."""
    seen: set[Node] = set()
    others, stack = [], [root]
    while stack:
        node = stack.pop()
        if node is load or node in seen:
            continue
        seen.add(node)
        if node.kind == "map" or (unit_axes and _adds_unit_axes(node)):
            stack += node.args
        else:
            others.append(node)
    return all(n is not load for n in walk(others))


def _adds_unit_axes(node: Node) -> bool:
    """Whether a view has its source's elements in order, with more or fewer axes of one element."""
    return node.kind in ("expand_dims", "reshape") and long_axes(node.shape) == long_axes(node.args[0].shape)


def long_axes(shape: tuple[int, ...] | None) -> list[int]:
    """The sizes of a shape that are more than one."""
    return [n for n in shape or () if n != 1]


def settle(graph: Graph, noalias: bool) -> None:
    """Materialise, at its place, each load that a later store could overtake."""
    statements = list(every(graph.region))
    writes = [
        _Write(s, s.position, _base(s.pointer))
        for s, _, _ in statements
        if isinstance(s, Store | Atomic) and s.pointer is not None
    ]
    if not writes:
        return
    eager: set[Node] = set()
    for statement, _, loops in statements:
        if not isinstance(statement, Root):
            continue
        for load in walk(statement.inputs()):
            if load.kind == "load" and load not in eager and _overtaken(load, statement, loops, writes, noalias):
                eager.add(load)
    for load in eager:
        _materialise(graph, load)


def _overtaken(load: Node, user: Root, loops: tuple[Statement, ...], writes: list[_Write], noalias: bool) -> bool:
    last = user.position
    for loop in loops:
        if load.position < loop.position:
            last = max(last, loop.last)  # type: ignore[attr-defined]
            break
    for write in writes:
        if not load.position < write.position <= last or not may_alias(_base(load.args[0]), write.base, noalias):
            continue
        alone = write.statement is user and last == user.position
        if not (alone and _lockstep(load, user)):
            return True
    return False


def _lockstep(load: Node, user: Root) -> bool:
    if not isinstance(user, Store) or user.value is None or user.pointer is None:
        return False
    others = [user.pointer.args[1], *([user.domain] if user.domain else [])]
    return _same_elements(load, user) and elementwise(user.value, load) and all(n is not load for n in walk(others))


def _materialise(graph: Graph, load: Node) -> None:
    """Turn a load into a buffer that a new statement, at the load's place, fills."""
    original = Node("load", load.shape, load.elem, load.args, attr=load.attr, where=load.where, position=load.position)
    load.kind, load.args, load.name = "buffer", (), graph.fresh("b")
    assert load.shape is not None
    fill = Fill(load.where, load.position, shape=load.shape, buffer=load, value=original)
    region = _region_of(graph.region, load.position)
    at = next((i for i, s in enumerate(region.statements) if s.position > load.position), len(region.statements))
    region.statements.insert(at, fill)


def _region_of(region: Region, position: int) -> Region:
    """The innermost region that a position lies in."""
    for statement in region.statements:
        last = getattr(statement, "last", 0)
        if statement.position < position <= last:
            inner = regions(statement)
            for candidate, after in zip(inner, [*inner[1:], None], strict=True):
                if after is None or not after.statements or position < after.statements[0].position:
                    return _region_of(candidate, position)
    return region
