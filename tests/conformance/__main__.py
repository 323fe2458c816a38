"""`python -m tests.conformance [--table language|operators] [--only TEXT] [--vlen N] [--jobs N] [--json FILE]`."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from dataclasses import asdict

from tests.conformance.run import TABLES, run, serve


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--table", choices=TABLES, default="language", help="of Triton, or PyTorch's operators")
    parser.add_argument("--only", action="append", default=[], help="cells whose name holds this text")
    parser.add_argument("--vlen", action="append", type=int, default=[], help="VLEN in bits (128, 256 and 1024)")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once")
    parser.add_argument("--json", help="write all outcomes to this file")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.table)
        return 0
    outcomes = list(run(arguments.table, arguments.only, arguments.vlen or [128, 256, 1024], arguments.jobs))
    for kind in ("refused", "wrong", "crashed"):
        chosen: dict[tuple[str, str], list[int]] = {}
        for o in outcomes:
            if o.kind == kind:
                chosen.setdefault((o.cell, o.message), []).append(o.vlen)
        for (cell, message), vlens in chosen.items():
            print(f"{kind}: {cell} at VLEN {', '.join(map(str, vlens))}: {message}")
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump([asdict(o) for o in outcomes], file, indent=1)
    count = Counter(o.kind for o in outcomes)
    print(
        f"{count['passed']} passed, {count['refused']} refused, {count['wrong']} wrong, {count['crashed']} crashed",
        flush=True,
    )
    return 1 if count["wrong"] or count["crashed"] or not outcomes else 0


if __name__ == "__main__":
    sys.exit(main())
