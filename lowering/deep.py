"""Values too deep to stay lazy: computed once, where they stand.

    sort: each of log2(n)² steps reduces the value before it and is used three times

    rows * exp(x)[:, None]: the exponentials are computed once, in lanes, and not a row at a time

Every statement that needs a lazy value evaluates all of it. A value that is used several times and rests on more
than FOLDS reductions is materialised at its place, so that a chain of n steps costs n of them and not n². So is
one that is reshaped: through a reshape each of its reads would be a gather.
"""

from __future__ import annotations

import math

from torch_rvv.lowering.convert_shape import view
from torch_rvv.lowering.graph import Graph
from torch_rvv.lowering.nodes import Node, walk
from torch_rvv.lowering.scratch import materialise
from torch_rvv.lowering.share import costly

# More than normalisations need: their values stay in the loop that uses them.
FOLDS = 4
NONE: frozenset[Node] = frozenset()


def folds(graph: Graph, node: Node) -> frozenset[Node]:
    """The results of reductions that a value rests on."""
    known = graph.folds.get(node)
    if known is None:
        known = NONE.union(*(folds(graph, a) for a in node.args)) if node.kind != "buffer" else NONE
        graph.folds[node] = known
    return known


def settle(graph: Graph, node: Node, uses: int) -> Node:
    """The value, or a buffer that holds it from here on."""
    if graph.lanes is not None:
        return node
    if node.kind == "broadcast" and _costly_once(node):
        return view(graph, "broadcast", _held(graph, node.args[0]), node.shape or ())
    if len(folds(graph, node)) <= FOLDS:
        return node
    if node.kind == "reshape" and node.args[0].kind == "map":
        return view(graph, "reshape", _held(graph, node.args[0]), node.shape or ())
    return _held(graph, node) if uses > 1 and node.kind == "map" else node


def _costly_once(node: Node) -> bool:
    """Whether a broadcast repeats values that take tens of instructions each, and there are several of them."""
    (source,) = node.args
    several = source.shape is not None and math.prod(source.shape) > 1
    return several and any(costly(n) for n in walk([source]) if n.kind == "map") and source.kind != "buffer"


def _held(graph: Graph, node: Node) -> Node:
    """A buffer of the value, which counts as one result in what comes after."""
    buffer = materialise(graph, node)
    graph.folds[buffer] = frozenset([buffer])
    return buffer
