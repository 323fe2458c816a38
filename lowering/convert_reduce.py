"""Reductions and scans: an associative function folded along one axis.

    %s = "tt.reduce"(%x) {axis = 1} ({ ^bb0(%a, %b): arith.addf ... })
    →  Reduce(axis, values = [%x], combine = Combine("addf", identity "0.0"))

A combine function that is one known operation, or a known way to write one (`PATTERNS`), has an
identity: rows shorter than the block are then just shorter loops. Any other function becomes a
func of its own, and the first elements are its start value. Of a value that carries an index along (argmax) only
which is asked for is two reductions: the largest value, then the first index that has it. Combines are taken to be
associative and commutative, as on every Triton backend. Declines: combine functions that use values computed outside
of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch_rvv.lowering import convert_region
from torch_rvv.lowering.argorder import Order, order_of
from torch_rvv.lowering.convert_shape import view
from torch_rvv.lowering.graph import Graph, check_elements, rule, type_of
from torch_rvv.lowering.mlir import integer
from torch_rvv.lowering.nodes import Combine, Node, Reduce, Scan, Statement
from torch_rvv.lowering.scratch import materialise, read_scalar, truth
from torch_rvv.lowering.spaces import masked_identity
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

# Those that mean the same on bytes that are 0 or 1.
_OF_BOOLEANS = {"andi", "ori", "xori"}

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
        if any(_booleans(block)):
            if kind in _OF_BOOLEANS:
                return Combine(kind, identity="1" if kind == "andi" else "0")
        elif kind in KINDS and list(ops[-1].operands)[0] == ops[-2].results[0]:
            return Combine(kind, identity=KINDS[kind](elems[0]))
    return _function(graph, op, block, elems)


def _function(graph: Graph, op: Any, block: Any, elems: list[str]) -> Combine:
    """The combine as a private function: (acc..., value...) -> acc..."""
    symbol = f"combine{len(graph.functions)}"
    arguments = [Node("argument", (1,), elem, name=f"%{side}{i}") for side in "ab" for i, elem in enumerate(elems)]
    seen = [truth(graph, a) if boolean else a for a, boolean in zip(arguments, _booleans(block), strict=True)]
    results = convert_region.evaluate(graph, block, seen)
    results = [graph.map("arith.extui", [r], "i8") if r.elem == "i1" else r for r in results]
    types = ", ".join(elems)
    names = {a: a.name for a in arguments}
    lines: list[str] = []
    returned = [_written(result, names, lines, op) for result in results]
    head = ", ".join(f"{a.name}: {a.elem}" for a in arguments)
    graph.functions[symbol] = "\n".join(
        [
            f"func.func private @{symbol}({head}) -> ({types}) {{",
            *lines,
            f"  func.return {', '.join(returned)} : {types}",
            "}",
        ]
    )
    return Combine(function=symbol)


def _booleans(block: Any) -> list[bool]:
    return [str(a.type) == "i1" for a in block.arguments]


def _written(node: Node, names: dict[Node, str], lines: list[str], op: Any) -> str:
    """A node of a combine function as lines of text; its name."""
    if node in names:
        return names[node]
    name = f"%v{len(names)}"
    names[node] = name
    if node.kind == "splat":
        scalar = node.args[0]
        if not isinstance(scalar.attr, str):
            raise Declined("a combine function that uses a value from outside", where=source_line(op))
        lines.append(f"  {name} = arith.constant {scalar.attr}" + ("" if node.elem == "i1" else f" : {node.elem}"))
        return name
    if node.kind != "map":
        raise Declined(f"a combine function with a {node.kind}", where=source_line(op))
    args = [_written(a, names, lines, op) for a in node.args]
    attr, result, results = node.attr
    types, outs = ", ".join(a.elem for a in node.args), ", ".join([node.elem] * results)
    several = f":{results}" if results > 1 else ""
    lines.append(f'  {name}{several} = "{node.op}"({", ".join(args)}) {{{attr}}} : ({types}) -> ({outs})')
    if several:
        names[node] = f"{name}#{result}"
    return names[node]


def _fold(graph: Graph, op: Any, make: Callable[..., Statement], drop_axis: bool) -> list[Node] | None:
    values = graph.operands(op)
    check_elements(op, *values)
    axis = integer(op, "axis")
    shape = values[0].shape
    assert shape is not None
    booleans = [v.elem == "i1" for v in values]
    values = [graph.map("arith.extui", [v], "i8") if v.elem == "i1" else v for v in values]
    order = order_of(op.regions[0].blocks[0]) if drop_axis and not any(True for _ in op.results[0].uses) else None
    if order is not None:
        return _largest_and_index(graph, op, axis, values, order)
    combine = combine_of(graph, op, [v.elem for v in values])
    buffers = _into_buffers(graph, op, make, axis, values, combine, drop_axis)
    return [_read(graph, op, n, b, boolean) for n, (b, boolean) in enumerate(zip(buffers, booleans, strict=True))]


def _into_buffers(
    graph: Graph, op: Any, make: Callable[..., Statement], axis: int, values: list[Node], combine: Combine,
    drop_axis: bool,
) -> list[Node]:  # fmt: skip
    """The statement, and the buffers that it fills."""
    shape = values[0].shape
    assert shape is not None
    out = tuple(n for d, n in enumerate(shape) if d != axis) if drop_axis else shape
    buffers = [graph.buffer(out or (1,), v.elem) for v in values]
    graph.folds.update({b: frozenset([b]) for b in buffers})
    make(graph, op, shape, axis, values, buffers, combine)
    return buffers


def _read(graph: Graph, op: Any, number: int, buffer: Node, boolean: bool) -> Node:
    """A buffer as the operation's result of a number; what is one element as a scalar, or its splat."""
    node, kind = truth(graph, buffer) if boolean else buffer, type_of(op.results[number])
    if kind[0] is None:
        return read_scalar(graph, node)
    return graph.splat(read_scalar(graph, node), kind[0]) if all(n == 1 for n in kind[0]) else node


