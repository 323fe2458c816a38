"""Program ids, loops and branches.

    %r = scf.for %i = ... iter_args(%acc = %init) { ... scf.yield %new }
    →  Fill(b, %init); For { ...; Fill(b, %new) };  %r reads b

A scalar that a loop carries stays a scalar. A tensor that a loop carries lives in a buffer, updated
in place. A tensor of offsets or pointers that only grows by a fixed amount needs no buffer: it is its
start plus the number of rounds times that amount. Declines: unstructured control flow (cf), branches
that yield tensors of pointers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch_rvv.lowering.convert_arith import add_offsets
from torch_rvv.lowering.convert_memory import truth
from torch_rvv.lowering.graph import Graph, rule, type_of
from torch_rvv.lowering.nodes import Fill, For, If, Node, Region, While, is_pointer, walk
from torch_rvv.lowering.ttir import source_line

_AXES = {"x": 0, "y": 1, "z": 2}


@rule("tt.get_program_id", "tt.get_num_programs")
def program_id(graph: Graph, op: Any) -> Sequence[Node] | None:
    axis = _AXES[op.attributes["axis"].value]
    first = len(graph.arguments) - 6 + (0 if op.name == "tt.get_program_id" else 3)
    return [graph.arguments[first + axis]]


@rule("func.return")
def function_return(graph: Graph, op: Any) -> Sequence[Node] | None:
    return [] if len(op.operands) == 0 else None


def _outside(value: Any, loop: Any) -> bool:
    """Whether a value is defined before a loop."""
    owner = value.owner
    block = owner if not hasattr(owner, "operation") else owner.operation.block
    while True:
        parent = block.owner.operation
        if parent == loop:
            return False
        if parent.name in ("func.func", "builtin.module"):
            return True
        block = parent.block


def _step(argument: Any, yielded: Any, loop: Any) -> Any | None:
    """The MLIR value by which a carried tensor grows each round, if it grows by an unchanging one."""
    op = getattr(yielded.owner, "operation", None)
    if op is None or op.name not in ("arith.addi", "tt.addptr") or yielded == argument:
        return None
    left, right = op.operands
    if left == argument and _outside(right, loop):
        return right
    if op.name == "arith.addi" and right == argument and _outside(left, loop):
        return left
    return None


def _grown(graph: Graph, start: Node, step: Node, rounds: Node) -> Node:
    """start + rounds * step."""
    assert step.shape is not None and start.shape is not None
    count = rounds if rounds.elem == step.elem else _as_width(graph, rounds, step.elem)
    delta = graph.map("arith.muli", [step, graph.splat(count, step.shape)], step.elem)
    if start.kind == "pointer":
        base, offset = start.args
        return Node("pointer", start.shape, start.elem, (base, add_offsets(graph, offset, delta)))
    return graph.map("arith.addi", [start, delta], start.elem)


def _as_width(graph: Graph, scalar: Node, elem: str) -> Node:
    op = "arith.extsi" if int(elem[1:]) > int(scalar.elem[1:]) else "arith.trunci"
    return graph.scalar_op(op, [scalar], elem, poly=scalar.poly, nonnegative=scalar.nonnegative)


@rule("scf.for")
def scf_for(graph: Graph, op: Any) -> Sequence[Node] | None:
    lower, upper, step, *initial = graph.operands(op)
    block = op.regions[0].blocks[0]
    yields = list(list(block.operations)[-1].operation.operands)
    loop = For(source_line(op), lower=lower, upper=upper, step=step)
    carried: list[tuple[str, Any]] = []
    for argument, value, yielded in zip(list(block.arguments)[1:], initial, yields, strict=True):
        grows = _step(argument, yielded, op) if value.shape is not None else None
        if value.shape is None:
            carried.append(("scalar", None))
        elif grows is not None:
            carried.append(("grows", graph[grows]))
        elif value.kind == "pointer":
            return None
        else:
            carried.append(("buffer", _start(graph, value)))
    iv = graph.scalar(lower.elem, nonnegative=_nonnegative_loop(lower, step))
    loop.body.arguments.append(iv)
    graph.values[block.arguments[0]] = iv
    graph.append(loop)
    with graph.inside(loop.body):
        rounds = _rounds(graph, iv, lower, step) if any(kind == "grows" for kind, _ in carried) else iv
        for argument, value, (kind, extra) in zip(list(block.arguments)[1:], initial, carried, strict=True):
            if kind == "scalar":
                node = graph.scalar(value.elem)
                loop.body.arguments.append(node)
                loop.initial.append(value)
                loop.results.append(graph.scalar(value.elem))
            elif kind == "grows":
                node = _grown(graph, value, extra, rounds)
            else:
                node = _reading(graph, extra, value.elem)
            graph.values[argument] = node
        for inner in list(block.operations)[:-1]:
            graph.apply(inner.operation)
        updates = []
        for yielded, (kind, extra) in zip(yields, carried, strict=True):
            if kind == "scalar":
                loop.body.yields.append(graph[yielded])
            elif kind == "buffer":
                updates.append((extra, graph[yielded]))
        _update(graph, updates)
    loop.last = graph.position
    results: list[Node] = []
    scalars = iter(loop.results)
    for value, (kind, extra) in zip(initial, carried, strict=True):
        if kind == "scalar":
            results.append(next(scalars))
        elif kind == "grows":
            results.append(_grown(graph, value, extra, _trips(graph, lower, upper, step)))
        else:
            results.append(_reading(graph, extra, value.elem))
    return results


def _nonnegative_loop(lower: Node, step: Node) -> bool:
    known = all(n.poly is not None and n.poly.nonnegative for n in (lower, step))
    return known


def _rounds(graph: Graph, iv: Node, lower: Node, step: Node) -> Node:
    """How many rounds a loop has done, seen from inside."""
    done = graph.map("arith.subi", [iv, lower], iv.elem)
    if step.poly is not None and step.poly.constant == 1:
        done.nonnegative = True
        return done
    return graph.scalar_op("arith.divui", [done, step], iv.elem, nonnegative=True)


def _trips(graph: Graph, lower: Node, upper: Node, step: Node) -> Node:
    """How many rounds a loop does in all."""
    zero = graph.constant("0", lower.elem)
    distance = graph.map("arith.maxsi", [graph.map("arith.subi", [upper, lower], lower.elem), zero], lower.elem)
    return graph.scalar_op("arith.ceildivsi", [distance, step], lower.elem, nonnegative=True)


def _memory(elem: str) -> str:
    return "i8" if elem == "i1" else elem


def _bytes(graph: Graph, value: Node) -> Node:
    return graph.map("arith.extui", [value], "i8") if value.elem == "i1" else value


def _start(graph: Graph, value: Node) -> Node:
    """A new buffer that holds a value."""
    assert value.shape is not None
    buffer = graph.buffer(value.shape, _memory(value.elem))
    graph.append(Fill(shape=value.shape, buffer=buffer, value=_bytes(graph, value)))
    return buffer


def _reading(graph: Graph, buffer: Node, elem: str) -> Node:
    return truth(graph, buffer) if elem == "i1" else buffer


def _lockstep(value: Node, buffer: Node) -> bool:
    """Whether a value reads a buffer, if at all, only at the element that it is for."""
    if not any(n is buffer for n in walk([value])):
        return True
    if value is buffer:
        return True
    return value.kind in ("map", "load", "pointer") and all(_lockstep(a, buffer) for a in value.args)


def _update(graph: Graph, updates: list[tuple[Node, Node]]) -> None:
    """Write the new values of carried buffers, as if all at once."""
    written: list[Node] = []
    late: list[tuple[Node, Node]] = []
    for buffer, value in updates:
        value = _bytes(graph, value)
        if value is buffer:
            continue
        clobbers = any(n in written for n in walk([value]))
        if not clobbers and _lockstep(value, buffer) and not _read_later(buffer, updates):
            graph.append(_fill(buffer, value))
            written.append(buffer)
        else:
            assert value.shape is not None
            copy = graph.buffer(value.shape, value.elem)
            graph.append(Fill(shape=value.shape, buffer=copy, value=value))
            late.append((buffer, copy))
    for buffer, copy in late:
        assert copy.shape is not None
        graph.append(Fill(shape=copy.shape, buffer=buffer, value=copy))


def _read_later(buffer: Node, updates: list[tuple[Node, Node]]) -> bool:
    """Whether another carried value needs this buffer's old contents."""
    return any(b is not buffer and any(n is buffer for n in walk([v])) for b, v in updates)


