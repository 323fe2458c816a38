"""The suite `compile`: seconds until a whole model's first result, against Inductor's C++ backend.

Each figure is from a process of its own, after imports, building the model and starting the board; the time of a
second run is taken off. First: nothing of PyTorch's is on disk, as on a new machine. Cold: no cache of Triton's or
Inductor's, but what outlives those, which is the header that Inductor has g++ precompile once. Warm: again, with what
the cold run left on disk. Dynamo's tracing alone, with nothing compiled behind it, is a system of its own: no backend
is faster than that, warm or cold.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from subprocess import TimeoutExpired
from subprocess import run as run_process
from typing import Any

from torch_rvv.benchmarks.measure import OURS

from torch_rvv.errors import OptionError

TIMEOUT = 600.0
WANTED = 1 / 3  # of what Inductor's C++ backend takes
# The backend of a system; the others are Inductor's with a C++ compiler each.
BACKENDS = {OURS: "rvv", "dynamo_alone": "eager"}
CLANG = ("clang++", *(f"clang++-{version}" for version in range(30, 14, -1)))


@dataclass
class CompileResult:
    """Seconds of one model on one system. reason: why there are none."""

    suite: str
    case: str
    system: str
    first_seconds: float | None = None
    cold_seconds: float | None = None
    warm_seconds: float | None = None
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def failed(self) -> bool:
        return self.system == OURS and self.cold_seconds is None


def _compilers() -> dict[str, str | None]:
    """System → its C++ compiler; None where there is none."""
    return {"inductor_gcc": shutil.which("g++"), "inductor_clang": next(filter(None, map(shutil.which, CLANG)), None)}


def once(model: str, system: str) -> float:
    """Seconds from the first call of a compiled model to its result, without the run itself, in this process."""
    import torch
    from torch_rvv.benchmarks.models import build
    from torch_rvv.runtime.board import Board
    from torch_rvv.runtime.device import get_device

    network, inputs = build(model)
    device = get_device() if system == OURS else None
    if isinstance(device, Board):
        device.connect()  # Builds and starts the worker, once an installation.
    compiled = torch.compile(network, backend=BACKENDS.get(system, "inductor"))
    times = []
    with torch.no_grad():
        for _ in range(2):
            start = time.perf_counter()
            compiled(**inputs)
            times.append(time.perf_counter() - start)
    return times[0] - times[1]


def measure(model: str, system: str, compiler: str | None) -> CompileResult:
    """The seconds of a model on a system."""
    result = CompileResult("compile", model, system)
    if system not in BACKENDS and compiler is None:
        result.reason = "no such compiler here"
        return result
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "outliving").mkdir()
        for which, caches in (("first", "first"), ("cold", "cold"), ("warm", "cold")):
            environment = {
                **os.environ,
                "TRITON_CACHE_DIR": str(Path(folder, caches, "triton")),
                "TORCHINDUCTOR_CACHE_DIR": str(Path(folder, caches, "inductor")),
                "TMPDIR": str(Path(folder, "outliving")),
                **({"CXX": compiler} if compiler else {}),
            }
            try:
                done = run_process(
                    [sys.executable, "-m", "torch_rvv.benchmarks.compiletime", model, system],
                    capture_output=True, text=True, timeout=TIMEOUT, env=environment,
                )  # fmt: skip
            except TimeoutExpired:
                result.reason = f"did not end within {TIMEOUT:g} s"
                return result
            if done.returncode:
                lines = done.stderr.strip().splitlines() or ["no message"]
                result.reason = next((line for line in lines if "error:" in line), lines[-1])[-300:]
                return result
            setattr(result, f"{which}_seconds", round(json.loads(done.stdout.splitlines()[-1]), 3))
    return result


def run(only: str | None) -> Iterator[CompileResult]:
    """All systems on the named models (comma-separated), or on all. Raises OptionError for an unknown name."""
    from torch_rvv.benchmarks.models import MODELS

    names = only.split(",") if only else list(MODELS)
    for name in names:
        if name not in MODELS and ":" not in name:
            raise OptionError(f"Unknown model {name!r}", hint=f"Known: {', '.join(MODELS)}.")
    for name in names:
        for system, compiler in {**dict.fromkeys(BACKENDS), **_compilers()}.items():
            yield (result := measure(name, system, compiler))
            print(
                f"{name}, {system}: {result.first_seconds} s first, {result.cold_seconds} s cold",
                file=sys.stderr,
                flush=True,
            )


FIGURES = ("first", "cold", "warm")


def _rows(results: Sequence[CompileResult]) -> list[tuple[str, ...]]:
    ratios = [f"ours / theirs, {which}" for which in FIGURES[:2]]
    rows: list[tuple[str, ...]] = [("model", "system", *(f"{which} s" for which in FIGURES), *ratios)]
    ours = {r.case: r for r in results if r.system == OURS}
    for r in results:
        theirs = {which: getattr(r, f"{which}_seconds") for which in FIGURES}
        mine = {which: getattr(ours.get(r.case), f"{which}_seconds", None) for which in FIGURES}
        shown = ["-" if seconds is None else f"{seconds:.2f}" for seconds in theirs.values()]
        compared = [
            f"{mine[w] / theirs[w]:.2f}" if mine[w] and theirs[w] and r.system not in BACKENDS else ""
            for w in FIGURES[:2]
        ]
        rows.append((r.case, r.system, *shown, *compared))
    return rows


def text(results: Sequence[CompileResult]) -> str:
    """A line a model and system."""
    from torch_rvv.benchmarks.table import aligned

    reasons = [f"{r.system}: {r.case}: {r.reason}" for r in results if r.reason]
    return "\n".join(
        [aligned(_rows(results)), *reasons, f"wanted of a first or cold compile: at most {WANTED:.2f} of theirs"]
    )


def page(results: Sequence[CompileResult]) -> str:
    """The same with bars."""
    from html import escape

    from torch_rvv.benchmarks import html, svg

    palette = svg.colours(list(dict.fromkeys(r.system for r in results)))
    parts = [svg.legend(palette)]
    for which in FIGURES:
        groups: dict[str, dict[str, float]] = {}
        for r in results:
            groups.setdefault(r.case, {})[r.system] = getattr(r, f"{which}_seconds") or 0.0
        parts += [f"<h2>{which.capitalize()}: seconds</h2>", svg.bars(groups, palette, "s")]
    return html.page("torch_rvv: compile time", *parts, f"<pre>{escape(text(results))}</pre>")


if __name__ == "__main__":
    print(json.dumps(once(*sys.argv[1:])))
