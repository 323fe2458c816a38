"""VirtualBoard: the worker under qemu-riscv64, tensors in memory shared with it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from subprocess import PIPE, Popen, run
from typing import IO

import torch
from torch_rvv.runtime.board import Board
from torch_rvv.runtime.build import worker
from torch_rvv.runtime.pins import Pins
from torch_rvv.runtime.pool import Pool
from torch_rvv.runtime.wire import Channel, Hello

from torch_rvv.errors import DeviceError, InstallError
from torch_rvv.knobs import knobs

# The length that SpacemiT's matrix instructions are made for; the worker emulates them (worker/ime.c).
IME_VLEN = 256
_ISA = frozenset(["m", "a", "f", "d", "c", "v", "zba", "zbb", "zbs", "zfh", "zvfh"])

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


class VirtualBoard(Board):
    """An emulated board with a given VLEN in bits. It has one memory for its whole life: tensors outlive a fault."""

    emulated = True

    def __init__(self, vlen: int):
        super().__init__()
        self.name, self.vlen = f"the virtual board (VLEN {vlen})", vlen
        self.num_threads = knobs.threads or min(os.cpu_count() or 1, 8)
        self.isa = _ISA | {"xsmtvdot"} if vlen == IME_VLEN else _ISA
        self._command = command(vlen)
        self._process: Popen[bytes] | None = None
        self._stderr: IO[bytes] | None = None
        self._fill()

    def _fill(self) -> None:
        self.memory = self.pool = Pool(knobs.pool_bytes)
        self._pins = Pins(self.pool)

    def empty_strided(self, size: Sequence[int], stride: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        return self.pool.empty_strided(size, stride, dtype)

    def connect(self) -> Hello:
        hello = super().connect()
        if hello.vlen != self.vlen:
            raise DeviceError(f"the emulator has VLEN {hello.vlen}, not {self.vlen}", hint="Change TORCH_RVV_VLEN.")
        return hello

    def _open(self) -> Channel:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed in _end
        self._process = Popen(
            [
                *self._command,
                str(worker()),
                "--shared",
                str(self.pool.fd),
                *(["--ime"] if self.vlen == IME_VLEN else []),
            ],
            stdin=PIPE,
            stdout=PIPE,
            stderr=None if knobs.debug else self._stderr,
            pass_fds=(self.pool.fd,),
            bufsize=0,
        )
        reader, writer = self._process.stdout, self._process.stdin
        assert reader is not None and writer is not None
        # The channel's alone: the worker ends when they are closed, and a Popen outlives the board that forgot it.
        self._process.stdout = self._process.stdin = None
        return Channel(reader, writer)

    def _end(self) -> str:
        process, self._process = self._process, None
        stderr, self._stderr = self._stderr, None
        if process is None or stderr is None:
            return "it was not running"
        process.kill()
        status = process.wait()
        with stderr:
            stderr.seek(0)
            said = stderr.read()[-500:].decode(errors="replace").strip()
        how = f"exit status {status}" if status >= 0 else signal.Signals(-status).name
        return f"{how}: {said}" if said else how

    def _after_fork(self) -> None:
        super()._after_fork()
        self._process = self._stderr = None
        self._fill()
