"""The innermost loop of a product: the accumulators of a register tile, all along the depth.

    b = load B; a0..a5 = load A
    for rounds of 4 (8) steps
      each step:  c0 += a0*b; a0 = load A[k+1]; b' = load B[k+1]; c1 += a1*b; a1 = load A[k+1]; ...
    the last step

What follows which is written here, and LLVM keeps it. An in-order core gives up its results in order as well: an
addition behind a product or a load waits until that is done. Products of LMUL 4 leave it the time, one addition after
each: pointers move one by one (`_gaps`), but not between a product and a load of B. At a smaller LMUL they move
together at a round's end; rounds are longer, and B has a pointer for each step. Rows of A that offsets of loads
reach share a pointer.
Modelled for the X60: 15.8 of 16 FLOP a cycle at LMUL 4, 14.7 at 2 and 12.2 at 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch_rvv.lowering.operations import bits_of

if TYPE_CHECKING:
    from torch_rvv.lowering.matmul import Kernel

# Steps of a round, by LMUL.
UNROLL = {4: 4, 2: 8, 1: 8}
# Steps left over from rounds that are written one by one; of a long loop, more are a loop of their own: little
# beside the rounds, and half of the code.
WRITTEN, LONG = 3, 256
# Bytes that offsets of loads span, half of them before the pointer.
REACH = 4096


@dataclass
class _State:
    """What goes from one step to the next. b: B's pointers, one or one a step; a: A's, one for some rows; copy: where
    the vector of B is copied to, if it is; ahead: how many steps each of A's is on already."""

    sums: list[str]
    vector: str
    scalars: list[str]
    b: list[str]
    a: list[str]
    copy: list[str]
    ahead: list[int]

    def values(self) -> list[str]:
        return [*self.sums, self.vector, *self.scalars, *self.b, *self.a, *self.copy]

    def of(self, values: list[str]) -> _State:
        """The same of other values, in that order."""
        n, b, a = len(self.sums), len(self.b), len(self.a)
        pointers = values[2 * n + 1 :]
        return _State(
            values[:n],
            values[n],
            values[n + 1 : 2 * n + 1],
            pointers[:b],
            pointers[b : b + a],
            pointers[b + a :],
            [0] * a,
        )


def distances(kernel: Kernel) -> tuple[str | int, ...]:
    """How many elements B's pointer moves in a step at LMUL 4, A's in a round, that of what B is a copy of in a step,
    and A's from row to row: the kernel has them in bytes."""
    of, source = kernel.of, kernel.source
    return (
        of.b.strides[of.depth],
        kernel.mul(of.a.strides[of.depth], UNROLL[4]),
        source.strides[of.depth] if source is not None else 0,
        of.a.strides[of.row] if of.row is not None else 0,
    )


