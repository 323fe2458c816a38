"""RISC-V instructions by class, from their bits.

Formats: RISC-V ISA manual, volume I, chapters on RV64 and C; RVV 1.0, chapters 5 to 16. An instruction has one class:

scalar  int, fp, load, store, branch (jumps and calls too), system (CSRs, fences, atomics)
vector  vset; vload_K and vstore_K for K unit, strided, indexed, segment, whole (whole registers, and masks);
        vfma (multiply-add, of integers too), vreduce, vpermute, vconvert, vmask (operations on masks), varith (rest)
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache

SCALAR = ("int", "fp", "load", "store", "branch", "system")
_KINDS = ("unit", "strided", "indexed", "segment", "whole")
VECTOR_MEMORY = tuple(f"{way}_{kind}" for way in ("vload", "vstore") for kind in _KINDS)
VECTOR = ("vset", *VECTOR_MEMORY, "vfma", "vreduce", "vpermute", "vconvert", "vmask", "varith")
CLASSES = (*SCALAR, *VECTOR)
UNKNOWN_VTYPE = 64

_OPCODES = {
    0x03: "load", 0x07: "load", 0x23: "store", 0x27: "store", 0x63: "branch", 0x67: "branch", 0x6F: "branch",
    0x53: "fp", 0x43: "fp", 0x47: "fp", 0x4B: "fp", 0x4F: "fp", 0x73: "system", 0x2F: "system", 0x0F: "system",
}  # fmt: skip
# Compressed instructions by quadrant (bits 0-1): one name for each value of bits 13-15.
_COMPRESSED = {
    0: ("int", "load", "load", "load", "load", "store", "store", "store"),
    1: ("int", "int", "int", "int", "int", "branch", "branch", "branch"),
    2: ("int", "load", "load", "load", "int", "store", "store", "store"),
}
_VECTOR_WIDTHS = frozenset({0, 5, 6, 7})
_LOAD_FP, _STORE_FP, _VECTOR_OPCODE, _CONFIGURE = 0x07, 0x27, 0x57, 7
_IVV, _FVV, _MVV, _IVI, _IVX, _FVF, _MVX = range(7)


def _arithmetic() -> dict[tuple[int, int], str]:
    """(funct3, funct6) → class, for those that are not varith."""
    table: dict[tuple[int, int], str] = {}
    for form in (_FVV, _FVF, _MVV, _MVX):
        table |= {(form, f): "vfma" for f in (*range(0x28, 0x30), *range(0x3C, 0x40))}
    table |= {(_MVV, f): "vreduce" for f in range(8)}
    table |= {(_FVV, f): "vreduce" for f in (0x01, 0x03, 0x05, 0x07, 0x31, 0x33)}
    table |= {(_IVV, f): "vreduce" for f in (0x30, 0x31)}
    table |= {(form, f): "vpermute" for form in (_IVV, _IVI, _IVX) for f in (0x0C, 0x0E, 0x0F)}
    table |= {(form, f): "vpermute" for form in (_FVF, _MVX) for f in (0x0E, 0x0F)}
    table |= {(_MVV, 0x17): "vpermute", (_FVV, 0x12): "vconvert", (_MVV, 0x12): "vconvert"}
    table |= {(_MVV, f): "vmask" for f in (0x14, *range(0x18, 0x20))}
    return table


_ARITHMETIC = _arithmetic()


def words(code: bytes) -> Iterator[tuple[int, int]]:
    """(bits, size in bytes: 2 or 4) of each instruction. Raises ValueError if the last is cut."""
    at = 0
    while at < len(code):
        if code[at] & 3 == 3:
            if at + 4 > len(code):
                raise ValueError("code ends within an instruction")
            yield struct.unpack_from("<I", code, at)[0], 4
            at += 4
        else:
            yield struct.unpack_from("<H", code, at)[0], 2
            at += 2


@lru_cache(maxsize=65536)
def classify(word: int, size: int) -> str:
    """The class of an instruction given as its bits and its size in bytes."""
    if size == 2:
        quadrant, function = word & 3, word >> 13
        if quadrant == 2 and function == 4:  # c.mv and c.add have a second register; c.jr, c.jalr and c.ebreak none
            return "int" if word >> 2 & 31 else "branch"
        return _COMPRESSED[quadrant][function]
    opcode, function = word & 0x7F, word >> 12 & 7
    if opcode in (_LOAD_FP, _STORE_FP) and function in _VECTOR_WIDTHS:
        return _vector_memory(word, "vload" if opcode == _LOAD_FP else "vstore")
    if opcode == _VECTOR_OPCODE:
        return "vset" if function == _CONFIGURE else _ARITHMETIC.get((function, word >> 26), "varith")
    return _OPCODES.get(opcode, "int")


def _vector_memory(word: int, way: str) -> str:
    addressing, segments, unit = word >> 26 & 3, word >> 29 & 7, word >> 20 & 31
    if addressing == 0 and unit in (8, 11):  # whole registers, mask
        return f"{way}_whole"
    if segments:
        return f"{way}_segment"
    return f"{way}_{('unit', 'indexed', 'strided', 'indexed')[addressing]}"


def vtype_after(word: int, size: int, before: int) -> int:
    """The vtype that holds after an instruction: (log2 of SEW in bytes) * 8 + vlmul; 64 if it is not known."""
    if size != 4 or word & 0x7F != _VECTOR_OPCODE or word >> 12 & 7 != _CONFIGURE:
        return before
    if not word >> 31 or word >> 30 == 3:
        return word >> 20 & 0x3F
    return UNKNOWN_VTYPE


def falls_through(word: int, size: int) -> bool:
    """Whether the next instruction in memory may execute next: false for jumps, calls and returns."""
    if size == 2:
        quadrant, function = word & 3, word >> 13
        returns = quadrant == 2 and function == 4 and not word >> 2 & 31
        return not (returns or (quadrant == 1 and function == 5))
    return word & 0x7F not in (0x67, 0x6F)
