"""Rows of keys sorted one by one: a radix sort, from one place to another and back.

    func.call @torch_rvv.sort0(%keys, %spare, %counts) {rows = 1, size = 8192, length = 5000}
    →
    for each row
      count how often each byte of the upper half has each value
      for each of these bytes, the lowest first:  keys in the order of that byte, those of one value as they were

Scalar code: where a key goes depends on those before it. It is waiting that costs, for a count, and so a few keys are
read and taken apart at once. A byte that all keys have in common is left out; keys behind the last of a row are not
touched.
"""

from __future__ import annotations

from typing import Any

from torch_rvv.lowering.operations import Operations, bits_of
from torch_rvv.lowering.sort import ELEM, Keys
from torch_rvv.lowering.strips import StripWriter
from torch_rvv.lowering.values import View
from torch_rvv.lowering.writer import Writer

# Bytes of a key that are sorted by, the first bit of them, and values of a byte.
DIGITS, FIRST_BIT, VALUES = 4, 32, 256
KEYS_AT_ONCE = 8
LMUL = 8


class Radix(StripWriter):
    """Writes one sort into `writer`. counts: the address of the first count."""

    def __init__(self, keys: Keys, counts: View, operations: Operations, writer: Writer, lmul: int | None):
        self.keys, self.table, self.lmul = keys, counts.base, lmul or LMUL
        super().__init__(operations, writer, self.lmul * 64 // bits_of(ELEM))
        self.counts = self._address(self.table)

    def write(self, spare: View) -> None:
        """The loop over rows."""
        with self.loop(self.keys.rows) as row:
            start = self.w.op(f"arith.muli {row}, {self.w.constant(self.keys.size)} : index")
            self._along(*(self._address(self.pointer(view, start)) for view in (self.keys.view, spare)))

    def _along(self, place: str, spare: str) -> None:
        """Sort one row: counts, a pass a byte, and the keys back where they were."""
        w = self.w
        self._clear()
        self._count(place)
        digit, source, target = w.fresh("digit"), w.fresh("from"), w.fresh("to")
        result, types = w.fresh("loop"), "index, index"
        with w.block(
            f"{result}:2 = scf.for {digit} = {w.constant(0)} to {w.constant(DIGITS)} step {w.constant(1)}"
            f" iter_args({source} = {place}, {target} = {spare}) -> ({types}) {{"
        ):
            table = self._element(self.counts, digit, 4 * VALUES)
            bit = w.op(f"arith.addi {self._times(digit, 8)}, {w.constant(FIRST_BIT)} : index")
            alike = self._load(self._element(table, self._digit(self._load(source, ELEM), bit), 4), "i32")
            length = w.op(f"arith.constant {self.keys.length} : i32")
            passed, several = w.fresh("if"), w.op(f"arith.cmpi ne, {alike}, {length} : i32")
            with w.block(f"{passed}:2 = scf.if {several} -> ({types}) {{", "} else {"):
                self._pass(source, target, table, bit)
                w.line(f"scf.yield {target}, {source} : {types}")
            w.line(f"  scf.yield {source}, {target} : {types}")
            w.line("}")
            w.line(f"scf.yield {passed}#0, {passed}#1 : {types}")
        away = w.op(f"arith.cmpi ne, {result}#0, {place} : index")
        with w.block(f"scf.if {away} {{"), self.strips(w.constant(self.keys.length)) as (first, evl):
            values = self.memory(ELEM, self._pointer_of(self._element(f"{result}#0", first, 8)), 1, evl)
            self.memory(ELEM, self._pointer_of(self._element(place, first, 8)), 1, evl, values)

    def _count(self, place: str) -> None:
        w = self.w
        tables = [self._sum(self.counts, w.constant(4 * VALUES * digit)) for digit in range(DIGITS)]
        bits = [w.constant(FIRST_BIT + 8 * digit) for digit in range(DIGITS)]
        with self.loop(self.keys.length) as i:
            key = self._load(self._element(place, i, 8), ELEM)
            # Four different counts: none waits for another.
            cells = [self._element(table, self._digit(key, bit), 4) for table, bit in zip(tables, bits, strict=True)]
            for cell, held in zip(cells, [self._load(cell, "i32") for cell in cells], strict=True):
                self._store(self._next(held), cell, "i32")

    def _clear(self) -> None:
        w, kind = self.w, self.kind_of(ELEM)
        zero = w.op(f"arith.constant dense<0> : {kind}")
        with self.strips(w.constant(DIGITS * VALUES // 2)) as (first, evl):
            self.memory(ELEM, self.beyond(self.table, first, ELEM), 1, evl, zero)

    def _pass(self, source: str, target: str, table: str, bit: str) -> None:
        """Keys in the order of a byte: how many there are of a value becomes where the next one goes."""
        w, sofar, place = self.w, self.w.fresh("sum"), self.w.fresh("value")
        zero = w.op("arith.constant 0 : i32")
        with w.block(
            f"{w.fresh('loop')} = scf.for {place} = {w.constant(0)} to {w.constant(VALUES)} step {w.constant(1)}"
            f" iter_args({sofar} = {zero}) -> (i32) {{"
        ):
            cell = self._element(table, place, 4)
            count = self._load(cell, "i32")
            self._store(sofar, cell, "i32")
            w.line(f"scf.yield {w.op(f'arith.addi {sofar}, {count} : i32')} : i32")
        rest = self.keys.length % KEYS_AT_ONCE
        with self.loop(self.keys.length - rest, KEYS_AT_ONCE) as i:
            self._move(source, target, table, bit, i, KEYS_AT_ONCE)
        self._move(source, target, table, bit, w.constant(self.keys.length - rest), rest)

    def _move(self, source: str, target: str, table: str, bit: str, first: str, count: int) -> None:
        """So many keys to where they belong, one after the other, but read and taken apart before that."""
        start = self._element(source, first, 8)
        keys = [self._load(self._sum(start, self.w.constant(8 * n)), ELEM) for n in range(count)]
        cells = [self._element(table, self._digit(key, bit), 4) for key in keys]
        places = []
        for cell in cells:
            places.append(held := self._load(cell, "i32"))
            self._store(self._next(held), cell, "i32")
        for key, held in zip(keys, places, strict=True):
            place = self.w.op(f"arith.index_castui {held} : i32 to index")
            self._store(key, self._element(target, place, 8), ELEM)

    def _next(self, count: str) -> str:
        return self.w.op(f"arith.addi {count}, {self.w.op('arith.constant 1 : i32')} : i32")

    def _digit(self, key: str, bit: str) -> str:
        """The byte of a key that begins at a bit."""
        w = self.w
        shifted = w.op(f"arith.shrui {key}, {w.op(f'arith.index_cast {bit} : index to i64')} : i64")
        byte = w.op(f"arith.andi {shifted}, {w.op(f'arith.constant {VALUES - 1} : i64')} : i64")
        return w.op(f"arith.index_cast {byte} : i64 to index")

    # -- addresses, in bytes

    def _address(self, pointer: str) -> str:
        return self.w.op(f"arith.index_cast {self.w.op(f'llvm.ptrtoint {pointer} : !llvm.ptr to i64')} : i64 to index")

    def _pointer_of(self, address: str) -> str:
        return self.w.op(f"llvm.inttoptr {self.w.op(f'arith.index_cast {address} : index to i64')} : i64 to !llvm.ptr")

    def _sum(self, a: str, b: str) -> str:
        return self.w.op(f"arith.addi {a}, {b} : index")

    def _times(self, a: str, factor: int) -> str:
        return self.w.op(f"arith.muli {a}, {self.w.constant(factor)} : index")

    def _element(self, address: str, number: str, size: int) -> str:
        return self._sum(address, self._times(number, size))

    def _load(self, address: str, elem: str) -> str:
        return self.w.op(f"llvm.load {self._pointer_of(address)} : !llvm.ptr -> {elem}")

    def _store(self, value: str, address: str, elem: str) -> None:
        self.w.line(f"llvm.store {value}, {self._pointer_of(address)} : {elem}, !llvm.ptr")


def write(keys: Keys, operations: Operations, writer: Writer, lmul: int | None) -> dict[str, Any]:
    """Write a sort; what explain tells of it."""
    assert keys.spare is not None and keys.counts is not None
    sort = Radix(keys, keys.counts, operations, writer, lmul)
    sort.write(keys.spare)
    return {"lmul": sort.lmul, "live": 1, "gathers": 0}
