"""Sorting: keys of rows are put in order in scratch memory, by code of its own (sort.py).

    %s = tt.extern_elementwise %keys, %length {symbol = "rvv.sort"}     tensor<32x128xi64>, the last axis, unsigned
    →  Fill(b, %keys); Sort(b, rows = 32, length = 100); b

length: how many keys of a row count, if that is a constant; those behind them are as large as any. A key's lower half
is its place in the row. Rows of moderate length are sorted side by side, a long one or a row of its own along.
Declines: elements other than i64, rows that are no power of two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch_rvv.lowering.graph import Graph
from torch_rvv.lowering.nodes import Fill, Node, Sort
from torch_rvv.lowering.radix import DIGITS, VALUES
from torch_rvv.lowering.sort import ELEM
from torch_rvv.lowering.ttir import source_line

# Keys of rows that are sorted side by side, at most, for a strip of them has to stay in the L1 cache; of a row alone.
LONGEST, LONGEST_ALONE = 512, 64


def sort(graph: Graph, op: Any) -> Sequence[Node] | None:
    """The keys in scratch memory, put in order there."""
    keys, length = graph.operands(op)
    if keys.shape is None or graph.lanes is not None or keys.elem != ELEM:
        return None
    *outer, size = keys.shape
    if size & (size - 1):
        return None
    known = length.args[0].poly if length.kind == "splat" else None
    count = known.constant if known is not None and known.constant is not None else size
    count = min(max(count, 1), size)
    rows, where = math.prod(outer), source_line(op)
    buffer, spare, counts = graph.buffer(keys.shape, keys.elem), None, None
    if len(outer) == 1 and size <= (LONGEST if rows > 1 else LONGEST_ALONE):
        buffer.turned = True
    else:
        spare, counts = graph.buffer(keys.shape, keys.elem), graph.buffer((DIGITS * VALUES,), "i32")
    graph.append(Fill(where, shape=keys.shape, buffer=buffer, value=keys))
    graph.append(Sort(where, buffer=buffer, spare=spare, counts=counts, rows=rows, length=count))
    return [buffer]


# symbol of an extern_elementwise → its rule
FUNCTIONS: dict[str, Callable[[Graph, Any], Sequence[Node] | None]] = {"rvv.sort": sort}
