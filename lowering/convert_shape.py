"""Operations that only move elements: they compute nothing, and change how others are indexed.

    %2 = tt.expand_dims %1 {axis = 1}     Node(expand_dims): element (i, j) of %2 is element i of %1

On tensors of pointers they act on the offsets. Declines: `cat` of tensors of pointers, and reshapes
that are free to reorder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch_rvv.lowering.graph import Graph, rule, type_of
from torch_rvv.lowering.nodes import Node, is_pointer


def view(graph: Graph, kind: str, source: Node, shape: tuple[int, ...], attr: Any = None) -> Node:
    """The same elements indexed another way."""
    if source.kind == "splat":
        return graph.splat(source.args[0], shape)
    if source.kind == "pointer":
        base, offset = source.args
        return Node("pointer", shape, source.elem, (base, view(graph, kind, offset, shape, attr)))
    if source.shape == shape and kind in ("reshape", "broadcast"):
        return source
    node = Node(kind, shape, source.elem, (source,), attr=attr)
    node.nonnegative = source.nonnegative
    return node


@rule("tt.splat")
def splat(graph: Graph, op: Any) -> Sequence[Node] | None:
    (scalar,) = graph.operands(op)
    shape, elem = type_of(op.results[0])
    assert shape is not None
    if is_pointer(elem):
        return [Node("pointer", shape, elem, (scalar, graph.splat(graph.constant("0", "i32"), shape)))]
    return [graph.splat(scalar, shape)]


@rule("tt.make_range")
def make_range(graph: Graph, op: Any) -> Sequence[Node] | None:
    shape, elem = type_of(op.results[0])
    start = int(str(op.attributes["start"]).split(" : ")[0])
    node = Node("range", shape, elem, attr=start)
    node.nonnegative = start >= 0
    return [node]


@rule("tt.expand_dims")
def expand_dims(graph: Graph, op: Any) -> Sequence[Node] | None:
    (source,) = graph.operands(op)
    shape, _ = type_of(op.results[0])
    assert shape is not None
    return [view(graph, "expand_dims", source, shape, int(str(op.attributes["axis"]).split(" : ")[0]))]


@rule("tt.broadcast")
def broadcast(graph: Graph, op: Any) -> Sequence[Node] | None:
    (source,) = graph.operands(op)
    shape, _ = type_of(op.results[0])
    assert shape is not None
    return [view(graph, "broadcast", source, shape)]


@rule("tt.reshape")
def reshape(graph: Graph, op: Any) -> Sequence[Node] | None:
    (source,) = graph.operands(op)
    shape, _ = type_of(op.results[0])
    assert shape is not None
    return [view(graph, "reshape", source, shape)]


@rule("tt.trans")
def trans(graph: Graph, op: Any) -> Sequence[Node] | None:
    (source,) = graph.operands(op)
    shape, _ = type_of(op.results[0])
    assert shape is not None
    return [view(graph, "trans", source, shape, tuple(op.attributes["order"]))]


@rule("tt.join")
def join(graph: Graph, op: Any) -> Sequence[Node] | None:
    left, right = graph.operands(op)
    shape, elem = type_of(op.results[0])
    if is_pointer(elem):
        return None
    return [Node("join", shape, elem, (left, right))]


@rule("tt.split")
def split(graph: Graph, op: Any) -> Sequence[Node] | None:
    (source,) = graph.operands(op)
    shape, _ = type_of(op.results[0])
    assert shape is not None
    return [view(graph, "split", source, shape, half) for half in (0, 1)]


@rule("tt.unsplat")
def unsplat(graph: Graph, op: Any) -> Sequence[Node] | None:
    from torch_rvv.lowering.convert_memory import materialise, read_scalar

    (source,) = graph.operands(op)
    if source.kind == "splat":
        return [source.args[0]]
    return [read_scalar(graph, materialise(graph, source))]
