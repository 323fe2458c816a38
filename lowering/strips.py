"""Strips of lanes written by hand: what scans and sorts have in common, which are no loop nests of a generic.

evl = how many lanes are left of a row, at most `lanes`;  v = load(p, apart, evl);  store(v, p, apart, evl)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch_rvv.lowering.nodes import bytes_of
from torch_rvv.lowering.operations import Operations
from torch_rvv.lowering.values import View
from torch_rvv.lowering.writer import Writer


class StripWriter:
    """Writes into `writer`. lanes: of a strip at VLEN 64 (MLIR's vector<[lanes]>)."""

    def __init__(self, operations: Operations, writer: Writer, lanes: int):
        self.operations, self.w, self.lanes = operations, writer, lanes
        self.masks = f"vector<[{lanes}]xi1>"
        self.mask = writer.op(f"arith.constant dense<true> : {self.masks}")

    def kind_of(self, elem: str) -> str:
        return self.operations.type(elem, self.lanes)

    def index(self, value: str | int) -> str:
        return self.w.constant(value) if isinstance(value, int) else value

    def length(self, total: str | int, at: str) -> str:
        """How many lanes a strip has that begins there."""
        w = self.w
        left = w.op(f"arith.subi {self.index(total)}, {at} : index")
        wide, factor = w.op(f"arith.index_cast {left} : index to i64"), w.op(f"arith.constant {self.lanes} : i32")
        true = w.op("arith.constant true")
        return w.op(
            f'llvm.call_intrinsic "llvm.experimental.get.vector.length"({wide}, {factor}, {true})'
            " : (i64, i32, i1) -> i32"
        )

    @contextmanager
    def strips(self, count: str) -> Iterator[tuple[str, str]]:
        """A loop over strips of so many lanes: (the first one's number, how many there are)."""
        w = self.w
        at, first = w.fresh("at"), w.fresh("i")
        with w.block(f"{w.fresh('loop')}:1 = scf.while ({at} = {w.constant(0)}) : (index) -> (index) {{", "} do {"):
            w.line(f"scf.condition({w.op(f'arith.cmpi slt, {at}, {count} : index')}) {at} : index")
        with w.block(f"^bb0({first}: index):"):
            evl = self.length(count, first)
            yield first, evl
            done = w.op(f"arith.index_castui {evl} : i32 to index")
            w.line(f"scf.yield {w.op(f'arith.addi {first}, {done} : index')} : index")

    @contextmanager
    def loop(self, end: int, step: int = 1) -> Iterator[str]:
        """A loop from 0 to a number: its index."""
        w = self.w
        i = w.fresh("i")
        with w.block(f"scf.for {i} = {w.constant(0)} to {w.constant(end)} step {w.constant(step)} {{"):
            yield i

    def pointer(self, view: View, place: str) -> str:
        """The address of an element."""
        return self.beyond(view.base, place, self.operations.carrier(view.elem))

    def beyond(self, base: str, place: str, carrier: str) -> str:
        """The address of an element so many behind another."""
        at = self.w.op(f"arith.index_cast {place} : index to i64")
        return self.w.op(f"llvm.getelementptr {base}[{at}] : (!llvm.ptr, i64) -> !llvm.ptr, {carrier}")

    def memory(self, elem: str, pointer: str, apart: str | int, evl: str, value: str | None = None) -> str:
        """Load a strip whose elements are so far apart, or store one."""
        kind, w = self.kind_of(elem), self.w
        stride = "" if apart == 1 else w.op(f"arith.index_cast {self._bytes(apart, elem)} : index to i64")
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

    def _bytes(self, elements: str | int, elem: str) -> str:
        size = bytes_of(elem)
        if isinstance(elements, int):
            return self.w.constant(elements * size)
        return self.w.op(f"arith.muli {elements}, {self.w.constant(size)} : index")
