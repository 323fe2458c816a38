"""Block pointers and tensor descriptors: a base, sizes and strides, and where in it a block lies.

    %b = tt.make_tensor_ptr %p, [%m, %n], [%s, 1], [%i, %j] : <tensor<16x32xf32>>
    tt.load %b {boundaryCheck = 0, 1}
    →  load of p + (i + d0)*s + (j + d1), where i + d0 < m and j + d1 < n

A block stays one: its access is linear in the block's dimensions, so rows are unit-stride loads and
the boundary is a shorter vector length. Descriptors check every dimension. Offsets that may be negative
cost a comparison an element.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch_rvv.lowering.convert_shape import view
from torch_rvv.lowering.graph import Graph, rule, type_of
from torch_rvv.lowering.mlir import integer
from torch_rvv.lowering.nodes import Atomic, Node, Store, parse_type
from torch_rvv.lowering.ttir import pointee, source_line

from torch_rvv.errors import Declined

SLT, SGE = 2, 5


@dataclass(frozen=True)
class Block:
    """shape and elem: of the block. sizes, strides (i64) and offsets: a scalar a dimension of the tensor.

    padding: "zero", "nan", or an i1 scalar that says whether it is NaN.
    """

    base: Node
    shape: tuple[int, ...]
    elem: str
    sizes: tuple[Node, ...]
    strides: tuple[Node, ...]
    offsets: tuple[Node, ...]
    padding: str | Node = "zero"

    def node(self) -> Node:
        scalars = (self.base, *self.sizes, *self.strides, *self.offsets)
        return Node("block", None, self.elem, scalars, attr=self)


def block_type(text: str) -> tuple[tuple[int, ...], str]:
    """(shape, element) of "!tt.ptr<tensor<16x32xf32>>" or "!tt.tensordesc<tensor<16x32xsi32>>", signs left out."""
    inner = pointee(text) if text.startswith("!tt.ptr") else text.removeprefix("!tt.tensordesc<")[:-1]
    shape, elem = parse_type(inner.split(">,")[0] + (">" if ">," in inner else ""))
    assert shape is not None
    return shape, elem.removeprefix("s").removeprefix("u")


def _wide(graph: Graph, scalars: Sequence[Node]) -> tuple[Node, ...]:
    return tuple(graph.as_width(s, "i64") for s in scalars)


def _attribute(op: Any, name: str) -> int:
    return integer(op, name) if name in op.attributes else 1


PADDING = {1: "zero", 2: "nan"}


@rule("tt.make_tensor_ptr")
def make_tensor_ptr(graph: Graph, op: Any) -> Sequence[Node] | None:
    base, *rest = graph.operands(op)
    shape, elem = block_type(str(op.results[0].type))
    rank = len(rest) // 3
    sizes, strides, offsets = (_wide(graph, rest[i * rank : (i + 1) * rank]) for i in range(3))
    return [Block(base, shape, elem, sizes, strides, offsets).node()]


@rule("tt.advance")
def advance(graph: Graph, op: Any) -> Sequence[Node] | None:
    source, *deltas = graph.operands(op)
    return [advanced(graph, source.attr, _wide(graph, deltas)).node()]


def advanced(graph: Graph, block: Block, deltas: Sequence[Node]) -> Block:
    """A block pointer moved by some elements along each dimension."""
    moved = [graph.map("arith.addi", [a, d], "i64") for a, d in zip(block.offsets, deltas, strict=True)]
    for new, a, d in zip(moved, block.offsets, deltas, strict=True):
        new.nonnegative = all(n.nonnegative or (n.poly is not None and n.poly.nonnegative) for n in (a, d))
    return replace(block, offsets=tuple(moved))


@rule("tt.make_tensor_descriptor")
def make_tensor_descriptor(graph: Graph, op: Any) -> Sequence[Node] | None:
    base, *rest = graph.operands(op)
    shape, elem = block_type(str(op.results[0].type))
    rank = len(rest) // 2
    sizes, strides = _wide(graph, rest[:rank]), _wide(graph, rest[rank:])
    zero = graph.constant("0", "i64")
    padding = PADDING[_attribute(op, "padding")]
    return [Block(base, shape, elem, sizes, strides, (zero,) * len(sizes), padding).node()]


def positions(graph: Graph, block: Block) -> list[Node]:
    """For each dimension of the block, the index in the tensor of each of the block's elements."""
    result = []
    for axis, (n, offset) in enumerate(zip(block.shape, block.offsets, strict=True)):
        line = Node("range", (n,), "i64", attr=0, nonnegative=True)
        index = graph.map("arith.addi", [line, graph.splat(offset, (n,))], "i64")
        if index.kind == "map":
            index.nonnegative = offset.nonnegative or (offset.poly is not None and offset.poly.nonnegative)
        result.append(_spread(graph, index, axis, block.shape))
    return result


