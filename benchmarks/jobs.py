"""A job: what runs between the markers, on which memory. Kernels of ours, or functions of a peer's library."""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

ALIGNMENT = 64
GAP = 256  # between buffers, in bytes: what is read past one's end is not the next one's


@dataclass(frozen=True)
class Pointer:
    """An address in a job's memory: a buffer's number, and an offset into it in bytes."""

    buffer: int
    offset: int = 0


Argument = Pointer | int


@dataclass(frozen=True)
class KernelStep:
    """One launch of a .so of our C ABI over a grid. args: pointers, and scalars as the bits of their slot."""

    binary: bytes
    grid: tuple[int, int, int]
    args: tuple[Argument, ...]
    name: str = ""


@dataclass(frozen=True)
class CallStep:
    """One call of a C function (pointers and 64-bit integers only) of a shared library for riscv64."""

    library: Path
    symbol: str
    args: tuple[Argument, ...]


@dataclass(frozen=True)
class FillStep:
    """What something else wrote into a buffer meanwhile: all of its contents. Not counted."""

    buffer: int
    contents: bytes


Step = KernelStep | CallStep | FillStep


@dataclass
class Job:
    """buffers: the contents before the run. outputs: numbers of the buffers to read after it.

    environment: variables for the program. libraries: folders that the dynamic linker looks into.
    """

    buffers: list[bytes] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)

    def add(self, contents: bytes | torch.Tensor) -> Pointer:
        """A new buffer with these contents; a tensor's whole storage."""
        self.buffers.append(storage_bytes(contents) if isinstance(contents, torch.Tensor) else contents)
        offset = int(contents.storage_offset()) * contents.element_size() if isinstance(contents, torch.Tensor) else 0
        return Pointer(len(self.buffers) - 1, offset)

    def offsets(self) -> list[int]:
        """Where each buffer starts in the job's memory, in bytes; the last number is the memory's size."""
        out, at = [], 0
        for contents in self.buffers:
            out.append(at)
            at = (at + len(contents) + GAP + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
        return [*out, max(at, 4096)]

    def write(self, folder: Path) -> tuple[Path, list[Path]]:
        """Write the job's files into a folder: (the job file, the files that its outputs will be in)."""
        offsets = self.offsets()
        lines = [f"memory {offsets[-1]}"]
        saved = []
        before = [FillStep(number, contents) for number, contents in enumerate(self.buffers) if contents]
        lines += [_step(step, offsets, folder) for step in (*before, *self.steps)]
        for number in self.outputs:
            saved.append(folder / f"out{number}")
            lines.append(f"save {offsets[number]} {len(self.buffers[number])} {saved[-1]}")
        job = folder / "job"
        job.write_text("\n".join(lines) + "\n")
        return job, saved


def _step(step: Step, offsets: Sequence[int], folder: Path) -> str:
    if isinstance(step, FillStep):
        path = _file(folder, step.contents, "")
        return f"fill {offsets[step.buffer]} {len(step.contents)} {path}"
    args = " ".join(
        f"@{offsets[a.buffer] + a.offset}" if isinstance(a, Pointer) else f"{a & (1 << 64) - 1:x}" for a in step.args
    )
    if isinstance(step, CallStep):
        return f"call {step.library} {step.symbol} {len(step.args)} {args}"
    path = _file(folder, step.binary, ".so")
    return f"kernel {path} {' '.join(map(str, step.grid))} {len(step.args)} {args}"


def _file(folder: Path, contents: bytes, suffix: str) -> Path:
    """A file with these contents: equal ones are one file."""
    path = folder / (hashlib.sha256(contents).hexdigest()[:24] + suffix)
    if not path.exists():
        path.write_bytes(contents)
    return path


def storage_bytes(tensor: torch.Tensor) -> bytes:
    """The bytes of a CPU tensor's storage."""
    storage = tensor.untyped_storage()
    return ctypes.string_at(storage.data_ptr(), storage.nbytes()) if storage.nbytes() else b""
