"""Devices: where compiled kernels run. `get_device` gives the one of this process.

LocalBoard runs a .so in this process (on riscv64), VirtualBoard in an emulated one on this machine, RemoteBoard
on another machine. All take tensors of any origin; those made by `empty_strided` are reached without a copy
where that is possible.
"""

from __future__ import annotations

import os
import platform
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch_rvv.runtime.arguments import Argument

from torch_rvv.errors import DeviceError, OptionError
from torch_rvv.knobs import knobs

Printed = Callable[[int, tuple[int, ...], bytes], None]


@dataclass(eq=False)
class LoadedKernel:
    """A kernel that a device has: its .so, and the device's own handle (renewed after a restart)."""

    name: str
    binary: bytes
    num_args: int = 0
    handle: int = -1
    generation: int = -1


class Device(ABC):
    """A machine that runs kernels of the C ABI (runtime/include/torch_rvv.h). May be used by several threads.

    vlen in bits. isa: the extensions it has ("m", "zvfh", ...). emulated: time on it says nothing. After a
    fork, the child's device is one of its own.
    """

    name: str
    vlen: int
    num_threads: int
    isa: frozenset[str]
    emulated = False

    def __init__(self) -> None:
        _living.add(self)

    @abstractmethod
    def load(self, binary: bytes, name: str) -> LoadedKernel:
        """Load a kernel; the same bytes only once.

        Raises DeviceError if its ABI version, ISA or minimum VLEN do not fit this device.
        """

    @abstractmethod
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
        """Run all programs of a grid; returns the kernel's status (0, or the number of a failed assert).

        args: tensors (their address is passed) and scalars as the exact bits of their slot. written:
        positions of the arguments that may be written, None for all. timeout in seconds. printed: called for each
        device_print with its number, its program's ids, and the bytes. addresses: the kernel makes pointers of
        integers, which are addresses of this process. Raises
        KernelFault, KernelTimeout or DeviceError, naming the kernel; the device stays usable.
        """

    def empty_strided(self, size: Sequence[int], stride: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """An uninitialised CPU tensor that kernels reach without a copy."""
        return torch.empty_strided(size, stride, dtype=dtype)

    def pin(self, tensor: torch.Tensor) -> None:  # noqa: B027 - nothing to do where memory is shared
        """Keep the device's copy of a tensor's storage between launches, for as long as the storage lives.

        The copy is renewed when the tensor's version has changed. The caller promises that it does not change in
        ways that do not count as a new version: through numpy, `.data`, or another process. Raises DeviceError
        for an inference tensor, or when the device's memory is full.
        """

    def synchronize(self) -> None:  # noqa: B027 - launches return when they are done
        """Wait until every launch has ended."""

    @abstractmethod
    def close(self) -> None:
        """Stop what was started for this device."""

    def _after_fork(self) -> None:  # noqa: B027 - for devices with threads, processes or locks
        """Called in a forked child."""

    def check(self, name: str, isa: str, min_vlen: int) -> None:
        """Raise DeviceError unless code for an ISA string and a minimum VLEN runs here."""
        missing = sorted(extensions(isa) - self.isa)
        if missing:
            raise DeviceError(
                f"kernel {name} needs {', '.join(missing)}, which {self.name} lacks",
                hint="Compile for a target without it, e.g. options={'target': 'rv64gcv'}.",
            )
        if min_vlen > self.vlen:
            raise DeviceError(f"kernel {name} was compiled for VLEN >= {min_vlen}; {self.name} has VLEN {self.vlen}")


def extensions(isa: str) -> set[str]:
    """The extensions of an ISA string ("rv64imafdcv_zba" → {"m", "a", ..., "zba"})."""
    single, *multi = isa.removeprefix("rv64").split("_")
    return {c for c in single if c != "i"} | {m for m in multi if m}


def checked_grid(kernel: LoadedKernel, grid: Sequence[int], args: Sequence[Argument]) -> tuple[int, int, int]:
    """A grid of one to three sizes as three. Raises DeviceError for sizes or a number of arguments that are wrong."""
    if len(args) != kernel.num_args:
        raise DeviceError(f"kernel {kernel.name} takes {kernel.num_args} arguments, got {len(args)}")
    if not 1 <= len(grid) <= 3 or any(not 0 <= n < 1 << 32 for n in grid):
        raise DeviceError(
            f"kernel {kernel.name} cannot run on the grid {tuple(grid)}", hint="One to three sizes from 0 to 2**32 - 1."
        )
    x, y, z = [*grid, 1, 1][:3]
    return x, y, z


_instead: ContextVar[Device | None] = ContextVar("torch_rvv_device", default=None)


@contextmanager
def using(device: Device) -> Iterator[None]:
    """Launches meanwhile (in this thread) that name no device go to this one."""
    token = _instead.set(device)
    try:
        yield
    finally:
        _instead.reset(token)


_living: weakref.WeakSet[Device] = weakref.WeakSet()
_devices: dict[tuple[str, int], Device] = {}
_lock = threading.Lock()


def get_device(spec: str | Device | None = None) -> Device:
    """The process's device for a specification: "auto", "local", "virtual", "HOST:PORT", or a Device itself.

    Made on first use and shared. Raises OptionError for an unknown specification, InstallError when something
    the device needs is not installed, DeviceError when a board does not answer.
    """
    if isinstance(spec, Device):
        return spec
    if spec is None and (instead := _instead.get()) is not None:
        return instead
    wanted = spec or knobs.device
    if wanted == "auto":
        wanted = "local" if platform.machine() == "riscv64" else "virtual"
    host, _, port = wanted.rpartition(":")
    if wanted not in ("local", "virtual") and not (host and port.isdecimal() and int(port) < 1 << 16):
        raise OptionError(
            f"Unknown device {wanted!r}", hint="Known devices: auto, local, virtual, or HOST:PORT of a worker."
        )
    key = (wanted, knobs.vlen)
    with _lock:
        if key not in _devices:
            _devices[key] = _make(wanted)
        return _devices[key]


def _make(wanted: str) -> Device:
    if wanted == "local":
        from torch_rvv.runtime.local import LocalBoard

        return LocalBoard()
    if wanted == "virtual":
        from torch_rvv.runtime.virtual import VirtualBoard

        return VirtualBoard(knobs.vlen)
    from torch_rvv.runtime.remote import RemoteBoard

    return RemoteBoard(wanted)


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    for device in list(_living):
        device._after_fork()


os.register_at_fork(after_in_child=_after_fork)
