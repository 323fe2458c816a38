"""`python -m tests.fuzz [--count N] [--seed N] [--jobs N]`; programs that went wrong are written to build/fuzz."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.fuzz.run import Finding, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=2000, help="programs")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first; the next has the next")
    parser.add_argument("--jobs", type=int, default=2, help="processes of each kind at once")
    parser.add_argument("--no-shrink", action="store_true", help="keep failing programs as they are")
    arguments = parser.parse_args()
    print(f"seeds {arguments.seed} to {arguments.seed + arguments.count - 1}", flush=True)
    findings, skipped = [], 0
    for result in run(arguments.count, arguments.seed, arguments.jobs, not arguments.no_shrink):
        if isinstance(result, Finding):
            findings.append(result)
            folder = Path("build", "fuzz")
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{result.kind}_{result.program.seed}.py"
            path.write_text(f"# {result.message}\n{result.program.text()}")
            print(
                f"{result.kind}: seed {result.program.seed} (VLEN {result.program.vlen}), {path}: {result.message}",
                flush=True,
            )
        else:
            skipped += result
    kinds = [f.kind for f in findings]
    print(f"the interpreter refused {skipped} programs")
    print(f"{arguments.count - skipped} programs, {kinds.count('mismatch')} mismatches, {kinds.count('crash')} crashes")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
