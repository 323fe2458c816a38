"""The graph → linalg: each statement one linalg.generic over strided views of memory.

    Store(p + 1000*x + r, exp(load(q + r)), mask = r < n)
    →
    %in  = memref.reinterpret_cast %q to offset: [0], sizes: [%n], strides: [1]
    %out = memref.reinterpret_cast %p to offset: [%o], sizes: [%n], strides: [1]
    linalg.generic {... parallel} ins(%in) outs(%out) { math.exp; linalg.yield }

Neighbouring statements over the same iterations share one generic. A space split at a divisor becomes a
scf.for over quotients around the generic. Output contract: dialects func, arith, math, scf, memref and
linalg, pointers as !llvm.ptr; buffers are memref.alloca at the top; the function takes the
kernel's arguments, then program ids x, y, z, then grid sizes x, y, z, and returns nothing. A memref.load
from memory that the kernel never writes has the attribute torch_rvv.unchanged.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from torch_rvv.lowering import interior, matrixunit, sort
from torch_rvv.lowering.access import Index, Space, Split
from torch_rvv.lowering.body import memory, memory_type
from torch_rvv.lowering.disjoint import disjoint
from torch_rvv.lowering.generic import Generic, Group, Part, without
from torch_rvv.lowering.graph import Graph
from torch_rvv.lowering.hazards import elementwise, every, may_alias
from torch_rvv.lowering.linear import Atom, Dim, Linear, Poly
from torch_rvv.lowering.nodes import (
    Allocate,
    Atomic,
    Check,
    Dot,
    Fill,
    For,
    If,
    MatrixUnit,
    Node,
    Print,
    Reduce,
    Region,
    Root,
    ScalarLoad,
    ScalarOp,
    Scan,
    Sort,
    Statement,
    Store,
    While,
    buffers_of,
    bytes_of,
    pointee,
    stored,
    walk,
)  # fmt: skip
from torch_rvv.lowering.report import describe
from torch_rvv.lowering.scan_nests import Scans
from torch_rvv.lowering.spaces import divides, few, masked_identity, plan, restricted
from torch_rvv.lowering.values import UNCHANGED
from torch_rvv.lowering.writer import Writer, mlir_type, storage

from torch_rvv.errors import Declined

PRINT, BIAS = "torch_rvv.print", "torch_rvv.bias"


class ToLinalg(Scans):
    """Writes one kernel's function. `accesses` lists what every load and store turned out to be."""

    def __init__(self, graph: Graph, noalias: bool):
        self.graph, self.noalias = graph, noalias
        self.writer = Writer()
        self.writer.depth = 2
        self.accesses: list[dict[str, Any]] = []
        self.pending: Group | None = None
        self.facts: list[Poly] = []  # Numbers that are > 0 in the region.
        self.declared: list[str] = []
        self.domain = Node("buffer", (1,), "i8", name="%domain")
        statements = [s for s, _, _ in every(graph.region)]
        self.sums = {s.buffer for s in statements if isinstance(s, Dot)}
        self.written = [s.pointer.args[0] for s in statements if isinstance(s, Store | Atomic) and s.pointer]

    # -- statements

    def region(self, region: Region) -> None:
        for statement in region.statements:
            if isinstance(statement, Root) and not isinstance(statement, Scan):
                self.root(statement)
                continue
            if not (isinstance(statement, ScalarOp) or self._independent_load(statement)):
                self.flush()
            _EMIT[type(statement)](self, statement)
        self.flush()

    def _independent_load(self, statement: Statement) -> bool:
        """A scalar load that no pending statement can have written."""
        if not isinstance(statement, ScalarLoad) or statement.base is None or statement.base.kind == "buffer":
            return False
        return not any(
            isinstance(p.root, Store | Atomic) and may_alias(p.root.pointer.args[0], statement.base, self.noalias)  # type: ignore[union-attr]
            for p in (self.pending.parts if self.pending else ())
        )

    def scalar_op(self, s: ScalarOp) -> None:
        results = ", ".join(r.name for r in s.results)
        if s.op == "arith.constant":
            value = s.attr.removeprefix("value = ")
            self.writer.line(f"{results} = arith.constant {value}")
        elif s.op == "torch_rvv.bias":
            self.writer.line(f"{results} = func.call @{BIAS}() : () -> i64")
        elif s.op == "torch_rvv.same":
            self.writer.line(f"{results} = llvm.bitcast {s.args[0].name} : !llvm.ptr to !llvm.ptr")
        elif s.op == "torch_rvv.advance":
            pointer, offset = s.args
            elem = pointee(pointer.elem)
            elem = "i64" if elem.startswith("!") else elem
            self.writer.line(
                f"{results} = llvm.getelementptr {pointer.name}[{offset.name}]"
                f" : (!llvm.ptr, {offset.elem}) -> !llvm.ptr, {storage(elem)}"
            )
        else:
            ins = ", ".join(mlir_type(a.elem) for a in s.args)
            outs = ", ".join(mlir_type(r.elem) for r in s.results)
            self.writer.line(
                f'{results} = "{s.op}"({", ".join(a.name for a in s.args)}) {{{s.attr}}} : ({ins}) -> ({outs})'
            )

    def scalar_load(self, s: ScalarLoad) -> None:
        assert s.result is not None and s.base is not None
        elem, w = s.result.elem, self.writer
        if elem.startswith("!"):
            raise Declined("a pointer loaded from memory", where=s.where)
        unwritten = s.base.kind != "buffer" and not any(may_alias(w, s.base, self.noalias) for w in self.written)
        kept = f" {{{UNCHANGED}}}" if unwritten else ""
        text = f"memref.load {memory(w, s.base, elem)}[{w.poly(s.offset)}]{kept} : {memory_type(s.base, elem)}"
        if s.base.kind != "buffer":
            self.accesses.append(describe(s.base, "load", "broadcast", elem, 1, s.where))
        if s.mask is None:
            w.line(f"{s.result.name} = {text}")
            return
        with w.block(f"{s.result.name} = scf.if {s.mask.name} -> ({elem}) {{", "} else {"):
            w.line(f"scf.yield {w.op(text)} : {elem}")
        w.depth += 1
        zero = "0.0" if elem[0] in "fb" else "0"
        other = s.other.name if s.other is not None else w.op(f"arith.constant {zero} : {elem}")
        w.line(f"scf.yield {other} : {elem}")
        w.depth -= 1
        w.line("}")

    def check(self, s: Check) -> None:
        assert s.condition is not None
        code = self.writer.op(f"arith.constant {s.code} : i32")
        self.writer.line(f"func.call @torch_rvv.check({s.condition.name}, {code}) : (i1, i32) -> ()")

    def matrix_unit(self, s: MatrixUnit) -> None:
        pointers = []
        for buffer in s.inputs():
            address = self.writer.op(f"arith.index_cast {self._address(buffer)} : index to i64")
            pointers.append(self.writer.op(f"llvm.inttoptr {address} : i64 to !llvm.ptr"))
        matrixunit.write(self.writer, *pointers, matrixunit.sizes_of(s))  # type: ignore[arg-type]

    def sort(self, s: Sort) -> None:
        """A call, which the vector stage writes out (sort.py)."""
        assert s.buffer is not None and s.buffer.shape is not None
        name, buffers = f"{sort.CALL}{len(self.declared)}", [b for b in (s.buffer, s.spare, s.counts) if b is not None]
        names, kinds = ", ".join(b.name for b in buffers), ", ".join(memory_type(b, b.elem) for b in buffers)
        self.declared.append(f"func.func private @{name}({kinds})")
        self.writer.line(
            f"func.call @{name}({names}) {{rows = {s.rows} : i64, size = {s.buffer.shape[-1]} : i64,"
            f" length = {s.length} : i64}} : ({kinds}) -> ()"
        )

    def allocate(self, s: Allocate) -> None:
        assert s.buffer is not None and s.result is not None
        self.writer.line(f"{s.result.name} = arith.index_cast {self._address(s.buffer)} : index to i64")

    def _address(self, buffer: Node) -> str:
        kind = memory_type(buffer, buffer.elem)
        return self.writer.op(f"memref.extract_aligned_pointer_as_index {buffer.name} : {kind} -> index")

    def print(self, s: Print) -> None:
        w = self.writer
        number = w.op(f"arith.constant {s.number} : i32")
        ids = "%pid_x, %pid_y, %pid_z"
        if s.buffer is None:
            size, at = w.op("arith.constant 0 : i64"), w.op("llvm.mlir.zero : !llvm.ptr")
        else:
            address = w.op(f"arith.index_cast {self._address(s.buffer)} : index to i64")
            at = w.op(f"llvm.inttoptr {address} : i64 to !llvm.ptr")
            size = w.op(f"arith.constant {math.prod(s.buffer.shape or ()) * bytes_of(s.buffer.elem)} : i64")
        w.line(f"func.call @{PRINT}({number}, {ids}, {at}, {size}) : (i32, i32, i32, i32, !llvm.ptr, i64) -> ()")

    def loop(self, s: For) -> None:
        assert s.lower is not None and s.upper is not None and s.step is not None
        iv, *carried = s.body.arguments
        types = ", ".join(mlir_type(n.elem) for n in carried)
        head = f"scf.for {iv.name} = {s.lower.name} to {s.upper.name} step {s.step.name}"
        if carried:
            name = self.writer.fresh("for")
            pairs = ", ".join(f"{a.name} = {i.name}" for a, i in zip(carried, s.initial, strict=True))
            head = f"{name}:{len(carried)} = {head} iter_args({pairs}) -> ({types})"
        with self.writer.block(f"{head} : {iv.elem} {{"):
            self.region(s.body)
            if carried:
                self.writer.line(f"scf.yield {', '.join(y.name for y in s.body.yields)} : {types}")
        for i, result in enumerate(s.results):
            self._rename(f"{name}#{i}", result)

    def _rename(self, name: str, result: Node) -> None:
        result.name = name

    def branch(self, s: If) -> None:
        assert s.condition is not None
        types = ", ".join(mlir_type(n.elem) for n in s.results)
        head = f"scf.if {s.condition.name}"
        if s.results:
            name = self.writer.fresh("if")
            head = f"{name}:{len(s.results)} = {head} -> ({types})"
        with self.writer.block(f"{head} {{", "} else {"):
            self._branch(s.then, types)
        self.writer._indices.append({})
        self.writer.depth += 1
        self._branch(s.other, types)
        self.writer.depth -= 1
        self.writer._indices.pop()
        self.writer.line("}")
        for i, result in enumerate(s.results):
            self._rename(f"{name}#{i}", result)

    def _branch(self, region: Region, types: str) -> None:
        around, self.facts = self.facts, [*self.facts, *region.facts]
        self.region(region)
        self.facts = around
        if region.yields:
            self.writer.line(f"scf.yield {', '.join(y.name for y in region.yields)} : {types}")

    def while_loop(self, s: While) -> None:
        assert s.condition is not None
        w = self.writer
        ins = ", ".join(mlir_type(n.elem) for n in s.initial)
        outs = ", ".join(mlir_type(n.elem) for n in s.results)
        pairs = ", ".join(f"{a.name} = {i.name}" for a, i in zip(s.before.arguments, s.initial, strict=True))
        name = w.fresh("while")
        result = f"{name}:{len(s.results)} = " if s.results else ""
        with w.block(f"{result}scf.while ({pairs}) : ({ins}) -> ({outs}) {{", "} do {"):
            self.region(s.before)
            yields = f" {', '.join(y.name for y in s.before.yields)} : {outs}" if s.before.yields else ""
            w.line(f"scf.condition({s.condition.name}){yields}")
        with w.block(f"^bb0({', '.join(f'{a.name}: {mlir_type(a.elem)}' for a in s.after.arguments)}):"):
            self.region(s.after)
            w.line(f"scf.yield {', '.join(y.name for y in s.after.yields)} : {ins}" if s.after.yields else "scf.yield")
        for i, result_node in enumerate(s.results):
            self._rename(f"{name}#{i}", result_node)

    # -- grouping

    def root(self, root: Root) -> None:
        """Add a statement to the pending group if it runs over the same iterations, else start anew."""
        if isinstance(root, Reduce) and root.combine.function:
            self.flush()
            self._start_fold(root)
            return
        part, space = self._part(root)
        if isinstance(root, Dot) or (isinstance(root, Fill) and root.buffer in self.sums):
            # Alone: its nest has a form of its own.
            self.flush()
            self._group(Group(space, [part]))
            return
        if self.pending is not None and (space.key() != self.pending.space.key() or self._depends(root)):
            self.flush()
        if self.pending is None:
            self.pending = Group(space)
        # Rows of a product, for its register tiles (epilogue.py).
        self.pending.apart |= bool(self.sums) and any(n in self.sums for n in walk(root.inputs()))
        self.pending.parts.append(part)

    def _part(self, root: Root) -> tuple[Part, Space]:
        if isinstance(root, Reduce):
            values, mask = list(root.values), root.domain
            if mask is None and len(values) == 1:
                values[0], mask = masked_identity(values[0], root)
            space, left = restricted(root.shape, mask, self.facts)
            if not left:
                return Part(root, None, values), space
            if root.domain is not None:
                return Part(root, mask, values), Space.over(root.shape)
            return Part(root, None, list(root.values)), space
        space, left = restricted(root.shape, root.domain, self.facts)
        if isinstance(root, Dot):
            if left:
                raise Declined("a product whose masks are no bounds of its loops", where=root.where)
            return Part(root, None, root.inputs()), space
        return Part(root, root.domain if left else None, stored(root)), space

    def _depends(self, root: Root) -> bool:
        """Whether a statement must see what the pending ones wrote, or may disturb what they read."""
        assert self.pending is not None
        if isinstance(root, Reduce) and any(
            isinstance(p.root, Reduce) and p.root.axis != root.axis for p in self.pending.parts
        ):
            # One generic reduces the same dimensions for all of its outputs.
            return True
        nodes = set(walk(root.inputs()))
        written = {id(b) for p in self.pending.parts for b in buffers_of(p.root)}
        if any(n.kind == "buffer" and id(n) in written and not self._forwards(n, root) for n in nodes):
            return True
        mine = {id(b) for b in buffers_of(root)}
        if mine & written:
            return True
        for part in self.pending.parts:
            reads = set(walk(part.root.inputs()))
            if any(n.kind == "buffer" and id(n) in mine for n in reads):
                return True
            if self._memory_order(part.root, root, reads, nodes):
                return True
        return False

    def _forwards(self, buffer: Node, root: Root) -> bool:
        """Whether a pending Fill computes, in the same iteration, just the element that a statement reads."""
        assert self.pending is not None
        fills = [p for p in self.pending.parts if isinstance(p.root, Fill) and p.root.buffer is buffer]
        if len(fills) != 1 or fills[0].mask is not None or root.shape != buffer.shape or fills[0].root.at is not None:  # type: ignore[attr-defined]
            return False
        if isinstance(root, Reduce):
            values, others = root.values, [root.domain]
        elif isinstance(root, Store | Fill) and root.value is not None:
            values, others = [root.value], [root.domain, getattr(root, "pointer", None)]
        else:
            return False
        if any(n is buffer for other in others if other is not None for n in walk([other])):
            return False
        return all(elementwise(v, buffer) for v in values)

    def _memory_order(self, first: Root, second: Root, first_reads: set[Node], second_reads: set[Node]) -> bool:
        assert self.pending is not None
        for writer, reads, other in ((first, second_reads, second), (second, first_reads, first)):
            if not isinstance(writer, Store | Atomic) or writer.pointer is None:
                continue
            base = writer.pointer.args[0]
            if isinstance(other, Store | Atomic) and other.pointer is not None:
                meet = may_alias(base, other.pointer.args[0], self.noalias)
                if meet and not disjoint(first, second, self.pending.space):
                    return True
            if any(n.kind == "load" and may_alias(base, n.args[0].args[0], self.noalias) for n in reads):
                return True
        return False

    def flush(self) -> None:
        """Write the pending group."""
        group, self.pending = self.pending, None
        if group is not None:
            for part in group.parts:
                if isinstance(part.root, Reduce):
                    self._identity(part.root)
            self._group(group)

    def _identity(self, root: Reduce) -> None:
        for buffer in root.buffers:
            self._fill(buffer, str(root.combine.identity))

    def _fill(self, buffer: Node, text: str) -> None:
        value = self.writer.op(f"arith.constant {text} : {buffer.elem}")
        kind = memory_type(buffer, buffer.elem)
        self.writer.line(f"linalg.fill ins({value} : {buffer.elem}) outs({buffer.name} : {kind})")

    def _start_fold(self, root: Reduce) -> None:
        """A reduction by a function: the first element along the axis is the start, the rest is folded in."""
        axis = root.axis
        first = Space.over(tuple(1 if a == axis else n for a, n in enumerate(root.shape)))
        group = Group(first)
        for value, buffer in zip(root.values, root.buffers, strict=True):
            # Of the index that the space then has: its dims may have become two.
            fill = Fill(root.where, shape=first.shape, buffer=buffer, value=value, at=partial(_beside, axis))
            group.parts.append(Part(fill, None, [value]))
        self._group(group)
        if root.shape[axis] > 1:
            self._group(Group(Space.over(root.shape, {axis: 1}), [Part(root, None, root.values)]))

    # -- one generic

    def _group(self, group: Group) -> None:
        space = group.space
        if space.guards:
            w = self.writer
            condition = space.guards[0].name
            for guard in space.guards[1:]:
                condition = w.op(f"arith.andi {condition}, {guard.name} : i1")
            with w.block(f"scf.if {condition} {{"):
                self._split(group)
            return
        self._split(group)

    def _split(self, group: Group) -> None:
        """Try the group; where // or % stands in the way, again with a dim as two, or with loops over quotients
        around it."""
        space = group.space
        trial = Generic(group, Writer(), self.domain, self.accesses)
        trial.write(dry=True)
        plans = plan(space)
        whole = next((plan for plan in [*plans, *few(space)] if divides(space, *plan)), None)
        if whole is not None:
            dim, _, divisor = whole
            self._split(Group(space.in_two(dim, divisor), group.parts, group.apart))
            return
        if not plans:
            self._pieces(group, len(trial.body_writer.lines))
            return
        self._nest(group, plans)

    def _pieces(self, group: Group, length: int) -> None:
        """The group, in pieces if masks are in its way: but what begins and ends products is for register tiles.
        length: of its body."""
        roots = [p.root for p in group.parts]
        product = group.apart or any(getattr(r, "buffer", None) in self.sums for r in roots)
        pieces = interior.pieces(group.space, roots, self.writer, length) if not product else []
        for piece in pieces:
            self._split(Group(piece, group.parts))
        if not pieces:
            Generic(group, self.writer, self.domain, self.accesses).write()

    def _nest(self, group: Group, plans: list[tuple[Dim, Poly, int]]) -> None:
        if not plans:
            Generic(group, self.writer, self.domain, self.accesses).write()
            return
        (dim, base, divisor), *others = plans
        w, space = self.writer, group.space
        size = w.at_most(space.high.get(dim, []), dim.size)
        start, c = w.poly(base), w.constant(divisor)
        end = w.op(f"arith.addi {start}, {size} : index")
        first = w.op(f"arith.divui {start}, {c} : index")
        last = w.op(f"arith.ceildivui {end}, {c} : index")
        q = w.fresh("q")
        with w.block(f"scf.for {q} = {first} to {last} step {w.constant(1)} {{"):
            at = w.op(f"arith.muli {q}, {c} : index")
            zero = w.constant(0)
            low = w.op(f"arith.maxsi {w.op(f'arith.subi {start}, {at} : index')}, {zero} : index")
            stop = w.op(f"arith.minsi {w.op(f'arith.subi {end}, {at} : index')}, {c} : index")
            count = w.op(f"arith.subi {stop}, {low} : index")
            rest = Dim(divisor, "r")
            quotient, low_atom = Atom(q, nonnegative=True), Atom(low, nonnegative=True)
            space.splits[dim] = Split(base, divisor, quotient, low_atom, rest)
            space.high[rest] = [Poly.of(Atom(count))]
            self._nest(group, others)


