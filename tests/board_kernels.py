"""The C kernels of tests/native, compiled when a device test first asks for them, and a board that listens."""

from __future__ import annotations

import atexit
import subprocess
import tempfile
import threading
from functools import cache
from pathlib import Path

import torch
from torch_rvv.runtime.build import RISCV, compile_c, worker
from torch_rvv.runtime.device import Device
from torch_rvv.runtime.virtual import command

SOURCE = Path(__file__).parent / "native" / "kernels.c"
_folder = tempfile.TemporaryDirectory(prefix="torch_rvv_tests_")
atexit.register(_folder.cleanup)


_lock = threading.Lock()


def native(name: str, *flags: str, target: str | None = RISCV) -> bytes:
    """The .so of a kernel of kernels.c. flags: to change its descriptor. target None: for this machine."""
    with _lock:  # Two threads that want the same kernel would write the same file.
        return _compiled(name, flags, target)


@cache
def _compiled(name: str, flags: tuple[str, ...], target: str | None) -> bytes:
    out = Path(_folder.name, f"{name}_{abs(hash((flags, target)))}.so")
    compile_c([SOURCE], out, (f"-D{name}", "-shared", "-fPIC", "-nostdlib", *flags), target)
    return out.read_bytes()


def add(board: Device, a: torch.Tensor, b: torch.Tensor, out: torch.Tensor, **keywords: object) -> int:
    """out = a + b on a board."""
    kernel = board.load(native("ADD"), "add")
    return board.launch(kernel, (max(1, -(-a.numel() // 64)), 1, 1), [a, b, out, a.numel()], **keywords)


def works(board: Device) -> bool:
    """Whether a board computes."""
    out = torch.empty(100)
    return add(board, torch.ones(100), torch.full((100,), 2.0), out) == 0 and bool((out == 3).all())


class Server:
    """A worker that listens; `address` is where."""

    def __init__(self, *options, where="0", vlen=256):
        command_ = [*command(vlen), str(worker()), "--listen", where, *options]
        self.process = subprocess.Popen(command_, stdout=subprocess.PIPE, text=True)
        self.address = self.process.stdout.readline().split()[-1]

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
