"""The body of a linalg.generic, evaluated for one strip of a vectorised dimension.

Each value is one of three kinds:
    uniform   the same for all lanes: a scalar
    linear    base + step * lane: two scalars (loop indices and what is computed from them)
    vector    one scalable vector

and belongs to a level: the number of loops that it depends on. It is written right inside that loop, so
that whatever does not change in an inner loop is computed outside of it. A load through a linear index
is a unit-stride or strided load; through a vector index it is a gather.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from torch_rvv.lowering import strip_atomic, strip_if, strip_sums
from torch_rvv.lowering.graph import attributes
from torch_rvv.lowering.lanebound import lane_bound
from torch_rvv.lowering.nodes import bytes_of
from torch_rvv.lowering.operations import Operations
from torch_rvv.lowering.values import Value, View
from torch_rvv.lowering.writer import Writer

_LINEAR_CASTS = {"arith.index_cast", "arith.index_castui", "arith.extsi", "arith.trunci"}
_LINEAR = {"arith.addi", "arith.subi", "arith.muli", "arith.shli", *_LINEAR_CASTS}


@dataclass(eq=False)
class Strip:
    """One evaluation of a body: where its lines go, and what is in force.

    writers[k] holds the lines inside k loops. lanes: None when no dimension is vectorised. length: (mask,
    evl) of the strip at `level` loops deep.
    """

    operations: Operations
    writers: list[Writer]
    lanes: int | None
    level: int
    length: tuple[str, str] | None
    values: dict[Any, Value] = field(default_factory=dict)
    functions: dict[str, Any] = field(default_factory=dict)
    views: Callable[[Any], View] = field(default=lambda value: View("", "", 0))
    scalar: Callable[[Any], Value] = field(default=lambda value: Value("", ""))
    mask: Value | None = None
    operands: dict[Any, Callable[[], Value]] = field(default_factory=dict)  # how to load what is not loaded yet
    iv: str | None = None  # the strip's first index
    whole: bool = False  # all lanes are in use
    folds: bool = False  # lanes are reduced: which of them holds what is nobody's concern
    sums: set[Any] = field(default_factory=set)  # accumulators of reductions
    nans: dict[Any, str] = field(default_factory=dict)  # those whose NaNs are counted: how many so far
    gathers: int = 0
    early: bool = False  # a load stands outside of a loop that it was inside of
    again: bool = False  # numbers from memory that nobody writes are read where they are used

    # -- writing

    def emitter(self, level: int) -> Callable[..., str]:
        writer = self.writers[level]

        def emit(text: str, results: int = 1) -> str:
            if results == 1:
                return writer.op(text, "v")
            name = writer.fresh("v")
            writer.line(f"{name}:{results} = {text}")
            return name

        return emit

    def vector_type(self, elem: str) -> str:
        return self.operations.type(elem, self.lanes)

    def mask_type(self) -> str:
        return f"vector<[{self.lanes}]xi1>"

    def vector(self, value: Value) -> Value:
        """A value as a vector."""
        if value.kind == "vector":
            return value
        kind = self.vector_type(value.elem)
        if value.kind == "uniform":
            carrier = self.operations.carrier(value.elem)
            if self.again and value.memory:
                # Volatile, or LLVM would read all of them before the loop and keep them on the stack.
                inner = len(self.writers) - 1
                emit = self.emitter(inner)
                read = emit(f"llvm.load volatile {value.memory} : !llvm.ptr -> {carrier}")
                return Value(emit(f"vector.broadcast {read} : {carrier} to {kind}"), value.elem, inner, "vector")
            level = value.level
            name = self._once(("splat", value.name), level, f"vector.broadcast {value.name} : {carrier} to {kind}")
            return Value(name, value.elem, level, "vector")
        elem = "i64" if value.elem == "index" else value.elem
        lanes = self._once(
            ("lane", elem), 0, f'llvm.call_intrinsic "llvm.stepvector"() : () -> {self.vector_type(elem)}'
        )
        if value.elem == "index":
            lanes = self._once(("lane", "index"), 0, f"arith.index_cast {lanes} : {self.vector_type(elem)} to {kind}")
        if value.step != 1:
            step = self._scalar_step(value)
            at = value.step_level
            splat = self._once(("splat", step), at, f"vector.broadcast {step} : {value.elem} to {kind}")
            lanes = self._once(("steps", step, lanes), at, f"arith.muli {lanes}, {splat} : {kind}")
        base = self._once(("splat", value.name), value.level, f"vector.broadcast {value.name} : {value.elem} to {kind}")
        name = self._once(("linear", value.name, lanes), value.level, f"arith.addi {base}, {lanes} : {kind}")
        return Value(name, value.elem, value.level, "vector")

    def _scalar_step(self, value: Value) -> str:
        if isinstance(value.step, str):
            return value.step
        step = value.step
        if value.elem[1:].isdigit():  # As the lanes themselves it wraps around, at the width of its type.
            half = 1 << int(value.elem[1:]) - 1
            step = (step + half) % (2 * half) - half
        return self._once(("step", step, value.elem), 0, f"arith.constant {step} : {value.elem}")

    def _once(self, key: object, level: int, text: str) -> str:
        writer = self.writers[level]
        found = writer._memo(key)
        return found if found is not None else writer.remember(key, writer.op(text, "v"))

    # -- evaluation

    def block(self, operations: Sequence[Any]) -> list[Value]:
        """Evaluate operations in order; returns the operands of the terminator."""
        for op in operations[:-1]:
            self.operation(op.operation)
        return [self.get(v) for v in operations[-1].operands]

    def get(self, value: Any) -> Value:
        found = self.values.get(value)
        if found is None:
            found = self.values[value] = self.operands.get(value, partial(self.scalar, value))()
        return found

    def operation(self, op: Any) -> None:
        special = _SPECIAL.get(op.name)
        if special is not None:
            special(self, op)
            return
        if op.name == "func.call":
            callee = str(op.attributes["callee"]).lstrip("@").strip('"')
            if callee in self.functions:
                results = self.inline(callee, [self.get(v) for v in op.operands])
                self.values.update(zip(op.results, results, strict=True))
                return
        if op.name == "arith.addf" and (total := strip_sums.product_sum(self, op)) is not None:
            self.values[op.results[0]] = total
            return
        folded = next((v for v in op.operands if v in self.nans), None) if op.name in NAN_WINS else None
        if folded is not None:
            acc, other = op.operands
            self.values[op.results[0]] = self._fold_counting(op.name, folded, other if acc == folded else acc)
            return
        args = [self.get(v) for v in op.operands]
        elems = [str(r.type) for r in op.results]
        self.values.update(zip(op.results, self.apply(op.name, attributes(op), args, elems), strict=True))

    def _fold_counting(self, op: str, acc: Any, other: Any) -> Value:
        """A fold that NaN would win, by the operation that it loses; NaNs are counted."""
        value = self.vector(self.get(other))
        (nan,) = self.apply("arith.cmpf", "predicate = 14 : i64", [value, value], ["i1"])
        level = len(self.writers) - 1
        emit = self.emitter(level)
        more = emit(
            f'llvm.call_intrinsic "llvm.riscv.vcpop"({nan.name}, {self.wide_length(level)})'
            f" : ({self.mask_type()}, i64) -> i64"
        )
        self.nans[acc] = emit(f"arith.addi {self.nans[acc]}, {more} : i64")
        return self.apply(NAN_WINS[op], "", [self.get(acc), value], [value.elem])[0]

    def inline(self, callee: str, args: list[Value]) -> list[Value]:
        """The results of one of the module's own functions."""
        block = self.functions[callee].regions[0].blocks[0]
        outer = dict(self.values)
        self.values.update(zip(block.arguments, args, strict=True))
        results = self.block(list(block.operations))
        self.values = outer
        return results

    def apply(self, op: str, attr: str, args: list[Value], results: list[str]) -> list[Value]:
        """An elementwise operation on values of any kind."""
        level = max((a.level for a in args), default=0)
        if all(a.kind == "uniform" for a in args):
            names = self.operations.apply(
                op, attr, [a.name for a in args], [a.elem for a in args], results, None, self.emitter(level)
            )
            return [Value(n, e, level) for n, e in zip(names, results, strict=True)]
        if op in _LINEAR and all(a.kind != "vector" for a in args):
            linear = self._linear(op, attr, args, results[0], level)
            if linear is not None:
                return [linear]
        if op == "arith.cmpi":
            mask = lane_bound(self, attr, args, level)
            if mask is not None:
                return [mask]
        safe = len(args) == 2 and args[1].kind == "uniform" and bool(args[1].constant)
        vectors = [self.vector(a) for a in args]
        level = max([self.level if op in _NEEDS_LENGTH else 0, *(v.level for v in vectors)])
        names = self.operations.apply(
            op,
            attr,
            [v.name for v in vectors],
            [v.elem for v in vectors],
            results,
            self.lanes,
            self.emitter(level),
            self.length if level >= self.level else None,
            safe,
        )
        narrow = vectors[0].name if op == "arith.index_castui" and vectors[0].elem == "i32" else ""
        return [Value(n, e, level, "vector", narrow=narrow) for n, e in zip(names, results, strict=True)]

    def _linear(self, op: str, attr: str, args: list[Value], elem: str, level: int) -> Value | None:
        """base + step*lane, if the operation keeps that form."""
        emit = self.emitter(level)
        names = [a.name for a in args]
        base = self.operations.apply(op, attr, names, [a.elem for a in args], [elem], None, emit)[0]
        steps = [a.step if a.kind == "linear" else 0 for a in args]
        step_level = max((a.step_level for a in args), default=0)
        if op in _LINEAR_CASTS:
            if isinstance(steps[0], int):
                return Value(base, elem, level, "linear", steps[0])
            step_emit = self.emitter(step_level)
            step = self.operations.apply(op, attr, [steps[0]], [args[0].elem], [elem], None, step_emit)[0]
            return Value(base, elem, level, "linear", step, step_level)
        if op == "arith.muli":
            return self._scaled(base, elem, level, args, step_level)
        if op == "arith.shli":
            if args[1].constant is None or not isinstance(steps[0], int) or args[0].kind != "linear":
                return None
            return Value(base, elem, level, "linear", steps[0] << args[1].constant)
        a, b = steps
        if isinstance(a, int) and isinstance(b, int):
            total = a + b if op == "arith.addi" else a - b
            return Value(base, elem, level, "linear", total) if total else Value(base, elem, level)
        if b == 0 or (a == 0 and op == "arith.addi"):
            return Value(base, elem, level, "linear", a if b == 0 else b, step_level)
        return None

    def _scaled(self, base: str, elem: str, level: int, args: list[Value], step_level: int) -> Value | None:
        a, b = args
        if a.kind == b.kind == "linear":
            return None
        moving, factor = (a, b) if a.kind == "linear" else (b, a)
        if factor.constant is not None and isinstance(moving.step, int):
            return Value(base, elem, level, "linear", moving.step * factor.constant)
        at = max(step_level, factor.level)
        if moving.step == 1:
            return Value(base, elem, level, "linear", factor.name, at)
        step = self._scalar_step(moving)
        name = self.writers[at].op(f"arith.muli {step}, {factor.name} : {elem}", "v")
        return Value(base, elem, level, "linear", name, at)

    # -- memory

    def load(self, view: View, index: Value, elem: str, mask: Value | None) -> Value:
        """The element of a one-dimensional view at an index, where a mask holds (undefined elsewhere)."""
        level = max(index.level, mask.level if mask else 0)
        self.early = self.early or level < len(self.writers) - 1
        if index.kind == "uniform" and (mask is None or mask.kind == "uniform"):
            return self._scalar_load(view, index, elem, mask, level)
        level = max(level, self.level)
        address, stride = self._address(view, index, level)
        kind, emit = self.vector_type(elem), self.emitter(level)
        name = emit(self._read_text(address, stride, elem, kind, self._mask(mask)))
        return Value(name, elem, level, "vector")

    def _read_text(self, address: str, stride: str | int | None, elem: str, kind: str, mask: str) -> str:
        assert self.length is not None
        evl, masks = self.length[1], self.mask_type()
        if stride is None:
            pointers = f"vector<[{self.lanes}]x!llvm.ptr>"
            self.gathers += 1
            return (
                f'llvm.call_intrinsic "llvm.vp.gather"({address}, {mask}, {evl}) : ({pointers}, {masks}, i32) -> {kind}'
            )
        if stride == 1 and self.whole and mask == self.length[0]:
            return f"llvm.load {address} {{alignment = {bytes_of(elem)} : i64}} : !llvm.ptr -> {kind}"
        if stride == 1:
            return f'llvm.call_intrinsic "llvm.vp.load"({address}, {mask}, {evl}) : (!llvm.ptr, {masks}, i32) -> {kind}'
        return (
            f'llvm.call_intrinsic "llvm.experimental.vp.strided.load"({address}, {stride}, {mask}, {evl})'
            f" : (!llvm.ptr, i64, {masks}, i32) -> {kind}"
        )

    def _scalar_load(self, view: View, index: Value, elem: str, mask: Value | None, level: int) -> Value:
        carrier = self.operations.carrier(elem)
        writer = self.writers[level]
        if mask is None:
            pointer = self._pointer(view, index, level)
            return Value(writer.op(f"llvm.load {pointer} : !llvm.ptr -> {carrier}", "v"), elem, level)
        name = writer.fresh("v")
        with writer.block(f"{name} = scf.if {mask.name} -> ({carrier}) {{", "} else {"):
            pointer = self._pointer(view, index, level)
            writer.line(f"scf.yield {writer.op(f'llvm.load {pointer} : !llvm.ptr -> {carrier}')} : {carrier}")
        zero = "0.0" if carrier.startswith("f") else "0"
        writer.line(f"  {name}_zero = arith.constant {zero} : {carrier}")
        writer.line(f"  scf.yield {name}_zero : {carrier}")
        writer.line("}")
        return Value(name, elem, level)

    def store(self, view: View, index: Value, value: Value, mask: Value | None) -> None:
        """Write an element of a one-dimensional view, where a mask holds. Always in the innermost loop."""
        level = len(self.writers) - 1
        elem = value.elem
        if self.lanes is None or (index.kind == "uniform" and value.kind == "uniform" and not self._varies(mask)):
            self._scalar_store(view, index, value, mask, level)
            return
        address, stride = self._address(view, self.vector(index) if index.kind == "uniform" else index, level)
        vector = self.vector(value)
        assert self.length is not None
        name, evl, masks, kind = self._mask(mask), self.length[1], self.mask_type(), self.vector_type(elem)
        if stride == 1 and self.whole and mask is None:
            aligned = f"{{alignment = {bytes_of(elem)} : i64}}"
            self.writers[level].line(f"llvm.store {vector.name}, {address} {aligned} : {kind}, !llvm.ptr")
            return
        if stride is None:
            pointers = f"vector<[{self.lanes}]x!llvm.ptr>"
            text = f'"llvm.vp.scatter"({vector.name}, {address}, {name}, {evl}) : ({kind}, {pointers}, {masks}, i32)'
        elif stride == 1:
            text = f'"llvm.vp.store"({vector.name}, {address}, {name}, {evl}) : ({kind}, !llvm.ptr, {masks}, i32)'
        else:
            text = (
                f'"llvm.experimental.vp.strided.store"({vector.name}, {address}, {stride}, {name}, {evl})'
                f" : ({kind}, !llvm.ptr, i64, {masks}, i32)"
            )
        self.writers[level].line(f"llvm.call_intrinsic {text} -> ()")

    def _varies(self, mask: Value | None) -> bool:
        return mask is not None and mask.kind != "uniform"

    def _scalar_store(self, view: View, index: Value, value: Value, mask: Value | None, level: int) -> None:
        writer, carrier = self.writers[level], self.operations.carrier(value.elem)
        if mask is None:
            writer.line(f"llvm.store {value.name}, {self._pointer(view, index, level)} : {carrier}, !llvm.ptr")
            return
        with writer.block(f"scf.if {mask.name} {{"):
            writer.line(f"llvm.store {value.name}, {self._pointer(view, index, level)} : {carrier}, !llvm.ptr")

    def _mask(self, mask: Value | None) -> str:
        if mask is not None:
            return self.vector(mask).name
        assert self.length is not None
        return self.length[0]

    def _pointer(self, view: View, index: Value, level: int) -> str:
        """The address of a view's element, the index a scalar."""
        writer, elem = self.writers[level], self._unit(view)
        at = writer.op(f"arith.index_cast {index.name} : {index.elem} to i64", "v")
        return writer.op(f"llvm.getelementptr {view.base}[{at}] : (!llvm.ptr, i64) -> !llvm.ptr, {elem}", "v")

    def _unit(self, view: View) -> str:
        """The type whose size an index counts."""
        return "i8" if view.addressed else self.operations.carrier(view.elem)

    def _address(self, view: View, index: Value, level: int) -> tuple[str, str | int | None]:
        """(pointer, 1), (pointer, stride in bytes), or (vector of pointers, None)."""
        writer, elem = self.writers[level], self._unit(view)
        if index.kind == "vector":
            wide = (
                writer.op(
                    f"arith.index_cast {index.name} : {self.vector_type(index.elem)} to {self.vector_type('i64')}", "v"
                )
                if index.elem == "index"
                else index.name
            )
            pointers = f"vector<[{self.lanes}]x!llvm.ptr>"
            return (
                writer.op(
                    f"llvm.getelementptr {view.base}[{wide}]"
                    f" : (!llvm.ptr, {self.vector_type('i64')}) -> {pointers}, {elem}",
                    "v",
                ),
                None,
            )
        pointer = self._pointer(view, index, level)
        step = index.step if index.kind == "linear" else 0
        size = 1 if view.addressed else bytes_of(view.elem)
        if isinstance(step, int) and step * size == bytes_of(view.elem):
            return pointer, 1
        if isinstance(step, int):
            return pointer, self._once(("bytes", step * size), 0, f"arith.constant {step * size} : i64")
        at = index.step_level
        wide = self._once(("i64", step), at, f"arith.index_cast {step} : {index.elem} to i64")
        scale = self._once(("bytes", size), 0, f"arith.constant {size} : i64")
        return pointer, self._once(("stride", step, size), at, f"arith.muli {wide}, {scale} : i64")

    # -- operations with a form of their own

    def memref_load(self, op: Any) -> None:
        memref, at = op.operands
        view, index, elem = self.views(memref), self.get(at), str(op.results[0].type)
        if index.narrow:
            self.values[op.results[0]] = self._gather(view, index, elem, self.mask)
            return
        self.values[op.results[0]] = self.load(view, self._offset(view, index), elem, self.mask)

    def _gather(self, view: View, index: Value, elem: str, mask: Value | None) -> Value:
        """A load through indices of 32 bits, of which the offsets in bytes are no negative numbers either."""
        assert self.length is not None
        level = max(index.level, mask.level if mask else 0, self.level)
        base = view.base
        if view.offset != 0:
            start = Value(view.offset, "index") if isinstance(view.offset, str) else self.constant_index(view.offset)
            base = self._pointer(replace(view, offset=0), start, 0)
        kind, wide, emit = self.vector_type(elem), self.vector_type("i32"), self.emitter(level)
        shift = bytes_of(elem).bit_length() - 1
        by = self.vector(Value(self._once(("i32", shift), 0, f"arith.constant {shift} : i32"), "i32"))
        offsets = emit(f"arith.shli {index.narrow}, {by.name} : {wide}")
        poison = self._once(("poison", kind), 0, f"llvm.mlir.poison : {kind}")
        length, policy = self.wide_length(level), self._once(("i64", 3), 0, "arith.constant 3 : i64")
        values, types = [poison, base, offsets], [kind, "!llvm.ptr", wide]
        if mask is not None:
            values, types = [*values, self._mask(mask), length, policy], [*types, self.mask_type(), "i64", "i64"]
        else:
            values, types = [*values, length], [*types, "i64"]
        name = "llvm.riscv.vluxei" + (".mask" if mask is not None else "")
        self.gathers += 1
        text = f'llvm.call_intrinsic "{name}"({", ".join(values)}) : ({", ".join(types)}) -> {kind}'
        return Value(emit(text), elem, level, "vector")

    def wide_length(self, level: int) -> str:
        """The strip's length as an i64."""
        assert self.length is not None
        if self.whole:
            return self._once(("i64", -1), 0, "arith.constant -1 : i64")
        return self._once(("wide", self.length[1]), level, f"arith.extui {self.length[1]} : i32 to i64")

    def memref_store(self, op: Any) -> None:
        value, memref, index = op.operands
        self.store(self.views(memref), self._offset(self.views(memref), self.get(index)), self.get(value), self.mask)

    def _offset(self, view: View, index: Value) -> Value:
        if view.offset == 0:
            return index
        offset = Value(str(view.offset), "index") if isinstance(view.offset, str) else self.constant_index(view.offset)
        return self.apply("arith.addi", "", [index, offset], ["index"])[0]

    def constant_index(self, number: int) -> Value:
        name = self._once(("index", number), 0, f"arith.constant {number} : index")
        return Value(name, "index", constant=number)

    def bound(self, op: Any) -> None:
        """linalg.index: the nest gave it a value before the body is evaluated."""
        assert op.results[0] in self.values

    def constant(self, op: Any) -> None:
        text = str(op.attributes["value"]).split(" : ")[0]
        elem = str(op.results[0].type)
        name = self.operations.constant(text, elem, None, self.emitter(0))
        number = int(text) if elem[0] == "i" and text.lstrip("-").isdigit() else None
        self.values[op.results[0]] = Value(name, elem, constant=number)


# Folds that NaN wins → the operation that it loses, one instruction instead of five. Beside them NaNs are counted.
NAN_WINS = {"arith.maximumf": "arith.maxnumf", "arith.minimumf": "arith.minnumf"}
# Operations whose form takes the strip's length, and so must stand inside the strip loop.
_NEEDS_LENGTH = {
    "arith.divsi", "arith.divui", "arith.remsi", "arith.remui", "arith.mului_extended", "arith.mulsi_extended",
}  # fmt: skip
_SPECIAL: dict[str, Callable[[Strip, Any], None]] = {
    "linalg.index": Strip.bound,
    "memref.load": Strip.memref_load,
    "memref.store": Strip.memref_store,
    "arith.constant": Strip.constant,
    "scf.if": strip_if.conditional,
    "llvm.atomicrmw": strip_atomic.atomic,
    "llvm.cmpxchg": strip_atomic.atomic,
    "llvm.getelementptr": strip_atomic.atomic,
    "llvm.extractvalue": strip_atomic.atomic,
    "llvm.inline_asm": strip_atomic.atomic,
}
# Operations that keep a body scalar.
SCALAR_ONLY = frozenset({"llvm.atomicrmw", "llvm.cmpxchg", "llvm.inline_asm"})