def _beside(axis: int, index: Index) -> Index:
    """Where a fold along an axis keeps its result."""
    return without(index, axis) or (Linear(),)


_EMIT = {
    ScalarOp: ToLinalg.scalar_op,
    ScalarLoad: ToLinalg.scalar_load,
    Check: ToLinalg.check,
    Allocate: ToLinalg.allocate,
    MatrixUnit: ToLinalg.matrix_unit,
    Print: ToLinalg.print,
    For: ToLinalg.loop,
    If: ToLinalg.branch,
    While: ToLinalg.while_loop,
    Scan: ToLinalg.scan,
    Sort: ToLinalg.sort,
}


def function(graph: Graph, noalias: bool) -> tuple[str, list[dict[str, Any]]]:
    """The linalg module of a graph, and what each of its accesses is."""
    to = ToLinalg(graph, noalias)
    to.region(graph.region)
    arguments = ", ".join(f"{a.name}: {mlir_type(a.elem)}" for a in graph.arguments)
    buffers: dict[str, Node] = {}
    for statement, _, _ in every(graph.region):
        for buffer in buffers_of(statement):
            buffers[buffer.name] = buffer
    if any("%domain " in line for line in to.writer.lines):
        buffers[to.domain.name] = to.domain
    lines = ["module {", "  func.func private @torch_rvv.check(i1, i32)"]
    lines += ["  " + text for text in to.declared]
    if graph.addresses:
        lines.append(f"  func.func private @{BIAS}() -> i64")
    if graph.prints:
        lines.append(f"  func.func private @{PRINT}(i32, i32, i32, i32, !llvm.ptr, i64)")
    for text in graph.functions.values():
        lines += ["  " + line for line in text.split("\n")]
    lines.append(f"  func.func @{graph.name}({arguments}) {{")
    lines += [f"    {b.name} = memref.alloca() : {memory_type(b, b.elem)}" for b in buffers.values()]
    lines += to.writer.lines
    lines += ["    func.return", "  }", "}"]
    return "\n".join(lines) + "\n", to.accesses


__all__ = ["ToLinalg", "function"]
