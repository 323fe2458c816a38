"""The report as text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch_rvv.benchmarks.compare import Comparison, compare, summary
from torch_rvv.benchmarks.hottest import text
from torch_rvv.benchmarks.measure import Result

_HEAD = (
    "case", "shape", "instr/el", "limit", "x limit", "cycles/el", "bound/el", "memory/el", "spills", "best peer",
    "x instr", "x cycles", "x bound", "",
)  # fmt: skip


_PRODUCT_HEAD = (
    "case", "flop/instr", "flop/cycle", "bound", "instructions", "spills", "best peer", "x instr", "x cycles",
    "x bound", "",
)  # fmt: skip


def kernels(results: Sequence[Result]) -> str:
    """One line a case: our figures an element, and ours over the best peer's. Then reasons and the summary."""
    return _report(results, _HEAD, _cells)


def products(results: Sequence[Result]) -> str:
    """One line a case: operations an instruction and a cycle (16 is the X60's peak in f32), and ours over the best
    peer's."""
    return _report(results, _PRODUCT_HEAD, _product_cells)


def _product_cells(c: Comparison) -> tuple[str, ...]:
    ours = c.ours
    figures = [ours.instructions, ours.cycles, ours.cycles_bound]
    ratios = [c.ratios.get(f) for f in ("instructions", "cycles", "cycles_bound")]
    return (
        ours.case, *("-" if f is None else f"{ours.flops / f:.2f}" for f in figures), str(ours.instructions),
        str(ours.spills), c.best.get("cycles", "-"), *("-" if r is None else f"{r:.2f}" for r in ratios), c.verdict,
    )  # fmt: skip


def _report(results: Sequence[Result], head: tuple[str, ...], cells: Callable[[Comparison], tuple[str, ...]]) -> str:
    comparisons = compare(results)
    rows = [head, *map(cells, comparisons)]
    lines = [aligned(rows)]
    reasons: dict[tuple[str, str], list[str]] = {}
    for result in results:
        if result.reason:
            reasons.setdefault((result.system, result.reason), []).append(result.case)
    lines += [f"{system}: {', '.join(cases)}: {reason}" for (system, reason), cases in reasons.items()]
    found = [text(f"{result.case}, {result.system}", result.hottest) for result in results if result.hottest]
    return "\n".join([*lines, *summary(comparisons), *found])


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as columns: the first to the left, numbers to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _cells(c: Comparison) -> tuple[str, ...]:
    ours = c.ours

    def each(value: float | None) -> str:
        return "-" if value is None else f"{value / ours.elements:.3f}"

    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.2f}"

    over = "!" if (c.to_limit or 0) > 1 else ""
    return (
        ours.case, "x".join(map(str, ours.shape)), each(ours.instructions), f"{ours.limit:.2f}" if ours.limit else "-",
        number(c.to_limit) + over, each(ours.cycles), each(ours.cycles_bound), each(ours.cycles_memory),
        "-" if ours.spills is None else str(ours.spills), c.best.get("cycles", "-"),
        number(c.ratios.get("instructions")), number(c.ratios.get("cycles")), number(c.ratios.get("cycles_bound")),
        c.verdict,
    )  # fmt: skip
