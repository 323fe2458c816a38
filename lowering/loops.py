"""linalg.generic → a nest of loops with one dimension in scalable vectors.

    linalg.generic {parallel, reduction} ins(%x : [n, m]) outs(%y : [n])
    →
    scf.for %i (n) {
      %acc = scf.while (%j = 0, %a = identity) { %evl = get.vector.length(m - %j) ...
               %v = vp.load ; vp.merge(%a + %v, %a, %evl) }
      %y[i] = y[i] + vector.reduction(%acc) }

The vectorised dimension is the one along which most accesses are unit-stride. Loops over other parallel
dimensions stand outside, loops over reductions inside. A strip asks for as many lanes as are left, so
tails need no code of their own. LMUL follows from how many vectors live at once. A body with an
atomic, and a nest with no dimension, stay scalar.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from torch_rvv.lowering.convert_reduce import KINDS
from torch_rvv.lowering.lmul import choose, pressure, widest_element
from torch_rvv.lowering.mlir import ir
from torch_rvv.lowering.operations import Operations
from torch_rvv.lowering.values import Value, View
from torch_rvv.lowering.vector_body import SCALAR_ONLY, Strip
from torch_rvv.lowering.writer import Writer


@dataclass(eq=False)
class Operand:
    """One operand of the generic: its view, and for each of the view's dimensions the loop it follows."""

    view: View
    dims: tuple[int, ...]
    argument: Any
    output: bool = False

    def stride(self, dim: int | None) -> str | int:
        """Stride along a loop dimension, 0 if it does not move."""
        total: str | int = 0
        for d, s in zip(self.dims, self.view.strides, strict=True):
            if d == dim:
                total = s
        return total


@dataclass(eq=False)
class Nest:
    """A generic, read from MLIR. most: the largest that each size can be, where that is known."""

    operands: list[Operand]
    sizes: list[str | int]
    reductions: set[int]
    block: Any
    most: list[int | None]

    @property
    def outputs(self) -> list[Operand]:
        return [o for o in self.operands if o.output]

    def accumulates(self, output: Operand) -> bool:
        return bool(self.reductions) and not self.reductions & set(output.dims)

    def contracts(self) -> bool:
        """Whether it accumulates by a fused multiply-add, which lanes along the reduction could not sum up."""
        outputs = [o.argument for o in self.outputs]
        return any(op.name == "math.fma" and op.operands[2] in outputs for op in _walk(self.block))

    def scalar_only(self) -> bool:
        return any(op.name in SCALAR_ONLY for op in _walk(self.block))


def _walk(block: Any) -> Iterator[Any]:
    for op in block.operations:
        yield op.operation
        for region in op.operation.regions:
            for inner in region.blocks:
                yield from _walk(inner)


# A dimension of this many elements costs twice as much an element as a long one.
SHORT = 16


def choose_dim(nest: Nest) -> int | None:
    """The loop dimension to vectorise: fewest strided accesses, not too short, inner ones first."""
    if not nest.sizes or nest.scalar_only():
        return None
    best, best_cost = None, float("inf")
    for dim, size in enumerate(nest.most):
        if dim in nest.reductions and nest.contracts():
            continue
        cost = 0.0
        for operand in nest.operands:
            stride = operand.stride(dim)
            cost += 0.1 if stride == 0 else 1.0 if stride == 1 else 6.0
        if size is not None:
            cost *= 1.0 + SHORT / max(size, 1)
        if dim in nest.reductions and any(d not in nest.reductions for d in range(len(nest.sizes))):
            cost += 0.5
        if cost <= best_cost:
            best, best_cost = dim, cost
    return best


def loop_order(nest: Nest, vector: int | None) -> list[int]:
    """Loop dimensions, outermost first."""
    dims = range(len(nest.sizes))
    outer = [d for d in dims if d not in nest.reductions and d != vector]
    inner = [d for d in dims if d in nest.reductions and d != vector]
    if vector is None:
        return outer + inner
    return outer + inner + [vector] if vector in nest.reductions else [*outer, vector, *inner]


@dataclass(eq=False)
class Carry:
    """An accumulator: its output, its start, and its names inside the innermost loop and after."""

    output: Operand
    start: Value
    inside: str
    kind: str
    merged: str = ""


# Rows of a reduction that may run side by side.
JAMMED = (4, 2)


