"""The suite `compile`: seconds until a whole model's first result, against Inductor's C++ backend.

Each figure is from a process of its own, after imports, building the model and starting the board; the time of a
second run is taken off. Cold: no cache of Triton's or Inductor's. Warm: again, with what the cold run left on disk.
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
CLANG = ("clang++", *(f"clang++-{version}" for version in range(30, 14, -1)))


@dataclass
class CompileResult:
    """Seconds of one model on one system. reason: why there are none."""

    suite: str
    case: str
    system: str
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
    ours = system == OURS
    device = get_device() if ours else None
    if isinstance(device, Board):
        device.connect()  # Builds and starts the worker, once an installation.
    compiled = torch.compile(network, backend="rvv" if ours else "inductor")
    times = []
    with torch.no_grad():
        for _ in range(2):
            start = time.perf_counter()
            compiled(**inputs)
            times.append(time.perf_counter() - start)
    return times[0] - times[1]


def measure(model: str, system: str, compiler: str | None) -> CompileResult:
    """Cold and warm seconds of a model on a system."""
    result = CompileResult("compile", model, system)
    if system != OURS and compiler is None:
        result.reason = "no such compiler here"
        return result
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ,
            "TRITON_CACHE_DIR": str(Path(folder, "triton")),
            "TORCHINDUCTOR_CACHE_DIR": str(Path(folder, "inductor")),
            **({"CXX": compiler} if compiler else {}),
        }
        for which in ("cold_seconds", "warm_seconds"):
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
            setattr(result, which, round(json.loads(done.stdout.splitlines()[-1]), 3))
    return result


def run(only: str | None) -> Iterator[CompileResult]:
    """All systems on the named models (comma-separated), or on all. Raises OptionError for an unknown name."""
    from torch_rvv.benchmarks.models import MODELS

    names = only.split(",") if only else list(MODELS)
    for name in names:
        if name not in MODELS and ":" not in name:
            raise OptionError(f"Unknown model {name!r}", hint=f"Known: {', '.join(MODELS)}.")
    for name in names:
        for system, compiler in {OURS: None, **_compilers()}.items():
            yield (result := measure(name, system, compiler))
            print(f"{name}, {system}: {result.cold_seconds} s", file=sys.stderr, flush=True)


def _rows(results: Sequence[CompileResult]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("model", "system", "cold s", "warm s", "ours / theirs")]
    ours = {r.case: r.cold_seconds for r in results if r.system == OURS}
    for r in results:
        mine = ours.get(r.case)
        ratio = f"{mine / r.cold_seconds:.2f}" if mine and r.cold_seconds and r.system != OURS else ""
        cold, warm = ("-" if v is None else f"{v:.2f}" for v in (r.cold_seconds, r.warm_seconds))
        rows.append((r.case, r.system, cold, warm, ratio))
    return rows


def text(results: Sequence[CompileResult]) -> str:
    """A line a model and system."""
    from torch_rvv.benchmarks.table import aligned

    reasons = [f"{r.system}: {r.case}: {r.reason}" for r in results if r.reason]
    return "\n".join([aligned(_rows(results)), *reasons, f"wanted of a cold compile: at most {WANTED:.2f} of theirs"])


def page(results: Sequence[CompileResult]) -> str:
    """The same with bars."""
    from html import escape

    from torch_rvv.benchmarks import html, svg

    palette = svg.colours(list(dict.fromkeys(r.system for r in results)))
    parts = [svg.legend(palette)]
    for heading, figure in (("Cold", "cold_seconds"), ("Warm", "warm_seconds")):
        groups: dict[str, dict[str, float]] = {}
        for r in results:
            groups.setdefault(r.case, {})[r.system] = getattr(r, figure) or 0.0
        parts += [f"<h2>{heading}: seconds</h2>", svg.bars(groups, palette, "s")]
    return html.page("torch_rvv: compile time", *parts, f"<pre>{escape(text(results))}</pre>")


if __name__ == "__main__":
    print(json.dumps(once(*sys.argv[1:])))
