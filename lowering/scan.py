"""Scans along contiguous rows, a strip of lanes at a time.

    func.call @torch_rvv.scan0(%b) {rows = 4, length = 1000, kind = "addf"}
    →
    for each row
      for strips of the row (vl lanes)
        s = load;  for d = 1, 2, 4 ... < vl:  lanes from d on:  s = s shifted up by d lanes (+) s
        s = carry (+) s;  store;  carry = last lane of s

That is log2(vl) steps for vl elements where a loop over elements would wait for each sum. Any associative function of
one or several values will do; a lane without a neighbour that far keeps what it has. From the end of the row to its
start if `reverse`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch_rvv.lowering.nodes import bytes_of
from torch_rvv.lowering.operations import Operations, bits_of
from torch_rvv.lowering.values import Value, View
from torch_rvv.lowering.vector_body import Strip
from torch_rvv.lowering.writer import Writer

CALL = "torch_rvv.scan"
# Rows shorter than this are scanned element by element, across rows.
SHORTEST = 8


@dataclass(frozen=True)
class Rows:
    """What is scanned: dense buffers of rows * length elements, in place. kind: as of arith, or "" with a function."""

    views: Sequence[View]
    rows: int
    length: int
    reverse: bool
    kind: str
    function: str


class ScanWriter:
    """Writes one scan into `writer`. functions: the module's own, by name."""

    def __init__(self, rows: Rows, operations: Operations, functions: dict[str, Any], writer: Writer, lmul: int | None):
        self.rows, self.operations, self.functions, self.w = rows, operations, functions, writer
        self.elems = [v.elem for v in rows.views]
        self.lmul = min(lmul or 8, 8 if len(self.elems) == 1 else 2)
        widest = max(bits_of(e) for e in self.elems)
        self.lanes = max(2, self.lmul * 64 // widest)
        self.masks = f"vector<[{self.lanes}]xi1>"

    def kind_of(self, elem: str) -> str:
        return self.operations.type(elem, self.lanes)

    def write(self) -> None:
        """The loops over rows and strips."""
        w, rows = self.w, self.rows
        self.mask = w.op(f"arith.constant dense<true> : {self.masks}")
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
            evl = self._length(j)
            done = w.op(f"arith.index_castui {evl} : i32 to index")
            lasts = self._strip(start, j, evl, done, carried)
            w.line(f"scf.yield {', '.join([w.op(f'arith.addi {j}, {done} : index'), *lasts])} : {types}")

    def _length(self, j: str) -> str:
        w = self.w
        left = w.op(f"arith.subi {w.constant(self.rows.length)}, {j} : index")
        wide, factor = w.op(f"arith.index_cast {left} : index to i64"), w.op(f"arith.constant {self.lanes} : i32")
        true = w.op("arith.constant true")
        return w.op(
            f'llvm.call_intrinsic "llvm.experimental.get.vector.length"({wide}, {factor}, {true})'
            " : (i64, i32, i1) -> i32"
        )

    def _strip(self, start: str, j: str, evl: str, done: str, carried: list[str]) -> list[str]:
        """One strip: load, scan, join with what came before, store; the last lanes."""
        w = self.w
        pointers = [self._pointer(v, start, j) for v in self.rows.views]
        loaded = [self._memory(v, p, evl, None) for v, p in zip(self.rows.views, pointers, strict=True)]
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
            self._memory(view, pointer, evl, value)
        last = w.op(f"arith.subi {done}, {w.constant(1)} : index")
        return [w.op(f"vector.extract {v}[{last}] : {self.operations.carrier(e)} from {self.kind_of(e)}")
                for v, e in zip(whole, self.elems, strict=True)]  # fmt: skip

    def _pointer(self, view: View, start: str, j: str) -> str:
        """The address of a strip's first element."""
        w = self.w
        place = j
        if self.rows.reverse:
            place = w.op(f"arith.subi {w.constant(self.rows.length - 1)}, {j} : index")
        at = w.op(f"arith.index_cast {w.op(f'arith.addi {start}, {place} : index')} : index to i64")
        carrier = self.operations.carrier(view.elem)
        return w.op(f"llvm.getelementptr {view.base}[{at}] : (!llvm.ptr, i64) -> !llvm.ptr, {carrier}")

    def _memory(self, view: View, pointer: str, evl: str, value: str | None) -> str:
        """Load a strip, or store one."""
        kind, w = self.kind_of(view.elem), self.w
        stride = w.op(f"arith.constant {-bytes_of(view.elem)} : i64") if self.rows.reverse else ""
        name = "llvm.experimental.vp.strided." if stride else "llvm.vp."
        middle, types = (f", {stride}", ", i64") if stride else ("", "")
        if value is None:
            return w.op(
                f'llvm.call_intrinsic "{name}load"({pointer}{middle}, {self.mask}, {evl})'
                f" : (!llvm.ptr{types}, {self.masks}, i32) -> {kind}"
            )
        w.line(
            f'llvm.call_intrinsic "{name}store"({value}, {pointer}{middle}, {self.mask}, {evl})'
            f" : ({kind}, !llvm.ptr{types}, {self.masks}, i32) -> ()"
        )
        return value

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

    def _combine(self, left: list[str], right: list[str], evl: str) -> list[str]:
        strip = Strip(self.operations, [self.w], self.lanes, 0, (self.mask, evl), functions=self.functions)
        pairs = [[Value(n, e, 0, "vector") for n, e in zip(side, self.elems, strict=True)] for side in (left, right)]
        if self.rows.kind:
            results = strip.apply(f"arith.{self.rows.kind}", "", [pairs[0][0], pairs[1][0]], [self.elems[0]])
        else:
            results = strip.inline(self.rows.function, [*pairs[0], *pairs[1]])
        return [strip.vector(r).name for r in results]


def write(
    rows: Rows, operations: Operations, functions: dict[str, Any], writer: Writer, lmul: int | None
) -> dict[str, Any]:
    """Write a scan; what explain tells of it."""
    scan = ScanWriter(rows, operations, functions, writer, lmul)
    scan.write()
    return {"lmul": scan.lmul, "live": 4 * len(scan.elems), "gathers": 0}
