"""The blocks in which a measured kernel spends its modelled cycles, with their assembly: where to look first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch_rvv.benchmarks.blocks import Block
from torch_rvv.benchmarks.cycles import Cycles, disassemble, total


@dataclass(frozen=True)
class HotBlock:
    """count: how often it ran. cycles, cycles_bound: of one execution. share: of all the kernel's cycles, 0 to 1."""

    address: int
    count: int
    cycles: float
    cycles_bound: float
    share: float
    code: list[str]


def hottest(modelled: Sequence[tuple[Block, Cycles]], most: int) -> list[HotBlock]:
    """At most that many blocks, the one with the most cycles in all first. modelled: each with the cycles of one
    execution. Raises as cycles.disassemble."""
    every = total(modelled).estimate
    ranked = sorted(modelled, key=lambda pair: -pair[1].estimate * pair[0].count)[:most]
    lines = disassemble([b.code for b, _ in ranked]) if ranked else []
    return [
        HotBlock(b.address, b.count, c.estimate, c.bound, c.estimate * b.count / every, code)
        for (b, c), code in zip(ranked, lines, strict=True)
    ]


def text(title: str, found: Sequence[HotBlock]) -> str:
    """A head for each block, and its assembly."""
    parts = []
    for block in found:
        parts.append(
            f"{title}: {100 * block.share:.1f} % of the cycles: {block.count} times {len(block.code)} instructions, "
            f"{block.cycles:.1f} cycles each (bound {block.cycles_bound:.1f})"
        )
        parts += [f"    {line.expandtabs(8)}" for line in block.code]
    return "\n".join(parts)
