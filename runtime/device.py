"""Devices: where compiled kernels run. `get_device` gives the one of this process.

LocalBoard runs a .so in this process (on riscv64), VirtualBoard in an emulated one on this machine.
Both take tensors of any origin; those made by `empty_strided` are reached without a copy.
"""

from __future__ import annotations

import os
import platform
import threading
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch

from torch_rvv.errors import DeviceError, OptionError
from torch_rvv.knobs import knobs

Argument = torch.Tensor | int


@dataclass(eq=False)
class LoadedKernel:
    """A kernel that a device has: its .so, and the device's own handle (renewed after a restart)."""

    name: str
    binary: bytes
    num_args: int = 0
    handle: int = -1
    generation: int = -1


class Device(ABC):
    """A machine that runs kernels of the C ABI (runtime/include/torch_rvv.h)."""

    name: str
    vlen: int
    num_threads: int
    isa: frozenset[str]

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
    ) -> int:
        """Run all programs of a grid; returns the kernel's status (0, or the number of a failed assert).

        args: tensors (their address is passed) and scalars as the exact bits of their slot. written:
        positions of the arguments that may be written, None for all. timeout in seconds. Raises
        KernelFault, KernelTimeout or DeviceError, naming the kernel; the device stays usable.
        """

    def empty_strided(self, size: Sequence[int], stride: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """An uninitialised CPU tensor that kernels reach without a copy."""
        return torch.empty_strided(size, stride, dtype=dtype)

    @abstractmethod
    def close(self) -> None:
        """Stop what was started for this device."""

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


_devices: dict[tuple[str, int, int], Device] = {}
_lock = threading.Lock()


def get_device(spec: str | Device | None = None) -> Device:
    """The process's device for a specification: "auto", "local", "virtual", or a Device itself.

    Made on first use and shared; a process that was forked off gets devices of its own. Raises OptionError
    for an unknown specification, InstallError when something the device needs is not installed.
    """
    if isinstance(spec, Device):
        return spec
    wanted = spec or knobs.device
    if wanted == "auto":
        wanted = "local" if platform.machine() == "riscv64" else "virtual"
    if wanted not in ("local", "virtual"):
        raise OptionError(f"Unknown device {wanted!r}", hint="Known devices: auto, local, virtual.")
    key = (wanted, knobs.vlen, os.getpid())
    with _lock:
        if key not in _devices:
            _devices[key] = _make(wanted)
        return _devices[key]


def _make(kind: str) -> Device:
    if kind == "local":
        from torch_rvv.runtime.local import LocalBoard

        return LocalBoard()
    from torch_rvv.runtime.virtual import VirtualBoard

    return VirtualBoard(knobs.vlen)


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