class NestWriter:
    """Writes one nest into `writer`. names: what the body sees of the world outside."""

    def __init__(
        self, nest: Nest, operations: Operations, functions: dict[str, Any], names: Callable[[Any], Value],
        views: Callable[[Any], View], writer: Writer,
    ):  # fmt: skip
        self.nest, self.operations, self.functions, self.writer = nest, operations, functions, writer
        self.names, self.views = names, views
        self.vector = choose_dim(nest)
        self.order = loop_order(nest, self.vector)
        self.first = min((i for i, d in enumerate(self.order) if d in nest.reductions), default=len(self.order))
        self.lanes: int | None = None
        self.rows = 1

    def write(self, lmul: int | None) -> dict[str, Any]:
        """Write the nest; returns what explain tells of it (lmul, live vectors, gathers)."""
        if self.vector is None:
            self._nest(self.writer)
            return {"lmul": 0, "live": 0, "gathers": 0}
        self.lanes = 2
        self.rows = self._jammed()
        trial = Writer()
        gathers = self._nest(trial)
        live, widest = pressure(trial.lines)
        # One accumulator is in the count, as the sum that takes its place.
        live += self.rows * self._accumulators() - 1 if self._accumulators() else 0
        chosen = lmul or choose(live, self.nest.most[self.vector], widest)
        # Never one lane: MLIR takes a vector of one for a scalar even when it is scalable.
        # What stands in a branch may be wider: it must still fit a group of eight registers.
        self.lanes = max(2, min(chosen * 64 // widest, 8 * 64 // widest_element(trial.lines)))
        self._nest(self.writer)
        return {"lmul": chosen, "live": live, "gathers": gathers}

    # -- evaluating

    def _nest(self, writer: Writer) -> int:
        order, depth = self.order, len(self.order)
        self.ivs = {d: writer.fresh("i") for d in order}
        self.mask, self.evl = writer.fresh("mask"), writer.fresh("evl")
        writers = [Writer(writer.counter) for _ in range(depth + 1)]
        result = writer.fresh("loop")
        final = Writer(writer.counter)
        carries: list[Carry] = []
        strips = []
        for row in range(self.rows):
            strip = self._strip(writers)
            self.positions = self._positions(strip, row)
            mine = self._row(strip, writer, depth)
            if mine:
                closing = self._strip([*writers[: self.first], final])
                closing.values = strip.values
                self._finish(closing, mine, result, len(carries))
            carries += mine
            strips.append(strip)
        with self._unless_empty(writer, any(strip.early for strip in strips)):
            self._assemble(writer, writers, final, carries, result)
        return sum(strip.gathers for strip in strips)

    def _row(self, strip: Strip, writer: Writer, depth: int) -> list[Carry]:
        """The body once, at the current positions; its accumulators."""
        nest = self.nest
        carries = [self._carry(strip, o, writer) for o in nest.outputs if nest.accumulates(o)]
        strip.early = False
        self._bind(strip, carries, depth)
        yields = strip.block(list(nest.block.operations))
        by_output = {c.output: c for c in carries}
        for output, value in zip(nest.outputs, yields, strict=True):
            carry = by_output.get(output)
            if carry is None:
                strip.store(*self._place(strip, output), value, None)
            else:
                carry.merged = self._merge(strip, carry, value)
        return carries

    def _positions(self, strip: Strip, row: int) -> dict[int, Value]:
        """The index of each dimension; of the jammed one, so many rows on."""
        found = {
            d: Value(self.ivs[d], "index", level + 1, *(("linear", 1) if d == self.vector else ()))
            for level, d in enumerate(self.order)
        }
        if row:
            dim = self.order[self.first - 1]
            (found[dim],) = strip.apply("arith.addi", "", [found[dim], strip.constant_index(row)], ["index"])
        return found

    def _accumulators(self) -> int:
        """Vectors that a row carries through the loops."""
        nest = self.nest
        return sum(nest.accumulates(o) for o in nest.outputs) if self.vector in nest.reductions else 0

    def _jammed(self) -> int:
        """Rows that are reduced at once, so that what they share is loaded once: W @ x, four rows of W at a time."""
        nest = self.nest
        if self.vector not in nest.reductions or self.first == 0 or nest.scalar_only():
            return 1
        row = self.order[self.first - 1]
        size = nest.sizes[row]
        shared = any(o.stride(row) == 0 and o.stride(self.vector) != 0 for o in nest.operands if not o.output)
        whole = all(nest.accumulates(o) and self._known(o) is not None for o in nest.outputs)
        if not (shared and whole and isinstance(size, int)):
            return 1
        return next((n for n in JAMMED if size % n == 0 and n * len(nest.outputs) <= JAMMED[0]), 1)

    @contextmanager
    def _unless_empty(self, writer: Writer, needed: bool) -> Iterator[None]:
        """Around a nest whose loads may stand before its loops: do nothing where a loop has no iterations."""
        sizes = [s for s in self.nest.sizes if isinstance(s, str)]
        if not needed or not sizes:
            yield
            return
        zero = writer.op("arith.constant 0 : index")
        total = ""
        for size in sizes:
            more = writer.op(f"arith.cmpi sgt, {size}, {zero} : index")
            total = writer.op(f"arith.andi {total}, {more} : i1") if total else more
        with writer.block(f"scf.if {total} {{"):
            yield

    def _strip(self, writers: list[Writer]) -> Strip:
        if self.vector is None:
            return Strip(
                self.operations, writers, None, 0, None, functions=self.functions, views=self.views, scalar=self.names
            )
        level = self.order.index(self.vector) + 1
        return Strip(
            self.operations, writers, self.lanes, level, (self.mask, self.evl),
            functions=self.functions, views=self.views, scalar=self.names, iv=self.ivs[self.vector],
        )  # fmt: skip

    def _bind(self, strip: Strip, carries: list[Carry], depth: int) -> None:
        """Give the body's arguments and linalg.index their values."""
        for op in _walk(self.nest.block):
            if op.name == "linalg.index":
                strip.values[op.results[0]] = self.positions[int(str(op.attributes["dim"]).split(" : ")[0])]
        carried = {c.output: c for c in carries}
        for operand in self.nest.operands:
            carry = carried.get(operand)
            if carry is not None:
                strip.values[operand.argument] = Value(carry.inside, carry.start.elem, depth, carry.start.kind)
                strip.sums.add(operand.argument)
            elif any(True for _ in operand.argument.uses):
                strip.values[operand.argument] = strip.load(*self._place(strip, operand), operand.view.elem, None)

    def _place(self, strip: Strip, operand: Operand) -> tuple[View, Value]:
        """A flat view and the element's index in it, for the current iteration."""
        view = operand.view
        total: Value | None = None
        for dim, stride in zip(operand.dims, view.strides, strict=True):
            if stride == 0:
                continue
            term = self.positions[dim]
            if stride != 1:
                factor = strip.constant_index(stride) if isinstance(stride, int) else Value(stride, "index")
                term = strip.apply("arith.muli", "", [term, factor], ["index"])[0]
            total = term if total is None else strip.apply("arith.addi", "", [total, term], ["index"])[0]
        if view.offset != 0 or total is None:
            offset = strip.constant_index(view.offset) if isinstance(view.offset, int) else Value(view.offset, "index")
            total = offset if total is None else strip.apply("arith.addi", "", [total, offset], ["index"])[0]
        return replace(view, offset=0, strides=(), sizes=()), total

    # -- reductions

    def _known(self, output: Operand) -> str | None:
        """The arith name of the operation that folds into an output, if it is one operation."""
        terminator = list(self.nest.block.operations)[-1].operation
        value = terminator.operands[self.nest.outputs.index(output)]
        op = value.owner.operation if hasattr(value.owner, "operation") else None
        if op is None or not op.name.startswith("arith.") or output.argument not in list(op.operands):
            return None
        kind = op.name.removeprefix("arith.")
        return kind if kind in KINDS else None

    def _call(self) -> Any:
        """The call of the combine function."""
        return next(op for op in _walk(self.nest.block) if op.name == "func.call" and callee_of(op) in self.functions)

    def _carry(self, strip: Strip, output: Operand, writer: Writer) -> Carry:
        """An accumulator and its start, computed just before the first reduction loop.

        Lanes of a vector accumulator start as the identity. Without one they start undefined, and the
        first strip's values replace them (`_merge`). Memory's own value joins in at the end (`_finish`).
        """
        elem = output.view.elem
        if self.vector in self.nest.reductions:
            kind = self._known(output)
            vector = strip.vector_type(elem)
            if kind is None:
                start = Value(strip._once(("poison", vector), 0, f"llvm.mlir.poison : {vector}"), elem, 0, "vector")
            else:
                identity = self.operations.constant(KINDS[kind](elem), elem, None, strip.emitter(0))
                start = strip.vector(Value(identity, elem, 0))
        else:
            start = strip.load(*self._place(strip, output), elem, None)
            start = strip.vector(start) if self.vector is not None else start
        text = self.operations.type(elem, self.lanes if start.kind == "vector" else None)
        return Carry(output, start, writer.fresh("acc"), text)

    def _merge(self, strip: Strip, carry: Carry, value: Value) -> str:
        """The accumulator after one strip: lanes past its end keep what they had."""
        if self.vector is None:
            return value.name
        chosen = strip.vector(value).name
        if self.vector not in self.nest.reductions:
            return chosen
        level = len(strip.writers) - 1
        emit = strip.emitter(level)
        if self._known(carry.output) is None:
            operands = list(self._call().operands)
            folded = operands[len(operands) // 2 :][self.nest.outputs.index(carry.output)]
            fresh = strip.vector(strip.get(folded)).name
            chosen = emit(f"arith.select {self._beginning(strip)}, {fresh}, {chosen} : i1, {carry.kind}")
        return emit(
            f'llvm.call_intrinsic "llvm.vp.merge"({self.mask}, {chosen}, {carry.inside}, {self.evl})'
            f" : ({strip.mask_type()}, {carry.kind}, {carry.kind}, i32) -> {carry.kind}"
        )

    def _beginning(self, strip: Strip) -> str:
        """i1: this is the first strip of the first round of all reduction loops."""
        emit = strip.emitter(len(strip.writers) - 1)
        zero = strip.constant_index(0).name
        tests = [emit(f"arith.cmpi eq, {self.ivs[d]}, {zero} : index") for d in self.order if d in self.nest.reductions]
        total = tests[0]
        for test in tests[1:]:
            total = emit(f"arith.andi {total}, {test} : i1")
        return total

    def _finish(self, strip: Strip, carries: list[Carry], result: str, before: int) -> None:
        """After the loops: lanes to one value, that and memory's own to memory. before: other results of the loops."""
        level = len(strip.writers) - 1
        after = [
            Value(f"{result}#{i + before + self._first_is_strip()}", c.start.elem, level, c.start.kind)
            for i, c in enumerate(carries)
        ]
        if self.vector not in self.nest.reductions:
            for carry, value in zip(carries, after, strict=True):
                strip.store(*self._place(strip, carry.output), value, None)
            return
        kinds = [self._known(c.output) for c in carries]
        known = [(c, v, k) for c, v, k in zip(carries, after, kinds, strict=True) if k is not None]
        unknown = [(c, v) for c, v, k in zip(carries, after, kinds, strict=True) if k is None]
        for carry, value, kind in known:
            op = f"arith.{kind}"
            if kind in _REDUCTIONS and not self.operations.soft(value.elem):
                total = self._hardware(strip, kind, value, carry.kind)
            else:
                (total,) = self._tree(
                    strip, [value], lambda a, b, op=op: strip.apply(op, "", [a[0], b[0]], [a[0].elem])
                )
            memory = strip.load(*self._place(strip, carry.output), value.elem, None)
            (joined,) = strip.apply(op, "", [memory, total], [value.elem])
            strip.store(*self._place(strip, carry.output), joined, None)
        if unknown:
            callee = callee_of(self._call())
            values = [v for _, v in unknown]
            totals = self._tree(strip, values, lambda a, b: strip.inline(callee, [*a, *b]))
            memory_values = [strip.load(*self._place(strip, c.output), c.start.elem, None) for c, _ in unknown]
            joined_values = strip.inline(callee, [*memory_values, *totals])
            for (carry, _), joined in zip(unknown, joined_values, strict=True):
                strip.store(*self._place(strip, carry.output), joined, None)

    def _first_is_strip(self) -> int:
        """1 if the outermost reduction loop is the strip loop, whose first result is the index."""
        return int(self.order[self.first] == self.vector)

    def _hardware(self, strip: Strip, kind: str, value: Value, text: str) -> Value:
        emit = strip.emitter(value.level)
        name = _REDUCTIONS[kind]
        if kind == "addf":
            zero = emit(f"arith.constant -0.0 : {value.elem}")
            total = emit(f"vector.reduction <add>, {value.name}, {zero} fastmath<reassoc> : {text} into {value.elem}")
        else:
            total = emit(f"vector.reduction <{name}>, {value.name} : {text} into {value.elem}")
        return Value(total, value.elem, value.level)

    def _tree(
        self, strip: Strip, values: list[Value], combine: Callable[[list[Value], list[Value]], list[Value]]
    ) -> list[Value]:
        """Fold the lanes that are in use: the upper half onto the lower, until one is left."""
        level = values[0].level
        w, emit = strip.writers[level], strip.emitter(level)
        size = self._size(strip, self.vector, level)
        lanes = emit(self._length_text(strip, size, level))
        wide = emit(f"arith.extui {lanes} : i32 to i64")
        elems = [self.operations.carrier(v.elem) for v in values]
        kinds = [strip.vector_type(v.elem) for v in values]
        n, accs = w.fresh("n"), [w.fresh("acc") for _ in values]
        loop = w.fresh("tree")
        types = ", ".join(["i64", *kinds])
        pairs = ", ".join([f"{n} = {wide}", *(f"{a} = {v.name}" for a, v in zip(accs, values, strict=True))])
        one = emit("arith.constant 1 : i64")
        with w.block(f"{loop}:{len(values) + 1} = scf.while ({pairs}) : ({types}) -> ({types}) {{", "} do {"):
            more = emit(f"arith.cmpi ugt, {n}, {one} : i64")
            w.line(f"scf.condition({more}) {', '.join([n, *accs])} : {types}")
        m, news = w.fresh("n"), [w.fresh("acc") for _ in values]
        arguments = ", ".join([f"{m}: i64", *(f"{a}: {k}" for a, k in zip(news, kinds, strict=True))])
        with w.block(f"^bb0({arguments}):"):
            half = emit(f"arith.ceildivui {m}, {emit('arith.constant 2 : i64')} : i64")
            low = [Value(a, v.elem, level, "vector") for a, v in zip(news, values, strict=True)]
            high = [
                Value(self._slide(emit, a, half, m, k), v.elem, level, "vector")
                for a, k, v in zip(news, kinds, values, strict=True)
            ]
            joined = [strip.vector(v).name for v in combine(low, high)]
            count = emit(f"arith.trunci {emit(f'arith.subi {m}, {half} : i64')} : i64 to i32")
            merged = [
                emit(
                    f'llvm.call_intrinsic "llvm.vp.merge"({self.mask}, {j}, {a}, {count})'
                    f" : ({strip.mask_type()}, {k}, {k}, i32) -> {k}"
                )
                for j, a, k in zip(joined, news, kinds, strict=True)
            ]
            w.line(f"scf.yield {', '.join([half, *merged])} : {types}")
        return [
            Value(emit(f"vector.extract {loop}#{i + 1}[0] : {e} from {k}"), v.elem, level)
            for i, (e, k, v) in enumerate(zip(elems, kinds, values, strict=True))
        ]

    def _slide(self, emit: Callable[..., str], vector: str, by: str, length: str, kind: str) -> str:
        """vslidedown: lane i becomes lane i + by."""
        poison, policy = emit(f"llvm.mlir.poison : {kind}"), emit("llvm.mlir.constant(3 : i64) : i64")
        return emit(
            f'llvm.call_intrinsic "llvm.riscv.vslidedown"({poison}, {vector}, {by}, {length}, {policy})'
            f" : ({kind}, {kind}, i64, i64, i64) -> {kind}"
        )

    # -- assembling

    def _size(self, strip: Strip, dim: int | None, level: int) -> str:
        assert dim is not None
        size = self.nest.sizes[dim]
        return strip.constant_index(size).name if isinstance(size, int) else size

    def _length_text(self, strip: Strip, left: str, level: int) -> str:
        emit = strip.emitter(level)
        wide = emit(f"arith.index_cast {left} : index to i64")
        factor = strip._once(("factor", self.lanes), 0, f"arith.constant {self.lanes} : i32")
        true = strip._once("true", 0, "arith.constant true")
        name = "llvm.experimental.get.vector.length"
        return f'llvm.call_intrinsic "{name}"({wide}, {factor}, {true}) : (i64, i32, i1) -> i32'

    def _assemble(
        self, writer: Writer, writers: list[Writer], final: Writer, carries: list[Carry], result: str
    ) -> None:
        strip = self._strip(writers)
        zero, one, rows = (strip.constant_index(n).name for n in (0, 1, self.rows))
        bounds = {d: self._size(strip, d, 0) for d in self.order}
        if self.vector is not None:
            level = self.order.index(self.vector) + 1
            head = Writer(writer.counter)
            strip.writers = [*writers[:level], head, *writers[level + 1 :]]
            left = head.op(f"arith.subi {bounds[self.vector]}, {self.ivs[self.vector]} : index")
            text = self._length_text(strip, left, level)
            head.line(f"{self.evl} = {text}")
            writers[level].lines = head.lines + writers[level].lines
            writers[0].lines.insert(0, f"  {self.mask} = arith.constant dense<true> : {strip.mask_type()}")
        text_kinds = [c.kind for c in carries]

        def put(lines: list[str]) -> None:
            writer.lines.extend("  " * (writer.depth - 1) + line for line in lines)

        def loops(level: int, held: list[str]) -> list[str]:
            put(writers[level].lines)
            if level == len(self.order):
                return [c.merged for c in carries]
            dim = self.order[level]
            carried = bool(carries) and level >= self.first
            if carried and level == self.first:
                held = [c.start.name for c in carries]
            innermost = level == len(self.order) - 1
            names = [c.inside if innermost else writer.fresh("acc") for c in carries] if carried else []
            name = result if level == self.first else writer.fresh("loop")
            make = self._strip_loop if dim == self.vector else self._plain_loop
            after = make(
                writer,
                name,
                dim,
                bounds[dim],
                zero,
                rows if level == self.first - 1 else one,
                held if carried else [],
                names,
                text_kinds if carried else [],
                lambda: loops(level + 1, names),
            )
            if carried and level == self.first:
                put(final.lines)
            return after

        loops(0, [])

    def _plain_loop(
        self, w: Writer, name: str, dim: int, bound: str, zero: str, one: str, held: list[str], names: list[str],
        kinds: list[str], body: Callable[[], list[str]],
    ) -> list[str]:  # fmt: skip
        head = f"scf.for {self.ivs[dim]} = {zero} to {bound} step {one}"
        if names:
            pairs = ", ".join(f"{n} = {h}" for n, h in zip(names, held, strict=True))
            head = f"{name}:{len(names)} = {head} iter_args({pairs}) -> ({', '.join(kinds)})"
        with w.block(head + " {"):
            after = body()
            if names:
                w.line(f"scf.yield {', '.join(after)} : {', '.join(kinds)}")
        return [f"{name}#{i}" for i in range(len(names))]

    def _strip_loop(
        self, w: Writer, name: str, dim: int, bound: str, zero: str, one: str, held: list[str], names: list[str],
        kinds: list[str], body: Callable[[], list[str]],
    ) -> list[str]:  # fmt: skip
        at, tops = w.fresh("at"), [w.fresh("acc") for _ in names]
        types = ", ".join(["index", *kinds])
        pairs = ", ".join([f"{at} = {zero}", *(f"{t} = {h}" for t, h in zip(tops, held, strict=True))])
        with w.block(f"{name}:{len(names) + 1} = scf.while ({pairs}) : ({types}) -> ({types}) {{", "} do {"):
            more = w.op(f"arith.cmpi slt, {at}, {bound} : index")
            w.line(f"scf.condition({more}) {', '.join([at, *tops])} : {types}")
        arguments = ", ".join([f"{self.ivs[dim]}: index", *(f"{n}: {k}" for n, k in zip(names, kinds, strict=True))])
        with w.block(f"^bb0({arguments}):"):
            after = body()
            done = w.op(f"arith.index_castui {self.evl} : i32 to index")
            following = w.op(f"arith.addi {self.ivs[dim]}, {done} : index")
            w.line(f"scf.yield {', '.join([following, *(after if names else [])])} : {types}")
        return [f"{name}#{i + 1}" for i in range(len(names))]


# Folds that RVV has an instruction for: arith's name → vector.reduction's.
_REDUCTIONS = {
    "addf": "add", "addi": "add", "maximumf": "maximumf", "minimumf": "minimumf", "maxnumf": "maxnumf",
    "minnumf": "minnumf",
    "andi": "and", "ori": "or", "xori": "xor", "maxsi": "maxsi", "minsi": "minsi", "maxui": "maxui", "minui": "minui",
}  # fmt: skip


def callee_of(call: Any) -> str:
    """The symbol that a func.call names."""
    return str(ir.FlatSymbolRefAttr(call.attributes["callee"]).value)
