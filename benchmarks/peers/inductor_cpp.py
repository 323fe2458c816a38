"""The C++ that Inductor's CPU backend makes of the same graph, for riscv64.

As it comes (rv64gc, by gcc, with Inductor's own flags: its scalar code, for it knows no vectors of this architecture),
and with the vector extension and clang, which it does not get on a board today.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from subprocess import run
from typing import Any

import torch
from torch._inductor import config
from torch._inductor.async_compile import AsyncCompile
from torch_rvv.benchmarks.cases import Case
from torch_rvv.benchmarks.jobs import Argument, CallStep, Job, Pointer
from torch_rvv.benchmarks.peers import Checks, Unavailable
from torch_rvv.benchmarks.peers.plain_c import CLANG_CPU
from torch_rvv.runtime.build import RISCV

from torch_rvv.knobs import knobs

# One thread, no vectors of the machine that generates the code, nothing from a cache.
SETTINGS = {
    "cpp.simdlen": 1, "cpp.threads": 1, "fx_graph_cache": False, "compile_threads": 1, "size_asserts": False,
    "alignment_asserts": False, "cpp_wrapper": False,
}  # fmt: skip
# Inductor's own, for both compilers (torch/_inductor/cpp_builder.py makes the same list).
FLAGS = (
    "-O3", "-DNDEBUG", "-fno-omit-frame-pointer", "-fno-trapping-math", "-fno-signed-zeros", "-fmath-errno",
    "-ffp-contract=off", "-std=c++20", "-fPIC", "-shared", "-w", "-DTORCH_INDUCTOR_CPP_WRAPPER",
    "-DSTANDALONE_TORCH_HEADER", "-DC10_USING_CUSTOM_GENERATED_MACROS",
)  # fmt: skip
GCC_FLAGS = ("-fno-tree-loop-vectorize", "-fexcess-precision=fast", "-march=rv64gc")


@cache
def _headers() -> tuple[str, ...]:
    include = Path(torch.__file__).parent / "include"
    return (f"-I{include}", f"-I{include / 'torch' / 'csrc' / 'api' / 'include'}")


def gcc_rv64gc(folder: Path) -> list[str]:
    """The command as Inductor calls it on a board. Its header is compiled ahead, for it is most of the work."""
    found = shutil.which("riscv64-linux-gnu-g++")
    if found is None:
        raise Unavailable("g++: apt-get install g++-riscv64-linux-gnu")
    call = [found, *FLAGS, *GCC_FLAGS, *_headers()]
    header = folder / "prefix.h"
    if not header.exists():
        header.write_text("#include <torch/csrc/inductor/cpp_prefix.h>\n")
        _run([c for c in call if c != "-shared"] + ["-x", "c++-header", str(header), "-o", f"{header}.gch"])
    return [*call, "-include", str(header)]


def clang_v(folder: Path) -> list[str]:
    """The same by zig's clang, with the vector extension of the K1."""
    try:
        import ziglang
    except ImportError:
        raise Unavailable("clang: pip install ziglang") from None
    (folder / "omp.h").touch()  # The code has one thread and calls none of it.
    zig = Path(ziglang.__file__).parent / "zig"
    return [str(zig), "c++", "-target", RISCV, CLANG_CPU, *FLAGS, f"-I{folder}", *_headers()]


def _run(call: list[str]) -> None:
    # zig keeps the C++ library that it builds beside what else it has built for us.
    cache_dir = str(knobs.cache_dir / "zig")
    done = run(
        ["env", f"ZIG_GLOBAL_CACHE_DIR={cache_dir}", f"ZIG_LOCAL_CACHE_DIR={cache_dir}", *call],
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line]
        raise Unavailable("the compiler refused Inductor's code: " + (lines or ["no message"])[0][-200:])


@dataclass
class Recorded:
    """What Inductor generated: kernels' sources, and the calls of them, by number, with their arguments."""

    sources: list[str] = field(default_factory=list)
    calls: list[tuple[int, tuple[Any, ...]]] = field(default_factory=list)


@contextmanager
def _recording(into: Recorded) -> Iterator[None]:
    """Kernels that are compiled meanwhile are kept as text; calling one does nothing but note it."""
    held = AsyncCompile.cpp_pybinding

    def cpp_pybinding(self: Any, argtypes: list[str], source_code: str, *rest: Any, **more: Any) -> Callable[..., None]:
        into.sources.append(source_code)
        number = len(into.sources) - 1
        return lambda *args: into.calls.append((number, args))

    AsyncCompile.cpp_pybinding = cpp_pybinding  # type: ignore[method-assign]
    try:
        yield
    finally:
        AsyncCompile.cpp_pybinding = held  # type: ignore[method-assign]


def generate(case: Case) -> tuple[Recorded, list[torch.Tensor], list[torch.Tensor]]:
    """(Inductor's kernels and their calls, the inputs, the result's tensors as yet uncomputed)."""
    inputs, recorded = case.inputs(), Recorded()
    torch._dynamo.reset()
    with config.patch(SETTINGS), _recording(recorded), torch.no_grad():
        result = torch.compile(case.function)(*inputs)
    torch._dynamo.reset()
    return recorded, inputs, [result] if isinstance(result, torch.Tensor) else list(result)


@dataclass
class InductorCpp:
    """Inductor's C++ through one compiler. command(folder) is its call, without sources and output."""

    name: str
    command: Callable[[Path], list[str]]
    _folder: tempfile.TemporaryDirectory[str] = field(default_factory=tempfile.TemporaryDirectory)

    def applies(self, case: Case) -> bool:
        return True

    def build(self, case: Case) -> tuple[Job, Checks]:
        recorded, inputs, results = generate(case)
        if not recorded.calls:
            raise Unavailable("Inductor makes no kernel of it: it stays in aten")
        libraries = [self._compile(case, n, source) for n, source in enumerate(recorded.sources)]
        job = Job()
        held: dict[int, int] = {}

        def argument(value: Any) -> Argument:
            if not isinstance(value, torch.Tensor):
                return int(value)
            storage = value.untyped_storage().data_ptr()
            if storage not in held:
                held[storage] = job.add(value).buffer
            return Pointer(held[storage], value.data_ptr() - storage)

        for number, args in recorded.calls:
            job.steps.append(CallStep(libraries[number], "kernel", tuple(argument(a) for a in args)))
        expected = case.function(*inputs)
        checks: Checks = []
        for made, right in zip(results, [expected] if isinstance(expected, torch.Tensor) else expected, strict=True):
            buffer = held.get(made.untyped_storage().data_ptr())
            if buffer is None:
                raise Unavailable("Inductor leaves the result to aten")
            job.outputs.append(buffer)
            checks.append(
                (len(job.outputs) - 1, torch.empty_strided(made.shape, made.stride(), dtype=made.dtype).copy_(right))
            )
        return job, checks

    def _compile(self, case: Case, number: int, source: str) -> Path:
        folder = Path(self._folder.name)
        path = folder / f"{case.name.replace('/', '_')}{number}.cpp"
        path.write_text(source)
        library = path.with_suffix(".so")
        _run([*self.command(folder), str(path), "-o", str(library), "-Wl,--no-as-needed", "-lm"])
        return library


def peers() -> list[InductorCpp]:
    return [InductorCpp("inductor_cpp_v", clang_v), InductorCpp("inductor_cpp_gc", gcc_rv64gc)]
