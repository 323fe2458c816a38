"""Pointers: a base and offsets from it; addresses in bytes where there is no one base.

    %q = tt.addptr %p, %o                       Node(pointer, (base, offsets + %o))
    arith.select %c, %p, %q, of two bases       Node(pointer, (null, select of addresses))
    tt.int_to_ptr %i                            Node(pointer, (null, %i))

As long as a tensor of pointers has one base, what its accesses look like is known. Pointers that were
integers, or chosen between two bases, or carried through a branch are addresses: gathers, unless the
addresses themselves turn out to be linear.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch_rvv.lowering.graph import Graph, rule, type_of
from torch_rvv.lowering.nodes import Node, absolute, bytes_of, pointee


def _common_width(graph: Graph, a: Node, b: Node) -> tuple[Node, Node]:
    """Two integer values, the narrower sign-extended."""
    elem = max((a.elem, b.elem), key=lambda e: int(e[1:]))
    return graph.as_width(a, elem), graph.as_width(b, elem)


def add_offsets(graph: Graph, a: Node, b: Node) -> Node:
    """The sum of two offsets of a pointer, in the wider type."""
    left, right = _common_width(graph, a, b)
    return graph.map("arith.addi", [left, right], left.elem)


def of_scalar(graph: Graph, pointer: Node, shape: tuple[int, ...]) -> Node:
    """A tensor of copies of a scalar pointer."""
    return Node("pointer", shape, pointer.elem, (pointer, graph.splat(graph.constant("0", "i32"), shape)))


def moved(graph: Graph, pointer: Node, offset: Node) -> Node:
    """A pointer, or a tensor of them, `offset` elements on."""
    if pointer.shape is None:
        result = graph.scalar_op("torch_rvv.advance", [pointer, offset], pointer.elem)
        result.attr = pointer.attr
        return result
    base, before = pointer.args
    if absolute(base):
        size = graph.splat(graph.constant(str(bytes_of(pointee(pointer.elem))), "i64"), pointer.shape)
        offset = graph.map("arith.muli", [graph.as_width(offset, "i64"), size], "i64")
    return Node("pointer", pointer.shape, pointer.elem, (base, add_offsets(graph, before, offset)))


def addresses(graph: Graph, pointer: Node) -> Node:
    """Pointers as i64 addresses."""
    if pointer.shape is None:
        return graph.scalar_op("llvm.ptrtoint", [pointer], "i64")
    base, offset = pointer.args
    if absolute(base):
        return graph.as_width(offset, "i64")
    start = graph.splat(graph.scalar_op("llvm.ptrtoint", [base], "i64"), pointer.shape)
    size = graph.splat(graph.constant(str(bytes_of(pointee(pointer.elem))), "i64"), pointer.shape)
    delta = graph.map("arith.muli", [graph.as_width(offset, "i64"), size], "i64")
    return graph.map("arith.addi", [start, delta], "i64")


def at_addresses(graph: Graph, address: Node, elem: str) -> Node:
    """i64 addresses as pointers of a type."""
    address = graph.as_width(address, "i64", signed=False)
    if address.shape is None:
        return graph.scalar_op("llvm.inttoptr", [address], elem)
    return Node("pointer", address.shape, elem, (graph.null(), address))


@rule("tt.addptr")
def addptr(graph: Graph, op: Any) -> Sequence[Node] | None:
    pointer, offset = graph.operands(op)
    return [moved(graph, pointer, offset)]


def exported(graph: Graph, pointer: Node) -> Node:
    """Pointers as the integers that the program knows them by (see address_bias in torch_rvv.h)."""
    address = addresses(graph, pointer)
    return graph.map("arith.subi", [address, _bias(graph, address)], "i64")


def imported(graph: Graph, address: Node, elem: str) -> Node:
    """Integers of the program as pointers of a type."""
    address = graph.as_width(address, "i64", signed=False)
    return at_addresses(graph, graph.map("arith.addi", [address, _bias(graph, address)], "i64"), elem)


def _bias(graph: Graph, like: Node) -> Node:
    graph.addresses = True
    bias = graph.scalar_op("torch_rvv.bias", [], "i64")
    return bias if like.shape is None else graph.splat(bias, like.shape)


@rule("tt.ptr_to_int")
def ptr_to_int(graph: Graph, op: Any) -> Sequence[Node] | None:
    (pointer,) = graph.operands(op)
    return [exported(graph, pointer)]


@rule("tt.int_to_ptr")
def int_to_ptr(graph: Graph, op: Any) -> Sequence[Node] | None:
    (address,) = graph.operands(op)
    convert = at_addresses if address.attr == "scratch" else imported
    return [convert(graph, address, type_of(op.results[0])[1])]


def cast(graph: Graph, pointer: Node, elem: str) -> Node:
    """Pointers to another type."""
    if pointer.shape is None:
        result = graph.scalar_op("torch_rvv.same", [pointer], elem)
        result.attr = pointer.attr
        return result
    base, offset = pointer.args
    if absolute(base) or bytes_of(pointee(pointer.elem)) == bytes_of(pointee(elem)):
        return Node("pointer", pointer.shape, elem, (base, offset))
    if offset.kind == "splat" and offset.args[0].poly is not None and offset.args[0].poly.constant == 0:
        return of_scalar(graph, cast(graph, base, elem), pointer.shape)
    return at_addresses(graph, addresses(graph, pointer), elem)


def select(graph: Graph, condition: Node, yes: Node, no: Node) -> Node:
    """Pointers chosen one by one."""
    if yes.shape is None:
        return graph.map("arith.select", [condition, yes, no], yes.elem)
    if yes.args[0] is no.args[0]:
        offsets = _common_width(graph, yes.args[1], no.args[1])
        chosen = graph.map("arith.select", [condition, *offsets], offsets[0].elem)
        return Node("pointer", yes.shape, yes.elem, (yes.args[0], chosen))
    chosen = graph.map("arith.select", [condition, addresses(graph, yes), addresses(graph, no)], "i64")
    return at_addresses(graph, chosen, yes.elem)
