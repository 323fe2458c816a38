"""Casts between float types: rounding modes, and what happens beyond the largest 8-bit float.

    %y = tt.fp_to_fp %x, rounding = rtz : f32 -> bf16
    →  y = truncf x; where |y| > |x| one step down in y's bits

An 8-bit float that overflows becomes the largest finite one, as on the devices that Triton was made for, if the
options say so; else what aten makes of it (NaN for e4m3fn, infinity for e5m2). Towards zero always ends at
the largest finite number. Declines: 8-bit types other than e5m2 and e4m3fn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch_rvv.lowering.graph import Graph, rule, type_of
from torch_rvv.lowering.nodes import Node
from torch_rvv.lowering.ttir import source_line

from torch_rvv.errors import Declined

WIDTHS = {"f8E5M2": 8, "f8E4M3FN": 8, "f16": 16, "bf16": 16, "f32": 32, "f64": 64}
LARGEST = {"f8E5M2": "5.734400e+04", "f8E4M3FN": "4.480000e+02"}
OGT = "predicate = 2 : i64"


@rule("tt.fp_to_fp")
def fp_to_fp(graph: Graph, op: Any) -> Sequence[Node] | None:
    (x,) = graph.operands(op)
    _, elem = type_of(op.results[0])
    for kind in (x.elem, elem):
        if kind not in WIDTHS:
            raise Declined(f"a cast of {kind}", where=source_line(op))
    if WIDTHS[x.elem] < WIDTHS[elem]:
        return [graph.map("arith.extf", [x], elem)]
    if WIDTHS[x.elem] == WIDTHS[elem]:
        x = graph.map("arith.extf", [x], "f32")
    mode = op.attributes["rounding"].value if "rounding" in op.attributes else "rtne"
    return [narrowed(graph, x, elem, towards_zero=mode == "rtz")]


def narrowed(graph: Graph, x: Node, elem: str, towards_zero: bool = False) -> Node:
    """A float rounded to a narrower type: to nearest even, or towards zero."""
    if elem in LARGEST and (graph.saturate or towards_zero):
        x = _clamped(graph, x, elem)
    near = graph.map("arith.truncf", [x], elem)
    if not towards_zero:
        return near
    back = graph.map("arith.extf", [near], x.elem)
    above = graph.map("arith.cmpf", [_magnitude(graph, back), _magnitude(graph, x)], "i1", OGT)
    bits = f"i{WIDTHS[elem]}"
    code = graph.map("arith.bitcast", [near], bits)
    one = _like(graph, "1", bits, code)
    down = graph.map("arith.subi", [code, one], bits)
    return graph.map("arith.bitcast", [graph.map("arith.select", [above, down, code], bits)], elem)


def _like(graph: Graph, text: str, elem: str, node: Node) -> Node:
    scalar = graph.constant(text, elem)
    return scalar if node.shape is None else graph.splat(scalar, node.shape)


def _magnitude(graph: Graph, x: Node) -> Node:
    return graph.map("math.absf", [x], x.elem)


def _clamped(graph: Graph, x: Node, elem: str) -> Node:
    """x no larger than the type's largest finite number; NaN stays."""
    largest = _like(graph, LARGEST[elem], x.elem, x)
    above = graph.map("arith.cmpf", [_magnitude(graph, x), largest], "i1", OGT)
    return graph.map("arith.select", [above, graph.map("math.copysign", [largest, x], x.elem), x], x.elem)
