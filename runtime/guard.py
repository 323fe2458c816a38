"""Guarded launches: every argument stands alone, between pages that fault, so that a stray access is found.

    no access | a5 a5 a5 … the argument | no access        ("end": what is read or written past its end faults)
    no access | the argument … a5 a5 a5 | no access        ("start": what is read or written before it faults)

Arguments that the kernel says it only reads stand on pages that cannot be written.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Literal

from torch_rvv.runtime.arguments import Memory, Span

from torch_rvv.errors import KernelFault

Side = Literal["end", "start"]
_POISON = 0xA5
NONE, READ, BOTH = 0, 1, 3


@dataclass
class _Place:
    span: Span
    base: int
    body: int
    page: int

    @property
    def first(self) -> int:
        """Offset of the first byte that is not guarded."""
        return self.base + self.page

    @property
    def last(self) -> int:
        """Offset past the last one."""
        return self.first + self.body

    @property
    def size(self) -> int:
        return self.body + 2 * self.page

    @property
    def slack(self) -> list[tuple[int, int]]:
        """The poisoned ranges, as offset and length."""
        end = self.span.at + self.span.nbytes
        return [r for r in ((self.first, self.span.at - self.first), (end, self.last - end)) if r[1]]


class Guarded:
    """A way to place a launch's arguments (see arguments.Placing)."""

    def __init__(self, memory: Memory, page: int, side: Side):
        self.memory, self.page, self.side = memory, page, side
        self._places: list[_Place] = []

    def place(self, span: Span) -> None:
        """Copy a span to a place of its own; its elements stay as aligned as they were, up to their size."""
        body = -(-(span.nbytes + span.item) // self.page) * self.page
        place = _Place(span, self.memory.reserve(body + 2 * self.page, self.page), body, self.page)
        self._places.append(place)
        if self.side == "end":
            at = place.last - span.nbytes
            span.at = at - (at - span.start) % span.item
        else:
            span.at = place.first + (span.start - place.first) % span.item
        for at, nbytes in place.slack:
            poison = ctypes.create_string_buffer(bytes([_POISON]) * nbytes, nbytes)
            self.memory.write(at, ctypes.addressof(poison), nbytes)
        self.memory.write(span.at, span.start, span.nbytes)

    @property
    def written(self) -> list[Span]:
        """The spans that the kernel may write."""
        return [p.span for p in self._places if p.span.written]

    def protection(self) -> list[tuple[int, int, int]]:
        """Ranges to protect while the kernel runs: offset, length, what is allowed."""
        out = []
        for p in self._places:
            out += [(p.base, p.page, NONE), (p.last, p.page, NONE)]
            if not p.span.written:
                out.append((p.first, p.body, READ))
        return out

    def openness(self) -> list[tuple[int, int, int]]:
        """The ranges to open again after it."""
        return [(p.base, p.size, BOTH) for p in self._places]

    def locate(self, offset: int) -> str:
        """What an offset that faulted has to do with the arguments, for a message."""
        for p in self._places:
            start, end = p.span.at, p.span.at + p.span.nbytes
            if p.base <= offset < p.last + p.page:
                if offset < start:
                    return f", {start - offset} bytes before {p.span.what}"
                if offset >= end:
                    return f", {offset - end} bytes past the end of {p.span.what}"
                return f", a write to byte {offset - start} of {p.span.what}, which the kernel is said to only read"
        return ""

    def check(self, name: str) -> None:
        """After the kernel. Raises KernelFault if it wrote to the bytes beside an argument."""
        for p in self._places:
            for at, nbytes in p.slack:
                held = ctypes.create_string_buffer(nbytes)
                self.memory.read(at, ctypes.addressof(held), nbytes)
                bad = [i for i, byte in enumerate(held.raw) if byte != _POISON]
                if bad:
                    raise KernelFault(f"kernel {name} wrote to memory that is not its own{self.locate(at + bad[0])}")

    def finish(self) -> None:
        """Copy back what the kernel may have written."""
        for span in self.written:
            self.memory.read(span.at, span.start, span.nbytes)

    def release(self) -> None:
        """Give the places back."""
        for p in self._places:
            self.memory.release(p.base, p.size)
        self._places.clear()
