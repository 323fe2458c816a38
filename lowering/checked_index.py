"""Indices that an assertion keeps in bounds: 32 bits wide, clamped, and checked in the loop that uses them.

    t = select(x < 0, x + n, x);  assert 0 <= t < n;  load(p + t)          t, x of 64 bits
    →
    c = saturate(x);  u = select(c < 0, c + n, c)                          32 bits
    flag |= u >= n (unsigned);  load(p + umin(u, n - 1));  check the flag

Where the assertion holds nothing changes. Where it does not, the load stays in bounds, and so the statement that
makes it may stand before the check, in one loop with it. `propose` is asked while the graph is built, `settle` acts on
what the whole of it shows: that the index is for addresses only.
Limits: bounds that are constants below 2**31; of a statement behind the check, a store through addresses that are no
such indices themselves, to memory that the kernel does not read.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from torch_rvv.lowering.access import VIEWS
from torch_rvv.lowering.graph import Graph
from torch_rvv.lowering.hazards import every, may_alias
from torch_rvv.lowering.nodes import Node, Reduce, Region, Root, ScalarOp, Statement, Store, ids, walk

LIMIT = 2**31 - 1
SLT, SGE, UGE = ("predicate = 2 : i64", "predicate = 5 : i64", "predicate = 9 : i64")
_TOWARDS_ADDRESSES = VIEWS | {"arith.addi", "arith.muli", "arith.extsi", "arith.extui", "arith.index_cast"}


@dataclass(eq=False)
class Checked:
    """An assertion of 0 <= index < bound. narrow: the index in 32 bits, wrong only where that fails. statements: from
    the reduction of the failures to the check."""

    index: Node
    narrow: Node
    clamped: Node
    failure: Node
    statements: list[Statement] = field(default_factory=list)


def _number(node: Node) -> int | None:
    poly = node.args[0].poly if node.kind == "splat" else None
    return None if poly is None else poly.constant


def _compares(node: Node, predicate: str) -> tuple[Node, int] | None:
    """(x, number) of a comparison of x with a constant."""
    if node.kind != "map" or node.op != "arith.cmpi" or not node.attr[0].startswith(predicate.split(" :")[0] + " "):
        return None
    number = _number(node.args[1])
    return None if number is None else (node.args[0], number)


def _bounds(condition: Node) -> tuple[Node, int] | None:
    """(index, n) of "index >= 0 and index < n"."""
    if condition.kind != "map" or condition.op != "arith.andi":
        return None
    low, high = (_compares(part, way) for part, way in zip(condition.args, (SGE, SLT), strict=True))
    if low is None or high is None or low[0] is not high[0] or low[1] != 0 or not 0 < high[1] < LIMIT:
        return None
    return low[0], high[1]


def _narrow(graph: Graph, index: Node) -> Node | None:
    """The index in 32 bits: exact where it is one of 32 bits, and out of bounds where it is not."""
    if index.elem == "i32":
        return index
    if index.elem != "i64":
        return None
    if index.kind == "map" and index.op == "arith.extsi":
        return _narrow(graph, index.args[0])
    if index.kind == "map" and index.op == "arith.select":
        negative, moved, x = index.args
        compared = _compares(negative, SLT)
        if moved.kind != "map" or moved.op != "arith.addi" or compared is None:
            return None
        (source, zero), size = compared, _number(moved.args[1])
        if zero != 0 or source is not x or moved.args[0] is not x or size is None or not 0 <= size < LIMIT:
            return None
        inner = _narrow(graph, x)
        if inner is None:
            return None
        below = _map(graph, "arith.cmpi", inner, 0, "i1", SLT)
        return graph.map("arith.select", [below, _map(graph, "arith.addi", inner, size, "i32"), inner], "i32")
    low = _map(graph, "arith.maxsi", index, -LIMIT - 1, "i64")
    return graph.map("arith.trunci", [_map(graph, "arith.minsi", low, LIMIT, "i64")], "i32")


def _map(graph: Graph, op: str, x: Node, number: int, elem: str, attr: str = "") -> Node:
    assert x.shape is not None
    return graph.map(op, [x, graph.splat(graph.constant(str(number), x.elem), x.shape)], elem, attr)


def propose(graph: Graph, condition: Node) -> Checked | None:
    """What an assertion's condition says of an index, in 32 bits; None if it is not of that kind."""
    found = _bounds(condition)
    if found is None or found[0].kind == "splat":
        return None
    index, bound = found
    narrow = _narrow(graph, index)
    if narrow is None or narrow.kind == "splat":
        return None
    clamped = _map(graph, "arith.minui", narrow, bound - 1, "i32")
    clamped.nonnegative, clamped.most = True, bound - 1
    failure = graph.map("arith.extui", [_map(graph, "arith.cmpi", narrow, bound, "i1", UGE)], "i8")
    return Checked(index, narrow, clamped, failure)


