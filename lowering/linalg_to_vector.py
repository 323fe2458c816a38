"""Stage 2, linalg text → vector-level text: every linalg.generic a vector loop nest, memory as pointers.

    func.func @k(%p: !llvm.ptr, ..., %pid_x: i32, ...)        linalg, memref
    →
    func.func private @k.program(... , %scratch: !llvm.ptr) -> i32     arith, scf, vector, llvm
    func.func @k(%args: !llvm.ptr, %grid: !llvm.ptr, %begin: i64, %end: i64, %context: !llvm.ptr) -> i32

The second function is the kernel of the C ABI (entry.py). Buffers get fixed places in the thread's scratch memory.
Everything that is not linalg or memref is written again as it stands.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from torch_rvv.lowering import fill, matmul, radix, scan, sort, sortnetwork
from torch_rvv.lowering.accumulate import callee_of
from torch_rvv.lowering.bounds import MODULUS, remainders, upper_bound
from torch_rvv.lowering.canonical_nan import mark_canonical_nans
from torch_rvv.lowering.entry import entry
from torch_rvv.lowering.graph import attributes
from torch_rvv.lowering.linear import Poly
from torch_rvv.lowering.loops import NestWriter
from torch_rvv.lowering.mlir import context, integer, ir, number_of_inputs
from torch_rvv.lowering.neighbours import Origins
from torch_rvv.lowering.nest import Nest, Operand
from torch_rvv.lowering.nodes import bytes_of
from torch_rvv.lowering.operations import Operations
from torch_rvv.lowering.products import Products
from torch_rvv.lowering.values import UNCHANGED, Value, View
from torch_rvv.lowering.writer import HERE, Writer

from torch_rvv.errors import LoweringError

ALIGNMENT = 64
# Offsets in bytes of the print function and of the address bias in a context (torch_rvv.h).
PRINT_FIELD, BIAS_FIELD = 24, 32


class ToVector:
    """Writes one kernel function. `nests` lists what each loop nest turned out to be."""

    def __init__(self, options: Any, functions: dict[str, Any]):
        self.options, self.functions = options, functions
        self.operations = Operations(options.target)
        self.writer = Writer()
        self.writer.depth = 2
        self.values: dict[Any, Value] = {}
        self.views: dict[Any, View] = {}
        self.origins = Origins()
        self.scratch = 0
        self.nests: list[dict[str, Any]] = []
        self.products = Products(self)
        self.done: set[Any] = set()  # operations that were written where they do not stand

    # -- values

    def value(self, value: Any) -> Value:
        return self.values[value]

    def view(self, memref: Any) -> View:
        return self.views[memref]

    def name(self, value: Any) -> str:
        return self.values[value].name

    def define(self, result: Any, name: str, constant: int | None = None) -> None:
        self.values[result] = Value(name, str(result.type), constant=constant)

    def emit(self, text: str, results: int = 1) -> str:
        if results == 1:
            return self.writer.op(text, "u")
        name = self.writer.fresh("u")
        self.writer.line(f"{name}:{results} = {text}")
        return name

    # -- operations

    def block(self, operations: list[Any]) -> None:
        for op in operations:
            self.operation(op.operation)

    def operation(self, op: Any) -> None:
        if op in self.done:
            return
        handler = _HANDLERS.get(op.name)
        if handler is not None:
            handler(self, op)
            return
        if len(op.regions):
            raise LoweringError(f"the vector stage has no form for {op.name}")
        if op.name == "func.call" and callee_of(op) in self.functions:
            raise LoweringError("a combine function outside of a loop body")
        # Calls of one kind have a number behind their name.
        write = _CALLS.get(callee_of(op).rstrip("0123456789")) if op.name == "func.call" else None
        if write is not None:
            write(self, op)
            return
        args = [self.value(v) for v in op.operands]
        elems = [str(r.type) for r in op.results]
        if op.name.startswith("llvm.") or (op.name == "func.call" and callee_of(op) == "torch_rvv.check"):
            self._as_is(op, args, elems)
            return
        names = self.operations.apply(
            op.name, attributes(op), [a.name for a in args], [a.elem for a in args], elems, None, self.emit
        )
        for result, name in zip(op.results, names, strict=True):
            self.define(result, name)

    def _as_is(self, op: Any, args: list[Value], elems: list[str]) -> None:
        carrier = self.operations.carrier
        ins, outs = ", ".join(carrier(a.elem) for a in args), ", ".join(map(carrier, elems))
        attr = attributes(op)
        if "elem_type = " in attr:
            attr = re.sub(r"elem_type = (\w+)", lambda m: f"elem_type = {carrier(m.group(1))}", attr)
        text = f'"{op.name}"({", ".join(a.name for a in args)}) {{{attr}}} : ({ins}) -> ({outs})'
        if not elems:
            self.writer.line(text)
            return
        self.define(op.results[0], self.emit(text))

    def _print(self, op: Any) -> None:
        """A call of the context's print function (torch_rvv.h)."""
        w = self.writer
        arguments = ", ".join(["%context", *(self.name(v) for v in op.operands)])
        function = self._field(PRINT_FIELD, "!llvm.ptr")
        types = "!llvm.ptr, i32, i32, i32, i32, !llvm.ptr, i64"
        w.line(f"llvm.call {function}({arguments}) : !llvm.ptr, ({types}) -> ()")

    def _scan(self, op: Any) -> None:
        """A scan along rows."""
        number = {name: integer(op, name) for name in ("rows", "length")}
        flag = {name: str(op.attributes[name]) == "true" for name in ("reverse", "turned", "stored")}
        views = [self.views[v] for v in op.operands]
        goes = views.pop() if flag["stored"] else None
        rows = scan.Rows(
            views, number["rows"], number["length"], flag["reverse"], op.attributes["kind"].value,
            op.attributes["function"].value, flag["turned"], goes,
        )  # fmt: skip
        self.nests.append(scan.write(rows, self.operations, self.functions, self.writer, self.options.lmul))

    def _sort(self, op: Any) -> None:
        """A sort of rows."""
        numbers = [integer(op, name) for name in ("rows", "size", "length")]
        view, *more = (self.views[v] for v in op.operands)
        keys = sort.Keys(view, *numbers, *more)
        form = sortnetwork if keys.spare is None else radix
        self.nests.append(form.write(keys, self.operations, self.writer, self.options.lmul))

    def _bias(self, op: Any) -> None:
        """A call of what reads the context's address bias."""
        self.define(op.results[0], self._field(BIAS_FIELD, "i64"))

    def _field(self, offset: int, kind: str) -> str:
        """A field of the context, by its offset in bytes."""
        at = self.writer.op(f"llvm.getelementptr %context[{offset}] : (!llvm.ptr) -> !llvm.ptr, i8")
        return self.writer.op(f"llvm.load {at} : !llvm.ptr -> {kind}")

    def pointer_of(self, op: Any) -> None:
        """memref.extract_aligned_pointer_as_index."""
        base = self.views[op.operands[0]].base
        address = self.writer.op(f"llvm.ptrtoint {base} : !llvm.ptr to i64")
        self.define(op.results[0], self.writer.op(f"arith.index_cast {address} : i64 to index"))

    def constant(self, op: Any) -> None:
        text = str(op.attributes["value"]).split(" : ")[0]
        elem = str(op.results[0].type)
        number = int(text) if elem[0] == "i" and text.lstrip("-").isdigit() else None
        self.define(op.results[0], self.operations.constant(text, elem, None, self.emit), number)

    # -- memory

    def alloca(self, op: Any) -> None:
        kind = ir.MemRefType(op.results[0].type)
        elem = str(kind.element_type)
        count = 1
        for n in kind.shape:
            count *= n
        offset = self.scratch
        size = count * bytes_of(elem)
        self.scratch += -(-size // ALIGNMENT) * ALIGNMENT
        at = self.writer.op(f"arith.constant {offset} : i64", "o")
        base = self.writer.op(f"llvm.getelementptr %scratch[{at}] : (!llvm.ptr, i64) -> !llvm.ptr, i8", "b")
        self.views[op.results[0]] = View(base, elem, 0, (1,), (count,))

    def cast(self, op: Any) -> None:
        kind = ir.MemRefType(op.results[0].type)
        addressed = kind.memory_space is not None
        self.views[op.results[0]] = View(
            self.name(op.operands[0]), str(kind.element_type), 0, (1,), addressed=addressed
        )

    def reinterpret(self, op: Any) -> None:
        source, *dynamic = op.operands
        rest = iter(dynamic)
        most: list[int | None] = []
        rests: list[frozenset[int] | None] = []

        def parts(name: str) -> tuple[str | int, ...]:
            values: list[str | int] = []
            for number in op.attributes[name]:
                bound, left = number, frozenset({number % MODULUS})
                if number == ir.ShapedType.get_dynamic_size() or number == ir.ShapedType.get_dynamic_stride_or_offset():
                    operand = next(rest)
                    value, bound, left = self.value(operand), upper_bound(operand), remainders(operand)
                    values.append(value.name if value.constant is None else value.constant)
                else:
                    values.append(number)
                if name == "static_sizes":
                    most.append(bound)
                    rests.append(left)
            return tuple(values)

        (offset,), sizes, strides = (parts(f"static_{word}") for word in ("offsets", "sizes", "strides"))
        origin = Poly(offset) if isinstance(offset, int) else self.origins.of(dynamic[0])
        self.views[op.results[0]] = replace(
            self.views[source], offset=offset, strides=strides, sizes=sizes, most=tuple(most), rests=tuple(rests),
            origin=origin,
        )  # fmt: skip

    def load(self, op: Any) -> None:
        memref, *indices = op.operands
        view = self.views[memref]
        carrier = self.operations.carrier(view.elem)
        pointer = self._pointer(view, indices)
        name = self.writer.op(f"llvm.load {pointer} : !llvm.ptr -> {carrier}", "u")
        memory = pointer if UNCHANGED in op.attributes else ""
        self.values[op.results[0]] = Value(name, str(op.results[0].type), memory=memory)

    def _pointer(self, view: View, indices: list[Any]) -> str:
        w = self.writer
        if not indices:
            return view.base
        at = w.op(f"arith.index_cast {self.name(indices[0])} : index to i64", "u")
        elem = "i8" if view.addressed else self.operations.carrier(view.elem)
        return w.op(f"llvm.getelementptr {view.base}[{at}] : (!llvm.ptr, i64) -> !llvm.ptr, {elem}", "u")

    # -- control

    def loop(self, op: Any) -> None:
        lower, upper, step, *initial = (self.value(v) for v in op.operands)
        rounds = self.products.rounds.pop(op, None)
        if rounds is not None:
            self.block(rounds.end.before)
            self.done.update([*rounds.end.before, rounds.end.generic])
        block = op.regions[0].blocks[0]
        iv, *carried = block.arguments
        self.define(iv, self.writer.fresh("i"))
        for argument in carried:
            self.define(argument, self.writer.fresh("a"))
        carrier = self.operations.carrier
        head = f"scf.for {self.name(iv)} = {lower.name} to {upper.name} step {step.name}"
        types = ", ".join(carrier(v.elem) for v in initial)
        result = self.writer.fresh("for")
        if carried:
            pairs = ", ".join(f"{self.name(a)} = {v.name}" for a, v in zip(carried, initial, strict=True))
            head = f"{result}:{len(carried)} = {head} iter_args({pairs}) -> ({types})"
        with self.writer.block(f"{head} : {lower.elem} {{"):
            self.region(block, "scf.yield", types)
        for i, r in enumerate(op.results):
            self.define(r, f"{result}#{i}")
        if rounds is not None:
            self.products.without_rounds(rounds, lower, upper)

    def region(self, block: Any, terminator: str, types: str) -> None:
        """A block's operations and its terminator."""
        *operations, last = block.operations
        self.block(operations)
        names = ", ".join(self.name(v) for v in last.operation.operands)
        self.writer.line(f"{terminator} {names} : {types}" if names else terminator)

    def branch(self, op: Any) -> None:
        carrier = self.operations.carrier
        types = ", ".join(carrier(str(r.type)) for r in op.results)
        head, result = f"scf.if {self.name(op.operands[0])}", self.writer.fresh("if")
        if types:
            head = f"{result}:{len(op.results)} = {head} -> ({types})"
        blocks = [b for r in op.regions for b in r.blocks]
        self.writer.line(head + " {")
        for number, block in enumerate(blocks):
            if number:
                self.writer.line("} else {")
            self.writer.depth += 1
            self.writer._indices.append({})
            self.region(block, "scf.yield", types)
            self.writer._indices.pop()
            self.writer.depth -= 1
        self.writer.line("}")
        for i, r in enumerate(op.results):
            self.define(r, f"{result}#{i}")

    def while_loop(self, op: Any) -> None:
        w, carrier = self.writer, self.operations.carrier
        before, after = (r.blocks[0] for r in op.regions)
        initial = [self.value(v) for v in op.operands]
        ins = ", ".join(carrier(v.elem) for v in initial)
        outs = ", ".join(carrier(str(r.type)) for r in op.results)
        for argument in [*before.arguments, *after.arguments]:
            self.define(argument, w.fresh("a"))
        pairs = ", ".join(f"{self.name(a)} = {v.name}" for a, v in zip(before.arguments, initial, strict=True))
        result = w.fresh("while")
        prefix = f"{result}:{len(op.results)} = " if outs else ""
        with w.block(f"{prefix}scf.while ({pairs}) : ({ins}) -> ({outs}) {{", "} do {"):
            *operations, last = before.operations
            self.block(operations)
            condition, *passed = (self.name(v) for v in last.operation.operands)
            w.line(f"scf.condition({condition})" + (f" {', '.join(passed)} : {outs}" if passed else ""))
        arguments = ", ".join(f"{self.name(a)}: {carrier(str(a.type))}" for a in after.arguments)
        with w.block(f"^bb0({arguments}):"):
            self.region(after, "scf.yield", ins)
        for i, r in enumerate(op.results):
            self.define(r, f"{result}#{i}")

    # -- linalg

    def generic(self, op: Any) -> None:
        if self.products.waits(op):
            return
        nest = self.nest_of(op)
        contraction = matmul.match(nest, self.operations.soft)
        if contraction is not None:
            self.products.write(op, contraction)
        else:
            self.products.write_plain(op, nest)

    def nest_of(self, op: Any) -> Nest:
        operands = list(op.operands)
        maps = [ir.AffineMapAttr(m).value for m in op.attributes["indexing_maps"]]
        inputs = number_of_inputs(op)
        block = op.regions[0].blocks[0]
        kinds = ["reduction" in str(k) for k in op.attributes["iterator_types"]]
        sizes: list[str | int] = [0] * len(kinds)
        most: list[int | None] = [None] * len(kinds)
        rests: list[frozenset[int] | None] = [None] * len(kinds)
        read = []
        for number, (value, map_, argument) in enumerate(zip(operands, maps, block.arguments, strict=True)):
            view = self.views[value]
            dims = tuple(ir.AffineDimExpr(e).position for e in map_.results)
            for dim, size, bound in zip(dims, view.sizes, view.most or view.sizes, strict=False):
                sizes[dim] = size
                most[dim] = bound if isinstance(bound, int) else most[dim]
            for dim, rest in zip(dims, view.rests, strict=False):
                rests[dim] = rest if rest is not None else rests[dim]
            if not dims:
                view = replace(view, strides=(), sizes=())
            read.append(Operand(view, dims, argument, output=number >= inputs))
        return Nest(read, sizes, {d for d, reduced in enumerate(kinds) if reduced}, block, most, rests)

    def plain(self, nest: Nest, shown: bool = True) -> None:
        """A nest of loops. shown: it is one of those that explain tells of."""
        writer = NestWriter(nest, self.operations, self.functions, self.value, self.view, self.writer)
        found = writer.write(self.options.lmul)
        if shown:
            self.nests.append(found)


_HANDLERS = {
    "arith.constant": ToVector.constant,
    "memref.alloca": ToVector.alloca,
    "memref.extract_aligned_pointer_as_index": ToVector.pointer_of,
    "memref.reinterpret_cast": ToVector.reinterpret,
    "memref.load": ToVector.load,
    "builtin.unrealized_conversion_cast": ToVector.cast,
    "scf.for": ToVector.loop,
    "scf.if": ToVector.branch,
    "scf.while": ToVector.while_loop,
    "linalg.generic": ToVector.generic,
    "linalg.fill": fill.fill,
}


_CALLS = {
    "torch_rvv.print": ToVector._print,
    "torch_rvv.bias": ToVector._bias,
    scan.CALL: ToVector._scan,
    sort.CALL: ToVector._sort,
}


def linalg_to_vector(text: str, metadata: dict[str, Any], options: Any) -> str:
    """Stage function. Adds to the metadata: scratch_bytes, nests (lmul, live vectors, gathers of each loop nest)."""
    with context():
        module = ir.Module.parse(text)
        if "bf16" in text:
            mark_canonical_nans(module)
        functions = {op.operation.attributes["sym_name"].value: op.operation for op in module.body.operations}
        kernel = functions[metadata["name"]]
        own = {n: f for n, f in functions.items() if f.regions[0].blocks and n != metadata["name"]} if functions else {}
        to = ToVector(options, own)
        block = kernel.regions[0].blocks[0]
        elems = [str(a.type) for a in block.arguments]
        for number, argument in enumerate(block.arguments):
            to.define(argument, f"%arg{number}")
        to.block(list(block.operations)[:-1])
    carrier = to.operations.carrier
    program = f"{metadata['name']}.program"
    arguments = ", ".join(f"%arg{i}: {carrier(e)}" for i, e in enumerate(elems))
    lines = ["module {", "  func.func private @torch_rvv.check(i1, i32)", f"  func.func private @{HERE}()"]
    lines.append(
        f"  func.func private @{program}({arguments}, %scratch: !llvm.ptr, %context: !llvm.ptr) -> i32"
        " attributes {llvm.linkage = #llvm.linkage<internal>} {"
    )
    lines += to.writer.lines
    lines += ["    %ok = arith.constant 0 : i32", "    func.return %ok : i32", "  }"]
    lines += entry(metadata["name"], program, elems[:-6], carrier)
    lines.append("}")
    metadata["scratch_bytes"] = to.scratch
    metadata["nests"] = to.nests
    metadata["lmul"] = max((n["lmul"] for n in to.nests), default=0)
    return "\n".join(lines) + "\n"
