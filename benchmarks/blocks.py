"""Executed basic blocks, with how often each ran, from the pieces of code that the emulator translated.

A piece begins where something jumped to and ends at a branch: a loop's first turn is part of the piece before
it, the other turns are a piece of their own. Here all are cut at every such beginning, and what always runs
together is put together again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from torch_rvv.benchmarks.instructions import UNKNOWN_VTYPE, VECTOR, classify, falls_through, vtype_after, words


@dataclass(frozen=True)
class Block:
    """Straight-line code. vtype: on entry, (log2 of SEW in bytes) * 8 + vlmul; 64 where not known, and in basic blocks
    also where it does not matter. count: how often it ran."""

    address: int
    code: bytes
    vtype: int
    count: int

    @property
    def end(self) -> int:
        return self.address + len(self.code)


def basic_blocks(pieces: Iterable[Block]) -> list[Block]:
    """The blocks of some pieces, by address. The sum of count * instructions is that of the pieces."""
    held = list(pieces)
    leaders = {p.address for p in held}
    counts: Counter[tuple[int, bytes, int]] = Counter()
    for piece in held:
        for part in _cut(piece, leaders):
            counts[part.address, part.code, part.vtype] += part.count
    return _join([Block(*key, count) for key, count in sorted(counts.items())])


def _cut(piece: Block, leaders: set[int]) -> Iterable[Block]:
    start, vtype, entry, at = piece.address, piece.vtype, piece.vtype, piece.address
    for word, size in words(piece.code):
        if at in leaders and at != start:
            yield _part(start, piece.code[start - piece.address : at - piece.address], entry, piece.count)
            start, entry = at, vtype
        vtype = vtype_after(word, size, vtype)
        at += size
    yield _part(start, piece.code[start - piece.address :], entry, piece.count)


def _part(address: int, code: bytes, vtype: int, count: int) -> Block:
    """A block that forgets a vtype which it does not use: the emulator ends a piece at each vsetvl."""
    return Block(address, code, vtype if _first_vector(code) == "use" else UNKNOWN_VTYPE, count)


def _first_vector(code: bytes) -> str:
    """What code does with the vtype it is entered with: "use", "set" (it asks for another first), or "keep"."""
    for word, size in words(code):
        kind = classify(word, size)
        if kind in VECTOR:
            return "set" if kind == "vset" else "use"
    return "keep"


def _join(blocks: list[Block]) -> list[Block]:
    """Neighbours that ran equally often, where the first can lead to the second."""
    variants = Counter(b.address for b in blocks)
    out: list[Block] = []
    for block in blocks:
        last = out[-1] if out else None
        if (
            last is not None
            and last.end == block.address
            and last.count == block.count
            and variants[last.address] == variants[block.address] == 1
            and falls_through(*list(words(last.code))[-1])
        ):
            vtype = block.vtype if _first_vector(last.code) == "keep" else last.vtype
            out[-1] = Block(last.address, last.code + block.code, vtype, last.count)
        else:
            out.append(block)
    return out
