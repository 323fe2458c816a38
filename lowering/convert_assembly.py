"""Inline assembly on each element, or on registers that hold several.

    %r = tt.elementwise_inline_asm "add $0, $1, $2" {constraints = "=r,r,r", packed_element = 4} %x, %y : i8
    →  four neighbours of %x in one 32-bit register, four of %y; the assembly; four elements of the result

Elements narrower than 32 bits share a register if packed_element asks for it. A float whose constraint is "r" is
passed as its bits. Runs element by element, in scalar code. Declines: constraints for vector
registers, whose length only the compiler knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch_rvv.lowering.convert_region import packed, unpacked
from torch_rvv.lowering.graph import Graph, rule, type_of
from torch_rvv.lowering.mlir import integer
from torch_rvv.lowering.nodes import BYTES, Node
from torch_rvv.lowering.ttir import source_line

from torch_rvv.errors import Declined

REGISTER = 32


def _bits(elem: str) -> int:
    return BYTES[elem] * 8


def _integer(graph: Graph, node: Node) -> Node:
    """A value's bits."""
    if node.elem[0] == "i":
        return node
    return graph.map("arith.bitcast", [node], f"i{_bits(node.elem)}")


def _registers(graph: Graph, node: Node, pack: int, constraint: str) -> list[Node]:
    """The registers of one operand, each with as many neighbours as fit."""
    columns = packed(graph, node, pack) if pack > 1 else [node]
    if _bits(node.elem) >= REGISTER:
        return [_integer(graph, c) if constraint == "r" else c for c in columns]
    if constraint != "r":
        return columns
    return [
        _joined(graph, columns[i : i + _per_register(node.elem, pack)])
        for i in range(0, pack, _per_register(node.elem, pack))
    ]


def _per_register(elem: str, pack: int) -> int:
    return max(1, min(pack, REGISTER // _bits(elem)))


def _joined(graph: Graph, parts: Sequence[Node]) -> Node:
    """Narrow values side by side in an i32, the first lowest."""
    total: Node | None = None
    for number, part in enumerate(parts):
        wide = graph.as_width(_integer(graph, part), "i32", signed=False)
        if number:
            shift = _splat(graph, number * _bits(part.elem), wide)
            wide = graph.map("arith.shli", [wide, shift], "i32")
        total = wide if total is None else graph.map("arith.ori", [total, wide], "i32")
    assert total is not None
    return total


def _splat(graph: Graph, number: int, like: Node) -> Node:
    scalar = graph.constant(str(number), like.elem)
    return scalar if like.shape is None else graph.splat(scalar, like.shape)


def _elements(graph: Graph, register: Node, elem: str, count: int) -> list[Node]:
    """The elements that a result register holds."""
    if register.elem == elem:
        return [register]
    if _bits(elem) >= REGISTER:
        return [graph.map("arith.bitcast", [register], elem)]
    parts = []
    for number in range(count):
        part = register
        if number:
            part = graph.map("arith.shrui", [register, _splat(graph, number * _bits(elem), register)], "i32")
        narrow = graph.as_width(part, f"i{_bits(elem)}")
        parts.append(narrow if elem[0] == "i" else graph.map("arith.bitcast", [narrow], elem))
    return parts


@rule("tt.elementwise_inline_asm")
def inline_assembly(graph: Graph, op: Any) -> Sequence[Node] | None:
    constraints = [c.strip() for c in op.attributes["constraints"].value.split(",")]
    if any("v" in c.strip("=&") for c in constraints):
        raise Declined("inline assembly on vector registers", where=source_line(op))
    pack = integer(op, "packed_element")
    kinds = [c.lstrip("=&") for c in constraints if not c.startswith("~")]
    results = [type_of(r) for r in op.results]
    counts = [max(1, pack // _per_register(elem, pack)) for _, elem in results]
    outputs = kinds[: sum(counts)]
    registers: list[Node] = []
    position = sum(counts)
    if not len(op.operands):
        raise Declined("inline assembly without operands", where=source_line(op))
    for node in graph.operands(op):
        group = _registers(graph, node, pack, kinds[position] if position < len(kinds) else "r")
        registers += group
        position += len(group)
    out_elems = []
    at = 0
    for (_, elem), count in zip(results, counts, strict=True):
        for _ in range(count):
            whole = f"i{max(REGISTER, _bits(elem))}"
            out_elems.append(whole if outputs[at] == "r" else elem)
            at += 1
    attr = f"asm_string = {op.attributes['asm_string']}, constraints = {op.attributes['constraints']}"
    if str(op.attributes["pure"]) != "true":
        attr += ", has_side_effects"
    nodes = _call(graph, registers, out_elems, attr)
    values = []
    at = 0
    for (shape, elem), count in zip(results, counts, strict=True):
        group = [e for n in nodes[at : at + count] for e in _elements(graph, n, elem, _per_register(elem, pack))]
        at += count
        values.append(group[0] if pack == 1 else unpacked(graph, group, shape, elem))  # type: ignore[arg-type]
    return values


def _call(graph: Graph, registers: list[Node], elems: list[str], attr: str) -> list[Node]:
    """The assembly on whole registers; one value a result."""
    kind = elems[0] if len(elems) == 1 else f"!llvm.struct<({', '.join(elems)})>"
    shape = registers[0].shape
    if shape is None:
        whole = graph.scalar_op("llvm.inline_asm", registers, kind, attr)
    else:
        whole = Node("map", shape, kind, tuple(registers), op="llvm.inline_asm", attr=(attr, 0, 1))
    if len(elems) == 1:
        return [whole]
    parts = []
    for number, elem in enumerate(elems):
        position = f"position = array<i64: {number}>"
        if shape is None:
            parts.append(graph.scalar_op("llvm.extractvalue", [whole], elem, position))
        else:
            parts.append(Node("map", shape, elem, (whole,), op="llvm.extractvalue", attr=(position, 0, 1)))
    return parts