def _spread(graph: Graph, line: Node, axis: int, shape: tuple[int, ...]) -> Node:
    """A line along one axis of a shape, repeated along the others."""
    for before in range(axis):
        line = view(graph, "expand_dims", line, (1,) * (before + 1) + (shape[axis],), 0)
    for after in range(axis + 1, len(shape)):
        assert line.shape is not None
        line = view(graph, "expand_dims", line, (*line.shape, 1), after)
    return view(graph, "broadcast", line, shape)


def reach(graph: Graph, block: Block, index: Sequence[Node], checks: Sequence[int]) -> tuple[Node, Node | None]:
    """(pointers, mask or None) of elements by their index along each dimension; checks: which have a boundary."""
    shape = index[0].shape
    assert shape is not None
    offset: Node | None = None
    mask: Node | None = None
    for axis, (position, stride, size) in enumerate(zip(index, block.strides, block.sizes, strict=True)):
        term = graph.map("arith.muli", [position, graph.splat(stride, shape)], "i64")
        offset = term if offset is None else graph.map("arith.addi", [offset, term], "i64")
        if axis not in checks:
            continue
        limits = [(SLT, graph.splat(size, shape)), (SGE, graph.splat(graph.constant("0", "i64"), shape))]
        for predicate, limit in limits:
            inside = graph.map("arith.cmpi", [position, limit], "i1", f"predicate = {predicate} : i64")
            mask = inside if mask is None else graph.map("arith.andi", [mask, inside], "i1")
    assert offset is not None
    return Node("pointer", shape, f"!tt.ptr<{block.elem}>", (block.base, offset)), mask


def padding(graph: Graph, block: Block, kind: str | Node, shape: tuple[int, ...]) -> Node:
    """What stands for elements beyond the boundary."""
    floating = block.elem[0] in "fb"
    zero = graph.splat(graph.constant("0.000000e+00" if floating else "0", block.elem), shape)
    if kind == "zero" or not floating:
        return zero
    nan = graph.splat(graph.constant(NAN[block.elem], block.elem), shape)
    if kind == "nan":
        return nan
    assert isinstance(kind, Node)
    return graph.map("arith.select", [graph.splat(kind, shape), nan, zero], block.elem)


NAN = {
    "f16": "0x7E00", "bf16": "0x7FC0", "f32": "0x7FC00000", "f64": "0x7FF8000000000000",
    "f8E5M2": "0x7F", "f8E4M3FN": "0x7F", "f8E4M3FNUZ": "0x80", "f8E5M2FNUZ": "0x80", "f8E4M3B11FNUZ": "0x80",
}  # fmt: skip


def load_block(graph: Graph, op: Any, block: Block, checks: Sequence[int], kind: str | Node) -> Node:
    """A lazy load of a whole block."""
    return _load(graph, op, block, positions(graph, block), checks, kind)


def _load(graph: Graph, op: Any, block: Block, index: Sequence[Node], checks: Sequence[int], kind: str | Node) -> Node:
    pointer, mask = reach(graph, block, index, checks)
    assert pointer.shape is not None
    other = padding(graph, block, kind, pointer.shape) if mask is not None else None
    graph.position += 1
    args = (pointer, *([mask] if mask is not None else []), *([other] if other is not None else []))
    return Node(
        "load", pointer.shape, block.elem, args, attr=(mask, other), where=source_line(op), position=graph.position
    )


