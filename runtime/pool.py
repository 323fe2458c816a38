"""Memory of a board: who has which bytes of it, and the memory that host and virtual board share."""

from __future__ import annotations

import bisect
import ctypes
import mmap
import os
import threading
import weakref
from collections import deque
from collections.abc import Sequence

import torch

from torch_rvv.errors import DeviceError

ALIGNMENT = 64
_KNOB = "Raise TORCH_RVV_POOL_BYTES."


class Allocator:
    """Offsets into `size` bytes: first fit, with freed neighbours joined.

    `release` may be called at any time, also by the garbage collector in the middle of `reserve`: it only
    notes what is to be freed.
    """

    def __init__(self, size: int, hint: str = _KNOB):
        self.size, self.hint = size, hint
        self._free: list[tuple[int, int]] = [(0, size)]
        self._used = 0
        self._freed: deque[tuple[int, int]] = deque()
        self._lock = threading.Lock()

    @property
    def used(self) -> int:
        """Bytes in use."""
        with self._lock:
            self._join()
            return self._used

    @property
    def free(self) -> list[tuple[int, int]]:
        """The free ranges, as offset and length, in order."""
        with self._lock:
            self._join()
            return list(self._free)

    def reserve(self, nbytes: int, alignment: int = ALIGNMENT) -> int:
        """Offset of a new allocation. Raises DeviceError when there is no room."""
        need = _rounded(nbytes)
        with self._lock:
            self._join()
            for i, (start, length) in enumerate(self._free):
                at = -(-start // alignment) * alignment
                if at + need <= start + length:
                    pieces = [(start, at - start), (at + need, start + length - at - need)]
                    self._free[i : i + 1] = [piece for piece in pieces if piece[1]]
                    self._used += need
                    return at
            used = self._used
        raise DeviceError(
            f"the board's memory is full: {nbytes} bytes asked for, {used} of {self.size} in use", hint=self.hint
        )

    def release(self, start: int, nbytes: int) -> None:
        """Give an allocation back. nbytes: as it was asked for."""
        self._freed.append((start, _rounded(nbytes)))

    def _join(self) -> None:
        while self._freed:
            start, length = self._freed.popleft()
            self._used -= length
            i = bisect.bisect(self._free, (start, 0))
            if i < len(self._free) and start + length == self._free[i][0]:
                length += self._free.pop(i)[1]
            if i and sum(self._free[i - 1]) == start:
                i -= 1
                before = self._free.pop(i)
                start, length = before[0], before[1] + length
            self._free.insert(i, (start, length))


def _rounded(nbytes: int) -> int:
    return max(ALIGNMENT, -(-nbytes // ALIGNMENT) * ALIGNMENT)


_MAP_FIXED, _MAP_NORESERVE = 0x10, 0x4000
_pools: weakref.WeakSet[Pool] = weakref.WeakSet()


class Pool(Allocator):
    """A mapping of `size` bytes that is shared with the board's process; the system gives them as they are touched.

    `fd` is a file without a name: nothing is left behind, whoever dies first.
    """

    def __init__(self, size: int):
        super().__init__(size)
        try:
            self.fd = os.memfd_create("torch_rvv_pool")
            os.ftruncate(self.fd, size)
            self.map = mmap.mmap(self.fd, size)
        except (OSError, ValueError, OverflowError) as error:
            raise DeviceError(
                f"cannot map {size} bytes for the board's memory: {error}", hint="Change TORCH_RVV_POOL_BYTES."
            ) from None
        self._anchor = ctypes.c_char.from_buffer(self.map)
        self.address = ctypes.addressof(self._anchor)
        weakref.finalize(self, os.close, self.fd).atexit = False
        self._pid = os.getpid()
        _pools.add(self)

    def offset(self, address: int) -> int | None:
        """Where in the pool an address is, or None."""
        at = address - self.address
        return at if 0 <= at < self.size else None

    def write(self, at: int, address: int, nbytes: int) -> None:
        """Copy from an address of this process."""
        ctypes.memmove(self.address + at, address, nbytes)

    def read(self, at: int, address: int, nbytes: int) -> None:
        """Copy to an address of this process."""
        ctypes.memmove(address, self.address + at, nbytes)

    def empty_strided(self, size: Sequence[int], stride: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """An uninitialised tensor in the pool; its memory is freed when its storage dies."""
        elements = 1 + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) if all(size) else 0
        nbytes = elements * dtype.itemsize
        if nbytes == 0:
            return torch.empty_strided(size, stride, dtype=dtype)
        start = self.reserve(nbytes)
        block = (ctypes.c_char * nbytes).from_buffer(self.map, start)
        weakref.finalize(block, self.release, start, nbytes).atexit = False
        storage = torch.frombuffer(block, dtype=torch.uint8).untyped_storage()
        # Not as_strided(): a result of a graph must not be a view of something, autograd treats those differently.
        return torch.empty(0, dtype=dtype).set_(storage, 0, tuple(size), tuple(stride))

    def _after_fork(self) -> None:
        """In a child: what it writes to tensors here must not be seen by its parent, as for any other memory."""
        self._lock, self._pid = threading.Lock(), os.getpid()
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_longlong]
        kind = mmap.MAP_PRIVATE | _MAP_FIXED | _MAP_NORESERVE
        mapped = libc.mmap(self.address, self.size, mmap.PROT_READ | mmap.PROT_WRITE, kind, self.fd, 0)
        if mapped != self.address:
            raise DeviceError(f"cannot map the board's memory in a forked process: errno {ctypes.get_errno()}")


def _forked() -> None:
    for pool in list(_pools):
        if pool._pid != os.getpid():  # not one that a board has made for the child just now
            pool._after_fork()


os.register_at_fork(after_in_child=_forked)
