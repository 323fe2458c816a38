"""Runs programs in this process, as it is: compiled, or by Triton's interpreter if TRITON_INTERPRET is set.

A process of its own: reads a line of JSON a program, answers with a line ("ok", or what went wrong).
"""

from __future__ import annotations

import importlib.util
import json
import sys
import traceback
from pathlib import Path

import torch


def inputs(arguments: list[tuple[str, str, int]], seed: int) -> list[torch.Tensor]:
    """The arguments of a program: random numbers, floats in quarters so that sums are exact; zeros for outputs."""
    made = []
    for number, (name, dtype, count) in enumerate(arguments):
        kind = getattr(torch, dtype)
        g = torch.Generator().manual_seed(seed * 31 + number)
        if name.startswith("o"):
            made.append(torch.zeros(count, dtype=kind))
        elif kind.is_floating_point:
            made.append((torch.randint(-16, 17, (count,), generator=g).double() / 4).to(kind))
        else:
            low = -100 if dtype == "int8" else -1000
            made.append(torch.randint(low, -low, (count,), generator=g).to(kind))
    return made


def execute(request: dict) -> list[torch.Tensor]:
    """The arguments after a run."""
    path = Path(request["path"])
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    tensors = inputs(request["arguments"], request["seed"])
    module.kernel[(request["programs"],)](*tensors, *(value for _, value in request["scalars"]))
    return tensors


def main() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        try:
            torch.save(execute(request), request["out"])
            answer = "ok"
        except BaseException as error:
            words = str(error) or traceback.format_exc(limit=-1)
            answer = f"{type(error).__name__}: {' '.join(words.split())[-700:]}"
        print("answer " + json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
