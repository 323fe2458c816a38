"""Scans along rows, a strip of lanes at a time.

    func.call @torch_rvv.scan0(%b) {rows = 4, length = 1000, kind = "addf"}
    →
    for strips of rows (vl lanes)                                                               across rows
      s = load the first of each row;  for the others in order:  s = s (+) load;  store s

    for each row                                                                                along a row
      for strips of the row (vl lanes)
        s = load;  for d = 1, 2, 4 ... < vl:  lanes from d on:  s = s shifted up by d lanes (+) s
        s = carry (+) s;  store;  carry = last lane of s

Across rows, whatever lies between neighbours in a row, is one operation an element; along a row log2(vl) of them, for
few rows. Any associative function of one or several values will do; a lane without a neighbour that far keeps what it
has. From the end of the row to its start if `reverse`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch_rvv.lowering.lmul import choose
from torch_rvv.lowering.operations import Operations, bits_of
from torch_rvv.lowering.strips import StripWriter
from torch_rvv.lowering.values import Value, View
from torch_rvv.lowering.vector_body import Strip
from torch_rvv.lowering.writer import Writer

CALL = "torch_rvv.scan"
# Rows shorter than this are scanned element by element, by the statement's own nest.
SHORTEST = 8
# As many rows are scanned side by side.
SIDE_BY_SIDE = 4


@dataclass(frozen=True)
class Rows:
    """What is scanned: dense buffers of rows * length elements, in place; turned: of length * rows, row beside row. Or,
    where it goes elsewhere, a view of as many rows and places.

    kind: as of arith, or "" with a function. goes: where the result belongs, by row and place in it; sizes as there.
    """

    views: Sequence[View]
    rows: int
    length: int
    reverse: bool
    kind: str
    function: str
    turned: bool = False
    goes: View | None = None


class ScanWriter(StripWriter):
    """Writes one scan into `writer`: what both forms need. functions: the module's own, by name."""

    def __init__(self, rows: Rows, operations: Operations, functions: dict[str, Any], writer: Writer, lmul: int | None):
        self.rows, self.functions = rows, functions
        self.elems = [v.elem for v in rows.views]
        widest = max(bits_of(e) for e in self.elems)
        self.lmul = min(lmul or 8, self.widest_strip(widest))
        super().__init__(operations, writer, max(2, self.lmul * 64 // widest))

    def widest_strip(self, bits: int) -> int:
        """The LMUL of a strip of elements of so many bits."""
        raise NotImplementedError

    def write(self) -> None:
        """The loops over rows and strips."""
        raise NotImplementedError

    def _combine(self, left: list[str], right: list[str], evl: str) -> list[str]:
        strip = Strip(self.operations, [self.w], self.lanes, 0, (self.mask, evl), functions=self.functions)
        pairs = [[Value(n, e, 0, "vector") for n, e in zip(side, self.elems, strict=True)] for side in (left, right)]
        if self.rows.kind:
            results = strip.apply(f"arith.{self.rows.kind}", "", [pairs[0][0], pairs[1][0]], [self.elems[0]])
        else:
            results = strip.inline(self.rows.function, [*pairs[0], *pairs[1]])
        return [strip.vector(r).name for r in results]


class Across(ScanWriter):
    """Rows side by side in the lanes."""

    def widest_strip(self, bits: int) -> int:
        live = 2 * len(self.elems) + (1 if self.rows.kind else 6)
        return min(4, choose(live, self.rows.rows, bits))

    def write(self) -> None:
        w, rows = self.w, self.rows
        strides = (1, rows.rows) if rows.turned else (rows.length, 1)
        if rows.goes:
            self.reads, self.writes = rows.views, [rows.goes]
        else:
            dense = [replace(v, strides=strides, sizes=(rows.rows, rows.length)) for v in rows.views]
            self.reads, self.writes = dense, dense
        count, self.steps = (self.index(size) for size in self.writes[0].sizes)
        some = w.op(f"arith.cmpi sgt, {self.steps}, {w.constant(0)} : index")
        count = w.op(f"arith.select {some}, {count}, {w.constant(0)} : index")
        with self.strips(count) as (i, evl):
            self._rows(i, evl)

    def _rows(self, row: str, evl: str) -> None:
        """A strip of rows from end to end."""
        w = self.w
        begin = w.constant(self.rows.length - 1 if self.rows.reverse else 0)
        first = [self._strip(v, row, begin, evl) for v in self.reads]
        if self.rows.goes:
            self._strip(self.rows.goes, row, begin, evl, first[0])
        k, held = w.fresh("k"), [w.fresh("s") for _ in first]
        types = ", ".join(self.kind_of(e) for e in self.elems)
        initial = ", ".join(f"{h} = {v}" for h, v in zip(held, first, strict=True))
        with w.block(
            f"{w.fresh('scan')}:{len(first)} = scf.for {k} = {w.constant(1)} to {self.steps} step {w.constant(1)}"
            f" iter_args({initial}) -> ({types}) {{"
        ):
            place = w.op(f"arith.subi {begin}, {k} : index") if self.rows.reverse else k
            loaded = [self._strip(v, row, place, evl) for v in self.reads]
            joined = self._combine(held, loaded, evl)
            for view, value in zip(self.writes, joined, strict=True):
                self._strip(view, row, place, evl, value)
            w.line(f"scf.yield {', '.join(joined)} : {types}")

    def _strip(self, view: View, row: str, place: str, evl: str, value: str | None = None) -> str:
        """Load what rows from one on have at a place in them, or store it."""
        w, at = self.w, self.index(view.offset)
        for index, stride in zip((row, place), view.strides, strict=True):
            at = w.op(f"arith.addi {at}, {w.op(f'arith.muli {index}, {self.index(stride)} : index')} : index")
        return self.memory(view.elem, self.pointer(view, at), view.strides[0], evl, value)


class Along(ScanWriter):
    """A row's neighbours side by side in the lanes."""

    def widest_strip(self, bits: int) -> int:
        return 8 if len(self.elems) == 1 else 2

    def write(self) -> None:
        w, rows = self.w, self.rows
        row = w.fresh("i")
        with w.block(f"scf.for {row} = {w.constant(0)} to {w.constant(rows.rows)} step {w.constant(1)} {{"):
            start = w.op(f"arith.muli {row}, {w.constant(rows.length)} : index")
            self._strips(start)

    def _strips(self, start: str) -> None:
        w, n = self.w, self.w.constant(self.rows.length)
        carriers = [self.operations.carrier(e) for e in self.elems]
        zeros = [w.op(f"arith.constant {'0.0' if c[0] == 'f' else '0'} : {c}") for c in carriers]
        at, j = w.fresh("at"), w.fresh("j")
        held, carried = [w.fresh("c") for _ in carriers], [w.fresh("c") for _ in carriers]
        types = ", ".join(["index", *carriers])
        first = ", ".join([f"{at} = {w.constant(0)}", *(f"{h} = {z}" for h, z in zip(held, zeros, strict=True))])
        with w.block(
            f"{w.fresh('loop')}:{len(carriers) + 1} = scf.while ({first}) : ({types}) -> ({types}) {{", "} do {"
        ):
            more = w.op(f"arith.cmpi slt, {at}, {n} : index")
            w.line(f"scf.condition({more}) {', '.join([at, *held])} : {types}")
        arguments = ", ".join([f"{j}: index", *(f"{c}: {t}" for c, t in zip(carried, carriers, strict=True))])
        with w.block(f"^bb0({arguments}):"):
            evl = self.length(self.rows.length, j)
            done = w.op(f"arith.index_castui {evl} : i32 to index")
            lasts = self._strip(start, j, evl, done, carried)
            w.line(f"scf.yield {', '.join([w.op(f'arith.addi {j}, {done} : index'), *lasts])} : {types}")

    def _strip(self, start: str, j: str, evl: str, done: str, carried: list[str]) -> list[str]:
        """One strip: load, scan, join with what came before, store; the last lanes."""
        w = self.w
        place, apart = j, 1
        if self.rows.reverse:
            place, apart = w.op(f"arith.subi {w.constant(self.rows.length - 1)}, {j} : index"), -1
        place = w.op(f"arith.addi {start}, {place} : index")
        pointers = [self.pointer(v, place) for v in self.rows.views]
        loaded = [self.memory(v.elem, p, apart, evl) for v, p in zip(self.rows.views, pointers, strict=True)]
        scanned = self._steps(loaded, evl, done)
        before = [
            w.op(f"vector.broadcast {c} : {self.operations.carrier(e)} to {self.kind_of(e)}")
            for c, e in zip(carried, self.elems, strict=True)
        ]
        joined = self._combine(before, scanned, evl)
        begins = w.op(f"arith.cmpi eq, {j}, {w.constant(0)} : index")
        whole = [
            w.op(f"arith.select {begins}, {a}, {b} : {self.kind_of(e)}")
            for a, b, e in zip(scanned, joined, self.elems, strict=True)
        ]
        for view, pointer, value in zip(self.rows.views, pointers, whole, strict=True):
            self.memory(view.elem, pointer, apart, evl, value)
        last = w.op(f"arith.subi {done}, {w.constant(1)} : index")
        return [w.op(f"vector.extract {v}[{last}] : {self.operations.carrier(e)} from {self.kind_of(e)}")
                for v, e in zip(whole, self.elems, strict=True)]  # fmt: skip

    def _steps(self, values: list[str], evl: str, done: str) -> list[str]:
        """Each lane joined with all before it in the strip."""
        w = self.w
        lane = w.op(f'llvm.call_intrinsic "llvm.stepvector"() : () -> vector<[{self.lanes}]xi32>')
        types = ", ".join(["index", *(self.kind_of(e) for e in self.elems)])
        d, e = w.fresh("d"), w.fresh("d")
        held, current, result = [w.fresh("s") for _ in values], [w.fresh("s") for _ in values], w.fresh("scan")
        first = ", ".join([f"{d} = {w.constant(1)}", *(f"{h} = {v}" for h, v in zip(held, values, strict=True))])
        with w.block(f"{result}:{len(values) + 1} = scf.while ({first}) : ({types}) -> ({types}) {{", "} do {"):
            more = w.op(f"arith.cmpi slt, {d}, {done} : index")
            w.line(f"scf.condition({more}) {', '.join([d, *held])} : {types}")
        arguments = ", ".join(
            [f"{e}: index", *(f"{c}: {self.kind_of(x)}" for c, x in zip(current, self.elems, strict=True))]
        )
        with w.block(f"^bb0({arguments}):"):
            shifted = [self._up(c, x, e, evl) for c, x in zip(current, self.elems, strict=True)]
            joined = self._combine(shifted, current, evl)
            distance = w.op(f"arith.index_cast {e} : index to i32")
            far = w.op(f"vector.broadcast {distance} : i32 to vector<[{self.lanes}]xi32>")
            reaches = w.op(f"arith.cmpi uge, {lane}, {far} : vector<[{self.lanes}]xi32>")
            new = [
                w.op(f"arith.select {reaches}, {a}, {b} : {self.masks}, {self.kind_of(x)}")
                for a, b, x in zip(joined, current, self.elems, strict=True)
            ]
            twice = w.op(f"arith.addi {e}, {e} : index")
            w.line(f"scf.yield {', '.join([twice, *new])} : {types}")
        return [f"{result}#{k + 1}" for k in range(len(values))]

    def _up(self, value: str, elem: str, distance: str, evl: str) -> str:
        """A vector shifted up by some lanes; those below hold anything."""
        w, kind = self.w, self.kind_of(elem)
        by, length = (w.op(f"arith.{op} {x} : {t} to i64") for op, x, t in (
            ("index_cast", distance, "index"), ("extui", evl, "i32"),
        ))  # fmt: skip
        policy, anything = w.op("arith.constant 3 : i64"), w.op(f"llvm.mlir.poison : {kind}")
        return w.op(
            f'llvm.call_intrinsic "llvm.riscv.vslideup"({anything}, {value}, {by}, {length}, {policy})'
            f" : ({kind}, {kind}, i64, i64, i64) -> {kind}"
        )


def write(
    rows: Rows, operations: Operations, functions: dict[str, Any], writer: Writer, lmul: int | None
) -> dict[str, Any]:
    """Write a scan; what explain tells of it."""
    form = Across if rows.rows >= SIDE_BY_SIDE else Along
    scan = form(rows, operations, functions, writer, lmul)
    scan.write()
    return {"lmul": scan.lmul, "live": 4 * len(scan.elems), "gathers": 0}
