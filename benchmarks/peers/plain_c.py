"""Plain C, as a compiler makes of it what it can: clang (as zig brings it), with and without fast math, and gcc.

NaN is kept by both, as by PyTorch.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import run

import torch
from torch_rvv.benchmarks.cases import EMBEDDING_WIDTH, Case
from torch_rvv.benchmarks.emulate import NATIVE
from torch_rvv.benchmarks.jobs import CallStep, Job
from torch_rvv.benchmarks.peers import Checks, Unavailable
from torch_rvv.runtime.build import compile_c

from torch_rvv.errors import InstallError

SOURCE = NATIVE / "plain.c"
# All that the K1 has of what compilers can use, as clang spells it.
CLANG_CPU = "-mcpu=baseline_rv64+v+zvl256b+zba+zbb+zbs+zfh+zvfh"
_TYPES = {
    torch.float16: ("-DT=_Float16", "-DHALF_TO_FLOAT"),
    torch.bfloat16: ("-DBFLOAT16", "-DHALF_TO_FLOAT"),
}
Compile = Callable[[list[Path], Path, tuple[str, ...]], None]


def clang(*flags: str) -> Compile:
    """zig's clang, for the K1."""

    def compile_(sources: list[Path], output: Path, extra: tuple[str, ...]) -> None:
        try:
            compile_c(sources, output, ("-O3", CLANG_CPU, "-DHAS_HALF", *flags, *extra))
        except InstallError as error:
            raise Unavailable(f"clang: {error}") from None

    return compile_


def gcc(sources: list[Path], output: Path, extra: tuple[str, ...]) -> None:
    """The newest riscv64 gcc that is installed; before version 14 it has no vectoriser for RVV."""
    names = [f"riscv64-linux-gnu-gcc{suffix}" for suffix in ("-16", "-15", "-14", "")]
    found = next((path for path in map(shutil.which, names) if path), None)
    if found is None:
        raise Unavailable("gcc: apt-get install gcc-riscv64-linux-gnu")
    call = [found, "-O3", "-march=rv64gcv_zba_zbb_zbs", *extra, "-o", str(output), *map(str, sources)]
    done = run(call, capture_output=True, text=True)
    if done.returncode:
        raise Unavailable("gcc: " + _first_error(done.stderr))


def _first_error(text: str) -> str:
    lines = [line for line in text.splitlines() if "error" in line]
    return (lines or text.splitlines() or ["it failed"])[0].rpartition("error: ")[2]


# The sizes that a case's function takes after its pointers.
_Sizes = Callable[[tuple[int, ...]], tuple[int, ...]]
_SIZES: dict[str, _Sizes] = {
    "batch_norm_relu": lambda s: (s[0], s[1], s[2] * s[3]),
    "transpose": lambda s: (1, *s),
    "nchw_nhwc": lambda s: (s[0], s[1], s[2] * s[3]),
    "nchw_nhwc/back": lambda s: (s[0], s[1] * s[2], s[3]),
    "max_pool": lambda s: (s[0] * s[1], s[2], s[3]),
    "embedding": lambda s: (s[0], EMBEDDING_WIDTH),
}
_SYMBOLS = {
    "transpose": "permute_021", "nchw_nhwc": "permute_021", "nchw_nhwc/back": "permute_021", "cast/i32": "cast_i32",
}  # fmt: skip


@dataclass
class PlainC:
    """plain.c through one compiler. Libraries are compiled once a type."""

    name: str
    compile: Compile
    _folder: tempfile.TemporaryDirectory[str] = field(default_factory=tempfile.TemporaryDirectory)
    _built: dict[torch.dtype, Path | Unavailable] = field(default_factory=dict)

    def applies(self, case: Case) -> bool:
        return True

    def build(self, case: Case) -> tuple[Job, Checks]:
        library = self._library(case.dtype)
        inputs = case.inputs()
        expected = case.function(*inputs).contiguous()
        job = Job()
        pointers = [job.add(bytes(expected.untyped_storage().nbytes())), *map(job.add, inputs)]
        sizes = _SIZES.get(case.name, lambda shape: shape)(case.shape)
        if case.kind in ("matmul", "linear", "int_mm"):
            sizes = (*expected.shape, case.shape[1])
        symbol = "case_" + _SYMBOLS.get(case.name, case.kind)
        if f"\0{symbol}\0".encode() not in library.read_bytes():
            missing = f"void {symbol}(" not in SOURCE.read_text()
            raise Unavailable("there is no plain C of it" if missing else "the compiler has no type for it")
        job.steps.append(CallStep(library, symbol, (*pointers, *sizes)))
        job.outputs = [0]
        return job, [(0, expected)]

    def _library(self, dtype: torch.dtype) -> Path:
        if dtype not in self._built:
            path = Path(self._folder.name, f"{str(dtype).removeprefix('torch.')}.so")
            try:
                self.compile([SOURCE], path, ("-shared", "-fPIC", *_TYPES.get(dtype, ()), "-Wl,--no-as-needed", "-lm"))
                self._built[dtype] = path
            except Unavailable as error:
                self._built[dtype] = error
        held = self._built[dtype]
        if isinstance(held, Unavailable):
            raise held
        return held


def peers() -> list[PlainC]:
    return [
        PlainC("c_clang", clang()),
        PlainC("c_clang_fast", clang("-ffast-math", "-fno-finite-math-only")),
        PlainC("c_gcc", gcc),
    ]
