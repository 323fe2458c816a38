"""Runs cells in processes of their own, so that none can stop the others: a crash or a hang is that cell's result."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

TABLES = {
    "language": (
        "arithmetic",
        "casts",
        "memory",
        "blocks",
        "shapes",
        "products",
        "folds",
        "atomics",
        "control",
        "language",
        "smt",
    ),
    "operators": ("operators",),
}
TIMEOUT = 300.0


@dataclass(frozen=True)
class Outcome:
    """A cell's result: passed, refused, wrong or crashed, and why."""

    cell: str
    vlen: int
    kind: str
    message: str = ""


def load(table: str = "language") -> list:
    """The cells of all families of a table."""
    import importlib

    for family in TABLES[table]:
        importlib.import_module(f"tests.conformance.{family}")
    from tests.conformance.harness import CASES

    return [case for case in CASES if case.family in TABLES[table]]


def judge(case) -> tuple[str, str]:
    """Run one cell in this process."""
    from triton.compiler.errors import CompilationError

    from torch_rvv.errors import Declined

    try:
        case.run()
    except Declined as error:
        return "refused", str(error)
    except CompilationError as error:
        words = [line for line in str(error).strip().split("\n") if line.strip(" ^")]
        return "refused", "Triton: " + words[-1]
    except AssertionError as error:
        return "wrong", str(error) or traceback.format_exc(limit=-1)
    except Exception as error:
        return "crashed", f"{type(error).__name__}: {str(error)[:600]}"
    return "passed", ""


def serve(table: str) -> None:
    """A worker: reads numbers of cells of a table, a line each; answers with a line of JSON each."""
    os.environ["TORCH_RVV_FALLBACK"] = "error"
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    cases = load(table)
    for line in sys.stdin:
        kind, message = judge(cases[int(line)])
        answers.write(json.dumps([kind, message]) + "\n")
        answers.flush()


class Worker:
    """One process at one VLEN, started anew after a crash."""

    def __init__(self, table: str, vlen: int):
        self.table, self.vlen = table, vlen
        self.process: subprocess.Popen | None = None

    def ask(self, number: int) -> tuple[str, str]:
        if self.process is None:
            environment = {**os.environ, "TORCH_RVV_VLEN": str(self.vlen), "OMP_NUM_THREADS": "1"}
            self.process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "tests.conformance", "--serve", "--table", self.table],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
            )  # fmt: skip
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(f"{number}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return self._lost("the process ended")
        while select.select([self.process.stdout], [], [], TIMEOUT)[0]:
            line = self.process.stdout.readline()
            if not line:
                return self._lost("the process ended")
            if line.startswith('["'):
                kind, message = json.loads(line)
                return kind, message
        return self._lost(f"no answer in {TIMEOUT:.0f} s")

    def _lost(self, why: str) -> tuple[str, str]:
        assert self.process is not None
        self.process.kill()
        code = self.process.wait()
        self.process = None
        return "crashed", f"{why} (exit {code})"

    def close(self) -> None:
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()
            self.process.wait()


def run(table: str, only: list[str], vlens: list[int], jobs: int) -> Iterator[Outcome]:
    """The outcomes of the cells of a table whose name holds one of `only` (all, if empty), as they come."""
    cases = load(table)
    chosen = [n for n, c in enumerate(cases) if not only or any(text in c.name for text in only)]
    parts = [(vlen, chosen[k::jobs]) for vlen in vlens for k in range(jobs)]

    def part(arguments: tuple[int, list[int]]) -> list[Outcome]:
        vlen, numbers = arguments
        worker = Worker(table, vlen)
        outcomes = [Outcome(cases[n].name, vlen, *worker.ask(n)) for n in numbers]
        worker.close()
        return outcomes

    with ThreadPoolExecutor(jobs) as pool:
        for outcomes in pool.map(part, parts):
            yield from outcomes
