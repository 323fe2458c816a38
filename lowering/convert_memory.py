"""Loads and stores.

    %x = tt.load %q, %m, %other    Node(load): read where it is needed, unless a store comes between
    tt.store %q, %y, %m            Store(pointer, value, domain = %m)

A load whose pointers are all alike is one scalar load, done at its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch_rvv.lowering import convert_block, convert_pointer
from torch_rvv.lowering.graph import Graph, check_elements, rule, type_of
from torch_rvv.lowering.linear import ZERO
from torch_rvv.lowering.mlir import integer
from torch_rvv.lowering.nodes import Node, Store, is_pointer
from torch_rvv.lowering.ttir import source_line


def _checks(op: Any) -> list[int]:
    """The dimensions of a block pointer that have a boundary."""
    return list(op.attributes["boundaryCheck"]) if "boundaryCheck" in op.attributes else []


@rule("tt.load")
def load(graph: Graph, op: Any) -> Sequence[Node] | None:
    pointer, *rest = graph.operands(op)
    if pointer.kind == "block":
        kind = integer(op, "padding") if "padding" in op.attributes else 1
        return [convert_block.load_block(graph, op, pointer.attr, _checks(op), convert_block.PADDING[kind])]
    mask = rest[0] if rest else None
    other = rest[1] if len(rest) > 1 else None
    shape, elem = type_of(op.results[0])
    check_elements(op, Node("", shape, elem))
    if mask is not None and _always(mask):
        mask = other = None
    if is_pointer(elem):
        if other is not None:
            other = convert_pointer.exported(graph, other)
        address = _load(graph, op, pointer, shape, "i64", mask, other)
        return [convert_pointer.imported(graph, address, elem)]
    return [_load(graph, op, pointer, shape, elem, mask, other)]


def _load(
    graph: Graph,
    op: Any,
    pointer: Node,
    shape: tuple[int, ...] | None,
    elem: str,
    mask: Node | None,
    other: Node | None,
) -> Node:
    if shape is None:
        return graph.load_scalar(pointer, ZERO, elem, mask, other)
    base, offset = pointer.args
    if offset.kind == "splat" and (mask is None or mask.kind == "splat") and (other is None or other.kind == "splat"):
        poly = offset.args[0].poly
        assert poly is not None
        scalar = graph.load_scalar(base, poly, elem, mask and mask.args[0], other and other.args[0])
        return graph.splat(scalar, shape)
    graph.position += 1
    args = (pointer, *([mask] if mask else []), *([other] if other else []))
    return Node("load", shape, elem, args, attr=(mask, other), where=source_line(op), position=graph.position)


def _always(mask: Node) -> bool:
    """Whether a mask is the constant true."""
    scalar = mask.args[0] if mask.kind == "splat" else mask
    return scalar.kind == "scalar" and scalar.attr == "true"


@rule("tt.store")
def store(graph: Graph, op: Any) -> Sequence[Node] | None:
    pointer, value, *rest = graph.operands(op)
    if pointer.kind == "block":
        convert_block.store_block(graph, op, pointer.attr, value, _checks(op))
        return []
    if is_pointer(value.elem):
        value = convert_pointer.exported(graph, value)
    mask = rest[0] if rest else None
    check_elements(op, value)
    if mask is not None and _always(mask):
        mask = None
    if pointer.shape is None:
        pointer = convert_pointer.of_scalar(graph, pointer, (1,))
        value = graph.splat(value, (1,))
        mask = graph.splat(mask, (1,)) if mask is not None else None
    assert pointer.shape is not None
    graph.append(Store(source_line(op), shape=pointer.shape, domain=mask, pointer=pointer, value=value))
    return []
