"""A single row times a matrix → rows of the matrix added up as they lie in memory: bound by bandwidth, not by overhead.

    linalg.generic {parallel n, reduction k} ins(%a : [k], %b : [k, n]) outs(%c : [n]) { multiply, add }
    →
    for k in sixteens                                a0 .. a15 in scalar registers
      for strips of n (vl lanes, LMUL 8)
        c' = load C;  c' += a0*B[k] ... a15*B[k+15], each row loaded while the one before is multiplied;  store C

B is read once, front to back, a page at a time; C stays in the L1 cache. Three instructions a vector of B: its address,
its load, its product. Taken where the depth is known to reach the rows of one pass.
"""

from __future__ import annotations

from typing import Any

from torch_rvv.lowering.matmul import Contraction, Kernel

ROWS, LEAST = 16, 8


def applies(contraction: Contraction) -> bool:
    """Whether a contraction is a row times a matrix, of some depth."""
    steps = contraction.sizes[contraction.depth]
    return contraction.row is None and isinstance(steps, int) and steps >= LEAST


class RowProduct(Kernel):
    """Writes one."""

    def _lmul(self, wanted: int | None) -> int:
        """An accumulator and two vectors of B fit at any LMUL."""
        return wanted or self._filled((1, 2, 4), 8)

    def _strips(self, at: dict[int, str | int]) -> None:
        of, w = self.of, self.w
        steps = of.sizes[of.depth]
        assert isinstance(steps, int)
        whole = steps - steps % ROWS
        k = w.fresh("k")
        with w.block(f"scf.for {k} = {w.constant(0)} to {w.constant(whole)} step {w.constant(ROWS)} {{"):
            self._pass(ROWS, {**at, of.depth: k})
        if steps > whole:
            self._pass(steps - whole, {**at, of.depth: whole})

    def _pass(self, rows: int, at: dict[int, str | int]) -> None:
        """So many rows of B, along all of n."""
        of = self.of
        starts = {d: p for d, p in at.items() if d != of.depth}
        a0 = self._offset(of.a, at)
        a = [
            self.scalar(self.ahead(of.a.base, self.add(a0, self.mul(of.a.strides[of.depth], r)), of.narrow))
            for r in range(rows)
        ]
        first = self.ahead(of.b.base, self._offset(of.b, at), of.narrow)
        target = self.ahead(of.c.base, self._offset(of.c, starts), of.elem)
        with self._strip_loop() as j:
            here = self.ahead(target, j, of.elem)
            acc = self.load(here, self.vector)
            line = self.ahead(first, j, of.narrow)
            following = b = self.load(line, self.narrow)
            for r in range(rows):
                self.w.here()
                if r + 1 < rows:
                    line = self.moved(line, self.step_of_b)
                    following = self.load(line, self.narrow)
                self.w.here()
                acc = self.fma(a[r], b, acc)
                b = following
            self.store(acc, here)

    def described(self) -> dict[str, Any]:
        return {"lmul": self.lmul, "live": 3, "gathers": 0, "rows": 1}
