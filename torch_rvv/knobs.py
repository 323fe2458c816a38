"""Every option and every environment variable, typed, in this one file.

`CodegenOptions` are those that change generated code: they are part of the cache key. `Knobs` are
read from the environment at each use and change only what is printed, checked or where things run.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from torch_rvv.errors import OptionError
from torch_rvv.target import Target, resolve_target

T = TypeVar("T")
LMULS = (1, 2, 4, 8)


@dataclass(frozen=True)
class CodegenOptions:
    """What the lowering may vary on; all of it is part of the cache key.

    noalias: distinct pointer arguments never overlap in memory (the launcher checks, and otherwise
    uses the twin compiled with False). lmul: force this LMUL (1, 2, 4, 8) instead of choosing it from
    live values. saturate: casts to 8-bit floats end at the largest finite number, as Triton's do; aten's
    make NaN or infinity of what is larger.
    """

    target: Target = field(default_factory=lambda: _default_target())
    noalias: bool = True
    lmul: int | None = None
    saturate: bool = True

    def __post_init__(self) -> None:
        if self.lmul not in (None, *LMULS):
            raise OptionError(f"lmul={self.lmul!r} is not an LMUL", hint=f"Known: {', '.join(map(str, LMULS))}.")

    def key(self) -> str:
        """A digest of everything here."""
        return hashlib.sha256(repr(self).encode()).hexdigest()


def _default_target() -> Target:
    return resolve_target(knobs.target)


class Knob(Generic[T]):
    """One environment variable: its name, how to read it, its default, one line of help."""

    def __init__(self, env: str, read: Callable[[str], T], default: T, help: str):
        self.env, self.read, self.default, self.help = env, read, default, help

    def __get__(self, owner: Any, cls: Any = None) -> T:
        text = os.environ.get(self.env)
        if text is None or text == "":
            return self.default
        try:
            return self.read(text)
        except ValueError as error:
            raise OptionError(f"{self.env}={text!r} cannot be read: {error}", hint=f"{self.env}: {self.help}") from None


def _bool(text: str) -> bool:
    table = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if text.lower() not in table:
        raise ValueError("expected 0 or 1")
    return table[text.lower()]


def _choice(*known: T) -> Callable[[str], T]:
    table = {str(k): k for k in known}

    def read(text: str) -> T:
        if text not in table:
            raise ValueError(f"expected one of {', '.join(table)}")
        return table[text]

    return read


class Knobs:
    """The environment variables. `knobs.NAME` reads the environment each time."""

    debug = Knob("TORCH_RVV_DEBUG", int, 0, "0 quiet, 1 one line a kernel, 2 its stages' times, 3 the IR of each stage")
    dump: Knob[Path | None] = Knob("TORCH_RVV_DUMP", Path, None, "folder for every stage's text, one folder a kernel")
    verify = Knob("TORCH_RVV_VERIFY", _bool, False, "check each stage's contract, and each kernel against aten")
    target = Knob("TORCH_RVV_TARGET", str, "k1", "the board to compile for when none is given")
    device = Knob("TORCH_RVV_DEVICE", str, "auto", "where kernels run: auto, local, virtual or HOST:PORT")
    vlen = Knob("TORCH_RVV_VLEN", int, 256, "VLEN in bits of the virtual board")
    threads = Knob("TORCH_RVV_THREADS", int, 0, "threads a launch may use; 0: the cores of the device")
    compile_processes: Knob[int | None] = Knob(
        "TORCH_RVV_COMPILE_PROCESSES",
        int,
        None,
        "processes that compile kernels besides; unset: one a core, 8 at most, none on a single core",
    )
    pool_bytes = Knob("TORCH_RVV_POOL_BYTES", int, 4 << 30, "size of the virtual board's memory")
    timeout = Knob("TORCH_RVV_TIMEOUT", float, 120.0, "seconds after which a launch is stopped")
    bench_timeout = Knob("TORCH_RVV_BENCH_TIMEOUT", float, 300.0, "seconds after which a measured program is stopped")
    guard: Knob[Literal["end", "start"] | None] = Knob(
        "TORCH_RVV_GUARD", _choice("end", "start"), None, "fault on accesses past (end) or before (start) an argument"
    )
    qemu = Knob("TORCH_RVV_QEMU", str, "qemu-riscv64", "the emulator of the virtual board")
    sysroot = Knob("TORCH_RVV_SYSROOT", str, "/usr/riscv64-linux-gnu", "riscv64 C library for the virtual board")
    fallback = Knob(
        "TORCH_RVV_FALLBACK", _choice("aten", "error"), "aten", "what happens to a kernel that cannot be compiled"
    )
    force_fallback = Knob("TORCH_RVV_FORCE_FALLBACK", _bool, False, "run every kernel in aten, to test the fallback")
    cache_dir = Knob(
        "TORCH_RVV_CACHE_DIR", Path, Path.home() / ".cache" / "torch_rvv", "where compiled kernels and the worker live"
    )

    @classmethod
    def table(cls) -> list[Knob[Any]]:
        """All knobs, for documentation and for the check that none is misspelt."""
        return [k for k in vars(cls).values() if isinstance(k, Knob)]


knobs: Knobs = Knobs()
