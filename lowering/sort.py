"""Rows of unsigned 64-bit keys, sorted in scratch memory: a row's keys by their upper half, those alike as they were.

func.call @torch_rvv.sort0(%keys) {rows = 32, size = 128, length = 100}                     side by side: sortnetwork.py
func.call @torch_rvv.sort0(%keys, %spare, %counts) {rows = 1, size = 8192, length = 5000}   one by one: radix.py
"""

from __future__ import annotations

from dataclasses import dataclass

from torch_rvv.lowering.values import View

CALL = "torch_rvv.sort"
ELEM = "i64"


@dataclass(frozen=True)
class Keys:
    """What is sorted: size * rows keys, row beside row, of which the first `length` of each row count. size: a power of
    two. With a spare, which is as much memory again: rows * size of them; counts: 256 numbers of 32 bits for each byte
    that is sorted by."""

    view: View
    rows: int
    size: int
    length: int
    spare: View | None = None
    counts: View | None = None
