"""LocalBoard: kernels in this very process, on a riscv64 machine with the vector extension."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import tempfile
import threading
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch_rvv.runtime.device import Argument, Device, LoadedKernel

from torch_rvv.errors import DeviceError
from torch_rvv.knobs import knobs

ABI_VERSION = 1
CHUNKS_PER_THREAD = 8


class _Descriptor(ctypes.Structure):
    _fields_ = [
        ("abi_version", ctypes.c_uint32),
        ("num_args", ctypes.c_uint32),
        ("min_vlen", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
        ("scratch_bytes", ctypes.c_uint64),
        ("name", ctypes.c_char_p),
        ("signature", ctypes.c_char_p),
        ("isa", ctypes.c_char_p),
    ]


class _Context(ctypes.Structure):
    _fields_ = [
        ("scratch", ctypes.c_void_p),
        ("scratch_bytes", ctypes.c_uint64),
        ("thread", ctypes.c_uint32),
        ("num_threads", ctypes.c_uint32),
    ]


def host_isa() -> frozenset[str]:
    """The extensions that /proc/cpuinfo names."""
    text = Path("/proc/cpuinfo").read_text()
    match = re.search(r"^isa\s*:\s*(rv64\w+)", text, re.M)
    if match is None:
        raise DeviceError("/proc/cpuinfo names no riscv64 ISA")
    from torch_rvv.runtime.device import extensions

    return frozenset(extensions(match.group(1)))


class LocalBoard(Device):
    """This machine. A fault in a kernel is a fault of this process: nothing stands between them."""

    def __init__(self, isa: frozenset[str] | None = None, vlen: int | None = None) -> None:
        if isa is None and platform.machine() != "riscv64":
            raise DeviceError(
                f"this machine is {platform.machine()}, not riscv64", hint="Use device='virtual' to emulate a board."
            )
        self.name = "this machine"
        self.isa = host_isa() if isa is None else isa
        self.vlen = vlen or knobs.vlen
        self.num_threads = knobs.threads or os.cpu_count() or 1
        self._threads = ThreadPoolExecutor(self.num_threads, thread_name_prefix="torch_rvv")
        self._kernels: dict[bytes, LoadedKernel] = {}
        self._loaded: list[tuple[ctypes.CDLL, ctypes._CFuncPtr, int]] = []
        self._folder = tempfile.TemporaryDirectory(prefix="torch_rvv_local_")
        self._lock = threading.Lock()
        self._scratch = threading.local()

    def load(self, binary: bytes, name: str) -> LoadedKernel:
        with self._lock:
            if binary not in self._kernels:
                self._kernels[binary] = self._load(binary, name)
            return self._kernels[binary]

    def _load(self, binary: bytes, name: str) -> LoadedKernel:
        path = Path(self._folder.name, f"{len(self._loaded)}.so")
        path.write_bytes(binary)
        library = ctypes.CDLL(str(path))
        descriptor = _Descriptor.in_dll(library, "torch_rvv_descriptor")
        if descriptor.abi_version != ABI_VERSION:
            raise DeviceError(f"kernel {name} has ABI version {descriptor.abi_version}, not {ABI_VERSION}")
        self.check(name, descriptor.isa.decode(), descriptor.min_vlen)
        function = getattr(library, descriptor.name.decode())
        function.restype = ctypes.c_int32
        function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_void_p]
        self._loaded.append((library, function, descriptor.scratch_bytes))
        return LoadedKernel(name, binary, descriptor.num_args, len(self._loaded) - 1, 0)

    def launch(
        self,
        kernel: LoadedKernel,
        grid: Sequence[int],
        args: Sequence[Argument],
        *,
        written: Collection[int] | None = None,
        timeout: float | None = None,
    ) -> int:
        if len(args) != kernel.num_args:
            raise DeviceError(f"kernel {kernel.name} takes {kernel.num_args} arguments, got {len(args)}")
        grid = [*grid, 1, 1][:3]
        total = grid[0] * grid[1] * grid[2]
        slots = (ctypes.c_uint64 * max(len(args), 1))(
            *(a.data_ptr() if isinstance(a, torch.Tensor) else a & (1 << 64) - 1 for a in args)
        )
        sizes = (ctypes.c_uint32 * 3)(*grid)
        chunk = max(1, total // (self.num_threads * CHUNKS_PER_THREAD))
        ranges = [(b, min(b + chunk, total)) for b in range(0, total, chunk)]
        if len(ranges) <= 1:
            return next((s for s in (self._run(kernel, slots, sizes, *r) for r in ranges)), 0)
        return next((s for s in self._threads.map(lambda r: self._run(kernel, slots, sizes, *r), ranges) if s), 0)

    def _run(self, kernel: LoadedKernel, slots: ctypes.Array, sizes: ctypes.Array, begin: int, end: int) -> int:
        _, function, scratch_bytes = self._loaded[kernel.handle]
        context = _Context(self._own_scratch(scratch_bytes), scratch_bytes, 0, self.num_threads)
        return function(slots, sizes, begin, end, ctypes.byref(context))

    def _own_scratch(self, nbytes: int) -> int:
        """64-byte aligned memory of this thread."""
        held: torch.Tensor | None = getattr(self._scratch, "memory", None)
        if held is None or held.numel() < nbytes + 64:
            held = self._scratch.memory = torch.empty(nbytes + 64, dtype=torch.uint8)
        return -(-held.data_ptr() // 64) * 64

    def close(self) -> None:
        self._threads.shutdown()
        self._folder.cleanup()
