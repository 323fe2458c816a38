"""Ours against the peers: ratios, and who wins. A win or a loss is claimed only where all three figures agree."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch_rvv.benchmarks.measure import OURS, Result

FIGURES = ("instructions", "cycles", "cycles_bound")
# The limits on modelled cycles against the best peer: of every row, and of the geometric mean of a suite.
WORST_RATIO, WANTED_MEAN = 1.15, {"kernels": 1.5, "gemm": 1.3, "models": 2.0}


@dataclass(frozen=True)
class Comparison:
    """A case. ratios: ours over the best peer's, by figure; each figure has its own best peer, in `best`."""

    ours: Result
    peers: tuple[Result, ...]
    ratios: dict[str, float]
    best: dict[str, str]

    @property
    def to_limit(self) -> float | None:
        """Instructions an element over the limit: at most 1 is within."""
        if self.ours.per_element is None or not self.ours.limit:
            return None
        return self.ours.per_element / self.ours.limit

    @property
    def verdict(self) -> str:
        """win, loss, or mixed where the figures do not agree; nothing without figures of ours and a peer."""
        values = [self.ratios[f] for f in FIGURES if f in self.ratios]
        if len(values) < len(FIGURES):
            return ""
        if all(v < 1 for v in values):
            return "win"
        return "loss" if all(v > 1 for v in values) else "mixed"


def compare(results: Iterable[Result]) -> list[Comparison]:
    """One comparison a case, in the order of the cases."""
    by_case: dict[str, list[Result]] = {}
    for result in results:
        by_case.setdefault(result.case, []).append(result)
    return [_case(rows) for rows in by_case.values() if any(r.system == OURS for r in rows)]


def _case(rows: Sequence[Result]) -> Comparison:
    ours = next(r for r in rows if r.system == OURS)
    peers = tuple(r for r in rows if r.system != OURS)
    ratios, best = {}, {}
    for figure in FIGURES:
        known = [p for p in peers if getattr(p, figure) is not None]
        mine = getattr(ours, figure)
        if known and mine is not None:
            leader = min(known, key=lambda p: getattr(p, figure))
            best[figure] = leader.system
            ratios[figure] = mine / max(getattr(leader, figure), 1e-9)
    return Comparison(ours, peers, ratios, best)


def geometric_mean(values: Iterable[float]) -> float | None:
    """None of nothing."""
    held = list(values)
    return math.exp(sum(map(math.log, held)) / len(held)) if held else None


def summary(comparisons: Sequence[Comparison]) -> list[str]:
    """What it comes to, in a few lines."""
    limited = [c for c in comparisons if c.ours.limit is not None]
    within = [c for c in limited if c.to_limit is not None and c.to_limit <= 1]
    lines = [f"{len(within)} of {len(limited)} cases within their limit of instructions"] if limited else []
    missing = [c.ours.case for c in comparisons if c.ours.instructions is None]
    if missing:
        lines.append(f"no figures of ours: {', '.join(missing)}")
    cycles = [c.ratios["cycles"] for c in comparisons if "cycles" in c.ratios]
    mean = geometric_mean(cycles)
    if mean is not None:
        bad = sum(ratio > WORST_RATIO for ratio in cycles)
        lines.append(
            f"modelled cycles: the best peer's are {1 / mean:.2f} x ours in the geometric mean "
            f"(wanted {WANTED_MEAN[comparisons[0].ours.suite]}); "
            f"{bad} of {len(cycles)} cases above {WORST_RATIO} x the best peer"
        )
    verdicts = [c.verdict for c in comparisons if c.verdict]
    if verdicts:
        lines.append(", ".join(f"{verdicts.count(v)} {v}" for v in ("win", "mixed", "loss")) + " (all figures agree)")
    return lines
