"""Program ids, loops and branches.

    %r = scf.for %i = ... iter_args(%acc = %init) { ... scf.yield %new }
    →  Fill(b, %init); For { ...; Fill(b, %new) };  %r reads b

A scalar that a loop carries stays a scalar; a tensor lives in a buffer, updated in place (carried.py has all
kinds). A number, a pointer, a tensor of them or a block pointer that moves by a fixed amount each round
is not carried at all: it is its start plus the number of rounds times that amount.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch_rvv.lowering import carried, convert_block, convert_dotloop
from torch_rvv.lowering.carried import Form, form_of
from torch_rvv.lowering.convert_pointer import moved
from torch_rvv.lowering.graph import Graph, rule
from torch_rvv.lowering.nodes import Fill, For, If, Node, Region, While, atom_of, is_pointer, walk
from torch_rvv.lowering.ttir import source_line

_AXES = {"x": 0, "y": 1, "z": 2}


@rule("tt.get_program_id", "tt.get_num_programs")
def program_id(graph: Graph, op: Any) -> Sequence[Node] | None:
    axis = _AXES[op.attributes["axis"].value]
    first = len(graph.arguments) - 6 + (0 if op.name == "tt.get_program_id" else 3)
    return [graph.arguments[first + axis]]


# -- values that grow


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


def _steps(argument: Any, yielded: Any) -> list[list[Any]] | None:
    """What is added to a carried value each round, if additions are all that happens to it: operands by addition."""
    steps = []
    while yielded != argument:
        op = getattr(yielded.owner, "operation", None)
        if op is None or op.name not in ("arith.addi", "tt.addptr", "tt.advance"):
            return None
        first, *rest = op.operands
        if op.name == "arith.addi" and rest[0] == argument:
            first, rest = rest[0], [first]
        steps.append(rest)
        yielded = first
    return steps or None


def _times(graph: Graph, step: Node, rounds: Node) -> Node:
    """step * rounds, in the step's width."""
    count = graph.as_width(rounds, step.elem)
    if step.shape is not None:
        count = graph.splat(count, step.shape)
    return graph.map("arith.muli", [step, count], step.elem)


def _grown(graph: Graph, start: Node, steps: list[list[Node]], rounds: Node) -> Node:
    """start + rounds * (sum of steps)."""
    value = start
    for step in steps:
        deltas = [_times(graph, graph.as_width(s, "i64") if start.kind == "block" else s, rounds) for s in step]
        if start.kind == "block":
            value = convert_block.advanced(graph, value.attr, deltas).node()
        elif is_pointer(start.elem):
            value = moved(graph, value, deltas[0])
        else:
            value = graph.map("arith.addi", [value, deltas[0]], value.elem)
    return value


def _rounds(graph: Graph, iv: Node, lower: Node, step: Node) -> Node:
    """How many rounds a loop has done, seen from inside."""
    done = graph.map("arith.subi", [iv, lower], iv.elem)
    if step.poly is not None and step.poly.constant == 1:
        done.nonnegative = True
        return done
    # A number of its own, that nothing is known of but its sign: iv is known by name already.
    rounds = graph.scalar_op("arith.divui", [done, step], iv.elem, nonnegative=True)
    rounds.poly = atom_of(rounds)
    return rounds


def _trips(graph: Graph, lower: Node, upper: Node, step: Node) -> Node:
    """How many rounds a loop does in all."""
    zero = graph.constant("0", lower.elem)
    distance = graph.map("arith.maxsi", [graph.map("arith.subi", [upper, lower], lower.elem), zero], lower.elem)
    return graph.scalar_op("arith.ceildivsi", [distance, step], lower.elem, nonnegative=True)


# -- for


@dataclass
class _Carried:
    """One carried value: its start, and either how it grows or its form and buffers."""

    start: Node
    steps: list[list[Node]] | None
    form: Form | None = None
    buffers: Sequence[Node] = ()


