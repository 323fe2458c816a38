"""Memory that host and board share: one memfd, handed out as torch tensors."""

from __future__ import annotations

import bisect
import ctypes
import mmap
import os
import threading
import weakref
from collections.abc import Sequence

import torch

from torch_rvv.errors import DeviceError

ALIGNMENT = 64


class Pool:
    """A shared mapping of `size` bytes (taken from the system only as they are touched).

    Allocations are first-fit with coalescing, 64-byte aligned. `fd` is what the board's process maps.
    """

    def __init__(self, size: int):
        self.size = size
        self.fd = os.memfd_create("torch_rvv_pool")
        os.ftruncate(self.fd, size)
        self.map = mmap.mmap(self.fd, size)
        self._anchor = ctypes.c_char.from_buffer(self.map)
        self.address = ctypes.addressof(self._anchor)
        self._free: list[tuple[int, int]] = [(0, size)]
        self._lock = threading.RLock()
        self.used = 0

    def offset(self, address: int) -> int | None:
        """Where in the pool an address is, or None."""
        at = address - self.address
        return at if 0 <= at < self.size else None

    def reserve(self, nbytes: int) -> int:
        """Offset of a new allocation. Raises DeviceError when the pool is full."""
        need = max(ALIGNMENT, -(-nbytes // ALIGNMENT) * ALIGNMENT)
        with self._lock:
            for i, (start, length) in enumerate(self._free):
                if length >= need:
                    if length == need:
                        del self._free[i]
                    else:
                        self._free[i] = (start + need, length - need)
                    self.used += need
                    return start
        raise DeviceError(
            f"the board's memory is full: {nbytes} bytes asked for, {self.used} of {self.size} in use",
            hint="Raise TORCH_RVV_POOL_BYTES.",
        )

    def release(self, start: int, nbytes: int) -> None:
        """Give an allocation back."""
        need = max(ALIGNMENT, -(-nbytes // ALIGNMENT) * ALIGNMENT)
        with self._lock:
            self.used -= need
            i = bisect.bisect(self._free, (start, 0))
            if i < len(self._free) and start + need == self._free[i][0]:
                need += self._free.pop(i)[1]
            if i and self._free[i - 1][0] + self._free[i - 1][1] == start:
                start, need = self._free[i - 1][0], need + self._free.pop(i - 1)[1]
                i -= 1
            self._free.insert(i, (start, need))

    def empty_strided(self, size: Sequence[int], stride: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """An uninitialised tensor in the pool; its memory is freed when its storage dies."""
        elements = 1 + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) if all(size) else 0
        nbytes = elements * dtype.itemsize
        if nbytes == 0:
            return torch.empty_strided(size, stride, dtype=dtype)
        start = self.reserve(nbytes)
        block = (ctypes.c_char * nbytes).from_buffer(self.map, start)
        weakref.finalize(block, self.release, start, nbytes).atexit = False
        return torch.frombuffer(block, dtype=dtype).as_strided(size, stride)