def _largest_and_index(graph: Graph, op: Any, axis: int, values: list[Node], order: Order) -> list[Node]:
    """The largest (or smallest) value, and the first (or last) index of those that have it. NaN is before all."""
    value, index = values
    shape = value.shape
    assert shape is not None
    real = not value.elem.startswith("i")
    kind = ("max" if order.largest else "min") + ("imumf" if real else "ui" if order.unsigned else "si")
    combine = Combine(kind, identity=KINDS[kind](value.elem))
    best = _read(graph, op, 0, *_into_buffers(graph, op, _reduce, axis, [value], combine, True), False)
    if best.shape is None:
        everywhere = graph.splat(best, shape)
    else:
        column = view(graph, "expand_dims", best, (*shape[:axis], 1, *shape[axis + 1 :]), axis)
        everywhere = view(graph, "broadcast", column, shape)
    inner, mask = masked_identity(value, Reduce(combine=combine))
    has = graph.map("arith.cmpf" if real else "arith.cmpi", [inner, everywhere], "i1", f"predicate = {int(real)} : i64")
    if real:
        has = graph.map("arith.ori", [has, graph.map("arith.cmpf", [inner, inner], "i1", "predicate = 13 : i64")], "i1")
    kind = "maxsi" if order.last else "minsi"
    combine = Combine(kind, identity=KINDS[kind](index.elem))
    none = graph.splat(graph.constant(str(combine.identity), index.elem), shape)
    for condition in filter(None, (has, mask)):
        index = graph.map("arith.select", [condition, index, none], index.elem)
    (buffer,) = _into_buffers(graph, op, _reduce, axis, [index], combine, True)
    return [best, _read(graph, op, 1, buffer, False)]


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


@rule("tt.histogram")
def histogram(graph: Graph, op: Any) -> Sequence[Node] | None:
    """For each bin, how many elements fall into it: a sum of comparisons."""
    source, *rest = graph.operands(op)
    (bins,), elem = type_of(op.results[0])  # type: ignore[misc]
    assert source.shape is not None
    shape = (source.shape[0], bins)

    def down(node: Node) -> Node:
        return view(graph, "broadcast", view(graph, "expand_dims", node, (shape[0], 1), 1), shape)

    numbers = Node("range", (bins,), source.elem, attr=0, nonnegative=True)
    across = view(graph, "broadcast", view(graph, "expand_dims", numbers, (1, bins), 0), shape)
    equal = graph.map("arith.cmpi", [down(materialise(graph, source)), across], "i1", "predicate = 0 : i64")
    for mask in rest:
        equal = graph.map("arith.andi", [equal, down(mask)], "i1")
    one = graph.map("arith.extui", [equal], elem)
    buffer = graph.buffer((bins,), elem)
    combine = Combine("addi", identity=KINDS["addi"](elem))
    _reduce(graph, op, shape, 0, [one], [buffer], combine)
    return [buffer]
