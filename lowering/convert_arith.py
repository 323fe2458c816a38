"""Elementwise operations: arith, math, Triton's own arithmetic, and libdevice calls.

    %3 = arith.addf %1, %2 : tensor<8xf32>       Node(map, "arith.addf", (%1, %2))
    %4 = tt.extern_elementwise %3 {symbol = "rvv.erf"}   Node(map, "func.call", callee @rvv.erf.f32)

`SAME` operations keep their name: what MLIR means by them on scalars is what Triton means on each
element. A
constant whose elements differ is a table in scratch memory.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from torch_rvv.lowering import convert_pointer, convert_smt, convert_sort
from torch_rvv.lowering.graph import Graph, attributes, check_elements, rule, type_of
from torch_rvv.lowering.linear import Linear, Poly
from torch_rvv.lowering.mlir import ir
from torch_rvv.lowering.nodes import Fill, Node, is_pointer
from torch_rvv.lowering.ttir import source_line
from torch_rvv.lowering.vecmath import FUNCTIONS

from torch_rvv.errors import Declined

_ARITH = """addf addi andi ceildivsi ceildivui cmpf cmpi divf divsi divui extf extsi extui floordivsi fptosi fptoui
 maximumf maxnumf maxsi maxui minimumf minnumf minsi minui mulf muli negf remf remsi remui shli shrsi
 shrui sitofp subf subi truncf trunci uitofp xori bitcast index_cast index_castui"""
_MATH = """absf absi acos acosh asin asinh atan atan2 atanh cbrt ceil copysign cos cosh ctlz ctpop cttz erf erfc exp
 exp2 expm1 floor fma fpowi log log10 log1p log2 powf round roundeven rsqrt sin sinh sqrt tan tanh trunc"""
SAME = [f"arith.{op}" for op in _ARITH.split()] + [f"math.{op}" for op in _MATH.split()]


def _same(graph: Graph, op: Any) -> Sequence[Node] | None:
    args = graph.operands(op)
    check_elements(op, *args)
    _, elem = type_of(op.results[0])
    return [graph.map(op.name, args, elem, attributes(op))]


for _name in SAME:
    rule(_name)(_same)


@rule("arith.ori")
def either(graph: Graph, op: Any) -> Sequence[Node] | None:
    """As any operation of one name, but where a NaN of the first side of a comparison with a constant is asked for as
    well, as Inductor's maximum and minimum do: that is one comparison (unordered), of two."""
    compared, is_nan = graph.operands(op)
    found = _ORDERED.search(str(compared.attr)) if compared.op == is_nan.op == "arith.cmpf" else None
    if found and _NOT_EQUAL in is_nan.attr[0] and _is_number(compared.args[1]):
        if is_nan.args[0] is is_nan.args[1] is compared.args[0]:
            unordered = f"predicate = {int(found[1]) + 7} : i64"
            return [graph.map("arith.cmpf", compared.args, "i1", unordered)]
    return _same(graph, op)


# Predicates ogt, oge, olt, ole, whose unordered twins are seven further on; une.
_ORDERED, _NOT_EQUAL = re.compile(r"predicate = ([2-5]) : i64"), "predicate = 13 : i64"


def _is_number(node: Node) -> bool:
    """Whether every element is one constant that is known to be no NaN."""
    text = node.args[0].attr if node.kind == "splat" else None
    try:
        return isinstance(text, str) and not math.isnan(float(text))
    except ValueError:  # Infinities and NaNs are printed as their bits.
        return False


@rule("arith.constant")
def constant(graph: Graph, op: Any) -> Sequence[Node] | None:
    shape, elem = type_of(op.results[0])
    value = op.attributes["value"]
    if shape is None:
        return [graph.constant(str(value).split(" : ")[0], elem)]
    dense = ir.DenseElementsAttr(value)
    if not dense.is_splat:
        return [_table(graph, dense, shape, elem, op)]
    return [graph.splat(graph.constant(str(dense.get_splat_value()).split(" : ")[0], elem), shape)]


def _table(graph: Graph, dense: Any, shape: tuple[int, ...], elem: str, op: Any) -> Node:
    """A constant whose elements differ: written to scratch memory, element by element."""
    texts = re.findall(r"[^\[\],\s]+", str(dense).split("<", 1)[1].rsplit(">", 1)[0].rsplit(">", 1)[0])
    if len(texts) != math.prod(shape) or elem == "i1":
        raise Declined("a constant tensor that is not a list of numbers", where=source_line(op))
    buffer = graph.buffer(shape, elem)
    for number, text in enumerate(texts):
        index: tuple[Linear, ...] = ()
        for n in reversed(shape):
            index, number = (Linear(Poly(number % n)), *index), number // n
        at = lambda _, index=index: index  # noqa: E731
        value = graph.splat(graph.constant(text, elem), (1,))
        graph.append(Fill(source_line(op), shape=(1,), buffer=buffer, value=value, at=at))
    return buffer


