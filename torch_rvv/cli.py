"""python -m torch_rvv accuracy | explain | bench."""

from __future__ import annotations

import argparse
import json
import os
import runpy
import sys
from pathlib import Path

from torch_rvv.errors import TorchRvvError

# Options of the backend that say who does what.
WHO = ("gemm", "conv", "attention")


def accuracy(arguments: argparse.Namespace) -> int:
    """Run models and compare them with eager; exit code 1 unless all pass."""
    if arguments.vlen:
        os.environ["TORCH_RVV_VLEN"] = str(arguments.vlen)
    import torch

    from torch_rvv.benchmarks.accuracy import measure, table
    from torch_rvv.benchmarks.models import MODELS

    names = arguments.models.split(",") if arguments.models else list(MODELS)
    dtype = getattr(torch, arguments.dtype)
    options = {name: value for name in WHO if (value := getattr(arguments, name)) is not None}
    results = []
    for name in names:
        result = measure(name, dtype, arguments.training, arguments.dynamic, options or None)
        print(f"{name}: {result.status} ({result.seconds:.1f} s)", file=sys.stderr, flush=True)
        results.append(result)
    print(table(results))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps([r.to_json() for r in results], indent=1))
    return int(any(r.status != "pass" for r in results))


def explain(arguments: argparse.Namespace) -> int:
    """Run a script and report every kernel that was compiled in it."""
    from torch_rvv.explain import Report
    from torch_rvv.runtime import record

    sys.argv = [arguments.script, *arguments.arguments]
    with record.collecting() as graphs:
        runpy.run_path(arguments.script, run_name="__main__")
    report = Report.of(graphs)
    print(report)
    if arguments.json:
        Path(arguments.json).write_text(report.to_json())
    return 0


def bench(arguments: argparse.Namespace) -> int:
    """Count instructions and model cycles of kernels, or time compiling, against other compilers."""
    if arguments.vlen:
        os.environ["TORCH_RVV_VLEN"] = str(arguments.vlen)
    from torch_rvv.benchmarks.bench import Options, main

    return main(
        arguments.suite, Options(arguments.only, arguments.peers, arguments.blocks), arguments.json, arguments.html
    )


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m torch_rvv", description=__doc__)
    commands = top.add_subparsers(required=True)
    one = commands.add_parser("accuracy", help=accuracy.__doc__)
    one.add_argument("--models", help="comma-separated names or module:function paths; all by default")
    one.add_argument("--dtype", choices=["float32", "float16", "bfloat16"], default="float32")
    one.add_argument("--training", action="store_true", help="forward and backward")
    one.add_argument("--dynamic", action="store_true", help="dynamic shapes, at two sizes")
    one.add_argument("--vlen", type=int, help="VLEN of the virtual board in bits")
    for name in WHO:
        one.add_argument(f"--{name}", choices=["auto", "rvv", "aten"], help=f"the option {name!r} of torch.compile")
    one.add_argument("--json", help="write the results to this file")
    one.set_defaults(run=accuracy)
    two = commands.add_parser("explain", help=explain.__doc__)
    two.add_argument("--json", help="write the report to this file")
    two.add_argument("script")
    two.add_argument("arguments", nargs=argparse.REMAINDER)
    two.set_defaults(run=explain)
    three = commands.add_parser("bench", help=bench.__doc__)
    three.add_argument("--suite", choices=["kernels", "gemm", "models", "compile"], default="kernels")
    three.add_argument("--only", help="comma-separated names of cases or models; all by default")
    three.add_argument("--peers", help="comma-separated names of what to compare with, or none; all by default")
    three.add_argument("--vlen", type=int, help="VLEN of the virtual board in bits")
    three.add_argument("--blocks", type=int, default=0, metavar="N", help="show the N hottest blocks of a kernel")
    three.add_argument("--json", help="write the results to this file")
    three.add_argument("--html", help="write a report to this file")
    three.set_defaults(run=bench)
    return top


def main(argv: list[str] | None = None) -> int:
    """Parse, run, and turn our own errors into one clear line."""
    arguments = parser().parse_args(argv)
    try:
        return arguments.run(arguments)
    except TorchRvvError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
