"""Blocks that wrap around at the end of an axis: a kernel for those that do not, and one for those that do.

    %r = arith.remsi (%pid * 64 + range(64)), %M        rows past the last are read again from the first, so that
    %p = %a + %r * stride; tt.load %p                   loads need no mask
    →
    If %pid * 64 + 63 < %M { all that follows, with %r the sum itself } else { all that follows }

Every program but the last of an axis takes the first side, where rows are rows and columns contiguous; a remainder
by a number known only at run time would be a gather. Only for kernels with a `tt.dot`, whose operands are read many
times, and where the quotient is not asked for: that splits an index into two, and wraps as a rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch_rvv.lowering.graph import Graph
from torch_rvv.lowering.linear import Poly
from torch_rvv.lowering.nodes import Node, atom_of

_REMAINDERS = {"arith.remsi": "arith.divsi", "arith.remui": "arith.divui"}


def span(blocks: Sequence[Any]) -> tuple[int, int]:
    """Which operations of a kernel's first block the choice needs: (the first remainder, the one behind the last).

    (0, 0) if there is none to make.
    """
    if not any(_has_dot(op.operation) for block in blocks for op in block.operations):
        return 0, 0
    operations = [op.operation for op in blocks[0].operations]
    places = [n for n, op in enumerate(operations) if _splits_nothing(op, operations)]
    return (places[0], places[-1] + 1) if places else (0, 0)


def _has_dot(op: Any) -> bool:
    return op.name == "tt.dot" or any(_has_dot(o.operation) for r in op.regions for b in r.blocks for o in b.operations)


def _splits_nothing(op: Any, operations: Sequence[Any]) -> bool:
    quotient = _REMAINDERS.get(op.name)
    return quotient is not None and not any(
        other.name == quotient and list(other.operands) == list(op.operands) for other in operations
    )


def found(graph: Graph, operations: Sequence[Any]) -> tuple[Node, dict[Any, Node], list[Poly]] | None:
    """(whether no block wraps, each remainder's value if so, numbers that are > 0 then) after these operations; None if
    none is of this form."""
    conditions: list[Node] = []
    facts: list[Poly] = []
    values: dict[Any, Node] = {}
    for op in operations:
        if _splits_nothing(op, operations) and (within := _within(graph, graph[op.results[0]])) is not None:
            conditions += within[0]
            facts += within[1]
            values[op.results[0]] = graph[op.operands[0]]
    if not conditions:
        return None
    every, *rest = conditions
    for condition in rest:
        every = graph.map("arith.andi", [every, condition], "i1")
    return every, values, facts


def _within(graph: Graph, remainder: Node) -> tuple[list[Node], list[Poly]] | None:
    """The conditions under which (start + range) % size is start + range, and what is > 0 then; the size is no
    constant."""
    if remainder.kind != "map" or remainder.op not in _REMAINDERS:
        return None
    index, size = remainder.args
    if index.kind != "map" or index.op != "arith.addi" or size.kind != "splat" or _known(size.args[0]):
        return None
    start, lanes = index.args if index.args[0].kind == "splat" else reversed(index.args)
    if start.kind != "splat" or lanes.kind != "range" or lanes.shape is None:
        return None
    # In 64 bits, where the sum does not wrap around itself.
    wide = graph.as_width(start.args[0], "i64")
    least, most = (graph.constant(str(n), "i64") for n in (lanes.attr, lanes.attr + lanes.shape[0] - 1))
    end, limit = graph.map("arith.addi", [wide, most], "i64"), graph.as_width(size.args[0], "i64")
    conditions = [graph.map("arith.cmpi", [end, limit], "i1", "predicate = 2 : i64")]
    if not start.args[0].nonnegative and not (start.args[0].poly is not None and start.args[0].poly.nonnegative):
        first, zero = graph.map("arith.addi", [wide, least], "i64"), graph.constant("0", "i64")
        conditions.append(graph.map("arith.cmpi", [first, zero], "i1", "predicate = 5 : i64"))
    ends = [node.poly if node.poly is not None else atom_of(node) for node in (size.args[0], start.args[0])]
    return conditions, [ends[0] - ends[1] - Poly(lanes.attr + lanes.shape[0] - 1)]


def _known(size: Node) -> bool:
    return size.poly is not None and size.poly.constant is not None
