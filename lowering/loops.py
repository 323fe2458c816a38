"""linalg.generic → a nest of loops with one dimension in scalable vectors.

    linalg.generic {parallel, reduction} ins(%x : [n, m]) outs(%y : [n])
    →
    scf.for %i (n) {
      %acc = scf.while (%j = 0, %a = identity) { %evl = get.vector.length(m - %j) ...
               %v = vp.load ; vp.merge(%a + %v, %a, %evl) }
      %y[i] = y[i] + vector.reduction(%acc) }

A strip asks for as many lanes as are left, so tails need no code of their own. LMUL follows from how many vectors
live at once. Which dimension becomes lanes: nest.py; accumulators: accumulate.py.
"""

from __future__ import annotations

import itertools
import math
import operator
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from torch_rvv.lowering import jam, neighbours, rotated
from torch_rvv.lowering.accumulate import Accumulators, Carry
from torch_rvv.lowering.jam import Region
from torch_rvv.lowering.lmul import VLEN, choose, pressure, widest_element
from torch_rvv.lowering.mlir import integer
from torch_rvv.lowering.nest import Nest, Operand, choose_dim, loop_order, outside, walk_body
from torch_rvv.lowering.operations import Operations
from torch_rvv.lowering.values import Value, View
from torch_rvv.lowering.vector_body import Strip
from torch_rvv.lowering.writer import Writer

# Numbers that a loop's body may keep in registers, of which there are 32.
REGISTERS = 24


