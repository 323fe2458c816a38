"""VirtualBoard: the worker under qemu-riscv64, tensors in memory shared with it."""

from __future__ import annotations

import atexit
import os
import re
import select
import shutil
import signal
import struct
import tempfile
import threading
import time
from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen, run

import torch
from torch_rvv.runtime.build import worker
from torch_rvv.runtime.device import Argument, Device, LoadedKernel
from torch_rvv.runtime.pool import Pool

from torch_rvv.errors import DeviceError, InstallError, KernelFault, KernelTimeout
from torch_rvv.knobs import knobs

LOAD, RUN = 1, 2
ERROR, FAULT = -1, -2
_ISA = frozenset(["m", "a", "f", "d", "c", "v", "zba", "zbb", "zbs", "zfh", "zvfh"])
START_TIMEOUT = 60.0

# First version of qemu → CPU properties. Before 8.0 there is no zvfh: Zfh brings the vector half floats.
_CPU = {
    (8, 0): "rv64,v=true,vlen={vlen},elen=64,vext_spec=v1.0,zfh=true,zvfh=true,zba=true,zbb=true,zbs=true",
    (0, 0): "rv64,v=true,vlen={vlen},elen=64,vext_spec=v1.0,Zfh=true,zba=true,zbb=true,zbs=true",
}


@cache
def _version(qemu: str) -> tuple[int, int]:
    text = run([qemu, "--version"], capture_output=True, text=True).stdout
    match = re.search(r"version (\d+)\.(\d+)", text)
    if match is None:
        raise InstallError(f"{qemu} does not tell its version", hint="apt-get install qemu-user")
    return int(match.group(1)), int(match.group(2))


def command(vlen: int) -> list[str]:
    """How to start a riscv64 program. Raises InstallError saying what to install."""
    qemu = shutil.which(knobs.qemu)
    if qemu is None:
        raise InstallError(f"the emulator {knobs.qemu} is missing", hint="apt-get install qemu-user")
    sysroot = Path(knobs.sysroot)
    if not (sysroot / "lib" / "ld-linux-riscv64-lp64d.so.1").exists():
        raise InstallError(f"no riscv64 C library in {sysroot}", hint="apt-get install libc6-riscv64-cross")
    cpu = next(text for first, text in _CPU.items() if _version(qemu) >= first)
    return [qemu, "-cpu", cpu.format(vlen=vlen), "-L", str(sysroot)]


