"""Accumulators of a loop nest: how they start, how a strip joins them, how lanes become one value in the end.

    y[i] = reduce(maximumf, x[i, :])
    →
    %acc = -inf in all lanes;  each strip: %acc = vp.merge(maxnumf(%acc, %x), %acc, %evl);  y[i] = reduction(%acc)

Lanes past a strip's end keep what they had. Where the body is short one strip that may be short comes before the loop
(after it where nothing is reduced), whose strips then are whole: no length to ask for, nothing to keep. One operation
that RVV has is folded by its instruction, others by halving.
Limits: a function of several values must be associative and commutative.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch_rvv.lowering.convert_reduce import KINDS
from torch_rvv.lowering.mlir import ir
from torch_rvv.lowering.nest import Nest, Operand, walk_body
from torch_rvv.lowering.operations import NATIVE_MATH, Operations, bits_of
from torch_rvv.lowering.values import Value, View
from torch_rvv.lowering.vector_body import NAN_WINS, Strip
from torch_rvv.lowering.writer import Writer


@dataclass(eq=False)
class Carry:
    """An accumulator: its output, its start, and its names inside the innermost loop and after. counter: it counts the
    NaNs that an output's accumulator is spared."""

    output: Operand
    start: Value
    inside: str
    kind: str
    merged: str = ""
    counter: bool = False
    first: Carry | None = None  # the same in the strip before the loop


# Operations of a body that may be written twice.
SHORT_BODY = 12
_NAN = {"f16": "0x7E00", "f32": "0x7FC00000", "f64": "0x7FF8000000000000"}


