"""Loads, stores and pointers.

    %q = tt.addptr %p, %o          Node(pointer, base, offsets)
    %x = tt.load %q, %m, %other    Node(load): read where it is needed, unless a store comes between
    tt.store %q, %y, %m            Store(pointer, value, domain = %m)

A load whose pointers are all alike is one scalar load, done at its place. Declines: tensors of
pointers with several bases, loads through block pointers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch_rvv.lowering.convert_arith import add_offsets
from torch_rvv.lowering.graph import Graph, check_elements, rule, type_of
from torch_rvv.lowering.linear import ZERO
from torch_rvv.lowering.nodes import Fill, Node, Store, bytes_of, pointee
from torch_rvv.lowering.ttir import source_line


@rule("tt.addptr")
def addptr(graph: Graph, op: Any) -> Sequence[Node] | None:
    pointer, offset = graph.operands(op)
    if pointer.shape is None:
        moved = graph.scalar_op(
            "torch_rvv.advance", [pointer, offset], pointer.elem, str(bytes_of(pointee(pointer.elem)))
        )
        moved.attr = pointer.attr
        return [moved]
    if pointer.kind != "pointer":
        return None
    base, before = pointer.args
    return [Node("pointer", pointer.shape, pointer.elem, (base, add_offsets(graph, before, offset)))]


@rule("tt.load")
def load(graph: Graph, op: Any) -> Sequence[Node] | None:
    pointer, *rest = graph.operands(op)
    mask = rest[0] if rest else None
    other = rest[1] if len(rest) > 1 else None
    shape, elem = type_of(op.results[0])
    check_elements(op, Node("", shape, elem))
    if "boundaryCheck" in op.attributes and len(op.attributes["boundaryCheck"]):
        return None
    if mask is not None and _always(mask):
        mask = other = None
    if shape is None:
        return [graph.load_scalar(pointer, ZERO, elem, mask, other)]
    if pointer.kind != "pointer":
        return None
    base, offset = pointer.args
    if offset.kind == "splat" and (mask is None or mask.kind == "splat") and (other is None or other.kind == "splat"):
        poly = offset.args[0].poly
        assert poly is not None
        scalar = graph.load_scalar(base, poly, elem, mask and mask.args[0], other and other.args[0])
        return [graph.splat(scalar, shape)]
    graph.position += 1
    args = (pointer, *([mask] if mask else []), *([other] if other else []))
    return [Node("load", shape, elem, args, attr=(mask, other), where=source_line(op), position=graph.position)]


def _always(mask: Node) -> bool:
    """Whether a mask is the constant true."""
    scalar = mask.args[0] if mask.kind == "splat" else mask
    return scalar.kind == "scalar" and scalar.attr == "true"


@rule("tt.store")
def store(graph: Graph, op: Any) -> Sequence[Node] | None:
    pointer, value, *rest = graph.operands(op)
    mask = rest[0] if rest else None
    check_elements(op, value)
    if "boundaryCheck" in op.attributes and len(op.attributes["boundaryCheck"]):
        return None
    if mask is not None and _always(mask):
        mask = None
    if pointer.shape is None:
        zero = graph.splat(graph.constant("0", "i32"), (1,))
        pointer = Node("pointer", (1,), pointer.elem, (pointer, zero))
        value = graph.splat(value, (1,))
        mask = graph.splat(mask, (1,)) if mask is not None else None
    if pointer.kind != "pointer":
        return None
    assert pointer.shape is not None
    graph.append(Store(source_line(op), shape=pointer.shape, domain=mask, pointer=pointer, value=value))
    return []


@rule("tt.ptr_to_int")
def ptr_to_int(graph: Graph, op: Any) -> Sequence[Node] | None:
    (pointer,) = graph.operands(op)
    return [graph.scalar_op("llvm.ptrtoint", [pointer], "i64")] if pointer.shape is None else None


@rule("tt.int_to_ptr")
def int_to_ptr(graph: Graph, op: Any) -> Sequence[Node] | None:
    (address,) = graph.operands(op)
    _, elem = type_of(op.results[0])
    return [graph.scalar_op("llvm.inttoptr", [address], elem)] if address.shape is None else None


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