class VirtualBoard(Device):
    """An emulated board with a given VLEN. Launches are one at a time; a grid runs on several threads."""

    def __init__(self, vlen: int):
        self.name, self.vlen = f"the virtual board (VLEN {vlen})", vlen
        self.num_threads = knobs.threads or min(os.cpu_count() or 1, 8)
        self.isa = _ISA
        self.pool = Pool(knobs.pool_bytes)
        self.generation = 0
        self._command = command(vlen)
        self._process: Popen[bytes] | None = None
        self._lock = threading.RLock()
        self._kernels: dict[bytes, LoadedKernel] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="torch_rvv_board_")
        self._pid = os.getpid()
        atexit.register(self.close)

    def empty_strided(self, size: Sequence[int], stride: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        return self.pool.empty_strided(size, stride, dtype)

    # -- the worker's process

    def _start(self) -> None:
        """Start a worker unless one is running."""
        if self._process is not None and self._process.poll() is None:
            return
        self._stop()
        self._process = Popen(
            [*self._command, str(worker()), str(self.pool.fd)],
            stdin=PIPE,
            stdout=PIPE,
            stderr=None if knobs.debug else DEVNULL,
            pass_fds=(self.pool.fd,),
            bufsize=0,
        )
        self.generation += 1
        self._receive("start", START_TIMEOUT)

    def _stop(self) -> None:
        if self._process is None:
            return
        process, self._process = self._process, None
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()

    def close(self) -> None:
        """Stop the worker and drop its files (in the process that started it)."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            self._stop()
            self._folder.cleanup()

    def _read(self, count: int, name: str, deadline: float) -> bytes:
        assert self._process is not None and self._process.stdout is not None
        stream, data = self._process.stdout, b""
        while len(data) < count:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([stream], [], [], left)[0]:
                self._stop()
                raise KernelTimeout(
                    f"kernel {name} did not end in time and was stopped",
                    hint="TORCH_RVV_TIMEOUT sets the limit in seconds.",
                )
            piece = os.read(stream.fileno(), count - len(data))
            if not piece:
                status = self._process.wait()
                self._stop()
                raise KernelFault(f"the board's process ended while kernel {name} ran (status {status})")
            data += piece
        return data

    def _receive(self, name: str, timeout: float) -> tuple[int, bytes]:
        """One reply. Raises KernelFault, KernelTimeout or DeviceError."""
        deadline = time.monotonic() + timeout
        status, count = struct.unpack("<iI", self._read(8, name, deadline))
        text = self._read(count, name, deadline)
        if status == ERROR:
            raise DeviceError(f"kernel {name}: {text.decode(errors='replace')}")
        if status == FAULT:
            self._stop()
            number, address, pc, where = text.decode().split(" ", 3)
            raise KernelFault(
                f"kernel {name} raised {signal.Signals(int(number)).name} at address 0x{address} (pc 0x{pc}, {where})"
            )
        return status, text

    def _send(self, op: int, payload: bytes, name: str) -> None:
        assert self._process is not None and self._process.stdin is not None
        message = memoryview(struct.pack("<II", op, len(payload)) + payload)
        try:
            while message:
                message = message[os.write(self._process.stdin.fileno(), message) :]
        except BrokenPipeError:
            self._stop()
            raise KernelFault(f"the board's process was gone when kernel {name} was to run") from None

    # -- kernels

    def load(self, binary: bytes, name: str) -> LoadedKernel:
        with self._lock:
            kernel = self._kernels.get(binary)
            if kernel is None:
                kernel = LoadedKernel(name, binary)
                self._load(kernel)
                self._kernels[binary] = kernel
            return kernel

    def _load(self, kernel: LoadedKernel) -> None:
        self._start()
        path = Path(self._folder.name, f"{len(self._kernels)}_{self.generation}_{kernel.name[:80]}.so")
        path.write_bytes(kernel.binary)
        try:
            self._send(LOAD, str(path).encode(), kernel.name)
            _, text = self._receive(kernel.name, START_TIMEOUT)
        finally:
            path.unlink()
        kernel.handle, kernel.num_args, min_vlen, _ = struct.unpack("<4I", text[:16])
        _, _, isa, _ = text[16:].decode().split("\0")
        self.check(kernel.name, isa, min_vlen)
        kernel.generation = self.generation

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
        if 0 in grid:
            return 0
        with self._lock:
            self._start()
            if kernel.generation != self.generation:
                self._load(kernel)
            with _Copies(self.pool, args, written) as copies:
                head = struct.pack("<6I", kernel.handle, self.num_threads, *grid, len(args))
                slots = struct.pack(f"<{len(args)}Q", *copies.slots)
                self._send(RUN, head + slots + bytes(copies.pointers), kernel.name)
                status, _ = self._receive(kernel.name, timeout or knobs.timeout)
                copies.back()
            return status


class _Copies:
    """A launch's arguments as slots; tensors outside of the pool stand in it as copies meanwhile.

    One copy serves all tensors of a storage, so that those which overlap still do; it keeps the
    address's low bits, so that what is misaligned stays so.
    """

    def __init__(self, pool: Pool, args: Sequence[Argument], written: Collection[int] | None):
        self.pool = pool
        self.slots: list[int] = []
        self.pointers: list[int] = []
        self._held: list[tuple[int, int]] = []
        self._back: list[tuple[torch.Tensor, torch.Tensor]] = []
        spans: dict[int, list[int]] = {}
        outside: list[tuple[int, int]] = []
        for position, argument in enumerate(args):
            self.pointers.append(isinstance(argument, torch.Tensor))
            if not isinstance(argument, torch.Tensor):
                self.slots.append(argument & (1 << 64) - 1)
                continue
            offset = pool.offset(argument.data_ptr())
            self.slots.append(offset or 0)
            if offset is None and argument.numel():
                storage = argument.untyped_storage()
                start, end = extent(argument)
                span = spans.setdefault(storage.data_ptr(), [start, end, 0])
                span[0], span[1] = min(span[0], start), max(span[1], end)
                span[2] |= written is None or position in written
                outside.append((position, storage.data_ptr()))
        bases = {key: self._copy(*span) for key, span in spans.items()}
        for position, key in outside:
            argument = args[position]
            assert isinstance(argument, torch.Tensor)
            self.slots[position] = bases[key] + argument.data_ptr() - spans[key][0]

    def _copy(self, start: int, end: int, written: int) -> int:
        """Copy a range of host memory into the pool; returns the copy's offset."""
        skew = start % 64
        at = self.pool.reserve(end - start + skew)
        self._held.append((at, end - start + skew))
        host = _bytes_at(start, end - start)
        copy = _bytes_at(self.pool.address + at + skew, end - start)
        copy.copy_(host)
        if written:
            self._back.append((host, copy))
        return at + skew

    def back(self) -> None:
        """Copy what may have been written back."""
        for host, copy in self._back:
            host.copy_(copy)

    def __enter__(self) -> _Copies:
        return self

    def __exit__(self, *error: object) -> None:
        for at, nbytes in self._held:
            self.pool.release(at, nbytes)


def extent(tensor: torch.Tensor) -> tuple[int, int]:
    """First and past-the-last address of the bytes that a tensor's elements lie in.

    The whole rest of the storage counts: kernels may be given a pointer into a larger buffer.
    """
    storage = tensor.untyped_storage()
    return storage.data_ptr(), storage.data_ptr() + storage.nbytes()


def _bytes_at(address: int, nbytes: int) -> torch.Tensor:
    import ctypes

    return torch.frombuffer((ctypes.c_char * nbytes).from_address(address), dtype=torch.uint8)
