"""Rows of keys sorted side by side: a sorting network, of which each pair that it compares is a min and a max.

    func.call @torch_rvv.sort0(%keys) {rows = 32, size = 128, length = 100}
    →
    for strips of rows (vl lanes), which are columns of lines: the k-th keys of all rows
      lines 8 by 8: sorted in registers
      for m = 8, 16 ... size / 2:  runs of m lines merged, two and two: i with 2m-1-i, then i with i + m/2, m/4 ... 1

Lanes never meet, so that it is right at any VLEN. What it costs is loads and stores: up to three of a merge's steps are
done at once, on the eight lines that they concern. Keys behind the last of a row are moved about with the rest: they
have to be as large as any. Those whose upper halves are alike are in the order of the lower ones: of their places.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from torch_rvv.lowering.operations import Operations, bits_of
from torch_rvv.lowering.sort import ELEM, Keys
from torch_rvv.lowering.strips import StripWriter
from torch_rvv.lowering.writer import Writer

# Lines that are in registers at once, and steps of a merge that are: as many lines as 2 to the power of steps.
LINES_AT_ONCE, STEPS_AT_ONCE = 8, 3
# At which eight lines and what a step needs besides fit the registers.
LMUL = 2

# Pairs of members: the smaller key of the two goes to the first.
Pairs = Sequence[tuple[int, int]]


@cache
def network(size: int) -> Pairs:
    """A small sorting network: Batcher's merge exchange (Knuth, The Art of Computer Programming 3, 5.2.2, M)."""
    pairs = []
    p = top = 1 << (size - 1).bit_length() - 1 if size > 1 else 0
    while p:
        q, r, d = top, 0, p
        while True:
            pairs += [(i, i + d) for i in range(size - d) if i & p == r]
            if q == p:
                break
            q, r, d = q // 2, p, q - p
        p //= 2
    return tuple(pairs)


def steps(count: int, mirrored: bool) -> Pairs:
    """The pairs of so many steps of a merge, among the lines that they concern: 2 ** count of them, in order; mirrored:
    the first step pairs the first with the last, and so on."""
    size = 1 << count
    pairs, apart = [], size // 2
    if mirrored:
        pairs += [(i, size - 1 - i) for i in range(apart)]
        apart //= 2
    while apart:
        pairs += [(i, i + apart) for i in range(size) if not i & apart]
        apart //= 2
    return pairs


class Network(StripWriter):
    """Writes one sort into `writer`."""

    def __init__(self, keys: Keys, operations: Operations, writer: Writer, lmul: int | None):
        self.keys, self.lmul = keys, min(lmul or LMUL, LMUL)
        super().__init__(operations, writer, self.lmul * 64 // bits_of(ELEM))

    def write(self) -> None:
        """The strips of rows."""
        keys = self.keys
        with self.strips(self.w.constant(keys.rows)) as (first, evl):
            self._network(self.pointer(keys.view, first), keys.size, keys.rows, evl)

    def _network(self, base: str, height: int, width: int, evl: str) -> None:
        """Sort the columns of lines of `width` keys. base: of the first line's strip."""
        at_once = min(LINES_AT_ONCE, height)
        if at_once > 1:
            with self.loop(height, at_once) as line:
                self._exchange(base, [(line, range(at_once))], width, network(at_once), evl)
        run = at_once
        while run < height:
            self._merge_step(base, height, width, run, evl)
            run *= 2

    def _merge_step(self, base: str, height: int, width: int, run: int, evl: str) -> None:
        """Merge the runs of so many lines, two and two."""
        w = self.w
        far = run.bit_length() - STEPS_AT_ONCE  # steps between lines that are not among eight neighbours
        groups = -(-far // STEPS_AT_ONCE)
        left, apart, mirrored = far, 2 * run, True
        for group in range(groups, 0, -1):
            count = -(-left // group)
            near = apart >> count
            with self.loop(height, apart) as block, self.loop(near) as i:
                first = w.op(f"arith.addi {block}, {i} : index")
                if mirrored:
                    half = 1 << count - 1
                    end = w.op(f"arith.addi {block}, {w.constant(apart - 1)} : index")
                    last = w.op(f"arith.subi {end}, {i} : index")
                    members = [(first, range(0, near * half, near)), (last, range(near - near * half, near, near))]
                else:
                    members = [(first, range(0, apart, near))]
                self._exchange(base, members, width, steps(count, mirrored), evl)
            left, apart, mirrored = left - count, near, False
        with self.loop(height, LINES_AT_ONCE) as block:
            self._exchange(base, [(block, range(LINES_AT_ONCE))], width, steps(STEPS_AT_ONCE, False), evl)

    def _exchange(self, base: str, lines: Sequence[tuple[str, range]], width: int, pairs: Pairs, evl: str) -> None:
        """Load lines, put pairs of them in order, and store them. lines: a line's number and distances from there."""
        w, kind, ends = self.w, self.kind_of(ELEM), []
        for line, distances in lines:
            first = self.beyond(base, w.op(f"arith.muli {line}, {w.constant(width)} : index"), ELEM)
            ends += [self.beyond(first, w.constant(n * width), ELEM) if n else first for n in distances]
        values = [self.memory(ELEM, end, 1, evl) for end in ends]
        for i, j in pairs:
            values[i], values[j] = (w.op(f"arith.{op} {values[i]}, {values[j]} : {kind}") for op in ("minui", "maxui"))
        for end, value in zip(ends, values, strict=True):
            self.memory(ELEM, end, 1, evl, value)


def write(keys: Keys, operations: Operations, writer: Writer, lmul: int | None) -> dict[str, Any]:
    """Write a sort; what explain tells of it."""
    sort = Network(keys, operations, writer, lmul)
    sort.write()
    return {"lmul": sort.lmul, "live": LINES_AT_ONCE + 1, "gathers": 0}