def _fill(buffer: Node, value: Node) -> Fill:
    """buffer = value; `select(mask, new, buffer)` only touches the elements of the mask."""
    assert buffer.shape is not None
    if value.kind == "map" and value.op == "arith.select" and value.args[2] is buffer:
        return Fill(shape=buffer.shape, buffer=buffer, value=value.args[1], domain=value.args[0])
    return Fill(shape=buffer.shape, buffer=buffer, value=value)


@rule("scf.if")
def scf_if(graph: Graph, op: Any) -> Sequence[Node] | None:
    (condition,) = graph.operands(op)
    kinds = [type_of(r) for r in op.results]
    if any(shape is not None and is_pointer(elem) for shape, elem in kinds):
        return None
    buffers = [graph.buffer(shape, _memory(elem)) if shape is not None else None for shape, elem in kinds]
    branch = If(source_line(op), condition=condition)
    branch.results = [graph.scalar(elem) for shape, elem in kinds if shape is None]
    graph.append(branch)
    for region, mlir_region in zip((branch.then, branch.other), op.regions, strict=True):
        with graph.inside(region):
            if len(mlir_region.blocks):
                _branch(graph, region, mlir_region.blocks[0], buffers)
    branch.last = graph.position
    scalars = iter(branch.results)
    return [
        next(scalars) if buffer is None else _reading(graph, buffer, elem)
        for buffer, (_, elem) in zip(buffers, kinds, strict=True)
    ]


