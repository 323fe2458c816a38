"""Modelled cycles: how often each block ran, times what LLVM's scheduling model of a core says the block takes.

Two figures: `bound`, where only throughput counts (nothing ever waits for a result), and `estimate`, of an in-order
core that waits. And `memory`: the cycles that main memory needs for the cache lines that moved, by itself. What the
model does not know is in docs/benchmarks.md.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from subprocess import run

from torch_rvv.benchmarks.blocks import Block
from torch_rvv.benchmarks.instructions import words

from torch_rvv.errors import InstallError

CORE, MODEL_VLEN = "spacemit-x60", 256
FEATURES = "+m,+a,+f,+d,+c,+v,+zvl256b,+zba,+zbb,+zbs,+zicond,+zfh,+zvfh,+zicbop"
ITERATIONS = 100
# A call's own cost; the callee's blocks are counted by themselves. The tool would take 100 cycles.
CALL_LATENCY = 2
# K1: main memory gives about 7 GB/s; the core runs at 1.6 GHz.
MEMORY_BYTES_PER_CYCLE = 7.0 / 1.6
LINE_BYTES = 64
_LMUL = {0: "M1", 1: "M2", 2: "M4", 3: "M8", 5: "MF8", 6: "MF4", 7: "MF2"}
_SEW = ("E8", "E16", "E32", "E64")


@dataclass(frozen=True)
class Cycles:
    """Cycles of one core: bound by throughput alone, and estimated with waiting for results."""

    bound: float
    estimate: float

    def __add__(self, other: Cycles) -> Cycles:
        return Cycles(self.bound + other.bound, self.estimate + other.estimate)

    def times(self, count: float) -> Cycles:
        return Cycles(self.bound * count, self.estimate * count)


@cache
def tools() -> tuple[str, str]:
    """(llvm-mca, llvm-mc) of an LLVM that knows the core. Raises InstallError."""
    for suffix in ("", *(f"-{version}" for version in range(30, 19, -1))):
        mca, mc = shutil.which(f"llvm-mca{suffix}"), shutil.which(f"llvm-mc{suffix}")
        if mca and mc:
            known = run([mca, "-mtriple=riscv64", "-mcpu=help"], input="", capture_output=True, text=True)
            if CORE in known.stdout + known.stderr:
                return mca, mc
    raise InstallError(f"no llvm-mca that knows {CORE}", hint="apt-get install llvm-22")


def disassemble(codes: Sequence[bytes]) -> list[list[str]]:
    """The assembly lines of each piece of code. Raises InstallError without the tools, ValueError for bad code."""
    text = "\n".join(" ".join(f"0x{b:02x}" for b in code) for code in codes)
    done = run(
        [tools()[1], "--disassemble", "-triple=riscv64", f"-mattr={FEATURES}"],
        input=text, capture_output=True, text=True,
    )  # fmt: skip
    lines = [line for line in map(str.strip, done.stdout.splitlines()) if line and not line.startswith(".")]
    sizes = [sum(1 for _ in words(code)) for code in codes]
    if len(lines) != sum(sizes):
        raise ValueError(f"{sum(sizes)} instructions, {len(lines)} disassembled: {done.stderr[:300]}")
    left = iter(lines)
    return [list(islice(left, size)) for size in sizes]


def block_cycles(blocks: Sequence[tuple[bytes, int]]) -> list[Cycles]:
    """Cycles of one execution of each (code, vtype on entry), as one of many in a row. Raises as `disassemble`."""
    if not blocks:
        return []
    text = []
    for number, ((_, vtype), lines) in enumerate(zip(blocks, disassemble([code for code, _ in blocks]), strict=True)):
        text.append(f"# LLVM-MCA-BEGIN b{number}")
        # Without its first vsetvl a block would be taken for one at LMUL 8. The tool follows those within.
        if vtype < 64 and vtype & 7 in _LMUL:
            text.append(f"# LLVM-MCA-RISCV-LMUL {_LMUL[vtype & 7]}\n# LLVM-MCA-RISCV-SEW {_SEW[vtype >> 3 & 3]}")
        text += lines
        text.append("# LLVM-MCA-END")
    done = run(
        [
            tools()[0], "-mtriple=riscv64", f"-mcpu={CORE}", f"-mattr={FEATURES}", f"-iterations={ITERATIONS}", "-json",
            f"-call-latency={CALL_LATENCY}", "-skip-unsupported-instructions=any", "-instruction-info=false",
            "-resource-pressure=false",
        ],
        input="\n".join(text) + "\n", capture_output=True, text=True,
    )  # fmt: skip
    if not done.stdout.strip():
        raise ValueError(f"llvm-mca: {done.stderr.strip()[:500]}")
    found = {region["Name"]: region["SummaryView"] for region in json.loads(done.stdout)["CodeRegions"]}
    out = []
    for number in range(len(blocks)):
        view = found[f"b{number}"]
        out.append(Cycles(view["BlockRThroughput"], view["TotalCycles"] / ITERATIONS))
    return out


def total(modelled: Iterable[tuple[Block, Cycles]]) -> Cycles:
    """Cycles of an execution, of its blocks and the cycles of one execution of each."""
    return sum((cycles.times(block.count) for block, cycles in modelled), Cycles(0.0, 0.0))


def modelled(*executions: Iterable[Block]) -> list[list[tuple[Block, Cycles]]]:
    """The blocks of each execution with their cycles; common ones are modelled once. Raises as `disassemble`."""
    held = [list(blocks) for blocks in executions]
    kinds = list(dict.fromkeys((b.code, b.vtype) for blocks in held for b in blocks))
    each = dict(zip(kinds, block_cycles(kinds), strict=True))
    return [[(b, each[b.code, b.vtype]) for b in blocks] for blocks in held]


def cycles_of(blocks: Iterable[Block]) -> Cycles:
    """Cycles of an execution. Raises as `disassemble`."""
    return cycles_of_each([blocks])[0]


def cycles_of_each(executions: Iterable[Iterable[Block]]) -> list[Cycles]:
    """Cycles of several executions, whose common blocks are modelled once. Raises as `disassemble`."""
    return [total(found) for found in modelled(*executions)]


def memory_cycles(memory: dict[str, int]) -> float:
    """Cycles that main memory needs for the lines that the last level of cache missed or wrote back."""
    return (memory["l2_misses"] + memory["l2_writebacks"]) * LINE_BYTES / MEMORY_BYTES_PER_CYCLE