def store_block(graph: Graph, op: Any, block: Block, value: Node, checks: Sequence[int]) -> None:
    """A store of a whole block."""
    pointer, mask = reach(graph, block, positions(graph, block), checks)
    assert pointer.shape is not None
    graph.append(Store(source_line(op), shape=pointer.shape, domain=mask, pointer=pointer, value=value))


def _described(graph: Graph, node: Node, offsets: Sequence[Node]) -> Block:
    """A descriptor's block at some offsets."""
    return replace(node.attr, offsets=_wide(graph, offsets))


def _all(block: Block) -> range:
    return range(len(block.sizes))


@rule("tt.descriptor_load")
def descriptor_load(graph: Graph, op: Any) -> Sequence[Node] | None:
    source, *offsets = graph.operands(op)
    block = _described(graph, source, offsets)
    value = load_block(graph, op, block, _all(block), block.padding)
    return [_as_result(graph, op, value)]


def _as_result(graph: Graph, op: Any, value: Node) -> Node:
    """A block whose leading dimensions of 1 the result leaves out."""
    shape, _ = type_of(op.results[0])
    return value if shape == value.shape or shape is None else view(graph, "reshape", value, shape)


@rule("tt.descriptor_store")
def descriptor_store(graph: Graph, op: Any) -> Sequence[Node] | None:
    target, *offsets, value = graph.operands(op)
    block = _described(graph, target, offsets)
    store_block(graph, op, block, view(graph, "reshape", value, block.shape), _all(block))
    return []


def _rows(graph: Graph, node: Node, rows: Node, column: Node, width: int) -> tuple[Block, list[Node]]:
    """A descriptor and the indices of whole rows of it: (rows, columns)."""
    block: Block = node.attr
    assert rows.shape is not None
    shape = (*rows.shape, width)
    down = _spread(graph, graph.as_width(rows, "i64"), 0, shape)
    line = Node("range", (width,), "i64", attr=0, nonnegative=True)
    start = graph.as_width(column, "i64")
    across = graph.map("arith.addi", [line, graph.splat(start, (width,))], "i64")
    return block, [down, _spread(graph, across, 1, shape)]


@rule("tt.descriptor_gather")
def descriptor_gather(graph: Graph, op: Any) -> Sequence[Node] | None:
    source, rows, column = graph.operands(op)
    block, index = _rows(graph, source, rows, column, source.attr.shape[-1])
    return [_load(graph, op, block, index, (0, 1), block.padding)]


@rule("tt.descriptor_scatter")
def descriptor_scatter(graph: Graph, op: Any) -> Sequence[Node] | None:
    target, rows, column, value = graph.operands(op)
    block, index = _rows(graph, target, rows, column, target.attr.shape[-1])
    pointer, mask = reach(graph, block, index, (0, 1))
    assert pointer.shape is not None
    graph.append(Store(source_line(op), shape=pointer.shape, domain=mask, pointer=pointer, value=value))
    return []


# Triton's name of a reduction → LLVM's atomicrmw kind for signed integers, unsigned ones, floats
REDUCTIONS = {
    "add": ("add", "add", "fadd"), "min": ("min", "umin", "fmin"), "max": ("max", "umax", "fmax"),
    "and": ("_and", "_and", ""), "or": ("_or", "_or", ""), "xor": ("_xor", "_xor", ""),
}  # fmt: skip


@rule("tt.descriptor_reduce")
def descriptor_reduce(graph: Graph, op: Any) -> Sequence[Node] | None:
    target, *offsets, value = graph.operands(op)
    block = _described(graph, target, offsets)
    unsigned = f"xu{block.elem}>" in str(op.operands[0].type)
    column = 2 if block.elem[0] in "fb" else int(unsigned)
    kind = REDUCTIONS.get(op.attributes["kind"].value, ("", "", ""))[column]
    if not kind:
        raise Declined(f"a descriptor's {op.attributes['kind'].value} on {block.elem}", where=source_line(op))
    pointer, mask = reach(graph, block, positions(graph, block), _all(block))
    assert pointer.shape is not None
    value = view(graph, "reshape", value, block.shape)
    graph.append(
        Atomic(source_line(op), shape=pointer.shape, domain=mask, kind=kind, pointer=pointer, value=value, buffer=None)
    )
    return []
