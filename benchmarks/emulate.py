"""Runs a job under the emulator with the profiling plug-in, and reads what it counted.

Counts are exact: of every executed instruction between the markers, on one thread, the same each time.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from subprocess import TimeoutExpired, run

from torch_rvv.benchmarks.blocks import Block, basic_blocks
from torch_rvv.benchmarks.instructions import VECTOR, classify, words
from torch_rvv.benchmarks.jobs import Job
from torch_rvv.runtime.build import RISCV, compile_c, kept
from torch_rvv.runtime.virtual import command

from torch_rvv.errors import DeviceError, InstallError
from torch_rvv.knobs import knobs

NATIVE = Path(__file__).resolve().parent / "native"


@dataclass
class Profile:
    """What ran between the markers. pieces: code as it was translated, with its counts and vtypes.

    spills: instructions that touched the stack of what was measured ("vector", "scalar"). memory: bytes and
    accesses (one an element for vector instructions), and cache lines by level (see native/cache.h). regions: the
    same for each pair of markers, in the order in which they ran; empty in a region.
    """

    pieces: list[Block] = field(default_factory=list)
    spills: dict[str, int] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)
    regions: list[Profile] = field(default_factory=list)

    def classes(self) -> Counter[str]:
        """Executed instructions by class (see instructions.py)."""
        total: Counter[str] = Counter()
        for piece in self.pieces:
            for word, size in words(piece.code):
                total[classify(word, size)] += piece.count
        return total

    @property
    def instructions(self) -> int:
        """All executed instructions."""
        return self.classes().total()

    @property
    def vector_instructions(self) -> int:
        """Those of the vector extension, vsetvl among them."""
        held = self.classes()
        return sum(held[c] for c in VECTOR)

    def blocks(self) -> list[Block]:
        """The executed basic blocks."""
        return basic_blocks(self.pieces)

    @staticmethod
    def read(text: str) -> Profile:
        """A profile from the plug-in's file (its lines are described in native/profile.c)."""
        regions, region = [], Profile()
        for line in text.splitlines():
            kind, *rest = line.split()
            if kind == "block":
                address, vtype, count, code = rest
                region.pieces.append(Block(int(address, 16), bytes.fromhex(code), int(vtype), int(count)))
            elif kind == "end":
                regions.append(region)
                region = Profile()
            else:
                {"spill": region.spills, "memory": region.memory}[kind][rest[0]] = int(rest[1])
        whole = Profile.sum(regions)
        whole.regions = regions
        return whole

    @staticmethod
    def sum(parts: Iterable[Profile]) -> Profile:
        """What several profiles come to."""
        total, spills, memory = Profile(), Counter[str](), Counter[str]()
        for part in parts:
            total.pieces += part.pieces
            spills.update(part.spills)
            memory.update(part.memory)
        total.spills, total.memory = dict(spills), dict(memory)
        return total


@cache
def plugin() -> Path:
    """The plug-in, built for this machine. Raises InstallError without a C compiler."""
    return _built("profile.so", ("-shared", "-fPIC", "-fvisibility=hidden", "-Wextra"), host=True)


@cache
def driver() -> Path:
    """The program that runs a job, built for riscv64."""
    return _built("driver", ("-ldl",), host=False)


def _built(name: str, flags: tuple[str, ...], host: bool) -> Path:
    source = NATIVE / f"{Path(name).stem}.c"
    digest = hashlib.sha256(repr(flags).encode())
    for path in (source, *sorted(NATIVE.glob("*.h"))):
        digest.update(path.read_bytes())
    target = None if host else RISCV
    return kept(f"bench-{digest.hexdigest()[:16]}-{name}", lambda made: compile_c([source], made, flags, target))


def profile_program(
    program: list[str], vlen: int, environment: Mapping[str, str] | None = None, timeout: float | None = None
) -> Profile:
    """Run a riscv64 program that has markers, and return what the plug-in counted.

    vlen in bits; timeout in seconds, knobs.bench_timeout by default. Raises DeviceError if the program fails or takes
    too long, InstallError if the emulator has no plug-ins.
    """
    timeout = timeout or knobs.bench_timeout
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "profile")
        qemu, *options = command(vlen)
        extra = [part for name, value in (environment or {}).items() for part in ("-E", f"{name}={value}")]
        call = [qemu, "-plugin", f"{plugin()},out={out}", *options, *extra, *program]
        try:
            done = run(call, capture_output=True, text=True, timeout=timeout, env=_clean())
        except TimeoutExpired:
            raise DeviceError(
                f"a measured program did not end within {timeout:g} s", hint="TORCH_RVV_BENCH_TIMEOUT gives it longer."
            ) from None
        if not out.exists():
            raise InstallError(
                f"{qemu} does not run the profiling plug-in: {done.stderr.strip()[-300:]}",
                hint="It needs a qemu-user with plug-ins of interface version 1, such as the 7.2 of Debian 12.",
            )
        if done.returncode:
            raise DeviceError(f"a measured program failed ({done.returncode}): {done.stderr.strip()[-500:]}")
        return Profile.read(out.read_text())


def _clean() -> dict[str, str]:
    """The environment without what would reach the emulated program: its size must not depend on the caller's."""
    keep = ("PATH", "TMPDIR", "HOME")
    return {name: os.environ[name] for name in keep if name in os.environ}


def run_job(job: Job, vlen: int, timeout: float | None = None) -> tuple[Profile, list[bytes]]:
    """Run a job: (what was counted, the contents of its output buffers). Errors as of profile_program."""
    folder = Path(tempfile.mkdtemp(prefix="torch_rvv_bench"))
    try:
        path, saved = job.write(folder)
        profile = profile_program([str(driver()), str(path)], vlen, job.environment, timeout)
        return profile, [p.read_bytes() for p in saved]
    finally:
        shutil.rmtree(folder)
