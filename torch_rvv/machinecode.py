"""What is in a kernel's code: instructions of its .so counted by kind, read from the ELF file itself.

Formats: RISC-V ISA manual, volume I; RVV 1.0, chapters 5, 7 and 10. Only instruction lengths, vector
opcodes, vtype immediates and where addresses of the stack go are decoded.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from torch_rvv.errors import LoweringError

_LOAD_FP, _STORE_FP, _VECTOR = 0x07, 0x27, 0x57
_VECTOR_WIDTHS = frozenset({0, 5, 6, 7})
# Integer arithmetic of 64 bits; then what else writes an integer register, none of which makes an address of the stack.
_OP_IMM, _OP = 0x13, 0x33
_OTHER_RESULTS = frozenset({0x03, 0x17, 0x1B, 0x2F, 0x37, 0x3B, 0x67, 0x6F, 0x73})
_SP = 2


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
    code, counts, at, stack = text_section(elf), CodeCounts(), 0, {_SP}
    while at + 2 <= len(code):
        half = struct.unpack_from("<H", code, at)[0]
        if half & 3 != 3:
            counts.total += 1
            counts.scalar += 1
            _follow(stack, _compressed_result(half))
            at += 2
            continue
        word = struct.unpack_from("<I", code, at)[0] if at + 4 <= len(code) else half
        _instruction(word, counts, stack)
        _follow(stack, _result(word))
        at += 4
    return counts


# -- which registers hold addresses of the stack

Result = tuple[int, tuple[int, ...]] | None


def _follow(stack: set[int], result: Result) -> None:
    """After an instruction: a register made of one with an address of the stack has one as well. In order of memory,
    which is how the register allocator's own code runs."""
    if result is None or result[0] == _SP:
        return
    register, sources = result
    (stack.add if stack.intersection(sources) else stack.discard)(register)


def _result(word: int) -> Result:
    """(the integer register that an instruction writes, those that it adds up); None if it writes none."""
    opcode, register, first, second = word & 0x7F, word >> 7 & 31, word >> 15 & 31, word >> 20 & 31
    if opcode in (_OP_IMM, _OP):
        return register, (first,) if opcode == _OP_IMM else (first, second)
    return (register, ()) if opcode in _OTHER_RESULTS else None


def _compressed_result(half: int) -> Result:
    """The same of 16 bits; None also where the register is changed only."""
    form, register, second, short = (half & 3, half >> 13), half >> 7 & 31, half >> 2 & 31, 8 + (half >> 2 & 7)
    if form == (2, 4):
        if not second:  # c.jr, c.jalr, c.ebreak
            return None
        return register, (register, second) if half >> 12 & 1 else (second,)
    if form == (0, 0):  # c.addi4spn
        return short, (_SP,)
    if form in ((0, 2), (0, 3)):
        return short, ()
    return (register, ()) if form in ((1, 2), (1, 3), (2, 0), (2, 2), (2, 3)) else None


def _instruction(word: int, counts: CodeCounts, stack: set[int]) -> None:
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
            # The register allocator spills whole registers.
            counts.spills += addressing == 0 and (word >> 20 & 31) == 8 and (word >> 15 & 31) in stack
    else:
        counts.scalar += 1
