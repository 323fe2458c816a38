"""The C++ that Inductor's CPU backend makes of the same graph, for riscv64.

As it comes (rv64gc, by gcc, with Inductor's own flags: its scalar code, for it knows no vectors of this architecture),
and with the vector extension and clang, which it does not get on a board today.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from subprocess import run
from typing import Any

import torch
from torch._inductor import config
from torch._inductor.async_compile import AsyncCompile
from torch_rvv.benchmarks.atencalls import AtenCall, noting
from torch_rvv.benchmarks.cases import Case
from torch_rvv.benchmarks.jobs import CallStep, Job
from torch_rvv.benchmarks.peers import Checks, Unavailable
from torch_rvv.benchmarks.peers.plain_c import CLANG_CPU
from torch_rvv.benchmarks.recorder import Recorder
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
class Generated:
    """What Inductor generated: kernels' sources, and their calls as a job, each in place of a library its number.

    aten: what its code calls besides, and how often.
    """

    sources: list[str] = field(default_factory=list)
    aten: Counter[AtenCall] = field(default_factory=Counter)
    recorder: Recorder = field(default_factory=Recorder)

    def call(self, number: int, args: Sequence[Any]) -> None:
        """Note a call. Only tensors and integers are passed on."""
        pointers = (self.recorder.pointer(a) if isinstance(a, torch.Tensor) else int(a) for a in args)
        self.recorder.job.steps.append(CallStep(Path(str(number)), "kernel", tuple(pointers)))

    def job(self, libraries: Sequence[Path]) -> Job:
        """The calls with the libraries of their kernels."""
        job = self.recorder.job
        job.steps = [
            replace(s, library=libraries[int(s.library.name)]) if isinstance(s, CallStep) else s for s in job.steps
        ]
        return job


@contextmanager
def _recording(into: Generated, run_them: bool) -> Iterator[None]:
    """Kernels that are compiled meanwhile are kept as text; calls are noted, and made on this machine if asked for."""
    held = AsyncCompile.cpp_pybinding

    def cpp_pybinding(self: Any, argtypes: list[str], source_code: str, *rest: Any, **more: Any) -> Callable[..., None]:
        into.sources.append(source_code)
        number = len(into.sources) - 1
        native = held(self, argtypes, source_code, *rest, **more) if run_them else None

        def call(*args: Any) -> None:
            into.call(number, args)
            if native is not None:
                native(*args)
                into.recorder.ran(args)

        return call

    AsyncCompile.cpp_pybinding = cpp_pybinding  # type: ignore[method-assign]
    try:
        yield
    finally:
        AsyncCompile.cpp_pybinding = held  # type: ignore[method-assign]


def generate(
    function: Callable[..., Any],
    inputs: Sequence[Any] = (),
    keywords: Mapping[str, Any] | None = None,
    *,
    run_them: bool,
) -> tuple[Generated, Any]:
    """(Inductor's kernels and their calls, the result: as yet uncomputed unless they are to run here)."""
    generated = Generated()
    torch._dynamo.reset()
    with config.patch(SETTINGS), _recording(generated, run_them), noting(generated.aten), torch.no_grad():
        result = torch.compile(function)(*inputs, **(keywords or {}))
    torch._dynamo.reset()
    return generated, result


@dataclass
class InductorCpp:
    """Inductor's C++ through one compiler. command(folder) is its call, without sources and output."""

    name: str
    command: Callable[[Path], list[str]]
    _folder: tempfile.TemporaryDirectory[str] = field(default_factory=tempfile.TemporaryDirectory)

    def applies(self, case: Case) -> bool:
        return True

    def build(self, case: Case) -> tuple[Job, Checks]:
        inputs = case.inputs()
        generated, made = generate(case.function, inputs, run_them=False)
        # Kernels around a call of aten (copies into another layout) are not the case.
        if not generated.sources or generated.aten:
            raise Unavailable("Inductor makes no kernel of it: it stays in aten")
        job = generated.job(self.compile(case.name, generated.sources))
        buffer = generated.recorder.buffer(made)
        if buffer is None:
            raise Unavailable("Inductor leaves the result to aten")
        job.outputs = [buffer]
        expected = torch.empty_strided(made.shape, made.stride(), dtype=made.dtype).copy_(case.function(*inputs))
        return job, [(0, expected)]

    def compile(self, name: str, sources: Sequence[str]) -> list[Path]:
        """A library for the board of each source. Raises Unavailable."""
        folder, libraries = Path(self._folder.name), []
        for number, source in enumerate(sources):
            path = folder / f"{name.replace('/', '_')}{number}.cpp"
            path.write_text(source)
            libraries.append(path.with_suffix(".so"))
            _run([*self.command(folder), str(path), "-o", str(libraries[-1]), "-Wl,--no-as-needed", "-lm"])
        return libraries


def peers() -> list[InductorCpp]:
    return [InductorCpp("inductor_cpp_v", clang_v), InductorCpp("inductor_cpp_gc", gcc_rv64gc)]
