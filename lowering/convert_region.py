"""Functions of single elements: what reductions, scans and map_elementwise apply.

    ^bb0(%a: f32, %b: f32):                       the same operations on whole tensors of lanes;
      %c = arith.cmpf ogt, %a, %b          →      a branch becomes a select of both sides
      %r = scf.if %c -> f32 {...} else {...}

`evaluate` runs the rules of the operations with tensors in the place of scalars. That computes both sides
of every branch, so only what has no effect may stand in one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch_rvv.lowering.convert_shape import interleaved, view
from torch_rvv.lowering.graph import Graph, rule, type_of
from torch_rvv.lowering.mlir import integer
from torch_rvv.lowering.nodes import Node
from torch_rvv.lowering.ttir import source_line

from torch_rvv.errors import Declined

_PURE = ("arith.", "math.", "tt.extern_elementwise", "tt.fp_to_fp", "tt.bitcast", "tt.precise_", "tt.mulhiui",
         "tt.clampf", "llvm.intr.assume")  # fmt: skip
_RETURNS = {"tt.reduce.return", "tt.scan.return", "tt.map_elementwise.return", "func.return", "scf.yield"}


def evaluate(graph: Graph, block: Any, arguments: Sequence[Node]) -> list[Node]:
    """What a block returns, its arguments being tensors of one shape, one element a lane."""
    shape = arguments[0].shape
    assert shape is not None
    for argument, node in zip(block.arguments, arguments, strict=True):
        graph.values[argument] = node
    outer, graph.lanes = graph.lanes, shape
    try:
        return _block(graph, block)
    finally:
        graph.lanes = outer


def _block(graph: Graph, block: Any) -> list[Node]:
    *operations, last = [o.operation for o in block.operations]
    for op in operations:
        if op.name == "scf.if":
            _branch(graph, op)
        elif op.name == "tt.call":
            _call(graph, op)
        elif op.name.startswith(_PURE):
            graph.apply(op)
        else:
            raise Declined(f"{op.name} in a function of single elements", where=source_line(op))
    if last.name in _RETURNS:
        return graph.operands(last)
    if last.name == "cf.br":
        return _enter(graph, last.successors[0], graph.operands(last))
    if last.name != "cf.cond_br":
        raise Declined(f"{last.name} in a function of single elements", where=source_line(last))
    condition, *operands = graph.operands(last)
    yes, no = last.successors
    count = len(yes.arguments)
    sides = _enter(graph, yes, operands[:count]), _enter(graph, no, operands[count:])
    return [_select(graph, condition, a, b) for a, b in zip(*sides, strict=True)]


def _enter(graph: Graph, block: Any, values: Sequence[Node]) -> list[Node]:
    for argument, value in zip(block.arguments, values, strict=True):
        graph.values[argument] = value
    return _block(graph, block)


def _branch(graph: Graph, op: Any) -> None:
    (condition,) = graph.operands(op)
    sides = [_block(graph, region.blocks[0]) for region in op.regions if len(region.blocks)]
    for result, a, b in zip(op.results, *sides, strict=True):
        graph.values[result] = _select(graph, condition, a, b)


def _select(graph: Graph, condition: Node, yes: Node, no: Node) -> Node:
    return yes if yes is no else graph.map("arith.select", [condition, yes, no], yes.elem)


def _call(graph: Graph, op: Any) -> None:
    function = graph.callees.get(op.attributes["callee"].value)
    if function is None:
        raise Declined(f"a call of {op.attributes['callee']}, which is not in this module", where=source_line(op))
    results = _enter(graph, function.regions[0].blocks[0], graph.operands(op))
    for result, node in zip(op.results, results, strict=True):
        graph.values[result] = node


@rule("tt.map_elementwise")
def map_elementwise(graph: Graph, op: Any) -> Sequence[Node] | None:
    """The region on every element, or on every group of `pack` neighbours."""
    values = graph.operands(op)
    pack = integer(op, "pack")
    block = op.regions[0].blocks[0]
    if pack == 1:
        return evaluate(graph, block, values)
    columns = [column for value in values for column in packed(graph, value, pack)]
    results = evaluate(graph, block, columns)
    return [
        unpacked(graph, results[i * pack : (i + 1) * pack], *type_of(result))  # type: ignore[arg-type]
        for i, result in enumerate(op.results)
    ]


def packed(graph: Graph, value: Node, pack: int) -> list[Node]:
    """Every pack-th element of a tensor in row-major order, from the first, the second ..."""
    assert value.shape is not None
    count = 1
    for n in value.shape:
        count *= n
    flat = view(graph, "reshape", value, (count // pack, pack))
    return [view(graph, "split", flat, (count // pack,), number) for number in range(pack)]


def unpacked(graph: Graph, columns: Sequence[Node], shape: tuple[int, ...], elem: str) -> Node:
    """The inverse of `packed`."""
    assert columns[0].shape is not None
    both = interleaved(graph, columns, (*columns[0].shape, len(columns)), elem)
    return view(graph, "reshape", both, shape)
