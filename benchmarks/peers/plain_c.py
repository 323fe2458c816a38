"""Plain C, as a compiler makes of it what it can: clang (as zig brings it), with and without fast math, and gcc.

NaN is kept by both, as by PyTorch.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import run
from typing import TypeVar

import torch
from torch_rvv.benchmarks.cases import EMBEDDING_WIDTH, Case
from torch_rvv.benchmarks.emulate import NATIVE
from torch_rvv.benchmarks.jobs import CallStep, Job
from torch_rvv.benchmarks.peers import Checks, Unavailable, blas
from torch_rvv.runtime.build import compile_c

from torch_rvv.errors import InstallError

SOURCES = (NATIVE / "plain.c", NATIVE / "plain_products.c")
# All that the K1 has of what compilers can use, as clang spells it.
CLANG_CPU = "-mcpu=baseline_rv64+v+zvl256b+zba+zbb+zbs+zfh+zvfh"
_TYPES = {
    torch.float16: ("-DT=_Float16", "-DHALF_TO_FLOAT"),
    torch.bfloat16: ("-DBFLOAT16", "-DHALF_TO_FLOAT"),
}
_Held = TypeVar("_Held")
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


_Tensors = Sequence[torch.Tensor]


def _convolution(case: Case, t: _Tensors) -> tuple[int, ...]:
    """No bias; then as native/convolution.h has it."""
    stride, padding, groups = case.geometry
    return (0, *blas.convolution_sizes(t[0], t[1], stride, padding, groups))


# The numbers that a case's function takes after its pointers, by its name or its kind; else its shape.
_NUMBERS: dict[str, Callable[[Case, _Tensors], tuple[int, ...]]] = {
    "batch_norm_relu": lambda case, t: (*t[0].shape[:2], t[0][0, 0].numel()),
    "transpose": lambda case, t: (1, *t[0].shape),
    "nchw_nhwc": lambda case, t: (*t[0].shape[:2], t[0][0, 0].numel()),
    "nchw_nhwc/back": lambda case, t: (t[0].shape[0], t[0][0, :, :, 0].numel(), t[0].shape[3]),
    "argsort/row": lambda case, t: (1, *t[0].shape),
    "pixel_shuffle": lambda case, t: (t[0].shape[0] * t[0].shape[1] // 4, *t[0].shape[2:]),
    "max_pool": lambda case, t: (t[0].shape[0] * t[0].shape[1], *t[0].shape[2:]),
    "embedding": lambda case, t: (t[0].shape[0], EMBEDDING_WIDTH),
    "matmul": lambda case, t: (t[0].shape[0], t[1].shape[1], t[0].shape[1]),
    "int_mm": lambda case, t: (t[0].shape[0], t[1].shape[1], t[0].shape[1]),
    "linear": lambda case, t: (t[0].shape[0], t[1].shape[0], t[0].shape[1]),
    "bmm": lambda case, t: (*t[0].shape[:2], t[1].shape[2], t[0].shape[2]),
    "conv": _convolution,
    "depthwise": _convolution,
    "attention": lambda case, t: (t[0].shape[0] * t[0].shape[1], t[0].shape[2], t[1].shape[2], t[0].shape[3]),
}
_SYMBOLS = {
    "transpose": "permute_021", "nchw_nhwc": "permute_021", "nchw_nhwc/back": "permute_021", "cast/i32": "cast_i32",
    "depthwise": "conv", "cumsum/columns": "cumsum_columns",
}  # fmt: skip


def _by_name(table: dict[str, _Held], case: Case, otherwise: _Held) -> _Held:
    return table.get(case.name, table.get(case.kind, otherwise))


@dataclass
class PlainC:
    """plain.c and plain_products.c through one compiler. Libraries are compiled once a type."""

    name: str
    compile: Compile
    _folder: tempfile.TemporaryDirectory[str] = field(default_factory=tempfile.TemporaryDirectory)
    _built: dict[torch.dtype, Path | Unavailable] = field(default_factory=dict)

    def applies(self, case: Case) -> bool:
        return True

    def build(self, case: Case) -> tuple[Job, Checks]:
        library = self.library(case.dtype)
        inputs = case.inputs()
        expected = case.function(*inputs).contiguous()
        job = Job()
        pointers = [job.add(bytes(expected.untyped_storage().nbytes())), *map(job.add, inputs)]
        numbers = _by_name(_NUMBERS, case, lambda case, t: case.shape)(case, inputs)
        symbol = "case_" + _by_name(_SYMBOLS, case, case.kind)
        if f"\0{symbol}\0".encode() not in library.read_bytes():
            missing = not any(f"void {symbol}(" in source.read_text() for source in SOURCES)
            raise Unavailable("there is no plain C of it" if missing else "the compiler has no type for it")
        job.steps.append(CallStep(library, symbol, (*pointers, *numbers)))
        job.outputs = [0]
        return job, [(0, expected)]

    def library(self, dtype: torch.dtype = torch.float32) -> Path:
        """All functions, for an element type. Raises Unavailable."""
        if dtype not in self._built:
            path = Path(self._folder.name, f"{str(dtype).removeprefix('torch.')}.so")
            try:
                self.compile(
                    list(SOURCES), path, ("-shared", "-fPIC", *_TYPES.get(dtype, ()), "-Wl,--no-as-needed", "-lm")
                )
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