def _branch(graph: Graph, region: Region, block: Any, buffers: list[Node | None]) -> None:
    ops = [o.operation for o in block.operations]
    for inner in ops[:-1]:
        graph.apply(inner)
    for value, buffer in zip(ops[-1].operands, buffers, strict=True):
        node = graph[value]
        if buffer is None:
            region.yields.append(node)
        else:
            assert buffer.shape is not None
            graph.append(Fill(shape=buffer.shape, buffer=buffer, value=_bytes(graph, node)))


@rule("scf.while")
def scf_while(graph: Graph, op: Any) -> Sequence[Node] | None:
    initial = graph.operands(op)
    before, after = (r.blocks[0] for r in op.regions)
    ops = [o.operation for o in before.operations]
    if any(v.kind == "pointer" for v in initial):
        return None
    loop = While(source_line(op))
    buffers = [None if v.shape is None else _start(graph, v) for v in initial]
    forwarded = list(ops[-1].operands)[1:]
    passed = [
        None if shape is None else graph.buffer(shape, _memory(elem)) for shape, elem in (type_of(v) for v in forwarded)
    ]
    graph.append(loop)
    with graph.inside(loop.before):
        for argument, value, buffer in zip(before.arguments, initial, buffers, strict=True):
            if buffer is None:
                node = graph.scalar(value.elem)
                loop.before.arguments.append(node)
                loop.initial.append(value)
            else:
                node = _reading(graph, buffer, value.elem)
            graph.values[argument] = node
        for inner in ops[:-1]:
            graph.apply(inner)
        loop.condition = graph[ops[-1].operands[0]]
        for value, buffer in zip(forwarded, passed, strict=True):
            if buffer is None:
                loop.before.yields.append(graph[value])
            else:
                assert buffer.shape is not None
                graph.append(Fill(shape=buffer.shape, buffer=buffer, value=_bytes(graph, graph[value])))
    results = [
        graph.scalar(type_of(v)[1]) if buffer is None else _reading(graph, buffer, type_of(v)[1])
        for v, buffer in zip(forwarded, passed, strict=True)
    ]
    loop.results = [r for r, buffer in zip(results, passed, strict=True) if buffer is None]
    with graph.inside(loop.after):
        for argument, buffer in zip(after.arguments, passed, strict=True):
            _, elem = type_of(argument)
            node = graph.scalar(elem) if buffer is None else _reading(graph, buffer, elem)
            if buffer is None:
                loop.after.arguments.append(node)
            graph.values[argument] = node
        ops = [o.operation for o in after.operations]
        for inner in ops[:-1]:
            graph.apply(inner)
        updates = []
        for value, buffer in zip(ops[-1].operands, buffers, strict=True):
            if buffer is None:
                loop.after.yields.append(graph[value])
            else:
                updates.append((buffer, graph[value]))
        _update(graph, updates)
    loop.last = graph.position
    return results
