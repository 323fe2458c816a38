"""Assertions and prints.

    tt.assert %ok | ~%mask, "index out of bounds"   →   Reduce(ori, not %ok, domain = %mask); Check
    tt.print "x: " : %x                             →   Fill(b, %x); Print(b)

What a print looks like is in the metadata (`prints`, a row an operand): the kernel hands over bytes. The check
of an assertion stands before whatever the assertion guards, so a bad index is never used; but see checked_index.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch_rvv.lowering import checked_index, convert_pointer
from torch_rvv.lowering.graph import Graph, rule
from torch_rvv.lowering.nodes import Check, Combine, Fill, Node, Print, Reduce, is_pointer
from torch_rvv.lowering.scratch import read_scalar, truth
from torch_rvv.lowering.ttir import source_line

ALL_AXES = -1


def _negated(node: Node) -> Node | None:
    """m, if node is "not m"."""
    if node.kind == "splat":
        return None
    if node.kind == "broadcast":
        inner = _negated(node.args[0])
        return None if inner is None else Node("broadcast", node.shape, "i1", (inner,))
    if node.kind == "map" and node.op == "arith.xori":
        for mask, one in (node.args, reversed(node.args)):
            if one.kind == "splat" and one.args[0].attr == "true":
                return mask
    return None


def _split(condition: Node) -> tuple[Node, Node | None]:
    """(what must hold, where), of "what | ~where"."""
    if condition.kind == "map" and condition.op == "arith.ori":
        for what, rest in (condition.args, tuple(reversed(condition.args))):
            where = _negated(rest)
            if where is not None:
                return what, where
    return condition, None


@rule("tt.assert")
def assertion(graph: Graph, op: Any) -> Sequence[Node] | None:
    (condition,) = graph.operands(op)
    where = source_line(op)
    graph.asserts.append(op.attributes["message"].value + (f"\n  at {where}" if where else ""))
    code = len(graph.asserts)
    if condition.kind == "splat" or condition.shape is None:
        scalar = condition.args[0] if condition.kind == "splat" else condition
        graph.append(Check(where, condition=scalar, code=code))
        return []
    what, mask = _split(condition)
    assert condition.shape is not None
    one = graph.splat(graph.constant("true", "i1"), condition.shape)
    bad = graph.map("arith.extui", [graph.map("arith.xori", [what, one], "i1")], "i8")
    buffer = graph.buffer((1,), "i8")
    index, start = checked_index.propose(graph, what), len(graph.region.statements)
    graph.append(
        Reduce(
            where,
            shape=condition.shape,
            domain=mask,
            axis=ALL_AXES,
            values=[bad],
            buffers=[buffer],
            combine=Combine("ori", identity="0"),
        )
    )
    failed = read_scalar(graph, truth(graph, buffer))
    passed = graph.map("arith.xori", [failed, graph.constant("true", "i1")], "i1")
    graph.append(Check(where, condition=passed, code=code))
    if index is not None:
        index.statements = graph.region.statements[start:]
        graph.checked.append(index)
    return []


@rule("tt.print")
def device_print(graph: Graph, op: Any) -> Sequence[Node] | None:
    values = graph.operands(op)
    row = {
        "prefix": op.attributes["prefix"].value.strip().removesuffix(":"),
        "hex": str(op.attributes["hex"]) == "true",
        "operands": len(values),
    }
    signed = list(op.attributes["isSigned"]) if values else []
    where = source_line(op)
    if not values:
        graph.append(Print(where, number=len(graph.prints)))
        graph.prints.append({**row, "operand": 0, "dtype": None, "shape": [], "signed": False})
    for number, (value, sign) in enumerate(zip(values, signed, strict=True)):
        dtype, shape = value.elem, list(value.shape or ())
        if is_pointer(dtype):
            dtype, value = "ptr", convert_pointer.addresses(graph, value)
        if value.shape is None:
            value = graph.splat(value, (1,))
        if value.elem == "i1":
            value = graph.map("arith.extui", [value], "i8")
        assert value.shape is not None
        buffer = graph.buffer(value.shape, value.elem)
        graph.append(Fill(where, shape=value.shape, buffer=buffer, value=value))
        graph.append(Print(where, number=len(graph.prints), buffer=buffer))
        graph.prints.append({**row, "operand": number, "dtype": dtype, "shape": shape, "signed": bool(sign)})
    return []