@rule("arith.select")
def select(graph: Graph, op: Any) -> Sequence[Node] | None:
    condition, yes, no = graph.operands(op)
    if yes.shape is not None and condition.shape is None:
        condition = graph.splat(condition, yes.shape)
    if is_pointer(yes.elem):
        return [convert_pointer.select(graph, condition, yes, no)]
    if yes.kind == "gather" and len(yes.args) == 2:
        # What is not chosen need not be read: its index may lie anywhere.
        masked = Node("gather", yes.shape, yes.elem, (*yes.args, condition, no), attr=yes.attr, where=source_line(op))
        return [masked]
    return [graph.map("arith.select", [condition, yes, no], yes.elem)]


@rule("tt.precise_sqrt")
def precise_sqrt(graph: Graph, op: Any) -> Sequence[Node] | None:
    args = graph.operands(op)
    return [graph.map("math.sqrt", args, args[0].elem)]


@rule("tt.precise_divf")
def precise_divf(graph: Graph, op: Any) -> Sequence[Node] | None:
    args = graph.operands(op)
    return [graph.map("arith.divf", args, args[0].elem)]


@rule("tt.mulhiui")
def mulhiui(graph: Graph, op: Any) -> Sequence[Node] | None:
    args = graph.operands(op)
    return [graph.map("arith.mului_extended", args, args[0].elem, result=1, results=2)]


@rule("arith.mului_extended", "arith.mulsi_extended")
def mul_extended(graph: Graph, op: Any) -> Sequence[Node] | None:
    args = graph.operands(op)
    return [graph.map(op.name, args, args[0].elem, result=i, results=2) for i in (0, 1)]


@rule("tt.clampf")
def clampf(graph: Graph, op: Any) -> Sequence[Node] | None:
    x, low, high = graph.operands(op)
    propagate = "propagateNan" in op.attributes and op.attributes["propagateNan"].value == "all"
    maximum, minimum = ("arith.maximumf", "arith.minimumf") if propagate else ("arith.maxnumf", "arith.minnumf")
    return [graph.map(minimum, [graph.map(maximum, [x, low], x.elem), high], x.elem)]


@rule("tt.bitcast")
def bitcast(graph: Graph, op: Any) -> Sequence[Node] | None:
    (x,) = graph.operands(op)
    _, elem = type_of(op.results[0])
    return [convert_pointer.cast(graph, x, elem) if is_pointer(elem) else graph.map("arith.bitcast", [x], elem)]


# Names of libdevice that one operation of MLIR computes; the others are vecmath's.
_LIBDEVICE = {
    "abs": "math.absf", "fabs": "math.absf", "ceil": "math.ceil", "floor": "math.floor", "trunc": "math.trunc",
    "sqrt": "math.sqrt", "fma": "math.fma", "copysign": "math.copysign", "round": "math.round",
    "rint": "math.roundeven", "nearbyint": "math.roundeven", "fmax": "arith.maxnumf", "fmin": "arith.minnumf",
    "llabs": "math.absi", "popc": "math.ctpop", "clz": "math.ctlz", "div_rn": "arith.divf", "sqrt_rn": "math.sqrt",
}  # fmt: skip


# Functions that are elementwise in name only.
_OF_BLOCKS = {**convert_smt.FUNCTIONS, **convert_sort.FUNCTIONS}


@rule("tt.extern_elementwise")
def extern_elementwise(graph: Graph, op: Any) -> Sequence[Node] | None:
    special = _OF_BLOCKS.get(op.attributes["symbol"].value)
    if special is not None:
        return special(graph, op)
    args = graph.operands(op)
    _, elem = type_of(op.results[0])
    name = op.attributes["symbol"].value.removeprefix("rvv.")
    if name in _LIBDEVICE and all(a.elem == elem for a in args):
        return [graph.map(_LIBDEVICE[name], args, elem)]
    return [graph.map("func.call", args, elem, f"callee = @{function_symbol(graph, op)}")]


def function_symbol(graph: Graph, op: Any) -> str:
    """The symbol of the vecmath function that an extern_elementwise names, declared in the module."""
    symbol = op.attributes["symbol"].value
    name = symbol.removeprefix("rvv.")
    (_, elem), (_, result) = type_of(op.operands[0]), type_of(op.results[0])
    if not symbol.startswith("rvv.") or name not in FUNCTIONS or elem not in ("f32", "f64"):
        raise Declined(f"no lowering for the function {symbol} on {elem}", where=source_line(op))
    called = f"{symbol}.{elem}"
    graph.functions[called] = f"func.func private @{called}({', '.join([elem] * len(op.operands))}) -> {result}"
    return called
