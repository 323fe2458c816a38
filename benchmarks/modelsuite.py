"""The suite `models`: whole models, by our kernels and by Inductor's C++ backend.

What stays in aten is in a job as data and so not counted. With us that is next to nothing; with Inductor's C++ it is
all matrix products, convolutions and attention: what its code really calls is recorded, measured on the same shapes as
OpenBLAS does it, and added (see atencost.py).
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch_rvv.benchmarks import atencost, table
from torch_rvv.benchmarks.atencalls import AtenCall
from torch_rvv.benchmarks.capture import capture
from torch_rvv.benchmarks.compare import compare, summary
from torch_rvv.benchmarks.cycles import MODEL_VLEN, cycles_of
from torch_rvv.benchmarks.emulate import Profile, run_job
from torch_rvv.benchmarks.jobs import Job, KernelStep
from torch_rvv.benchmarks.measure import OURS, Result, fill, same
from torch_rvv.benchmarks.models import MODELS, build
from torch_rvv.benchmarks.peers import inductor_cpp
from torch_rvv.benchmarks.peers.inductor_cpp import InductorCpp
from torch_rvv.benchmarks.realmodels import REAL

from torch_rvv.errors import InstallError, TorchRvvError
from torch_rvv.knobs import knobs

COSTLY = 15  # kernels in the list of the costliest


def _blank(name: str, system: str, inputs: dict[str, torch.Tensor]) -> Result:
    first = next(iter(inputs.values()))
    return Result("models", name, "float32", list(first.shape), knobs.vlen, system, elements=first.numel())


def ours(name: str) -> Result:
    """Our kernels of a model. A kernel that falls back to aten is not counted; the reason says so."""
    network, inputs = build(name)
    result = _blank(name, OURS, inputs)
    try:
        job, memory, _, graphs = capture(network, keywords=inputs, whole=False)
        profile, found = run_job(job, knobs.vlen)
    except (TorchRvvError, RuntimeError) as error:
        result.reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        return result
    if found != memory:
        result.reason = "what ran under the profiler left other results than on the board"
        return result
    fill(result, profile)
    result.kernels = _kernels(job, profile)
    fell_back = [k.name for g in graphs for k in g.kernels if not k.compiled]
    if fell_back:
        result.reason = f"not counted, for they run in aten: {', '.join(fell_back)}"
    return result


def _kernels(job: Job, profile: Profile) -> list[dict[str, Any]]:
    """Each kernel of a job with its launches, instructions, cycles and spills; what costs most comes first."""
    by_name: dict[str, list[Profile]] = {}
    steps = [step for step in job.steps if isinstance(step, KernelStep)]
    for step, region in zip(steps, profile.regions, strict=True):
        by_name.setdefault(step.name, []).append(region)
    rows = []
    for name, regions in by_name.items():
        total = Profile.sum(regions)
        row = {"kernel": name, "launches": len(regions), "instructions": total.instructions}
        row["spills"] = sum(total.spills.values())
        row["cycles"], row["cycles_bound"] = _cycles(total)
        rows.append(row)
    return sorted(rows, key=lambda row: -(row["cycles"] or row["instructions"]))


def _cycles(profile: Profile) -> tuple[float | None, float | None]:
    if knobs.vlen != MODEL_VLEN:
        return None, None
    try:
        found = cycles_of(profile.blocks())
    except (InstallError, ValueError):  # As in `fill`, which has put it into the reason.
        return None, None
    return round(found.estimate, 1), round(found.bound, 1)


def peer(name: str, compiler: InductorCpp) -> tuple[Result, Counter[AtenCall]]:
    """(Inductor's C++ kernels of a model through one compiler, what it calls of aten besides)."""
    network, inputs = build(name)
    result = _blank(name, compiler.name, inputs)
    try:
        generated, _ = inductor_cpp.generate(network, keywords=inputs, run_them=True)
        job = generated.job(compiler.compile(name, generated.sources))
        job.outputs = list(range(len(job.buffers)))
        profile, found = run_job(job, knobs.vlen)
    except TorchRvvError as error:
        result.reason = str(error).splitlines()[0]
        return result, Counter()
    right = [torch.frombuffer(bytearray(b), dtype=t) for b, t in generated.recorder.contents() if b]
    if not all(same(b, expected, ulps=4096.0) for b, expected in zip([f for f in found if f], right, strict=True)):
        result.reason = "wrong results"
        return result, Counter()
    return fill(result, profile), generated.aten


def with_aten(result: Result, calls: Counter[AtenCall]) -> Result:
    """A peer's row with what aten does for it added; the reason says what that is."""
    if result.instructions is None or not calls:
        return result
    cost, words = atencost.total(calls)
    result.instructions += cost.instructions
    result.cycles = _sum(result.cycles, cost.cycles)
    result.cycles_bound = _sum(result.cycles_bound, cost.cycles_bound)
    result.reason = "; ".join(filter(None, (result.reason, words)))
    return result


def _sum(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else round(a + b, 1)


def run(only: str | None, peers: str | None) -> Iterator[Result]:
    """Ours and Inductor's on the named models (comma-separated), or on all. Raises OptionError for an unknown name.

    peers: the names of those to compare with, comma-separated; None for both.
    """
    compilers = [c for c in inductor_cpp.peers() if peers is None or c.name in peers.split(",")]
    for name in only.split(",") if only else (*MODELS, *REAL):
        yield ours(name)
        yield from (with_aten(*peer(name, compiler)) for compiler in compilers)
        print(f"{name}: done", file=sys.stderr, flush=True)


_HEAD = (
    "model",
    "system",
    "instructions",
    "vector",
    "spills",
    "cycles",
    "bound",
    "memory",
    "x instr",
    "x cycles",
    "x bound",
)


def text(results: Sequence[Result]) -> str:
    """A line a model and system, in thousands; ratios are ours over the best peer's, with the verdict."""
    rows: list[tuple[str, ...]] = [(*_HEAD, "")]
    found = {c.ours.case: c for c in compare(results)}
    for r in results:
        c = found.get(r.case) if r.system == OURS else None
        ratios = [
            f"{c.ratios[f]:.2f}" if c and f in c.ratios else "" for f in ("instructions", "cycles", "cycles_bound")
        ]
        figures = (r.instructions, r.vector_instructions, r.spills, r.cycles, r.cycles_bound, r.cycles_memory)
        cells = ["-" if v is None else f"{v / 1e3:.1f}" for v in figures]
        rows.append((r.case, r.system, *cells, *ratios, c.verdict if c else ""))
    reasons = [f"{r.system}: {r.case}: {r.reason}" for r in results if r.reason]
    costly = sorted(
        ((k["cycles"] or 0.0, r, k) for r in results for k in r.kernels), key=lambda item: item[0], reverse=True
    )
    most: list[tuple[str, ...]] = [("kernel", "model", "launches", "instructions", "spills", "cycles", "share")]
    for cycles, r, k in costly[:COSTLY]:
        share = f"{100 * cycles / r.cycles:.0f} %" if r.cycles else "-"
        thousands = [f"{v / 1e3:.1f}" for v in (k["instructions"], k["spills"], cycles)]
        name = k["kernel"] if len(k["kernel"]) <= 60 else k["kernel"][:42] + "..." + k["kernel"][-15:]
        most.append((name, r.case, str(k["launches"]), *thousands, share))
    lines = [table.aligned(rows), "", "the costliest of our kernels:", table.aligned(most)]
    lines += ["instructions, spills and cycles in thousands", *reasons, *summary(list(found.values()))]
    return "\n".join(lines)


def page(results: Sequence[Result]) -> str:
    """The same with bars."""
    from html import escape

    from torch_rvv.benchmarks import html, svg

    palette = svg.colours(list(dict.fromkeys(r.system for r in results)))
    parts = [svg.legend(palette)]
    for heading, figure in (("Modelled cycles", "cycles"), ("Instructions", "instructions")):
        groups: dict[str, dict[str, float]] = {}
        for r in results:
            groups.setdefault(r.case, {})[r.system] = getattr(r, figure) or 0.0
        parts += [f"<h2>{heading}</h2>", svg.bars(groups, palette, heading.lower())]
    return html.page("torch_rvv: models", *parts, f"<pre>{escape(text(results))}</pre>")
