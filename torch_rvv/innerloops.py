"""The loops of a kernel's machine code: do the innermost ones multiply vectors?

A loop is what lies between a branch and the earlier instruction that it goes to; it is innermost if no other lies
within. Formats: RISC-V ISA manual, volume I, chapters on RV64I (B, J) and C (CB, CJ).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from torch_rvv.benchmarks.instructions import VECTOR, classify, words
from torch_rvv.machinecode import text_section

_BRANCH, _JAL = 0x63, 0x6F
# For each kind of jump: (lowest bit of a piece in the instruction, its width, its place in the offset), the sign last.
_B = ((8, 4, 1), (25, 6, 5), (7, 1, 11), (31, 1, 12))
_J = ((21, 10, 1), (20, 1, 11), (12, 8, 12), (31, 1, 20))
_CB = ((3, 2, 1), (10, 2, 3), (2, 1, 5), (5, 2, 6), (12, 1, 8))
_CJ = ((3, 3, 1), (11, 1, 4), (2, 1, 5), (7, 1, 6), (6, 1, 7), (9, 2, 8), (8, 1, 10), (12, 1, 11))
_COMPRESSED = {5: _CJ, 6: _CB, 7: _CB}


@dataclass(frozen=True)
class Loop:
    """An innermost loop: its instructions, those of the vector extension, and its vector multiply-adds."""

    start: int
    end: int
    instructions: int
    vector: int
    multiply_adds: int


def innermost(elf: bytes) -> list[Loop]:
    """The innermost loops of a kernel, by address. Raises LoweringError for what is no ELF file."""
    at, code = 0, []
    for word, size in words(text_section(elf)):
        code.append((at, word, size))
        at += size
    spans = {(at + offset, at) for at, word, size in code if (offset := _jump(word, size)) is not None and offset < 0}
    inner = [s for s in spans if not any(s != o and s[0] <= o[0] and o[1] <= s[1] for o in spans)]
    return [_loop(start, end, code) for start, end in sorted(inner)]


def _loop(start: int, end: int, code: list[tuple[int, int, int]]) -> Loop:
    kinds = Counter(classify(word, size) for at, word, size in code if start <= at <= end)
    return Loop(start, end, kinds.total(), sum(kinds[kind] for kind in VECTOR), kinds["vfma"])


def _jump(word: int, size: int) -> int | None:
    """How far a branch or jump goes, in bytes; None for another instruction, and for a call."""
    if size == 2:
        pieces = _COMPRESSED.get(word >> 13) if word & 3 == 1 else None
    elif word & 0x7F == _JAL:
        pieces = None if word >> 7 & 31 else _J
    else:
        pieces = _B if word & 0x7F == _BRANCH else None
    if pieces is None:
        return None
    offset = sum((word >> low & (1 << width) - 1) << place for low, width, place in pieces)
    sign = 1 << pieces[-1][2]
    return offset - 2 * sign if offset & sign else offset
