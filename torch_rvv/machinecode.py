"""What is in a kernel's code: instructions of its .so counted by kind, read from the ELF file itself.

Formats: RISC-V ISA manual, volume I; RVV 1.0, chapters 5, 7 and 10. Only instruction lengths, vector
opcodes and vtype immediates are decoded.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from torch_rvv.errors import LoweringError

_LOAD_FP, _STORE_FP, _VECTOR = 0x07, 0x27, 0x57
_VECTOR_WIDTHS = frozenset({0, 5, 6, 7})


@dataclass
class CodeCounts:
    """Static instruction counts. spills: vector stores to the stack; lmul: the LMULs that vsetvli asks for."""

    total: int = 0
    vector: int = 0
    scalar: int = 0
    vsetvl: int = 0
    vector_loads: int = 0
    vector_stores: int = 0
    indexed: int = 0
    strided: int = 0
    spills: int = 0
    lmul: set[str] = field(default_factory=set)


def text_section(elf: bytes) -> bytes:
    """The .text section of a 64-bit little-endian ELF file. Raises LoweringError if there is none."""
    if elf[:4] != b"\x7fELF":
        raise LoweringError("not an ELF file")
    section_at, header_size, count, names = (
        struct.unpack_from("<Q", elf, 0x28)[0],
        *struct.unpack_from("<HHH", elf, 0x3A),
    )
    sections = [struct.unpack_from("<IIQQQQ", elf, section_at + i * header_size) for i in range(count)]
    strings = sections[names][4]
    for name, _, _, _, offset, size in sections:
        end = elf.index(b"\0", strings + name)
        if elf[strings + name : end] == b".text":
            return elf[offset : offset + size]
    raise LoweringError("an ELF file with no .text")


def _lmul(vtype: int) -> str:
    code = vtype & 7
    return {5: "1/8", 6: "1/4", 7: "1/2"}.get(code, str(1 << (code & 3)))


def count(elf: bytes) -> CodeCounts:
    """Count the instructions of a kernel."""
    code, counts, at = text_section(elf), CodeCounts(), 0
    while at + 2 <= len(code):
        half = struct.unpack_from("<H", code, at)[0]
        if half & 3 != 3:
            counts.total += 1
            counts.scalar += 1
            at += 2
            continue
        word = struct.unpack_from("<I", code, at)[0] if at + 4 <= len(code) else half
        _instruction(word, counts)
        at += 4
    return counts


def _instruction(word: int, counts: CodeCounts) -> None:
    opcode, width = word & 0x7F, word >> 12 & 7
    counts.total += 1
    if opcode == _VECTOR and width == 7:
        counts.vector += 1
        counts.vsetvl += 1
        if not word >> 31 or word >> 30 == 3:  # vsetvli, vsetivli: the vtype is an immediate
            counts.lmul.add(_lmul(word >> 20))
    elif opcode == _VECTOR:
        counts.vector += 1
    elif opcode in (_LOAD_FP, _STORE_FP) and width in _VECTOR_WIDTHS:
        counts.vector += 1
        addressing = word >> 26 & 3
        counts.indexed += addressing in (1, 3)
        counts.strided += addressing == 2
        if opcode == _LOAD_FP:
            counts.vector_loads += 1
        else:
            counts.vector_stores += 1
            # Whole-register stores are what the register allocator spills with.
            counts.spills += addressing == 0 and (word >> 20 & 31) == 8
    else:
        counts.scalar += 1