def _carried(graph: Graph, op: Any, argument: Any, start: Node, yielded: Any) -> _Carried:
    steps = None if start.kind == "scalar" and start.elem[0] in "fb" else _steps(argument, yielded)
    if steps is not None and all(_outside(v, op) for step in steps for v in step):
        return _Carried(start, [[graph[v] for v in step] for step in steps])
    if start.kind == "block" and steps is not None:
        form = carried.offsets_of(start)
    else:
        form = form_of(graph, str(argument.type))
    return _Carried(start, None, form, _started(graph, form, start))


def _started(graph: Graph, form: Form, start: Node) -> list[Node]:
    """New buffers that hold a value's tensors."""
    buffers = form.buffers(graph)
    carried.fill(graph, buffers, form.take(start)[1])
    return buffers


def _nonnegative_loop(lower: Node, step: Node) -> bool:
    return all(n.poly is not None and n.poly.nonnegative for n in (lower, step))


@rule("scf.for")
def scf_for(graph: Graph, op: Any) -> Sequence[Node] | None:
    lower, upper, step, *initial = graph.operands(op)
    block = op.regions[0].blocks[0]
    first, *arguments = block.arguments
    *operations, last = [o.operation for o in block.operations]
    yields = list(last.operands)
    loop = For(source_line(op), lower=lower, upper=upper, step=step)
    slots = [_carried(graph, op, a, v, y) for a, v, y in zip(arguments, initial, yields, strict=True)]
    for slot in slots:
        if slot.form is not None:
            loop.initial += slot.form.take(slot.start)[0]
    if (trips := _in_groups(graph, op, slots)) is not None:
        return _results(graph, slots, trips, loop)
    iv = graph.scalar(lower.elem, nonnegative=_nonnegative_loop(lower, step))
    loop.body.arguments.append(iv)
    graph.values[first] = iv
    graph.append(loop)
    with graph.inside(loop.body):
        rounds = _rounds(graph, iv, lower, step) if any(s.steps for s in slots) else iv
        for argument, slot in zip(arguments, slots, strict=True):
            if slot.steps is not None:
                graph.values[argument] = _grown(graph, slot.start, slot.steps, rounds)
            else:
                graph.values[argument] = _entered(graph, slot, loop.body.arguments)
        for inner in operations:
            graph.apply(inner)
        updates: list[tuple[Node, Node]] = []
        for yielded, slot in zip(yields, slots, strict=True):
            if slot.form is not None:
                scalars, tensors = slot.form.take(graph[yielded])
                loop.body.yields += scalars
                updates += zip(slot.buffers, tensors, strict=True)
        _update(graph, updates)
    loop.last = graph.position
    trips = _trips(graph, lower, upper, step) if any(s.steps for s in slots) else iv
    return _results(graph, slots, trips, loop)


def _results(graph: Graph, slots: Sequence[_Carried], trips: Node, loop: For) -> list[Node]:
    """The values of a loop's slots behind it."""
    return [
        _entered(graph, slot, loop.results) if slot.steps is None else _grown(graph, slot.start, slot.steps, trips)
        for slot in slots
    ]


def _in_groups(graph: Graph, op: Any, slots: Sequence[_Carried]) -> Node | None:
    """Write a loop of products with several rounds a product, if it is one (see convert_dotloop.py): its trips."""
    found = convert_dotloop.products(graph, op)
    if found is None:
        return None
    lower, upper, step, *_ = graph.operands(op)
    first, *arguments = op.regions[0].blocks[0].arguments
    by_argument = dict(zip(arguments, slots, strict=True))
    buffers = {product.argument: by_argument[product.argument].buffers[0] for product in found}
    if any(slot.steps is None and argument not in buffers for argument, slot in by_argument.items()):
        return None

    def enter(rounds: Node) -> None:
        done = graph.map("arith.muli", [rounds, step], step.elem)
        graph.values[first] = graph.map("arith.addi", [lower, done], lower.elem)
        for argument, slot in by_argument.items():
            if slot.steps is not None:
                graph.values[argument] = _grown(graph, slot.start, slot.steps, rounds)

    trips = _trips(graph, lower, upper, step)
    return trips if convert_dotloop.write(graph, op, found, trips, enter, list(buffers.values())) else None


