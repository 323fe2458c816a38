"""The graph → linalg: each statement one linalg.generic over strided views of memory.

    Store(p + 1000*x + r, exp(load(q + r)), mask = r < n)
    →
    %in  = memref.reinterpret_cast %q to offset: [0], sizes: [%n], strides: [1]
    %out = memref.reinterpret_cast %p to offset: [%o], sizes: [%n], strides: [1]
    linalg.generic {... parallel} ins(%in) outs(%out) { math.exp; linalg.yield }

Neighbouring statements over the same iterations share one generic. A space split at a divisor becomes a
scf.for over quotients around the generic. Output contract: dialects func, arith, math, scf, memref and
linalg, pointers as !llvm.ptr; buffers are memref.alloca at the top; the function takes the
kernel's arguments, then program ids x, y, z, then grid sizes x, y, z, and returns nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch_rvv.errors import Declined
from torch_rvv.lowering.access import Analysis, Index, Space, Split
from torch_rvv.lowering.body import Body, Operand, flat, memory, memory_type
from torch_rvv.lowering.convert_debug import ALL_AXES
from torch_rvv.lowering.graph import Graph
from torch_rvv.lowering.hazards import every, may_alias
from torch_rvv.lowering.linear import ONE, Atom, Dim, Linear, Poly
from torch_rvv.lowering.nodes import (
    Atomic, Check, Combine, Fill, For, If, Node, Reduce, Region, Root, ScalarLoad, ScalarOp, Scan, Statement, Store, While, pointee, walk,
)  # fmt: skip
from torch_rvv.lowering.writer import Writer, mlir_type

SMALLEST_SPLIT = 8


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
    """Statements that share one generic, over one space."""

    space: Space
    parts: list[Part] = field(default_factory=list)


class ToLinalg:
    """Writes one kernel's function. `accesses` lists what every load and store turned out to be."""

    def __init__(self, graph: Graph, noalias: bool):
        self.graph, self.noalias = graph, noalias
        self.writer = Writer()
        self.writer.depth = 2
        self.accesses: list[dict[str, object]] = []
        self.pending: Group | None = None
        self.domain = Node("buffer", (1,), "i8", name="%domain")

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
        elif s.op == "torch_rvv.same":
            self.writer.line(f"{results} = llvm.bitcast {s.args[0].name} : !llvm.ptr to !llvm.ptr")
        elif s.op == "torch_rvv.advance":
            pointer, offset = s.args
            elem = pointee(pointer.elem)
            elem = "i64" if elem.startswith("!") else elem
            self.writer.line(
                f"{results} = llvm.getelementptr {pointer.name}[{offset.name}]"
                f" : (!llvm.ptr, {offset.elem}) -> !llvm.ptr, {_storage(elem)}"
            )
        else:
            ins = ", ".join(mlir_type(a.elem) for a in s.args)
            outs = ", ".join(mlir_type(r.elem) for r in s.results)
            self.writer.line(f'{results} = "{s.op}"({", ".join(a.name for a in s.args)}) {{{s.attr}}} : ({ins}) -> ({outs})')

    def scalar_load(self, s: ScalarLoad) -> None:
        assert s.result is not None and s.base is not None
        elem, w = s.result.elem, self.writer
        if elem.startswith("!"):
            raise Declined("a pointer loaded from memory", where=s.where)
        text = f"memref.load {memory(w, s.base, elem)}[{w.poly(s.offset)}] : {memory_type(s.base, elem)}"
        if s.base.kind != "buffer":
            self.accesses.append(_access(s.base, "load", "broadcast", elem, 1, s.where))
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
        self.region(region)
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

    def scan(self, s: Scan) -> None:
        """Fill the buffers with the values, then fold each element into the next, in place."""
        space = Space.over(s.shape)
        fills = [
            Part(Fill(s.where, shape=s.shape, buffer=b, value=v), None, [v])
            for b, v in zip(s.buffers, s.values, strict=True)
        ]
        self._group(Group(space, fills))
        w, n = self.writer, s.shape[s.axis]
        if n == 1:
            return
        k = w.fresh("k")
        with w.block(f"scf.for {k} = {w.constant(1)} to {w.constant(n)} step {w.constant(1)} {{"):
            position = Linear(Poly.of(Atom(k, nonnegative=True)))
            if s.reverse:
                position = Linear(Poly(n - 1)) - position
            row = Space.over(tuple(1 if a == s.axis else size for a, size in enumerate(s.shape)))
            row.index = (*row.index[: s.axis], position, *row.index[s.axis + 1 :])
            self._group(Group(row, [Part(s, None, s.values)]))

    # -- grouping

    def root(self, root: Root) -> None:
        """Add a statement to the pending group if it runs over the same iterations, else start anew."""
        if isinstance(root, Reduce) and root.combine.function:
            self.flush()
            self._start_fold(root)
            return
        part, space = self._part(root)
        if self.pending is not None and (space.key() != self.pending.space.key() or self._depends(root)):
            self.flush()
        if self.pending is None:
            self.pending = Group(space)
        self.pending.parts.append(part)

    def _part(self, root: Root) -> tuple[Part, Space]:
        space = Space.over(root.shape)
        analysis = Analysis(space)
        if isinstance(root, Reduce):
            values, mask = list(root.values), root.domain
            if mask is None and len(values) == 1:
                values[0], mask = _masked_identity(values[0], root)
                left = analysis.restrict(mask) if mask is not None else []
                return Part(root, None, list(root.values) if left else values), space
            left = analysis.restrict(mask) if mask is not None else []
            if left:
                return Part(root, mask, values), Space.over(root.shape)
            return Part(root, None, values), space
        value = _stored(root)
        left = analysis.restrict(root.domain) if root.domain is not None else []
        return Part(root, root.domain if left else None, value), space

    def _depends(self, root: Root) -> bool:
        """Whether a statement must see what the pending ones wrote, or may disturb what they read."""
        assert self.pending is not None
        nodes = set(walk(root.inputs()))
        written = {id(b) for p in self.pending.parts for b in _buffers(p.root)}
        if any(n.kind == "buffer" and id(n) in written for n in nodes):
            return True
        mine = {id(b) for b in _buffers(root)}
        if mine & written:
            return True
        for part in self.pending.parts:
            reads = set(walk(part.root.inputs()))
            if any(n.kind == "buffer" and id(n) in mine for n in reads):
                return True
            if self._memory_order(part.root, root, reads, nodes):
                return True
        return False

    def _memory_order(self, first: Root, second: Root, first_reads: set[Node], second_reads: set[Node]) -> bool:
        for writer, reads, other in ((first, second_reads, second), (second, first_reads, first)):
            if not isinstance(writer, Store | Atomic) or writer.pointer is None:
                continue
            base = writer.pointer.args[0]
            if isinstance(other, Store | Atomic) and other.pointer is not None:
                if may_alias(base, other.pointer.args[0], self.noalias):
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
            index = _without(first.index, axis) or (Linear(),)
            fill = Fill(root.where, shape=first.shape, buffer=buffer, value=value, at=index)
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
        """Try the group; where // or % stands in the way, again with loops over quotients around it."""
        space = group.space
        trial = Writer()
        Generic(self, group, trial).write(dry=True)
        plans = _plan(space)
        if not plans:
            Generic(self, group, self.writer).write()
            return
        self._nest(group, plans)

    def _nest(self, group: Group, plans: list[tuple[Dim, Poly, int]]) -> None:
        if not plans:
            Generic(self, group, self.writer).write()
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


