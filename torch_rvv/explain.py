"""What became of a model: one row a kernel, with the proof of vector code read from its object.

report = torch_rvv.explain(model, x)
report = torch_rvv.explain(kernel[grid], x, out, BLOCK=64)      a @triton.jit function: compiled, not run
print(report); report.to_json()
"""

from __future__ import annotations

import json
import statistics
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from types import ModuleType
from typing import Any

import torch

from torch_rvv.explain_triton import compiled_kernels, triton_launch
from torch_rvv.innerloops import innermost
from torch_rvv.machinecode import count
from torch_rvv.runtime import record
from torch_rvv.runtime.record import GraphRecord, KernelRecord


@dataclass
class Row:
    """One kernel. vector, scalar: instructions in its code (static). accesses: loads and stores by kind.

    live: the most vectors that a loop keeps at a time, by which its LMUL was chosen. inner_fmas: vector multiply-adds
    in the innermost loop that has the most of them. origins: aten operations, or a configuration of an autotuner.
    """

    name: str
    compiled: bool
    reason: str | None
    where: str | None
    vector: int
    scalar: int
    lmul: str
    live: int
    inner_fmas: int
    spills: int
    accesses: dict[str, int]
    gathers: list[str]
    origins: list[str]
    launches: int
    compile_ms: float

    @staticmethod
    def of(kernel: KernelRecord) -> Row:
        accesses = kernel.metadata.get("accesses") or []
        code = count(kernel.binary) if kernel.compiled and kernel.binary else None
        return Row(
            name=kernel.name,
            compiled=kernel.compiled,
            reason=kernel.reason,
            where=kernel.where,
            vector=code.vector if code else 0,
            scalar=code.scalar if code else 0,
            lmul=",".join(sorted(code.lmul, key=_size)) if code else "",
            live=max((nest["live"] for nest in kernel.metadata.get("nests") or []), default=0),
            inner_fmas=max((loop.multiply_adds for loop in innermost(kernel.binary)), default=0) if code else 0,
            spills=code.spills if code else 0,
            accesses=dict(Counter(a["kind"] for a in accesses)),
            gathers=[
                f"{a['op']} of argument {a['arg']}: {a['why']} ({a['where']})"
                for a in accesses
                if a["kind"] == "gather"
            ],
            origins=kernel.origins,
            launches=kernel.launches,
            compile_ms=round(kernel.seconds * 1e3, 1),
        )


def _size(lmul: str) -> float:
    top, _, bottom = lmul.partition("/")
    return int(top) / int(bottom or 1)


@dataclass
class Report:
    """The kernels of one or several compiled graphs, and the calls that stay in aten. str() is a table."""

    rows: list[Row] = field(default_factory=list)
    extern: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @staticmethod
    def of(graphs: list[GraphRecord]) -> Report:
        extern: Counter[str] = Counter()
        for graph in graphs:
            extern.update(graph.extern)
        notes = [f"a graph kept Inductor's Python wrapper: {g.reason}" for g in graphs if g.reason]
        notes += [f"{what} {outcome}" for g in graphs for what, outcome in g.decisions.items()]
        return Report([Row.of(k) for g in graphs for k in g.kernels], dict(extern), notes)

    def to_json(self) -> str:
        """{"kernels": [row, ...], "extern": {aten call: count}, "median_compile_ms": ...}"""
        return json.dumps(
            {"kernels": [asdict(r) for r in self.rows], "extern": self.extern, "median_compile_ms": self.median_ms},
            indent=1,
        )

    @property
    def median_ms(self) -> float | None:
        """Median time of lowering a kernel to its .so, in milliseconds."""
        times = [r.compile_ms for r in self.rows if r.compiled]
        return statistics.median(times) if times else None

    def __str__(self) -> str:
        head = (
            "kernel", "how", "vector", "scalar", "LMUL", "live", "inner FMAs", "spills", "loads and stores", "ms",
            "from",
        )  # fmt: skip
        body = [_cells(r) for r in self.rows]
        widths = [max(len(row[i]) for row in [head, *body]) for i in range(len(head))]
        lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in [head, *body]]
        for r in self.rows:
            if r.reason:
                lines.append(f"fell back: {r.name}: {r.reason}" + (f" at {r.where}" if r.where else ""))
            lines += [f"gather: {r.name}: {g}" for g in r.gathers]
        if self.extern:
            lines.append("in aten: " + ", ".join(f"{n} x {name}" for name, n in sorted(self.extern.items())))
        lines += self.notes
        done = sum(r.compiled for r in self.rows)
        summary = f"{done} of {len(self.rows)} kernels compiled"
        if self.median_ms is not None:
            summary += f"; median lowering time {self.median_ms:.0f} ms"
        return "\n".join([*lines, summary])


def _cells(r: Row) -> tuple[str, ...]:
    name = r.name if len(r.name) <= 58 else r.name[:40] + "..." + r.name[-15:]
    accesses = ", ".join(f"{n} {kind}" for kind, n in sorted(r.accesses.items(), key=lambda kv: -kv[1]))
    origins = ", ".join(o.removeprefix("aten.") for o in r.origins)
    origins = origins if len(origins) <= 60 else origins[:57] + "..."
    how = "rvv" if r.compiled else "aten"
    numbers = (str(r.vector), str(r.scalar), r.lmul, str(r.live), str(r.inner_fmas), str(r.spills))
    return (name, how, *numbers, accesses, f"{r.compile_ms:.0f}", origins)


def explain(model: Callable[..., Any], *args: Any, options: dict[str, Any] | None = None, **kwargs: Any) -> Report:
    """Compile a model (or function) afresh for RVV, run it once on the arguments, and report its kernels.

    A launch of a Triton kernel (`kernel[grid]`) is compiled and not run: one row, or one a configuration if it is
    autotuned. options: as for torch.compile(backend="rvv"), of a launch "target" and "lmul". Raises what compiling
    or running raises.
    """
    launch = triton_launch(model)
    if launch is not None:
        return Report([Row.of(k) for k in compiled_kernels(*launch, args, kwargs, options)])
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="rvv", options=options)
    with record.collecting() as graphs:
        compiled(*args, **kwargs)
    return Report.of(graphs)


class _Module(ModuleType):
    """Importing this module binds its name in the package, where users expect the function: it is both."""

    def __call__(self, model: Callable[..., Any], *args: Any, **keywords: Any) -> Report:
        return explain(model, *args, **keywords)


sys.modules[__name__].__class__ = _Module
