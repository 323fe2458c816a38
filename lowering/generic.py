"""One linalg.generic: views of memory, indexing maps, and a body that evaluates the parts of a group.

    Group(space: d < n, parts: Store(p + d, exp(load(q + d))))
    →
    %in = memref.reinterpret_cast %q ...; %out = memref.reinterpret_cast %p ...
    linalg.generic {maps, iterator types} ins(%in) outs(%out) { ^bb0(...): math.exp; linalg.yield }

An access that is not affine, or that a mask guards, is a memref.load or memref.store in the body instead of
an operand. What each access turned out to be goes to the report (`accesses`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch_rvv.lowering.access import Analysis, Index, Space
from torch_rvv.lowering.body import Body, Operand, flat, memory, memory_type
from torch_rvv.lowering.collapse import collapse
from torch_rvv.lowering.convert_debug import ALL_AXES
from torch_rvv.lowering.linear import ONE, ZERO, Dim, Linear, Poly
from torch_rvv.lowering.nodes import Atomic, Combine, Dot, Fill, Node, Reduce, Root, Scan, Store, absolute, pointee
from torch_rvv.lowering.report import describe, kind_of
from torch_rvv.lowering.writer import Writer


@dataclass(eq=False)
class Part:
    """One statement of a group: what it adds to the shared generic."""

    root: Root
    mask: Node | None
    values: list[Node]


@dataclass(eq=False)
class Output:
    operand: Operand
    argument: str
    value: str = ""


@dataclass(eq=False)
class Group:
    """Statements that share one generic, over one space. apart: dimensions that have a bound stay what they are."""

    space: Space
    parts: list[Part] = field(default_factory=list)
    apart: bool = False


def without(index: Index, axis: int) -> Index:
    return () if axis == ALL_AXES else index[:axis] + index[axis + 1 :]


class Generic:
    """One linalg.generic, from a group. domain: a buffer for the operand that only gives the shape."""

    def __init__(self, group: Group, writer: Writer, domain: Node, accesses: list[dict[str, Any]]):
        self.group, self.writer, self.domain, self.accesses = group, writer, domain, accesses
        self.space = group.space
        self.analysis = Analysis(self.space)
        splits = self.space.splits
        self.dims = [splits[d].rest if d in splits else d for d in self.space.dims]
        self.body_writer = Writer(writer.counter)
        self.body_writer.depth = writer.depth + 1
        self.body = Body(self.analysis, self.dims, self.body_writer, writer)
        self.outputs: list[Output] = []
        self.reduced: set[Dim] = set()
        self.high = self.space.high

    def write(self, dry: bool = False) -> None:
        """Evaluate all parts, then write views, generic and body. dry: only to learn of splits."""
        for part in self.group.parts:
            _PART[type(part.root)](self, part, part.root)
        if not dry:
            self._assemble()

    def copied(self) -> tuple[Operand, Operand] | None:
        """What the group's store reads and writes, along all dimensions, if all it does is to copy."""
        (part,) = self.group.parts
        _PART[type(part.root)](self, part, part.root)
        ends = [*self.body.inputs, *(o.operand for o in self.outputs)]
        if self.body_writer.lines or self.space.requests or len(ends) != 2:
            return None
        alike = all(set(o.form.coefs) == set(self.dims) and not absolute(o.base) for o in ends)
        return (ends[0], ends[1]) if alike else None

    def views(self, ends: tuple[Operand, Operand]) -> list[tuple[str, str]]:
        """The two views of `copied`, written and reported."""
        sizes = {d: self.writer.at_most(self.high.get(d, []), d.size) for d in self.dims}
        self._report([ends[0]], [ends[1]])
        return [self._view(o, sizes) for o in ends]

    # parts

    def store(self, part: Part, root: Store) -> None:
        assert root.pointer is not None
        base, offset = root.pointer.args
        elem = pointee(root.pointer.elem)
        form = self.analysis.linear(offset, self.space.index)
        self._write(base, elem, form, part.values[0], part.mask, root.where)

    def fill(self, part: Part, root: Fill) -> None:
        assert root.buffer is not None
        index = self.space.index if root.at is None else root.at(self.space.index)
        self._write(root.buffer, root.buffer.elem, flat(root.buffer, index), part.values[0], part.mask, root.where)
        if part.mask is None and root.at is None:
            self.body.forward(root.buffer, index, self.body.value(part.values[0], self.space.index))

    def _write(self, base: Node, elem: str, form: Linear, value: Node, mask: Node | None, where: str | None) -> None:
        index = self.space.index
        final = self.body.final(form)
        conjuncts = []
        if mask is not None:
            conjuncts = [c for c in self.analysis.conjuncts(mask, index) if not self.analysis.implied(*c)]
        if conjuncts or not final.affine:
            condition = self.body.condition(conjuncts) if conjuncts else None
            self.body.store(base, elem, form, self.body.value(value, index), condition, where)
            return
        operand = Operand(base, elem, final, self.body_writer.fresh("out"), where)
        output = Output(operand, operand.argument, self.body.value(value, index))
        self.outputs.append(output)

    def reduce(self, part: Part, root: Reduce) -> None:
        index = self.space.index
        kept = without(index, root.axis)
        axes = range(len(root.shape)) if root.axis == ALL_AXES else [root.axis]
        for axis in axes:
            for dim in index[axis].coefs:
                split = self.space.splits.get(dim)
                self.reduced.add(split.rest if split else dim)
        values = [self.body.value(v, index) for v in part.values]
        outputs = []
        for buffer in root.buffers:
            form = flat(buffer, kept or (Linear(),))
            outputs.append(
                Output(
                    Operand(buffer, buffer.elem, self.body.final(form), self.body_writer.fresh("acc"), root.where), ""
                )
            )
        accumulators = [o.operand.argument for o in outputs]
        if part.mask is not None:
            elem = root.buffers[0].elem
            condition = self.body.condition(list(self.analysis.conjuncts(part.mask, index)))
            identity = self.body_writer.op(f"arith.constant {root.combine.identity} : {elem}")
            values = [self.body_writer.op(f"arith.select {condition}, {values[0]}, {identity} : {elem}")]
        joined = self._combine(root.combine, accumulators, values, root.buffers)
        for output, value in zip(outputs, joined, strict=True):
            output.value = value
        self.outputs += outputs

    def dot(self, part: Part, root: Dot) -> None:
        """acc(rows, columns) += a(rows, k) * b(k, columns), the last dimension of the space being k.

        Narrower operands are widened where they are multiplied: exact, and one instruction with the product.
        """
        *batch, row, column, depth = self.space.index
        assert root.buffer is not None
        self.reduced |= set(depth.coefs)
        elem, w = root.buffer.elem, self.body_writer
        extend = "arith.extsi" if elem[0] == "i" else "arith.extf"
        operands = []
        for node, index in zip(part.values[:2], ((*batch, row, depth), (*batch, depth, column)), strict=True):
            value = self.body.value(node, index)
            operands.append(value if node.elem == elem else w.op(f"{extend} {value} : {node.elem} to {elem}"))
        a, b = operands
        form = flat(root.buffer, (*batch, row, column))
        operand = Operand(root.buffer, elem, self.body.final(form), w.fresh("acc"), root.where)
        acc = operand.argument
        if elem[0] == "i":
            value = w.op(f"arith.addi {acc}, {w.op(f'arith.muli {a}, {b} : {elem}')} : {elem}")
        elif form.coefs:
            value = w.op(f"math.fma {a}, {b}, {acc} : {elem}")
        else:  # One element: lanes run along k and are summed at the end, which takes an addition of its own.
            value = w.op(f"arith.addf {acc}, {w.op(f'arith.mulf {a}, {b} : {elem}')} : {elem}")
        self.outputs.append(Output(operand, acc, value))

    def scan_step(self, part: Part, root: Scan) -> None:
        """buffers[k] = combine(buffers[k-1], buffers[k]), k the index along the axis."""
        index, back = self.space.index, Linear(Poly(1 if root.reverse else -1))
        before = (*index[: root.axis], index[root.axis] + back, *index[root.axis + 1 :])
        previous = [self.body.value(b, before) for b in root.buffers]
        outputs = [
            Output(Operand(b, b.elem, self.body.final(flat(b, index)), self.body_writer.fresh("acc"), root.where), "")
            for b in root.buffers
        ]
        current = [o.operand.argument for o in outputs]
        for output, value in zip(outputs, self._combine(root.combine, previous, current, root.buffers), strict=True):
            output.value = value
        self.outputs += outputs

    def _combine(self, combine: Combine, left: list[str], right: list[str], buffers: list[Node]) -> list[str]:
        w, elems = self.body_writer, [b.elem for b in buffers]
        if not combine.function:
            return [w.op(f"arith.{combine.kind} {left[0]}, {right[0]} : {elems[0]}")]
        joined, types = w.fresh("j"), ", ".join(elems)
        several = f":{len(elems)}" if len(elems) > 1 else ""
        w.line(
            f"{joined}{several} = func.call @{combine.function}({', '.join(left + right)})"
            f" : ({types}, {types}) -> ({types})"
        )
        return [f"{joined}#{i}" for i in range(len(elems))] if several else [joined]

    def atomic(self, part: Part, root: Atomic) -> None:
        assert root.pointer is not None
        base, offset = root.pointer.args
        elem, index, w = pointee(root.pointer.elem), self.space.index, self.body_writer
        form = self.analysis.linear(offset, index)
        conjuncts = []
        if part.mask is not None:
            conjuncts = [c for c in self.analysis.conjuncts(part.mask, index) if not self.analysis.implied(*c)]
        values = [self.body.value(v, index) for v in part.values]
        self.body.gathers.append(("store", base, self.body.final(form), root.where))

        def update() -> str:
            at = self.body_writer.op(f"arith.index_cast {self.body.form(form)} : index to i64")
            unit = "i8" if absolute(base) else elem
            pointer = w.op(f"llvm.getelementptr {base.name}[{at}] : (!llvm.ptr, i64) -> !llvm.ptr, {unit}")
            if root.kind != "cmpxchg":
                return w.op(f"llvm.atomicrmw {root.kind} {pointer}, {values[0]} acq_rel : !llvm.ptr, {elem}")
            pair = w.op(f"llvm.cmpxchg {pointer}, {values[1]}, {values[0]} acq_rel acquire : !llvm.ptr, {elem}")
            return w.op(f"llvm.extractvalue {pair}[0] : !llvm.struct<({elem}, i1)>")

        if conjuncts:
            zero = w.op(f"arith.constant {'0.0' if elem[0] == 'f' else '0'} : {elem}")
            old = self.body.guarded(self.body.condition(conjuncts), elem, update, zero)
        else:
            old = update()
        if root.buffer is not None:
            operand = Operand(root.buffer, elem, self.body.final(flat(root.buffer, index)), w.fresh("old"), root.where)
            self.outputs.append(Output(operand, operand.argument, old))

    # text

    def _assemble(self) -> None:
        w = self.writer
        operands = list(self.body.inputs)
        self._collapse([*operands, *(o.operand for o in self.outputs)])
        sizes = {d: w.at_most(self.high.get(d, []), d.size) for d in self.dims}
        covered = {d for o in [*operands, *(o.operand for o in self.outputs)] for d in o.form.coefs}
        if not covered.issuperset(self.dims) or not (operands or self.outputs):
            shape = Operand(
                self.domain, "i8", Linear(ZERO, dict.fromkeys(self.dims, ONE)), self.body_writer.fresh("shape")
            )
            operands.append(shape)
        outs = [o.operand for o in self.outputs]
        views = [self._view(o, sizes) for o in [*operands, *outs]]
        names = ", ".join(f"d{i}" for i in range(len(self.dims)))
        maps = ", ".join(
            f"affine_map<({names}) -> ({', '.join(f'd{self.dims.index(d)}' for d in self.dims if d in o.form.coefs)})>"
            for o in [*operands, *outs]
        )
        kinds = ", ".join('"reduction"' if d in self.reduced else '"parallel"' for d in self.dims)

        def clause(word: str, chosen: list[tuple[str, str]]) -> str:
            if not chosen:
                return ""
            return f" {word}({', '.join(n for n, _ in chosen)} : {', '.join(t for _, t in chosen)})"

        n = len(operands)
        head = f"linalg.generic {{indexing_maps = [{maps}], iterator_types = [{kinds}]}}"
        w.line(head + clause("ins", views[:n]) + clause("outs", views[n:]) + " {")
        arguments = ", ".join(f"{o.argument}: {o.elem}" for o in [*operands, *outs])
        w.line(f"^bb0({arguments}):")
        for dim, name in self.body.indices.items():
            w.line(f"  {name} = linalg.index {self.dims.index(dim)} : index")
        w.lines += self.body_writer.lines
        results = ", ".join(o.value for o in self.outputs)
        types = ", ".join(o.operand.elem for o in self.outputs)
        w.line(f"  linalg.yield {results} : {types}" if self.outputs else "  linalg.yield")
        w.line("}")
        self._report(self.body.inputs, outs)

    def _collapse(self, operands: list[Operand]) -> None:
        """Join the dimensions that all accesses walk through as one."""
        fixed = {*self.body.indices, *(d for d in self.high if self.group.apart and self.high[d])}
        found = collapse(self.dims, [o.form for o in operands], self.high, self.reduced, fixed)
        self.dims, self.high, self.reduced = found.dims, found.high, found.reduced
        for operand, form in zip(operands, found.forms, strict=True):
            operand.form = form

    def _view(self, operand: Operand, sizes: dict[Dim, str]) -> tuple[str, str]:
        """A strided view of the operand's base: (name, type)."""
        w = self.writer
        base = memory(w, operand.base, operand.elem)
        dims = [d for d in self.dims if d in operand.form.coefs]
        strides, static = [], []
        shape_only = operand.base is self.domain
        for d in dims:
            constant = 0 if shape_only else operand.form.coefs[d].constant
            static.append("?" if constant is None else str(constant))
            strides.append(w.poly(operand.form.coefs[d]) if constant is None else str(constant))
        offset = operand.form.const.constant
        at = w.poly(operand.form.const) if offset is None else str(offset)
        layout = f"strided<[{', '.join(static)}], offset: {'?' if offset is None else offset}>"
        space = ", 1" if absolute(operand.base) else ""
        kind = f"memref<{'?x' * len(dims)}{operand.elem}, {layout}{space}>"
        name = w.op(
            f"memref.reinterpret_cast {base} to offset: [{at}], sizes: [{', '.join(sizes[d] for d in dims)}],"
            f" strides: [{', '.join(strides)}] : {memory_type(operand.base, operand.elem)} to {kind}",
            "v",
        )
        return name, kind

    def _report(self, inputs: list[Operand], outs: list[Operand]) -> None:
        elements = 1
        for d in self.dims:
            elements *= max(min([d.size, *(k for p in self.high.get(d, ()) if (k := p.constant) is not None)]), 1)
        for way, operands in (("load", inputs), ("store", outs)):
            for o in operands:
                if o.base.kind != "buffer":
                    coefs = [c.constant for c in o.form.coefs.values()]
                    kind = "broadcast" if not coefs else "unit" if 1 in coefs else "strided"
                    self.accesses.append(describe(o.base, way, kind, o.elem, elements, o.where))
        for way, base, form, where in self.body.gathers:
            if base.kind != "buffer":
                kind, why = kind_of(form)
                self.accesses.append(describe(base, way, kind, "", elements, where, why))


_PART = {
    Store: Generic.store,
    Fill: Generic.fill,
    Dot: Generic.dot,
    Reduce: Generic.reduce,
    Atomic: Generic.atomic,
    Scan: Generic.scan_step,
}