def _plan(space: Space) -> list[tuple[Dim, Poly, int]]:
    """For each dim that // or % would like to split: its base and the divisor of all its divisors."""
    plans: dict[Dim, tuple[Dim, Poly, int]] = {}
    for (dim, base), divisors in space.requests.items():
        usable = [c for c in sorted(divisors) if c >= SMALLEST_SPLIT]
        if usable and dim not in plans:
            plans[dim] = (dim, base, usable[0])
    return list(plans.values())


def _stored(root: Root) -> list[Node]:
    if isinstance(root, Store | Fill):
        assert root.value is not None
        return [root.value]
    assert isinstance(root, Atomic) and root.value is not None
    return [root.value, *([root.compare] if root.compare is not None else [])]


def _buffers(root: Root) -> list[Node]:
    """The buffers that a statement writes."""
    if isinstance(root, Reduce):
        return root.buffers
    buffer = getattr(root, "buffer", None)
    return [buffer] if buffer is not None else []


def _masked_identity(value: Node, root: Reduce) -> tuple[Node, Node | None]:
    """(v, mask) if a value is v where a mask holds and the identity elsewhere."""
    if value.kind == "map" and value.op == "arith.select" and _is_identity(value.args[2], root):
        return value.args[1], value.args[0]
    if value.kind == "load" and value.attr[0] is not None and value.attr[1] is not None:
        if _is_identity(value.attr[1], root):
            return value, value.attr[0]
    return value, None


