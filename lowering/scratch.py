"""Values in scratch memory: written where they stand in the program, read from then on.

materialise(x)   Fill(b, x); b
"""

from __future__ import annotations

from torch_rvv.lowering.graph import Graph
from torch_rvv.lowering.linear import ZERO
from torch_rvv.lowering.nodes import Fill, Node


def materialise(graph: Graph, node: Node, where: str | None = None) -> Node:
    """The same value held in scratch memory from here on (a splat or a buffer stays what it is)."""
    if node.kind in ("splat", "buffer") or node.shape is None:
        return node
    if node.elem == "i1":
        byte = materialise(graph, graph.map("arith.extui", [node], "i8"), where)
        return truth(graph, byte)
    buffer = graph.buffer(node.shape, node.elem)
    graph.append(Fill(where or node.where, shape=node.shape, buffer=buffer, value=node))
    return buffer


def truth(graph: Graph, byte: Node) -> Node:
    """A byte that is 0 or 1 as an i1."""
    zero = graph.constant("0", byte.elem)
    if byte.shape is not None:
        zero = graph.splat(zero, byte.shape)
    return graph.map("arith.cmpi", [byte, zero], "i1", "predicate = 1 : i64")


def read_scalar(graph: Graph, node: Node) -> Node:
    """The one element of a buffer, or of an elementwise expression over buffers, as a scalar."""
    if node.kind == "splat":
        return node.args[0]
    if node.kind == "map":
        attr, result, results = node.attr
        args = [read_scalar(graph, a) for a in node.args]
        return graph.map(node.op, args, node.elem, attr, result, results)
    return graph.load_scalar(node, ZERO, node.elem, None, None)
