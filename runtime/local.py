"""LocalBoard: kernels in this very process, on a riscv64 machine with the vector extension."""

from __future__ import annotations

import ctypes
import itertools
import mmap
import os
import platform
import re
import tempfile
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch_rvv.runtime.device import Argument, Device, LoadedKernel, Printed, checked_grid, extensions
from torch_rvv.runtime.wire import ABI_VERSION

from torch_rvv.errors import DeviceError
from torch_rvv.knobs import knobs

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


_PRINT = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, *[ctypes.c_uint32] * 4, ctypes.c_void_p, ctypes.c_uint64
)  # context, number, program x, y, z, data, bytes


class _Context(ctypes.Structure):
    _fields_ = [
        ("scratch", ctypes.c_void_p),
        ("scratch_bytes", ctypes.c_uint64),
        ("thread", ctypes.c_uint32),
        ("num_threads", ctypes.c_uint32),
        ("print", _PRINT),
        ("address_bias", ctypes.c_int64),
    ]


def host_isa() -> frozenset[str]:
    """The extensions that /proc/cpuinfo names. Raises DeviceError on a machine without RVV."""
    match = re.search(r"^isa\s*:\s*(rv64\w+)", Path("/proc/cpuinfo").read_text(), re.M)
    if match is None:
        raise DeviceError("/proc/cpuinfo names no riscv64 ISA")
    isa = frozenset(extensions(match.group(1)))
    if "v" not in isa:
        raise DeviceError("this machine has no vector extension", hint="Use device='virtual' to emulate one.")
    return isa


# csrr a0, vlenb; ret
_READ_VLENB = bytes.fromhex("7325 20c2 6780 0000".replace(" ", ""))


def host_vlen() -> int:
    """VLEN in bits of this riscv64 machine, which has the vector extension."""
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(_READ_VLENB)
    start = ctypes.addressof(ctypes.c_char.from_buffer(page))
    flush = ctypes.CDLL(None)["__riscv_flush_icache"]
    flush(ctypes.c_void_p(start), ctypes.c_void_p(start + len(_READ_VLENB)), ctypes.c_ulong(0))
    return ctypes.CFUNCTYPE(ctypes.c_uint64)(start)() * 8


class LocalBoard(Device):
    """This machine. A fault in a kernel is a fault of this process: nothing stands between them, or stops it.

    isa, vlen: instead of the machine's own, for tests.
    """

    def __init__(self, isa: frozenset[str] | None = None, vlen: int | None = None) -> None:
        super().__init__()
        if isa is None and platform.machine() != "riscv64":
            raise DeviceError(
                f"this machine is {platform.machine()}, not riscv64", hint="Use device='virtual' to emulate a board."
            )
        self.name = "this machine"
        self.isa = host_isa() if isa is None else isa
        self.vlen = vlen or host_vlen()
        self.num_threads = knobs.threads or os.cpu_count() or 1
        self._kernels: dict[bytes, LoadedKernel] = {}
        self._loaded: list[tuple[ctypes.CDLL, Callable[..., int], int]] = []
        self._scratch: list[torch.Tensor | None] = [None] * self.num_threads
        self._threads: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def load(self, binary: bytes, name: str) -> LoadedKernel:
        with self._lock:
            if binary not in self._kernels:
                self._kernels[binary] = self._load(binary, name)
            return self._kernels[binary]

    def _load(self, binary: bytes, name: str) -> LoadedKernel:
        with tempfile.NamedTemporaryFile(prefix="torch_rvv_", suffix=".so") as file:
            file.write(binary)
            file.flush()
            try:
                library = ctypes.CDLL(file.name)
                descriptor = _Descriptor.in_dll(library, "torch_rvv_descriptor")
            except (OSError, ValueError) as error:
                raise DeviceError(f"kernel {name}: {error}") from None
        if descriptor.abi_version != ABI_VERSION:
            raise DeviceError(f"kernel {name}: ABI version {descriptor.abi_version}, this host speaks {ABI_VERSION}")
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
        printed: Printed | None = None,
        addresses: bool = False,
    ) -> int:
        sizes = checked_grid(kernel, grid, args)
        total = sizes[0] * sizes[1] * sizes[2]
        if not total:
            return 0
        job = _Job(
            self._loaded[kernel.handle][1],
            (ctypes.c_uint64 * max(len(args), 1))(
                *(a.data_ptr() if isinstance(a, torch.Tensor) else a & (1 << 64) - 1 for a in args)
            ),
            (ctypes.c_uint32 * 3)(*sizes),
            total,
            min(self.num_threads, total),
            printed,
        )
        with self._lock:  # One launch at a time: contexts belong to threads by number.
            nbytes = self._loaded[kernel.handle][2]
            scratch = [self._own_scratch(t, nbytes) for t in range(job.threads)]
            if job.threads == 1:
                job.work(0, scratch[0], nbytes)
            else:
                self._threads = self._threads or ThreadPoolExecutor(self.num_threads, thread_name_prefix="torch_rvv")
                running = [self._threads.submit(job.work, t, scratch[t], nbytes) for t in range(job.threads)]
                for future in running:
                    future.result()
        return job.status

    def _own_scratch(self, thread: int, nbytes: int) -> int:
        """64-byte aligned memory of a thread."""
        held = self._scratch[thread]
        if held is None or held.numel() < nbytes + 64:
            held = self._scratch[thread] = torch.empty(nbytes + 64, dtype=torch.uint8)
        return -(-held.data_ptr() // 64) * 64

    def close(self) -> None:
        with self._lock:
            threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown()

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        self._threads = None  # They stayed with the parent.


class _Job:
    """A grid, handed out in chunks from one counter; the first status that is not 0 stops it."""

    def __init__(
        self,
        function: Callable[..., int],
        slots: ctypes.Array,
        sizes: ctypes.Array,
        total: int,
        threads: int,
        printed: Printed | None,
    ):
        self.function, self.slots, self.sizes, self.total, self.threads = function, slots, sizes, total, threads
        self.chunk = max(1, total // (threads * CHUNKS_PER_THREAD))
        self.begins = itertools.count(0, self.chunk)
        self.status = 0

        def show(context: int, number: int, x: int, y: int, z: int, data: int | None, nbytes: int) -> None:
            if printed is not None:
                printed(number, (x, y, z), ctypes.string_at(data, nbytes) if data else b"")

        self.print = _PRINT(show)

    def work(self, thread: int, scratch: int, nbytes: int) -> None:
        context = _Context(scratch, nbytes, thread, self.threads, self.print, 0)
        while not self.status:
            begin = next(self.begins)
            if begin >= self.total:
                return
            end = min(begin + self.chunk, self.total)
            status = self.function(self.slots, self.sizes, begin, end, ctypes.byref(context))
            self.status = self.status or status