class Accumulators:
    """The part of a NestWriter (loops.py) that is about reductions. vector: the dimension in lanes, order: all of them,
    outermost first, of which `first` is the first that is reduced; mask, evl: of the strip; ivs: loop indices."""

    nest: Nest
    operations: Operations
    functions: dict[str, Any]
    vector: int | None
    order: list[int]
    first: int
    lanes: int | None
    ivs: dict[int, str]
    mask: str
    evl: str

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

    def _peels(self) -> bool:
        """Whether a short strip beside the loop pays: the body is written twice."""
        ops = [op.name for op in walk_body(self.nest.block)]
        outputs = [o for o in self.nest.outputs if self.nest.accumulates(o)]
        folds = bool(outputs) and self.vector in self.nest.reductions
        return (
            (folds or self._elementwise())
            and all(self._known(o) is not None for o in outputs)
            and len(ops) <= SHORT_BODY
            and all(name.startswith(("arith.", "linalg.", "memref.")) or name in NATIVE_MATH for name in ops)
        )

    def _elementwise(self) -> bool:
        """Whether strips are the innermost loop and nothing is reduced."""
        return not self.nest.reductions and self.vector is not None and self.order[-1] == self.vector

    def _accumulators(self) -> int:
        """Vectors that a row carries through the loops."""
        nest = self.nest
        return sum(nest.accumulates(o) for o in nest.outputs) if self.vector in nest.reductions else 0

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
        return next(
            op for op in walk_body(self.nest.block) if op.name == "func.call" and callee_of(op) in self.functions
        )

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

    def _counters(self, strip: Strip, carries: list[Carry], writer: Writer) -> list[Carry]:
        """The NaN counters of accumulators in lanes whose folds NaN wins."""
        found = []
        for carry in carries:
            kind, elem = self._known(carry.output), carry.start.elem
            if self.vector in self.nest.reductions and f"arith.{kind}" in NAN_WINS and not self.operations.soft(elem):
                none = Value(strip._once(("i64", 0), 0, "arith.constant 0 : i64"), "i64")
                counter = Carry(carry.output, none, writer.fresh("acc"), "i64", counter=True)
                strip.nans[carry.output.argument] = counter.inside
                found.append(counter)
        return found

    def _merge(self, strip: Strip, carry: Carry, value: Value) -> str:
        """The accumulator after one strip: lanes past its end keep what they had."""
        if self.vector is None:
            return value.name
        chosen = strip.vector(value).name
        if self.vector not in self.nest.reductions or strip.whole:
            return chosen
        assert strip.length is not None
        level = len(strip.writers) - 1
        emit = strip.emitter(level)
        if self._known(carry.output) is None:
            operands = list(self._call().operands)
            folded = operands[len(operands) // 2 :][self.nest.outputs.index(carry.output)]
            fresh = strip.vector(strip.get(folded)).name
            chosen = emit(f"arith.select {self._beginning(strip)}, {fresh}, {chosen} : i1, {carry.kind}")
        return emit(
            f'llvm.call_intrinsic "llvm.vp.merge"({strip.length[0]}, {chosen}, {carry.inside}, {strip.length[1]})'
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
        nans = {c.output: v for c, v in zip(carries, after, strict=True) if c.counter}
        folded = [(c, v, self._known(c.output)) for c, v in zip(carries, after, strict=True) if not c.counter]
        known = [(c, v, k) for c, v, k in folded if k is not None]
        unknown = [(c, v) for c, v, k in folded if k is None]
        for carry, value, kind in known:
            op = f"arith.{kind}"
            if carry.output in nans:
                lost = NAN_WINS[op].removeprefix("arith.")
                total = self._unless_nan(strip, self._hardware(strip, lost, value, carry.kind), nans[carry.output])
                self._join(strip, op, carry, total)
                continue
            if kind in _REDUCTIONS and not self.operations.soft(value.elem):
                total = self._hardware(strip, kind, value, carry.kind)
            else:
                (total,) = self._tree(
                    strip, [value], lambda a, b, op=op: strip.apply(op, "", [a[0], b[0]], [a[0].elem])
                )
            self._join(strip, op, carry, total)
        if unknown:
            callee = callee_of(self._call())
            values = [v for _, v in unknown]
            totals = self._tree(strip, values, lambda a, b: strip.inline(callee, [*a, *b]))
            memory_values = [strip.load(*self._place(strip, c.output), c.start.elem, None) for c, _ in unknown]
            joined_values = strip.inline(callee, [*memory_values, *totals])
            for (carry, _), joined in zip(unknown, joined_values, strict=True):
                strip.store(*self._place(strip, carry.output), joined, None)

    def _join(self, strip: Strip, op: str, carry: Carry, total: Value) -> None:
        """Fold a value into an output's own in memory."""
        memory = strip.load(*self._place(strip, carry.output), total.elem, None)
        (joined,) = strip.apply(op, "", [memory, total], [total.elem])
        strip.store(*self._place(strip, carry.output), joined, None)

    def _unless_nan(self, strip: Strip, total: Value, count: Value) -> Value:
        emit = strip.emitter(total.level)
        some = emit(f"arith.cmpi ne, {count.name}, {emit('arith.constant 0 : i64')} : i64")
        nan = emit(f"arith.constant {_NAN[total.elem]} : {total.elem}")
        return Value(emit(f"arith.select {some}, {nan}, {total.name} : {total.elem}"), total.elem, total.level)

    def _first_is_strip(self) -> int:
        """1 if the outermost reduction loop is the strip loop, whose first result is the index."""
        return int(self.order[self.first] == self.vector)

    def _hardware(self, strip: Strip, kind: str, value: Value, text: str) -> Value:
        """Fold all lanes: registers onto each other, and the last one by the instruction. At LMUL 8 that takes an X60
        57 cycles, at LMUL 1 eight, and the folds between them 4, 2 and 1."""
        emit, elem, name, lanes = strip.emitter(value.level), value.elem, value.name, strip.lanes or 1
        while kind in _FOLDED and elem != "i1" and lanes > max(2, 64 // bits_of(elem)):
            lanes //= 2
            part = self.operations.type(elem, lanes)
            halves = [emit(f"vector.scalable.extract {name}[{at}] : {part} from {text}") for at in (0, lanes)]
            (name,) = self.operations.apply(f"arith.{kind}", "", halves, [elem] * 2, [elem], lanes, emit)
            text = part
        if kind == "addf":
            zero = emit(f"arith.constant -0.0 : {elem}")
            total = emit(f"vector.reduction <add>, {name}, {zero} fastmath<reassoc> : {text} into {elem}")
        else:
            total = emit(f"vector.reduction <{_REDUCTIONS[kind]}>, {name} : {text} into {elem}")
        return Value(total, elem, value.level)

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


# Folds that RVV has an instruction for: arith's name → vector.reduction's.
_REDUCTIONS = {
    "addf": "add", "addi": "add", "maximumf": "maximumf", "minimumf": "minimumf", "maxnumf": "maxnumf",
    "minnumf": "minnumf",
    "andi": "and", "ori": "or", "xori": "xor", "maxsi": "maxsi", "minsi": "minsi", "maxui": "maxui", "minui": "minui",
}  # fmt: skip
# Those that are one instruction between registers as well.
_FOLDED = _REDUCTIONS.keys() - {"maximumf", "minimumf"}


def callee_of(call: Any) -> str:
    """The symbol that a func.call names."""
    return str(ir.FlatSymbolRefAttr(call.attributes["callee"]).value)
