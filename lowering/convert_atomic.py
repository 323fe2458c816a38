"""Atomic read-modify-write operations, element by element, each a real atomic of the machine.

    %old = tt.atomic_rmw fadd, acq_rel, gpu, %p, %v, %m   →   Atomic("fadd", pointer, value, domain)

Triton's integer max and min come in signed and unsigned kinds; its float max and min arrive as those on
the bits. Exchanges of floats are exchanges of bits. Memory order is acquire-release for every order that is
asked for, which is never weaker.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch_rvv.lowering import convert_pointer
from torch_rvv.lowering.graph import Graph, check_elements, rule
from torch_rvv.lowering.nodes import BYTES, Atomic, Node
from torch_rvv.lowering.scratch import read_scalar
from torch_rvv.lowering.ttir import source_line

from torch_rvv.errors import Declined

# Triton's name → LLVM's atomicrmw kind
KINDS = {
    "add": "add", "fadd": "fadd", "and": "_and", "or": "_or", "xor": "_xor", "max": "max", "min": "min",
    "umax": "umax", "umin": "umin", "exch": "xchg",
}  # fmt: skip


def _append(
    graph: Graph, op: Any, kind: str, pointer: Node, value: Node, compare: Node | None, mask: Node | None
) -> Any:
    """The statement; the old value."""
    check_elements(op, value)
    elem = value.elem
    if kind in ("xchg", "cmpxchg") and elem[0] != "i":
        return _on_bits(graph, op, kind, pointer, value, compare, mask)
    scalar = pointer.shape is None
    if scalar:
        pointer = convert_pointer.of_scalar(graph, pointer, (1,))
        value = graph.splat(value, (1,))
        compare = graph.splat(compare, (1,)) if compare is not None else None
        mask = graph.splat(mask, (1,)) if mask is not None else None
    if elem in ("f16", "bf16") and kind != "fadd":
        raise Declined(f"an atomic {kind} on {elem}", where=source_line(op))
    used = any(True for _ in op.results[0].uses)
    assert pointer.shape is not None
    buffer = graph.buffer(pointer.shape, value.elem)
    graph.append(
        Atomic(
            source_line(op),
            shape=pointer.shape,
            domain=mask,
            kind=kind,
            pointer=pointer,
            value=value,
            compare=compare,
            buffer=buffer if used else None,
        )
    )
    return read_scalar(graph, buffer) if scalar and used else buffer


def _on_bits(
    graph: Graph, op: Any, kind: str, pointer: Node, value: Node, compare: Node | None, mask: Node | None
) -> Any:
    """An exchange of floats as one of their bits."""
    elem = value.elem
    bits = f"i{8 * BYTES[elem]}"
    pointer = convert_pointer.cast(graph, pointer, f"!tt.ptr<{bits}>")
    value = graph.map("arith.bitcast", [value], bits)
    if compare is not None:
        compare = graph.map("arith.bitcast", [compare], bits)
    return graph.map("arith.bitcast", [_append(graph, op, kind, pointer, value, compare, mask)], elem)


@rule("tt.atomic_rmw")
def atomic_rmw(graph: Graph, op: Any) -> Sequence[Node] | None:
    pointer, value, *rest = graph.operands(op)
    kind = KINDS.get(op.attributes["kind"].value)
    if kind is None:
        return None
    return [_append(graph, op, kind, pointer, value, None, rest[0] if rest else None)]


@rule("tt.atomic_cas")
def atomic_cas(graph: Graph, op: Any) -> Sequence[Node] | None:
    pointer, compare, value = graph.operands(op)
    return [_append(graph, op, "cmpxchg", pointer, value, compare, None)]
