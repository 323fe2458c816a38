"""Reductions and scans: an associative function folded along one axis.

    %s = "tt.reduce"(%x) {axis = 1} ({ ^bb0(%a, %b): arith.addf ... })
    →  Reduce(axis, values = [%x], combine = Combine("addf", identity "0.0"))

A combine function that is one known operation, or a known way to write one (`PATTERNS`), has an
identity: rows shorter than the block are then just shorter loops. Any other function becomes a
func of its own, and the first elements are its start value. Combines are taken to be associative and
commutative, as on every Triton backend. Declines: combine functions with regions of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch_rvv.lowering.convert_arith import function_symbol
from torch_rvv.lowering.graph import Graph, attributes, check_elements, rule
from torch_rvv.lowering.nodes import Combine, Node, Reduce, Scan, Statement
from torch_rvv.lowering.scratch import read_scalar, truth
from torch_rvv.lowering.ttir import source_line

from torch_rvv.errors import Declined

_INFINITY = {"f32": "0x7F800000", "f64": "0x7FF0000000000000", "f16": "0x7C00", "bf16": "0x7F80"}
_MINUS_INFINITY = {"f32": "0xFF800000", "f64": "0xFFF0000000000000", "f16": "0xFC00", "bf16": "0xFF80"}


def _width(elem: str) -> int:
    return int(elem[1:])


# Known combines: the arith operation and its identity as a function of the element type.
KINDS: dict[str, Callable[[str], str]] = {
    "addf": lambda e: "-0.0",
    "mulf": lambda e: "1.0",
    "maximumf": _MINUS_INFINITY.__getitem__,
    "minimumf": _INFINITY.__getitem__,
    "maxnumf": _MINUS_INFINITY.__getitem__,
    "minnumf": _INFINITY.__getitem__,
    "addi": lambda e: "0",
    "muli": lambda e: "1",
    "andi": lambda e: "-1",
    "ori": lambda e: "0",
    "xori": lambda e: "0",
    "maxsi": lambda e: str(-(1 << (_width(e) - 1))),
    "minsi": lambda e: str((1 << (_width(e) - 1)) - 1),
    "maxui": lambda e: "0",
    "minui": lambda e: "-1",
}

# Longer ways to write a known combine, as `_shape` prints them.
PATTERNS = {
    "cmpf2(a,b); cmpf13(a,a); ori(0,1); select(2,a,b)": "maximumf",
    "cmpf4(a,b); cmpf13(a,a); ori(0,1); select(2,a,b)": "minimumf",
    "cmpi4(a,b); select(0,a,b)": "maxsi",
    "cmpi2(a,b); select(0,a,b)": "minsi",
    "cmpi8(a,b); select(0,a,b)": "maxui",
    "cmpi6(a,b); select(0,a,b)": "minui",
}


def _shape(block: Any) -> str:
    """A combine function as text: operations in order, operands by argument or by number."""
    names = dict(zip(block.arguments, "abcdefghijklmnop", strict=False))
    parts = []
    for op in list(block.operations)[:-1]:
        op = op.operation
        predicate = str(op.attributes["predicate"]).split(" : ")[0] if "predicate" in op.attributes else ""
        operands = ",".join(names.get(v, "?") for v in op.operands)
        for result in op.results:
            names[result] = str(len(parts))
        parts.append(f"{op.name.split('.')[-1]}{predicate}({operands})")
    return "; ".join(parts)


def combine_of(graph: Graph, op: Any, elems: list[str]) -> Combine:
    """The Combine of a reduction's or scan's region."""
    block = op.regions[0].blocks[0]
    ops = [o.operation for o in block.operations]
    if len(elems) == 1:
        kind = PATTERNS.get(_shape(block))
        if kind is None and len(ops) == 2 and set(ops[0].operands) == set(block.arguments):
            kind = ops[0].name.removeprefix("arith.")
        if kind in KINDS and list(ops[-1].operands)[0] == ops[-2].results[0]:
            return Combine(kind, identity=KINDS[kind](elems[0]))
    return _function(graph, op, block, elems)


def _function(graph: Graph, op: Any, block: Any, elems: list[str]) -> Combine:
    """The combine as a private function: (acc..., value...) -> acc..."""
    symbol = f"combine{len(graph.functions)}"
    names = {a: f"%{'ab'[i >= len(elems)]}{i % len(elems)}" for i, a in enumerate(block.arguments)}
    types = ", ".join(elems)
    lines = [
        f"func.func private @{symbol}("
        + ", ".join(f"{names[a]}: {e}" for a, e in zip(block.arguments, elems + elems, strict=True))
        + f") -> ({types}) {{"
    ]
    for i, inner in enumerate(o.operation for o in block.operations):
        if len(inner.regions):
            raise Declined("a combine function with control flow", where=source_line(op))
        operands = []
        for value in inner.operands:
            if value not in names:
                names[value] = _captured(graph, value, lines, op)
            operands.append(names[value])
        if inner.name == "tt.extern_elementwise":
            called = function_symbol(graph, inner)
            names[inner.results[0]] = f"%v{i}_0"
            ins, out = ", ".join(str(v.type) for v in inner.operands), inner.results[0].type
            lines.append(f"  %v{i}_0 = func.call @{called}({', '.join(operands)}) : ({ins}) -> {out}")
            continue
        if inner.name in ("tt.reduce.return", "tt.scan.return"):
            lines.append(f"  func.return {', '.join(operands)} : {types}")
            continue
        if inner.name.startswith("tt."):
            raise Declined(f"a combine function with {inner.name}", where=source_line(inner))
        for j, result in enumerate(inner.results):
            names[result] = f"%v{i}_{j}"
        results = ", ".join(names[r] for r in inner.results)
        ins, outs = (", ".join(str(v.type) for v in values) for values in (inner.operands, inner.results))
        lines.append(
            f'  {results} = "{inner.name}"({", ".join(operands)}) {{{attributes(inner)}}} : ({ins}) -> ({outs})'
        )
    graph.functions[symbol] = "\n".join([*lines, "}"])
    return Combine(function=symbol)


def _captured(graph: Graph, value: Any, lines: list[str], op: Any) -> str:
    """A constant that canonicalisation moved out of the region, back in."""
    node = graph.values.get(value)
    if node is None or node.kind != "scalar" or not isinstance(node.attr, str):
        raise Declined("a combine function that uses a value from outside", where=source_line(op))
    name = f"%k{node.id}"
    lines.append(
        f"  {name} = arith.constant {node.attr} : {node.elem}"
        if node.elem != "i1"
        else f"  {name} = arith.constant {node.attr}"
    )
    return name


def _fold(graph: Graph, op: Any, make: Callable[..., Statement], drop_axis: bool) -> list[Node] | None:
    values = graph.operands(op)
    check_elements(op, *values)
    axis = int(str(op.attributes["axis"]).split(" : ")[0])
    shape = values[0].shape
    assert shape is not None
    booleans = [v.elem == "i1" for v in values]
    combine = combine_of(graph, op, [v.elem for v in values])
    if any(booleans):
        if combine.kind not in ("andi", "ori", "xori"):
            raise Declined(f"a fold of booleans by {combine.kind or 'a function'}", where=source_line(op))
        values = [graph.map("arith.extui", [v], "i8") for v in values]
        combine = Combine(combine.kind, identity="1" if combine.kind == "andi" else "0")
    out = tuple(n for d, n in enumerate(shape) if d != axis) if drop_axis else shape
    buffers = [graph.buffer(out or (1,), v.elem) for v in values]
    make(graph, op, shape, axis, values, buffers, combine)
    results: list[Node] = []
    for buffer, boolean in zip(buffers, booleans, strict=True):
        node = truth(graph, buffer) if boolean else buffer
        if not out:
            node = read_scalar(graph, node)
        elif all(n == 1 for n in out):
            node = graph.splat(read_scalar(graph, node), out)
        results.append(node)
    return results


def _reduce(graph: Graph, op: Any, shape: Any, axis: int, values: Any, buffers: Any, combine: Combine) -> Statement:
    return graph.append(
        Reduce(source_line(op), shape=shape, axis=axis, values=values, buffers=buffers, combine=combine)
    )


def _scan(graph: Graph, op: Any, shape: Any, axis: int, values: Any, buffers: Any, combine: Combine) -> Statement:
    reverse = "reverse" in op.attributes and str(op.attributes["reverse"]) == "true"
    return graph.append(
        Scan(source_line(op), shape=shape, axis=axis, values=values, buffers=buffers, combine=combine, reverse=reverse)
    )


@rule("tt.reduce")
def reduce(graph: Graph, op: Any) -> Sequence[Node] | None:
    return _fold(graph, op, _reduce, drop_axis=True)


@rule("tt.scan")
def scan(graph: Graph, op: Any) -> Sequence[Node] | None:
    return _fold(graph, op, _scan, drop_axis=False)