def _is_identity(node: Node, root: Reduce) -> bool:
    if node.kind != "splat" or not isinstance(node.args[0].attr, str):
        return False
    text, identity = node.args[0].attr, str(root.combine.identity)
    if text == identity:
        return True
    try:
        return float(text) == float(identity)
    except ValueError:
        return text.lower().startswith("0x") and identity.lower().startswith("0x") and int(text, 16) == int(identity, 16)


def _without(index: Index, axis: int) -> Index:
    return () if axis == ALL_AXES else index[:axis] + index[axis + 1 :]


def _storage(elem: str) -> str:
    return "i8" if elem in ("i1",) or elem.startswith("f8") else elem


class Generic:
    """One linalg.generic, from a group."""

    def __init__(self, to: ToLinalg, group: Group, writer: Writer):
        self.to, self.group, self.writer = to, group, writer
        self.space = group.space
        self.analysis = Analysis(self.space)
        splits = self.space.splits
        self.dims = [splits[d].rest if d in splits else d for d in self.space.dims]
        self.body_writer = Writer(writer.counter)
        self.body_writer.depth = writer.depth + 1
        self.body = Body(self.analysis, self.dims, self.body_writer, writer)
        self.outputs: list[Output] = []
        self.reduced: set[Dim] = set()

    def write(self, dry: bool = False) -> None:
        """Evaluate all parts, then write views, generic and body. dry: only to learn of splits."""
        for part in self.group.parts:
            _PART[type(part.root)](self, part, part.root)
        if not dry:
            self._assemble()

    # parts

    def store(self, part: Part, root: Store) -> None:
        assert root.pointer is not None
        base, offset = root.pointer.args
        elem = pointee(root.pointer.elem)
        form = self.analysis.linear(offset, self.space.index)
        self._write(base, elem, form, part.values[0], part.mask, root.where)

    def fill(self, part: Part, root: Fill) -> None:
        assert root.buffer is not None
        index = self.space.index if root.at is None else root.at
        self._write(root.buffer, root.buffer.elem, flat(root.buffer, index), part.values[0], part.mask, root.where)

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
        kept = _without(index, root.axis)
        axes = range(len(root.shape)) if root.axis == ALL_AXES else [root.axis]
        for axis in axes:
            for dim in index[axis].coefs:
                split = self.space.splits.get(dim)
                self.reduced.add(split.rest if split else dim)
        values = [self.body.value(v, index) for v in part.values]
        outputs = []
        for buffer in root.buffers:
            form = flat(buffer, kept or (Linear(),))
            outputs.append(Output(Operand(buffer, buffer.elem, self.body.final(form), self.body_writer.fresh("acc"), root.where), ""))
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
            pointer = w.op(f"llvm.getelementptr {base.name}[{at}] : (!llvm.ptr, i64) -> !llvm.ptr, {elem}")
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
        sizes = {d: w.at_most(self.space.high.get(d, []), d.size) for d in self.dims}
        operands = list(self.body.inputs)
        covered = {d for o in [*operands, *(o.operand for o in self.outputs)] for d in o.form.coefs}
        if not covered.issuperset(self.dims):
            shape = Operand(self.to.domain, "i8", Linear(ZERO_SHAPE, dict.fromkeys(self.dims, ONE)), self.body_writer.fresh("shape"))
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

    def _view(self, operand: Operand, sizes: dict[Dim, str]) -> tuple[str, str]:
        """A strided view of the operand's base: (name, type)."""
        w = self.writer
        base = memory(w, operand.base, operand.elem)
        dims = [d for d in self.dims if d in operand.form.coefs]
        strides, static = [], []
        shape_only = operand.base is self.to.domain
        for d in dims:
            constant = 0 if shape_only else operand.form.coefs[d].constant
            static.append("?" if constant is None else str(constant))
            strides.append(w.poly(operand.form.coefs[d]) if constant is None else str(constant))
        offset = operand.form.const.constant
        at = w.poly(operand.form.const) if offset is None else str(offset)
        layout = f"strided<[{', '.join(static)}], offset: {'?' if offset is None else offset}>"
        kind = f"memref<{'?x' * len(dims)}{operand.elem}, {layout}>"
        name = w.op(
            f"memref.reinterpret_cast {base} to offset: [{at}], sizes: [{', '.join(sizes[d] for d in dims)}],"
            f" strides: [{', '.join(strides)}] : {memory_type(operand.base, operand.elem)} to {kind}",
            "v",
        )
        return name, kind

    def _report(self, inputs: list[Operand], outs: list[Operand]) -> None:
        elements = 1
        for d in self.dims:
            elements *= max(self.space.bound(d), 1)
        for way, operands in (("load", inputs), ("store", outs)):
            for o in operands:
                if o.base.kind != "buffer":
                    coefs = [c.constant for c in o.form.coefs.values()]
                    kind = "broadcast" if not coefs else "unit" if 1 in coefs else "strided"
                    self.to.accesses.append(_access(o.base, way, kind, o.elem, elements, o.where))
        for way, base, form, where in self.body.gathers:
            if base.kind != "buffer":
                kind, why = _kind_of(form)
                self.to.accesses.append(_access(base, way, kind, "", elements, where, why))