def _entered(graph: Graph, slot: _Carried, names: list[Node]) -> Node:
    """A carried value seen inside its loop or after: new scalars, added to `names`, and its buffers."""
    assert slot.form is not None
    scalars = [graph.scalar(elem) for elem in slot.form.scalars]
    names += scalars
    return slot.form.make(scalars, slot.buffers)


# -- updates of carried buffers


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


# -- if, while


@rule("scf.if")
def scf_if(graph: Graph, op: Any) -> Sequence[Node] | None:
    (condition,) = graph.operands(op)
    forms = [form_of(graph, str(r.type)) for r in op.results]
    buffers = [form.buffers(graph) for form in forms]
    branch = If(source_line(op), condition=condition)
    graph.append(branch)
    for region, mlir_region in zip((branch.then, branch.other), op.regions, strict=True):
        with graph.inside(region):
            if len(mlir_region.blocks):
                *operations, last = [o.operation for o in mlir_region.blocks[0].operations]
                for inner in operations:
                    graph.apply(inner)
                values = [graph[v] for v in last.operands]
                _yield(graph, region, forms, buffers, values)
    branch.last = graph.position
    results = []
    for form, held in zip(forms, buffers, strict=True):
        scalars = [graph.scalar(elem) for elem in form.scalars]
        branch.results += scalars
        results.append(form.make(scalars, held))
    return results


def _yield(
    graph: Graph, region: Region, forms: Sequence[Form], buffers: Sequence[Sequence[Node]], values: Sequence[Node]
) -> None:
    """Hand values out of a branch: scalars as yields, tensors through the buffers."""
    for form, held, value in zip(forms, buffers, values, strict=True):
        scalars, tensors = form.take(value)
        region.yields += scalars
        carried.fill(graph, held, tensors)


@rule("scf.while")
def scf_while(graph: Graph, op: Any) -> Sequence[Node] | None:
    initial = graph.operands(op)
    before, after = (r.blocks[0] for r in op.regions)
    loop = While(source_line(op))
    slots = []
    for argument, value in zip(before.arguments, initial, strict=True):
        form = form_of(graph, str(argument.type))
        slots.append(_Carried(value, None, form, _started(graph, form, value)))
        loop.initial += form.take(value)[0]
    *operations, last = [o.operation for o in before.operations]
    condition, *forwarded = last.operands
    forms = [form_of(graph, str(v.type)) for v in forwarded]
    passed = [form.buffers(graph) for form in forms]
    graph.append(loop)
    with graph.inside(loop.before):
        for argument, slot in zip(before.arguments, slots, strict=True):
            graph.values[argument] = _entered(graph, slot, loop.before.arguments)
        for inner in operations:
            graph.apply(inner)
        loop.condition = graph[condition]
        _yield(graph, loop.before, forms, passed, [graph[v] for v in forwarded])
    with graph.inside(loop.after):
        for argument, form, held in zip(after.arguments, forms, passed, strict=True):
            slot = _Carried(loop.condition, None, form, held)
            graph.values[argument] = _entered(graph, slot, loop.after.arguments)
        *operations, last = [o.operation for o in after.operations]
        for inner in operations:
            graph.apply(inner)
        updates: list[tuple[Node, Node]] = []
        for value, slot in zip(last.operands, slots, strict=True):
            assert slot.form is not None
            scalars, tensors = slot.form.take(graph[value])
            loop.after.yields += scalars
            updates += zip(slot.buffers, tensors, strict=True)
        _update(graph, updates)
    loop.last = graph.position
    results = []
    for form, held in zip(forms, passed, strict=True):
        slot = _Carried(loop.condition, None, form, held)
        results.append(_entered(graph, slot, loop.results))
    return results