class NestWriter(Accumulators):
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
        self.region, self.short, self.chosen = Region(), False, False
        self.reads = neighbours.anchored(nest, self.vector) if not nest.reductions else {}
        numbers = [v for v in outside(nest.block) if str(v.type) in ("f32", "f64")]
        self.again = sum(bool(names(v).memory) for v in numbers) > REGISTERS

    def write(self, lmul: int | None) -> dict[str, Any]:
        """Write the nest; returns what explain tells of it (lmul, live vectors, gathers)."""
        if self.vector is None:
            self._nest(self.writer)
            return {"lmul": 0, "live": 0, "gathers": 0}
        self.lanes = 2
        jammed = self._jammed()
        trial = Writer()
        if not self.nest.reductions:
            self.region = Region(jammed)
        gathers = self._nest(trial)
        live, widest = pressure(trial.lines)
        # One accumulator is in the count, as the sum that takes its place.
        live += Region(jammed).rows * self._accumulators() - 1 if self._accumulators() else 0
        live += min(jammed.values()) if len(jammed) > 1 else 0  # Strips of one side, kept for all of the other.
        chosen = lmul or choose(live, self.nest.most[self.vector], widest)
        # Never one lane: MLIR takes a vector of one for a scalar even when it is scalable.
        # What stands in a branch may be wider: it must still fit a group of eight registers.
        self.lanes = max(2, min(chosen * 64 // widest, 8 * 64 // widest_element(trial.lines)))
        self.chosen = True
        for region in jam.regions(self.writer, self.nest, jammed):
            self.region = region
            self._nest(self.writer)
        return {"lmul": chosen, "live": live, "gathers": gathers}

    # -- evaluating

    def _nest(self, writer: Writer) -> int:
        order, depth = self.order, len(self.order)
        self.ivs = {d: writer.fresh("i") for d in order}
        self.mask, self.evl = writer.fresh("mask"), writer.fresh("evl")
        self.head = Writer(writer.counter) if self._peels() else None
        self.few, self.start, self.end, self.some = (writer.fresh(n) for n in ("few", "few", "end", "some"))
        writers = [Writer(writer.counter) for _ in range(depth + 1)]
        result = writer.fresh("loop")
        final = Writer(writer.counter)
        carries: list[Carry] = []
        strips = []
        short = [*writers[:-1], self.head] if self.head is not None else None
        if not self.nest.reductions:
            strips += self._side_by_side(writers)
            if short is not None:
                with self._leftover(self.end):
                    self._side_by_side(short)
        for place in self.region.places() if self.nest.reductions else ():
            strip = self._strip(writers)
            self.positions = self._positions(strip, place)
            mine = self._row(strip, writer, depth)
            if short is not None:
                with self._leftover(strip.constant_index(0).name):
                    few = self._strip(short)
                    self.positions = self._positions(few, place)
                    for carry, first in zip(mine, self._row(few, writer, depth), strict=True):
                        carry.first = first
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
        counters = self._counters(strip, carries, writer)
        strip.early = False
        self._bind(strip, carries, depth)
        yields = strip.block(list(nest.block.operations))
        for counter in counters:
            counter.merged = strip.nans[counter.output.argument]
        by_output = {c.output: c for c in carries}
        for output, value in zip(nest.outputs, yields, strict=True):
            carry = by_output.get(output)
            if carry is None:
                strip.store(*self._place(strip, output), value, None)
            else:
                carry.merged = self._merge(strip, carry, value)
        return carries + counters

    def _side_by_side(self, writers: list[Writer]) -> list[Strip]:
        """The body of a nest without reductions, once for each place of the region: in the order of what it reads,
        so that what several places or results read is read once and not kept for long."""
        copies, operations = [], [op.operation for op in self.nest.block.operations]
        self.loads, self.pointers = {}, {}
        for place in self.region.places():
            strip = self._strip(writers)
            self.positions, self.place = self._positions(strip, place), place
            self._bind(strip, [], len(self.order))
            copies.append((strip, self.positions, place))
        self.origin = copies[0][1]
        steps = []
        for number, (_, _, place) in enumerate(copies):
            reach: dict[Any, float] = {}
            for at, op in enumerate(operations[:-1]):
                needed = [reach[v] for v in op.operands if v in reach]
                far = max([*self._distances(op, place), *needed], default=-math.inf)
                reach.update(dict.fromkeys(op.results, far))
                steps.append((far, number, at))
        groups = [list(group) for _, group in itertools.groupby(sorted(steps), key=operator.itemgetter(0))]
        for now, following in zip([[], *groups], [*groups, []], strict=True):
            # Reads one step ahead of what waits for them; of a single copy LLVM brings them forward far enough.
            for _, number, at in following if len(copies) > 1 else ():
                strip, self.positions, self.place = copies[number]
                for operand in self._anchored(operations[at]):
                    strip.get(operand.argument)
            for _, number, at in now:
                strip, self.positions, self.place = copies[number]
                strip.operation(operations[at])
        for strip, self.positions, self.place in copies:
            for output, value in zip(self.nest.outputs, map(strip.get, operations[-1].operands), strict=True):
                strip.store(*self._place(strip, output), value, None)
        return [strip for strip, _, _ in copies]

    def _anchored(self, op: Any) -> Iterator[Operand]:
        """The operands of an operation that have neighbours."""
        used = list(op.operands)
        return (operand for operand in self.reads if operand.argument in used)

    def _distances(self, op: Any, place: dict[int, int]) -> Iterator[int]:
        """How far behind the first of their kind an operation's operands lie."""
        return (self.reads[operand].after(place) or 0 for operand in self._anchored(op))

    def _read(self, strip: Strip, operand: Operand) -> Value:
        """An operand's element at the current place."""
        read = self.reads.get(operand)
        distance = read.after(self.place) if read is not None else None
        if read is None or distance is None:
            return strip.load(*self._place(strip, operand), operand.view.elem, None)
        key = (read.anchor, distance)
        if key not in self.loads:
            self.loads[key] = strip.load(*self._near(strip, read.anchor, distance), operand.view.elem, None)
        return self.loads[key]

    def _near(self, strip: Strip, anchor: Operand, distance: int) -> tuple[View, Value]:
        """As _place, of what is so far behind an operand: from the pointer of that."""
        if anchor not in self.pointers:
            here, self.positions = self.positions, self.origin
            view, index = self._place(strip, anchor)
            self.pointers[anchor] = replace(view, base=strip._pointer(view, index, index.level)), index
            self.positions = here
        view, index = self.pointers[anchor]
        return view, replace(index, name=strip.constant_index(distance).name, constant=None)

    @contextmanager
    def _leftover(self, start: str) -> Iterator[None]:
        """Strips made in here are of the lanes that are left over from whole strips, which begin at `start`."""
        assert self.vector is not None
        iv, self.short, self.ivs[self.vector] = self.ivs[self.vector], True, start
        yield
        self.short, self.ivs[self.vector] = False, iv

    def _positions(self, strip: Strip, place: dict[int, int]) -> dict[int, Value]:
        """The index of each dimension; of the jammed ones, so many rows on."""
        found = {
            d: Value(self.ivs[d], "index", level + 1, *(("linear", 1) if d == self.vector else ()))
            for level, d in enumerate(self.order)
        }
        for dim, row in place.items():
            if row:
                (found[dim],) = strip.apply("arith.addi", "", [found[dim], strip.constant_index(row)], ["index"])
        return found

    def _jammed(self) -> dict[int, int]:
        """Rows that are reduced at once: W @ x, four rows of W at a time; W @ X, four by two. Rows that read the same,
        or are short."""
        if not self.nest.reductions:
            return jam.beside(self.nest, self.order, self.vector, self.reads)
        if not all(self.nest.accumulates(o) and self._known(o) is not None for o in self.nest.outputs):
            return {}
        return jam.counts(self.nest, self.order, self.first, self.vector)

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
            self.operations, writers, self.lanes, level, (self.mask, self.few if self.short else self.evl),
            functions=self.functions, views=self.views, scalar=self.names, iv=self.ivs[self.vector],
            whole=self.head is not None and not self.short, again=self.again, folds=self.vector in self.nest.reductions,
        )  # fmt: skip

    def _bind(self, strip: Strip, carries: list[Carry], depth: int) -> None:
        """Give the body's arguments and linalg.index their values."""
        for op in walk_body(self.nest.block):
            if op.name == "linalg.index":
                strip.values[op.results[0]] = self.positions[integer(op, "dim")]
        carried = {c.output: c for c in carries}
        # Loaded where they are first needed, so that few wait in registers; but not behind a store.
        early = self.vector is None or any(op.name == "memref.store" for op in walk_body(self.nest.block))
        for operand in self.nest.operands:
            carry = carried.get(operand)
            if carry is not None:
                strip.values[operand.argument] = Value(carry.inside, carry.start.elem, depth, carry.start.kind)
                strip.sums.add(operand.argument)
            elif not early:
                strip.operands[operand.argument] = partial(self._read, strip, operand)
            elif any(True for _ in operand.argument.uses):
                strip.values[operand.argument] = strip.load(*self._place(strip, operand), operand.view.elem, None)

    # -- assembling

    def _assemble(
        self, writer: Writer, writers: list[Writer], final: Writer, carries: list[Carry], result: str
    ) -> None:
        strip = self._strip(writers)
        region, zero = self.region, strip.constant_index(0).name
        steps = {d: strip.constant_index(region.counts.get(d, 1)).name for d in self.order}
        bounds = {d: region.ends.get(d) or self._size(strip, d, 0) for d in self.order}
        if self.head is not None:
            self._lengths(writers[0], bounds[self.vector])
        elif self.vector is not None:
            level = self.order.index(self.vector) + 1
            head = Writer(writer.counter)
            strip.writers = [*writers[:level], head, *writers[level + 1 :]]
            left = head.op(f"arith.subi {bounds[self.vector]}, {self.ivs[self.vector]} : index")
            text = self._length_text(strip, left, level)
            head.line(f"{self.evl} = {text}")
            writers[level].lines = head.lines + writers[level].lines
        if self.vector is not None:
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
            start = region.begins.get(dim, zero)
            peeled = self.head if dim == self.vector else None
            if peeled is not None and not self._elementwise():
                held, start = self._folded(writer, peeled.lines, carries, held), self.start
            names = [c.inside if innermost else writer.fresh("acc") for c in carries] if carried else []
            name = result if level == self.first else writer.fresh("loop")
            end = self.end if peeled is not None and self._elementwise() else bounds[dim]
            held, kinds = (held, text_kinds) if carried else ([], [])
            rotates = innermost and peeled is not None and self._rotates()
            sums = list(zip(kinds, held, names, [c.merged for c in carries] if carried else [], strict=True))
            made = [(kind, merged) for kind, *_, merged in sums]
            body = rotated.split(writers[-1].lines, self.ivs[dim], made) if rotates else None
            if body is not None:
                after = rotated.write(writer, name, body, self.ivs[dim], (start, end, self.evl), sums)
            else:
                make = self._strip_loop if dim == self.vector else self._plain_loop
                after = make(
                    writer, name, dim, end, start, steps[dim], held, names, kinds, lambda: loops(level + 1, names)
                )
            if peeled is not None and self._elementwise():
                with writer.block(f"scf.if {self.some} {{"):
                    put(peeled.lines)
            if carried and level == self.first:
                put(final.lines)
            return after

        loops(0, [])

    def _rotates(self) -> bool:
        """Whether loads may stand one strip ahead: not while an LMUL is looked for, nor of a few strips, nor beside
        what a body stores on its way."""
        assert self.vector is not None
        most = self.nest.most[self.vector]
        stores = any(op.name == "memref.store" for op in walk_body(self.nest.block))
        return self.chosen and not stores and (most is None or most >= rotated.STRIPS * (self.lanes or 0) * VLEN // 64)

    def _folded(self, w: Writer, lines: list[str], carries: list[Carry], held: list[str]) -> list[str]:
        """The accumulators after the short strip, where there is one."""
        firsts, kinds = [c.first for c in carries if c.first], ", ".join(c.kind for c in carries)
        result = w.fresh("acc")
        with w.block(f"{result}:{len(held)} = scf.if {self.some} -> ({kinds}) {{", "} else {"):
            w.lines.extend("  " * (w.depth - 1) + line for line in _renamed(lines, firsts, held))
            w.line(f"scf.yield {', '.join(first.merged for first in firsts)} : {kinds}")
        w.line(f"  scf.yield {', '.join(held)} : {kinds}")
        w.line("}")
        return [f"{result}#{i}" for i in range(len(held))]

    def _lengths(self, w: Writer, size: str | None) -> None:
        """Before all loops: the length of a whole strip, and that of the short one."""
        whole = w.op(f"arith.muli {w.op('vector.vscale')}, {w.constant(self.lanes or 1)} : index")
        w.line(f"{self.evl} = arith.index_cast {whole} : index to i32")
        below = w.op(f"arith.subi {whole}, {w.constant(1)} : index")
        w.line(f"{self.start} = arith.andi {size}, {below} : index")
        w.line(f"{self.few} = arith.index_cast {self.start} : index to i32")
        w.line(f"{self.end} = arith.subi {size}, {self.start} : index")
        w.line(f"{self.some} = arith.cmpi ne, {self.start}, {w.constant(0)} : index")

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


def _renamed(lines: list[str], firsts: list[Carry], held: list[str]) -> list[str]:
    """Lines that read accumulators, by the names that those have where the lines are put."""
    names = {first.inside: name for first, name in zip(firsts, held, strict=True)}
    return [re.sub(r"%acc\d+", lambda m: names.get(m.group(), m.group()), line) for line in lines]
