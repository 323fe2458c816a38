"""Scans at the linalg level: along rows one call, which the vector stage writes out (scan.py); else a nest a step.

    Scan(axis 0 of 5, [%x], into %b)    →    fill %b with %x; for k in 1 .. 5: generic(%b[k - 1], %b[k]) → %b[k]
    Scan(axis 1 of 100, [%x], into %b)  →    fill %b with %x; call @torch_rvv.scan0(%b)

What is scanned is read where it is, and written where a store puts it, if that store could as well copy the one to the
other.
"""

from __future__ import annotations

import math
from typing import Any

from torch_rvv.lowering import scan
from torch_rvv.lowering.access import Space
from torch_rvv.lowering.body import memory_type
from torch_rvv.lowering.generic import Generic, Group, Part
from torch_rvv.lowering.hazards import may_alias
from torch_rvv.lowering.linear import Atom, Linear, Poly
from torch_rvv.lowering.nodes import Fill, Node, Root, Scan, Store
from torch_rvv.lowering.writer import Writer


class Scans:
    """The part of ToLinalg (to_linalg.py) that is about scans. declared: the functions that are called."""

    writer: Writer
    accesses: list[dict[str, Any]]
    domain: Node
    noalias: bool
    declared: list[str]

    def root(self, root: Root) -> None:
        raise NotImplementedError

    def _part(self, root: Root) -> tuple[Part, Space]:
        raise NotImplementedError

    def _group(self, group: Group) -> None:
        raise NotImplementedError

    def scan(self, s: Scan) -> None:
        """Fill the buffers with the values, then fold each element into the next, in place; or from where they are to
        where they belong."""
        if s.store is not None and (ends := self._copied(s.store, s.values[0])):
            self._scan_rows(s, ends)
            return
        space = Space.over(s.shape)
        fills = [
            Part(Fill(s.where, shape=s.shape, buffer=b, value=v), None, [v])
            for b, v in zip(s.buffers, s.values, strict=True)
        ]
        self._group(Group(space, fills))
        w, n = self.writer, s.shape[s.axis]
        if n == 1:
            return
        if n >= scan.SHORTEST and all(m == 1 for m in s.shape[s.axis + 1 :]):
            buffers = [(b.name, memory_type(b, b.elem)) for b in s.buffers]
            ends = self._copied(s.store, s.buffers[0]) if s.store else None
            self._scan_rows(s, ends or buffers)
            if s.store is not None and not ends:
                self.root(s.store)
            return
        k = w.fresh("k")
        with w.block(f"scf.for {k} = {w.constant(1)} to {w.constant(n)} step {w.constant(1)} {{"):
            position = Linear(Poly.of(Atom(k, nonnegative=True)))
            if s.reverse:
                position = Linear(Poly(n - 1)) - position
            row = Space.over(tuple(1 if a == s.axis else size for a, size in enumerate(s.shape)))
            row.index = (*row.index[: s.axis], position, *row.index[s.axis + 1 :])
            self._group(Group(row, [Part(s, None, s.values)]))

    def _scan_rows(self, s: Scan, views: list[tuple[str, str]]) -> None:
        """A scan along rows: one call, which the vector stage writes out (scan.py). views: what is scanned in place, or
        what is read and what is written."""
        name, n = f"{scan.CALL}{len(self.declared)}", s.shape[s.axis]
        names, kinds = (", ".join(texts) for texts in zip(*views, strict=True))
        self.declared.append(f"func.func private @{name}({kinds})")
        flags = {"turned": s.buffers[0].turned, "reverse": s.reverse, "stored": len(views) > len(s.buffers)}
        self.writer.line(
            f"func.call @{name}({names}) {{rows = {math.prod(s.shape) // n} : i64, length = {n} : i64,"
            f" {', '.join(f'{flag} = {str(is_so).lower()}' for flag, is_so in flags.items())},"
            f' kind = "{s.combine.kind}", function = "{s.combine.function}"}} : ({kinds}) -> ()'
        )

    def _copied(self, store: Store, value: Node) -> list[tuple[str, str]] | None:
        """The views that a store of a value reads and writes, if it is a copy and the two do not meet elsewhere than in
        the same element."""
        part, space = self._part(store)
        if part.mask is not None or space.guards:
            return None
        part.values = [value]
        copy = Generic(Group(space, [part]), self.writer, self.domain, self.accesses)
        if len(copy.dims) != 2 or (ends := copy.copied()) is None:
            return None
        source, goes = ends
        apart = source.base.kind == "buffer" or not may_alias(source.base, goes.base, self.noalias)
        same = source.base is goes.base and source.form == goes.form
        return copy.views(ends) if apart or same else None