class DepthLoop:
    """Writes one, for so many rows of a kernel's tile. copies: B is read from what it will be a copy of, and copied."""

    def __init__(self, kernel: Kernel, rows: int, copies: bool = False):
        self.kernel, self.rows, self.copies = kernel, rows, copies
        of = kernel.of
        right = kernel.source if copies and kernel.source is not None else of.b
        self.down, self.along = right.strides[of.depth], of.a.strides[of.depth]
        self.step_of_b = kernel.step_of_source if copies else kernel.step_of_b

    def write(self, sums: list[str], b: str, a: str, places: Sequence[str | int], copy: str = "") -> None:
        """All of the depth but the last step, which `last` writes. sums: the accumulators before it; b, a: pointers to
        the first elements; places: where the rows of A begin, in elements behind a; copy: where B's first elements are
        copied to."""
        kernel, w = self.kernel, self.kernel.w
        self._share(places)
        starts = self._starts(a, places)
        scalars = [kernel.scalar(start) for start in starts]
        if len(self.pointed) < len(starts):
            starts = [kernel.ahead(a, place, kernel.of.narrow) for place in self.pointed]
        pointers = [self._along(start, 1) for start in starts]
        vector, down = kernel.load(b, kernel.narrow), [self._down(b, 1)]
        state = _State(sums, vector, scalars, down, pointers, [copy] * self.copies, [0] * len(pointers))
        steps, unroll = kernel.of.sizes[kernel.of.depth], UNROLL[kernel.lmul]
        if isinstance(steps, int):
            rounds, rest = divmod(steps - 1, unroll)
            written = (1, rest) if rest <= WRITTEN or steps < LONG else (rest, 1)
            state = self._rounds(self._rounds(state, rounds, unroll), *(written if rest else (0, 0)))
        else:
            following = w.op(f"arith.subi {steps}, {w.constant(1)} : index")
            for op, size in (("divui", unroll), ("remui", 1)):
                state = self._rounds(state, w.op(f"arith.{op} {following}, {w.constant(unroll)} : index"), size)
        if self.copies:
            kernel.store(state.vector, state.copy[0], kernel.narrow)
        self.state = state

    def last(self, side: bool = False) -> list[str]:
        """The accumulators after the last step. side: on one side of a condition, the other one having them as well:
        LLVM must not see that they are the same, or they stand before the condition and not beside the stores."""
        kernel, state = self.kernel, self.state
        vector = state.vector
        if side:
            vector = kernel.w.op(f'llvm.inline_asm "", "=^vr,0" {vector} : ({kernel.narrow}) -> {kernel.narrow}')
        return [kernel.fma(a, vector, c) for a, c in zip(state.scalars, state.sums, strict=True)]

    def _starts(self, a: str, places: Sequence[str | int]) -> list[str]:
        """Pointers to where the rows of A begin. Where only the program knows how far apart they are, one leads to the
        next: there are not registers for all the distances."""
        if all(isinstance(place, int) for place in places):
            return [self.kernel.ahead(a, place, self.kernel.of.narrow) for place in places]
        starts = [a]
        for _ in places[1:]:
            starts.append(self.kernel.moved(starts[-1], self.kernel.row_of_a))
        return starts

    def _share(self, places: Sequence[str | int]) -> None:
        """pointed: the places of A's pointers; held: which of them a row is read by, and how far behind it. A pointer
        stands amid the rows that offsets reach in all of a round."""
        self.pointed, self.held = list(places), [(r, 0) for r in range(len(places))]
        known = [place for place in places if isinstance(place, int)]
        if len(known) < len(places) or not isinstance(self.along, int):
            return
        span = REACH * 8 // bits_of(self.kernel.of.narrow) - 2 * abs(self.along) * UNROLL[self.kernel.lmul]
        groups: list[list[int]] = []
        for place in known:
            if groups and abs(place - groups[-1][0]) < span:
                groups[-1].append(place)
            else:
                groups.append([place])
        self.pointed = [(group[0] + group[-1]) // 2 for group in groups]
        self.held = [(which, place - self.pointed[which]) for which, group in enumerate(groups) for place in group]

    def _down(self, pointer: str, steps: int) -> str:
        return self.kernel.ahead(pointer, self.kernel.mul(self.down, steps), self.kernel.of.narrow)

    def _along(self, pointer: str, steps: int, behind: int = 0) -> str:
        distance = self.kernel.add(self.kernel.mul(self.along, steps), behind)
        return self.kernel.ahead(pointer, distance, self.kernel.of.narrow)

    def _rounds(self, state: _State, rounds: str | int, steps: int) -> _State:
        """Rounds of so many steps. Pointers are carried, for otherwise each would be worked out anew; they are one step
        ahead, so that they move only after their last use."""
        if rounds == 0:
            return state
        if rounds == 1:
            return self._round(state, steps)
        kernel, w = self.kernel, self.kernel.w
        if kernel.lmul < 4 and steps > 1 and not self.copies:
            state.b = [kernel.kept(self._down(state.b[0], step)) for step in range(steps)]
        k, result, initial = w.fresh("k"), w.fresh("acc"), state.values()
        inside = [w.fresh("s") for _ in initial]
        kinds = [*[kernel.vector] * self.rows, kernel.narrow, *[kernel.of.narrow] * self.rows]
        types = ", ".join([*kinds, *["!llvm.ptr"] * (len(initial) - len(kinds))])
        carried = ", ".join(f"{i} = {s}" for i, s in zip(inside, initial, strict=True))
        with w.block(
            f"{result}:{len(initial)} = scf.for {k} = {w.constant(0)} to {kernel.index(rounds)} step {w.constant(1)}"
            f" iter_args({carried}) -> ({types}) {{"
        ):
            w.line(f"scf.yield {', '.join(self._round(state.of(inside), steps).values())} : {types}")
        done = state.of([f"{result}#{i}" for i in range(len(initial))])
        done.b = done.b[:1]
        return done

    def _round(self, state: _State, steps: int) -> _State:
        """So many steps, one after the other. Until a pointer to A moves, loads have an offset."""
        gaps = self._gaps(steps, len(state.a))
        for step in range(steps):
            self._step(state, step, steps, gaps)
        for which, moved in enumerate(state.ahead):
            if not moved:
                self._move(state, which, steps)
        if len(state.b) > 1:
            state.b = [self.kernel.kept(self._down(p, steps)) for p in state.b]
        state.ahead = [0] * len(state.a)
        return state

    def _gaps(self, steps: int, pointers: int) -> dict[tuple[int, int], int]:
        """Which of A's pointers moves where: behind a step's product. The last ones of a round, but for the very last,
        where the loop's own count and branch stand."""
        if self.kernel.lmul < 4 or steps < UNROLL[4] or not isinstance(self.along, int):
            return {}
        taken = (2, 4) if self.copies else ()
        free = [(step, r) for step in range(steps) for r in range(2, self.rows) if r not in taken][:-1]
        return dict(zip(reversed(free), range(pointers), strict=False))

    def _move(self, state: _State, which: int, steps: int) -> None:
        kernel, pointer = self.kernel, state.a[which]
        whole = kernel.lmul == 4 and steps == UNROLL[4]
        state.a[which] = kernel.moved(pointer, kernel.round_of_a) if whole else kernel.kept(self._along(pointer, steps))
        state.ahead[which] = steps

    def _step(self, state: _State, step: int, steps: int, gaps: dict[tuple[int, int], int]) -> None:
        """The products of one step, and the loads of the next between them. A load of B has the time of all products,
        its address that of all but two."""
        kernel, sums, scalars, vector = self.kernel, [], [], state.vector
        for r in range(self.rows):
            sums.append(kernel.fma(state.scalars[r], state.vector, state.sums[r]))
            kernel.w.here()
            which, behind = self.held[r]
            # Volatile, so that it stays where it stands.
            scalars.append(kernel.scalar(self._along(state.a[which], step - state.ahead[which], behind), "volatile "))
            if r == 0:
                kernel.w.here()
                vector = kernel.load(state.b[step if len(state.b) > 1 else 0], kernel.narrow)
            if r == min(1, self.rows - 1) and len(state.b) == 1:
                kernel.w.here()
                state.b = [kernel.moved(state.b[0], self.step_of_b)]
            if r == min(2, self.rows - 1) and self.copies:
                kernel.w.here()
                kernel.store(state.vector, state.copy[0], kernel.narrow)
            if r == min(4, self.rows - 1) and self.copies:
                kernel.w.here()
                state.copy = [kernel.moved(state.copy[0], kernel.step_of_b)]
            if (step, r) in gaps:
                kernel.w.here()
                self._move(state, gaps[step, r], steps)
            kernel.w.here()
        state.sums, state.scalars, state.vector = sums, scalars, vector
