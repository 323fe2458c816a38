"""Operations that only move elements: they compute nothing, and change how others are indexed.

    %2 = tt.expand_dims %1 {axis = 1}     Node(expand_dims): element (i, j) of %2 is element i of %1

On tensors of pointers they act on the offsets. What sets elements side by side (`join`, `cat`) writes them to
scratch memory; `gather` reads from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch_rvv.lowering import convert_pointer
from torch_rvv.lowering.graph import Graph, rule, type_of
from torch_rvv.lowering.linear import Linear, Poly
from torch_rvv.lowering.mlir import integer
from torch_rvv.lowering.nodes import Fill, Node, is_pointer
from torch_rvv.lowering.scratch import materialise, read_scalar, truth
from torch_rvv.lowering.ttir import source_line


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
    start = integer(op, "start")
    node = Node("range", shape, elem, attr=start)
    node.nonnegative = start >= 0
    return [node]


@rule("tt.expand_dims")
def expand_dims(graph: Graph, op: Any) -> Sequence[Node] | None:
    (source,) = graph.operands(op)
    shape, _ = type_of(op.results[0])
    assert shape is not None
    return [view(graph, "expand_dims", source, shape, integer(op, "axis"))]


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


def interleaved(graph: Graph, parts: Sequence[Node], shape: tuple[int, ...], elem: str) -> Node:
    """Tensors side by side along a new last axis, in a buffer."""
    buffer = graph.buffer(shape, elem)
    for number, part in enumerate(parts):
        assert part.shape is not None
        at = lambda index, number=number: (*index, Linear(Poly(number)))  # noqa: E731
        graph.append(Fill(part.where, shape=part.shape, buffer=buffer, value=part, at=at))
    return buffer


def join(graph: Graph, left: Node, right: Node) -> Node:
    """(..., 2): the elements of two tensors side by side."""
    assert left.shape is not None
    shape = (*left.shape, 2)
    if left.kind == right.kind == "splat" and left.args[0] is right.args[0]:
        return graph.splat(left.args[0], shape)
    if is_pointer(left.elem):
        both = join(graph, *(convert_pointer.addresses(graph, n) for n in (left, right)))
        return convert_pointer.at_addresses(graph, both, left.elem)
    if left.elem == "i1":
        return truth(graph, join(graph, *(graph.map("arith.extui", [n], "i8") for n in (left, right))))
    return interleaved(graph, (left, right), shape, left.elem)


@rule("tt.join")
def _join(graph: Graph, op: Any) -> Sequence[Node] | None:
    return [join(graph, *graph.operands(op))]


@rule("tt.cat")
def cat(graph: Graph, op: Any) -> Sequence[Node] | None:
    """One tensor behind the other along the first axis."""
    left, right = graph.operands(op)
    return [_cat(graph, left, right)]


def _cat(graph: Graph, left: Node, right: Node) -> Node:
    if is_pointer(left.elem):
        both = _cat(graph, *(convert_pointer.addresses(graph, n) for n in (left, right)))
        return convert_pointer.at_addresses(graph, both, left.elem)
    if left.elem == "i1":
        return truth(graph, _cat(graph, *(graph.map("arith.extui", [n], "i8") for n in (left, right))))
    assert left.shape is not None and right.shape is not None
    first, *rest = left.shape
    buffer = graph.buffer((first + right.shape[0], *rest), left.elem)
    for part, start in ((left, 0), (right, first)):
        at = lambda index, start=start: (index[0] + Linear(Poly(start)), *index[1:])  # noqa: E731
        assert part.shape is not None
        graph.append(Fill(part.where, shape=part.shape, buffer=buffer, value=part, at=at))
    return buffer


@rule("tt.gather")
def gather(graph: Graph, op: Any) -> Sequence[Node] | None:
    """Elements of one tensor by index along an axis: read from scratch memory."""
    source, index = graph.operands(op)
    shape, elem = type_of(op.results[0])
    axis = integer(op, "axis")
    if source.kind == "splat":
        assert shape is not None
        return [graph.splat(source.args[0], shape)]
    if elem == "i1":
        source = graph.map("arith.extui", [source], "i8")
    node = Node("gather", shape, source.elem, (materialise(graph, source), index), attr=axis, where=source_line(op))
    return [truth(graph, node) if elem == "i1" else node]


@rule("tt.split")
def split(graph: Graph, op: Any) -> Sequence[Node] | None:
    (source,) = graph.operands(op)
    shape, _ = type_of(op.results[0])
    assert shape is not None
    return [view(graph, "split", source, shape, half) for half in (0, 1)]


@rule("tt.unsplat")
def unsplat(graph: Graph, op: Any) -> Sequence[Node] | None:
    (source,) = graph.operands(op)
    if source.kind == "splat":
        return [source.args[0]]
    return [read_scalar(graph, materialise(graph, source))]
