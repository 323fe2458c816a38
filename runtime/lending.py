"""This process's memory, lent to a board page by page: for kernels that get addresses as integers.

A kernel may load pointers from a tensor of `data_ptr()` values. Where the board is another process, its worker asks
for the pages that such a kernel touches, and sends back those it changed.
"""

from __future__ import annotations

import ctypes
import struct
from pathlib import Path

from torch_rvv.runtime.wire import PAGE_BYTES


def _mapping(address: int) -> str | None:
    """The permissions ("rw-p") of the mapping of this process that holds an address."""
    for line in Path("/proc/self/maps").read_text().split("\n"):
        span, _, rest = line.partition(" ")
        if span:
            start, end = (int(n, 16) for n in span.split("-"))
            if start <= address < end:
                return rest[:4]
    return None


def page(data: bytes) -> bytes:
    """The answer to a worker that wants a page: its bytes, or nothing where this process has none."""
    (address,) = struct.unpack("<Q", data)
    kind = _mapping(address)
    return ctypes.string_at(address, PAGE_BYTES) if kind is not None and kind[0] == "r" else b""


def changed(data: bytes) -> None:
    """Bytes of a page that a kernel changed. Others of the page may have changed here meanwhile: they stay."""
    (address,) = struct.unpack_from("<Q", data)
    before, after = data[8 : 8 + PAGE_BYTES], data[8 + PAGE_BYTES :]
    kind = _mapping(address)
    if kind is None or kind[1] != "w":
        return
    at = 0
    while at < PAGE_BYTES:
        if before[at] == after[at]:
            at += 1
            continue
        end = at
        while end < PAGE_BYTES and before[end] != after[end]:
            end += 1
        ctypes.memmove(address + at, after[at:end], end - at)
        at = end