ZERO_SHAPE = Poly(0)


def _kind_of(form: Linear) -> tuple[str, str]:
    """What an access through a computed index is, and why it is no better."""
    varying = [a for m in form.const.terms for a in m if a.varying]
    if not varying:
        return ("unit" if any(c.constant == 1 for c in form.coefs.values()) else "strided" if form.coefs else "broadcast"), "masked"
    source = varying[0].value
    dims = _dims_of(varying)
    free = [d for d in form.coefs if d not in dims]
    node = getattr(source, "node", None)
    why = "index read from memory" if node is not None and _reads(node) else "index computed element by element"
    if any(form.coefs[d].constant == 1 for d in free):
        return "unit", f"rows: {why}"
    return "gather", why


def _dims_of(atoms: list[Atom]) -> set[Dim]:
    """The dims that varying atoms depend on, as far as their index tells."""
    dims: set[Dim] = set()
    for atom in atoms:
        index = getattr(atom.value, "index", None) or (atom.value.form,)
        for form in index:
            dims |= set(form.coefs)
            dims |= _dims_of([a for m in form.const.terms for a in m if a.varying])
    return dims


def _reads(node: Node) -> bool:
    return any(n.kind in ("load", "buffer") for n in walk([node]))


def _access(base: Node, op: str, kind: str, elem: str, elements: int, where: str | None, why: str = "") -> dict[str, object]:
    return {
        "arg": base.attr if isinstance(base.attr, int) else None,
        "op": op,
        "kind": kind,
        "elements_per_program": elements,
        "why": why,
        "where": where,
    }


_EMIT = {
    ScalarOp: ToLinalg.scalar_op,
    ScalarLoad: ToLinalg.scalar_load,
    Check: ToLinalg.check,
    For: ToLinalg.loop,
    If: ToLinalg.branch,
    While: ToLinalg.while_loop,
    Scan: ToLinalg.scan,
}
_PART = {Store: Generic.store, Fill: Generic.fill, Reduce: Generic.reduce, Atomic: Generic.atomic, Scan: Generic.scan_step}

def function(graph: Graph, noalias: bool) -> tuple[str, list[dict[str, object]]]:
    """The linalg module of a graph, and what each of its accesses is."""
    to = ToLinalg(graph, noalias)
    to.region(graph.region)
    arguments = ", ".join(f"{a.name}: {mlir_type(a.elem)}" for a in graph.arguments)
    buffers: dict[str, Node] = {}
    for statement, _, _ in every(graph.region):
        for buffer in statement.buffers if isinstance(statement, Scan | Reduce) else _buffers(statement):  # type: ignore[arg-type]
            buffers[buffer.name] = buffer
    if any("%domain " in line for line in to.writer.lines):
        buffers[to.domain.name] = to.domain
    lines = ["module {", "  func.func private @torch_rvv.check(i1, i32)"]
    for text in graph.functions.values():
        lines += ["  " + line for line in text.split("\n")]
    lines.append(f"  func.func @{graph.name}({arguments}) {{")
    lines += [f"    {b.name} = memref.alloca() : {memory_type(b, b.elem)}" for b in buffers.values()]
    lines += to.writer.lines
    lines += ["    func.return", "  }", "}"]
    return "\n".join(lines) + "\n", to.accesses


__all__ = ["ToLinalg", "function"]
