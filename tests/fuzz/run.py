"""Runs programs by us and by the interpreter, compares, and shrinks what differs."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from tests.fuzz.generate import VLENS, generate
from tests.fuzz.program import Program

TIMEOUT = 60.0


class Runner:
    """A process that runs programs, at a VLEN, or by the interpreter (None); started anew after a crash."""

    def __init__(self, vlen: int | None, folder: Path):
        self.vlen, self.folder = vlen, folder
        self.process: subprocess.Popen | None = None

    def run(self, program: Program, path: Path) -> tuple[str, list[torch.Tensor]]:
        """("ok", the arguments after the run), or (what went wrong, [])."""
        out = self.folder / f"{path.stem}-{self.vlen}.pt"
        request = {
            "path": str(path), "out": str(out), "seed": program.seed, "programs": program.programs,
            "arguments": program.arguments, "scalars": program.scalars,
        }  # fmt: skip
        answer = self._ask(json.dumps(request))
        if answer != "ok":
            return answer, []
        tensors = torch.load(out)
        out.unlink()
        return "ok", tensors

    def _ask(self, line: str) -> str:
        if self.process is None:
            own = {"TRITON_INTERPRET": "1"} if self.vlen is None else {"TORCH_RVV_VLEN": str(self.vlen)}
            environment = {**os.environ, "TORCH_RVV_FALLBACK": "error", "OMP_NUM_THREADS": "1", **own}
            self.process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "tests.fuzz.execute"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment,
            )  # fmt: skip
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return self._lost("the process ended")
        while select.select([self.process.stdout], [], [], TIMEOUT)[0]:
            text = self.process.stdout.readline()
            if not text:
                return self._lost("the process ended")
            if text.startswith("answer "):
                return json.loads(text.removeprefix("answer "))
        return self._lost(f"no answer in {TIMEOUT:.0f} s")

    def _lost(self, why: str) -> str:
        assert self.process is not None
        self.process.kill()
        code = self.process.wait()
        self.process = None
        return f"crash: {why} (exit {code})"

    def close(self) -> None:
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()
            self.process.wait()
            self.process = None


TOLERANCE = {torch.float16: 3e-2, torch.float32: 2e-4, torch.float64: 2e-4}


def difference(program: Program, ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> str | None:
    """What differs, if anything does."""
    for (name, dtype, _), a, b in zip(program.arguments, ours, theirs, strict=True):
        tolerance = TOLERANCE.get(a.dtype, 0.0)
        x, y = a.double(), b.double()
        good = (a == b) if not tolerance else torch.isclose(x, y, rtol=tolerance, atol=tolerance, equal_nan=True)
        if not bool(good.all()):
            at = int((~good).nonzero()[0])
            many = int((~good).sum())
            return f"{name} ({dtype}) differs in {many} places, first at {at}: {a[at].item()} is not {b[at].item()}"
    return None


@dataclass
class Finding:
    """A program that went wrong. kind: "mismatch" or "crash"."""

    program: Program
    kind: str
    message: str


class Session:
    """Runners for one thread, and the judgement of programs."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="torch_rvv_fuzz"))
        self.reference = Runner(None, self.folder)
        self.ours = {vlen: Runner(vlen, self.folder) for vlen in VLENS}
        self.count = 0
        self.skipped = 0

    def judge(self, program: Program) -> Finding | None:
        """None if we and the interpreter agree, or if the interpreter cannot run it."""
        self.count += 1
        path = self.folder / f"p{program.seed}_{self.count}.py"
        path.write_text(program.text())
        said, wanted = self.reference.run(program, path)
        if said != "ok":
            self.skipped += 1
            return None
        said, got = self.ours[program.vlen].run(program, path)
        path.unlink()
        if said != "ok":
            return Finding(program, "crash", said)
        found = difference(program, got, wanted)
        return Finding(program, "mismatch", found) if found else None

    def shrink(self, finding: Finding, steps: int = 300) -> Finding:
        """A smaller program that goes wrong in the same way."""
        progress = True
        while progress and steps > 0:
            progress = False
            for smaller in finding.program.smaller():
                steps -= 1
                found = self.judge(smaller)
                if found is not None and found.kind == finding.kind and found.message[:25] == finding.message[:25]:
                    finding, progress = found, True
                    break
                if steps <= 0:
                    break
        return finding

    def close(self) -> None:
        for runner in (self.reference, *self.ours.values()):
            runner.close()


def run(count: int, seed: int, jobs: int, shrink: bool) -> Iterator[Finding | int]:
    """Findings as they come, then how many programs the interpreter refused."""

    def part(k: int) -> tuple[list[Finding], int]:
        session = Session()
        found = [f for s in range(seed + k, seed + count, jobs) if (f := session.judge(generate(s))) is not None]
        skipped = session.skipped
        found = [session.shrink(f) for f in found[:5]] + found[5:] if shrink else found
        session.close()
        return found, skipped

    with ThreadPoolExecutor(jobs) as pool:
        for found, skipped in pool.map(part, range(jobs)):
            yield from found
            yield skipped
