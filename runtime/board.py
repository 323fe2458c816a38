"""What boards behind a worker have in common: loading, launching, and what happens when a kernel goes wrong."""

from __future__ import annotations

import signal
import struct
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch_rvv.runtime import lending, wire
from torch_rvv.runtime.arguments import Argument, Memory, slots
from torch_rvv.runtime.device import Device, LoadedKernel, Printed, checked_grid
from torch_rvv.runtime.guard import Guarded, Side
from torch_rvv.runtime.pins import Pinned, Pins
from torch_rvv.runtime.wire import Channel, Fault, Gone, Hello, Late

from torch_rvv.errors import DeviceError, KernelFault, KernelTimeout
from torch_rvv.knobs import knobs

START_TIMEOUT = 60.0
T = TypeVar("T")


class Board(Device):
    """A worker, connected on first use and replaced after a fault. One launch at a time, on several threads."""

    memory: Memory

    def __init__(self) -> None:
        super().__init__()
        self.generation = 0  # of the worker: its successors know none of its kernels
        self._channel: Channel | None = None
        self._hello: Hello | None = None
        self._lock = threading.RLock()
        self._kernels: dict[bytes, LoadedKernel] = {}
        self._pins: Pins  # made with the memory
        self._printed: Printed | None = None
        self._side: Side | None = None

    # -- what kinds of boards differ in

    @abstractmethod
    def _open(self) -> Channel:
        """Start, or find, a worker."""

    @abstractmethod
    def _end(self) -> str:
        """Be done with the worker; returns how it ended, for messages."""

    @property
    def _epoch(self) -> int:
        """Changes when what is in `memory` was lost."""
        return 0

    # -- the connection

    def connect(self) -> Hello:
        """Have a worker; returns what it says of its machine."""
        if self._channel is not None and self._hello is not None and self._channel.alive():
            return self._hello
        self._stop()
        self._channel = channel = self._open()
        try:
            _, data = channel.receive(time.monotonic() + START_TIMEOUT)
            if data[:4] != struct.pack("<I", wire.PROTOCOL):
                raise DeviceError(f"the worker of {self.name} is of another version", hint="Build and start it anew.")
            hello = Hello.unpack(data)
        except Gone:
            raise DeviceError(f"the worker of {self.name} did not start: {self._stop()}") from None
        except Late:
            self._stop()
            raise DeviceError(f"the worker of {self.name} did not start within {START_TIMEOUT:.0f} s") from None
        except BaseException:
            self._stop()
            raise
        self._hello = hello
        self.generation += 1
        return hello

    def _stop(self) -> str:
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()
        return self._end()

    def close(self) -> None:
        """Stop the worker. A later launch starts another."""
        with self._lock:
            self._stop()

    def _exchange(self, name: str, timeout: float | None, talk: Callable[[Channel, float], T]) -> T:
        """Requests and replies on behalf of a kernel. Whatever interrupts them, the next one starts afresh."""
        if self._channel is None:
            raise DeviceError(f"{self.name} was closed while kernel {name} was being launched")
        limit = knobs.timeout if timeout is None else timeout
        try:
            return talk(self._channel, time.monotonic() + limit)
        except Late:
            self._stop()
            raise KernelTimeout(
                f"kernel {name} did not end within {limit:g} s and was stopped",
                hint="TORCH_RVV_TIMEOUT sets the limit in seconds.",
            ) from None
        except Gone:
            raise KernelFault(f"the board's process ended while kernel {name} ran: {self._stop()}") from None
        except BaseException:
            self._stop()
            raise

    def _ask(self, op: int, payload: bytes, name: str, timeout: float | None) -> tuple[int, bytes]:
        def talk(channel: Channel, deadline: float) -> tuple[int, bytes]:
            channel.send(op, payload, deadline)
            while True:
                status, data = channel.receive(deadline)
                if status not in _MEANWHILE:
                    return status, data
                _MEANWHILE[status](self, channel, data, deadline)

        status, data = self._exchange(name, timeout, talk)
        if status == wire.ERROR:
            raise DeviceError(f"kernel {name}: {data.decode(errors='replace')}")
        return status, data

    # -- kernels

    def load(self, binary: bytes, name: str) -> LoadedKernel:
        with self._lock:
            kernel = self._kernels.get(binary)
            if kernel is None:
                self.connect()
                kernel = LoadedKernel(name, binary)
                self._load(kernel)
                self._kernels[binary] = kernel
            return kernel

    def _load(self, kernel: LoadedKernel) -> None:
        status, data = self._ask(wire.LOAD, kernel.binary, kernel.name, START_TIMEOUT)
        if status == wire.FAULT:
            self._stop()
            fault = Fault.unpack(data)
            raise KernelFault(f"kernel {kernel.name} raised {signal.Signals(fault.signal).name} when it was loaded")
        kernel.handle, kernel.num_args, min_vlen, _ = wire.LOADED.unpack_from(data)
        _, _, isa, _ = data[wire.LOADED.size :].decode().split("\0")
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
        printed: Printed | None = None,
        addresses: bool = False,
    ) -> int:
        sizes = checked_grid(kernel, grid, args)
        if 0 in sizes:
            return 0
        with self._lock:
            if self._kernels.get(kernel.binary) is not kernel:
                raise DeviceError(f"kernel {kernel.name} was not loaded by {self.name}", hint="Call its load() first.")
            hello = self.connect()
            if kernel.generation != self.generation:
                self._load(kernel)
            self._printed = printed
            if addresses:
                own = [a.data_ptr() if isinstance(a, torch.Tensor) else a & (1 << 64) - 1 for a in args]
                return self._run(kernel, sizes, args, own, timeout, None, borrow=True)
            side = self._side or knobs.guard
            if side is not None:
                return self._launch_guarded(kernel, sizes, args, written, timeout, hello, side)
            self._pins.sweep()
            placing = Pinned(self.memory, self._pins, self._epoch)
            try:
                status = self._run(kernel, sizes, args, slots(args, written, self.memory, placing), timeout, None)
                placing.finish()
                return status
            finally:
                placing.release()

    def _launch_guarded(
        self,
        kernel: LoadedKernel,
        sizes: tuple[int, int, int],
        args: Sequence[Argument],
        written: Collection[int] | None,
        timeout: float | None,
        hello: Hello,
        side: Side,
    ) -> int:
        placing = Guarded(self.memory, max(hello.page, 4096), side)
        try:
            held = slots(args, written, None, placing, exact=True)
            self._protect(kernel, placing.protection())
            status = self._run(kernel, sizes, args, held, timeout, placing)
            self._protect(kernel, placing.openness())
            placing.check(kernel.name)
            for span in placing.written:
                self._pins.changed(span)
            placing.finish()
            return status
        except BaseException:
            self._stop()  # Its pages may still be protected.
            raise
        finally:
            placing.release()

    def _run(
        self,
        kernel: LoadedKernel,
        sizes: tuple[int, int, int],
        args: Sequence[Argument],
        held: list[int],
        timeout: float | None,
        guarded: Guarded | None,
        borrow: bool = False,
    ) -> int:
        head = wire.RUN_HEAD.pack(kernel.handle, self.num_threads, *sizes, len(args), borrow, 0)
        pointers = bytes(isinstance(a, torch.Tensor) for a in args)
        payload = head + struct.pack(f"<{len(held)}Q", *held) + pointers
        status, data = self._ask(wire.RUN, payload, kernel.name, timeout)
        if status >= 0:
            return status
        self._stop()
        fault = Fault.unpack(data)
        beside = ""
        if guarded is not None and self._hello is not None:
            beside = guarded.locate(fault.address - self._hello.memory_address)
        raise KernelFault(
            f"kernel {kernel.name} raised {signal.Signals(fault.signal).name} at address 0x{fault.address:x}{beside} "
            f"(pc 0x{fault.pc:x}, {fault.where})"
        )

    def _protect(self, kernel: LoadedKernel, ranges: list[tuple[int, int, int]]) -> None:
        self._ask(wire.PROTECT, b"".join(wire.PROTECTED.pack(*r, 0) for r in ranges), kernel.name, START_TIMEOUT)

    @contextmanager
    def guarded(self, side: Side = "end") -> Iterator[None]:
        """All launches meanwhile fault on accesses outside of their arguments (see guard.py); they are slow.

        side: "end" finds accesses past an argument exactly, "start" those before it. The environment variable
        TORCH_RVV_GUARD does the same for a whole process.
        """
        before, self._side = self._side, side
        try:
            yield
        finally:
            self._side = before

    # -- what a kernel wants of the host while it runs

    def _print(self, channel: Channel, data: bytes, deadline: float) -> None:
        number, *program = wire.PRINT_HEAD.unpack_from(data)
        if self._printed is not None:
            self._printed(number, tuple(program), data[wire.PRINT_HEAD.size :])

    def _lend(self, channel: Channel, data: bytes, deadline: float) -> None:
        channel.send(wire.PAGE, lending.page(data), deadline)

    def _take_back(self, channel: Channel, data: bytes, deadline: float) -> None:
        lending.changed(data)

    # -- memory

    def pin(self, tensor: torch.Tensor) -> None:
        with self._lock:
            self._pins.add(tensor)

    def _after_fork(self) -> None:
        """In a child: forget the parent's worker, which goes on serving the parent."""
        self._lock = threading.RLock()
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()


_MEANWHILE = {wire.PRINTED: Board._print, wire.PAGE_WANTED: Board._lend, wire.CHANGED: Board._take_back}