def settle(graph: Graph) -> None:
    """Put the proposals into effect that nothing speaks against."""
    delayed: set[Statement] = set()
    for checked in reversed(graph.checked):
        reduction = checked.statements[0]
        assert isinstance(reduction, Reduce)
        before, reduction.values = reduction.values, [checked.failure]
        parents = _parents(graph)
        if not _for_addresses(checked.index, parents):
            reduction.values = before
            continue
        _replace(checked)
        for region in (region for statement, region, _ in every(graph.region) if statement is reduction):
            _delay(graph, region, checked, delayed)


def _parents(graph: Graph) -> dict[Node, list[Node | Root]]:
    parents: dict[Node, list[Node | Root]] = {}
    nodes: set[Node] = set()
    for statement, _, _ in every(graph.region):
        if isinstance(statement, Root):
            for node in statement.inputs():
                parents.setdefault(node, []).append(statement)
            nodes |= set(walk(statement.inputs()))
    for node in nodes:
        for child in node.args:
            parents.setdefault(child, []).append(node)
    return parents


def _for_addresses(node: Node, parents: dict[Node, list[Node | Root]]) -> bool:
    """Whether a value ends up in addresses, and nowhere else."""
    return all(
        isinstance(parent, Node)
        and (
            (parent.kind == "pointer" and parent.args[0] is not node)
            or ((parent.op if parent.kind == "map" else parent.kind) in _TOWARDS_ADDRESSES
                and _for_addresses(parent, parents))
        )
        for parent in parents.get(node, ())
    )  # fmt: skip


def _replace(checked: Checked) -> None:
    """Let whoever reads the index get the clamped one."""
    index, clamped = checked.index, checked.clamped
    if index is checked.narrow:
        original = replace(index, id=next(ids))
        for node in walk([checked.failure, clamped]):
            node.args = tuple(original if a is index else a for a in node.args)
    index.kind, index.attr, index.nonnegative, index.most = "map", ("", 0, 1), True, clamped.most
    index.op, index.args = ("arith.extui", (clamped,)) if index.elem == "i64" else (clamped.op, clamped.args)


def _delay(graph: Graph, region: Region, checked: Checked, delayed: set[Statement]) -> None:
    """Let the store behind the check stand before it, side by side with the reduction of the failures."""
    statements, (reduction, *rest) = region.statements, checked.statements
    start = statements.index(reduction)
    end = after = start + len(checked.statements)
    while after < len(statements) and (isinstance(statements[after], ScalarOp) or statements[after] in delayed):
        after += 1
    store = statements[after] if after < len(statements) else None
    if statements[start:end] != checked.statements or not isinstance(store, Store) or store.pointer is None:
        return
    assert isinstance(reduction, Reduce)
    base, offset = store.pointer.args
    if store.shape != reduction.shape or checked.index in set(walk([offset])) or _reads(graph, base):
        return
    constants = [s for s in rest if isinstance(s, ScalarOp) and s.op == "arith.constant"]
    rest = [s for s in rest if s not in constants]
    between = [s for s in statements[end:after] if isinstance(s, ScalarOp)]
    others = [s for s in statements[end:after] if s not in between]
    statements[start : after + 1] = [*constants, *between, reduction, *others, store, *rest]
    delayed.add(reduction)


def _reads(graph: Graph, base: Node) -> bool:
    """Whether the kernel loads from memory that a base pointer may reach."""
    return any(
        node.kind == "load" and may_alias(node.args[0].args[0], base, True)
        for statement, _, _ in every(graph.region)
        if isinstance(statement, Root)
        for node in walk(statement.inputs())
    )
