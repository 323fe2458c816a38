"""What the examples share: is the result right, and is the code vector code?

`compare` prints a line a check; `proof` counts the instructions of a compiled kernel and finds the loops that
multiply and add.
"""

from __future__ import annotations

import re
from typing import Any

import torch


def compare(name: str, ours: torch.Tensor, wanted: torch.Tensor, tolerance: float = 1e-5) -> None:
    """Largest error relative to the largest magnitude; an error if it is beyond the tolerance."""
    scale = max(wanted.double().abs().max().item(), 1e-30) if wanted.numel() else 1.0
    error = (ours.double() - wanted.double()).abs().max().item() / scale if wanted.numel() else 0.0
    if not error <= tolerance:
        raise SystemExit(f"{name}: error {error:.2e} is more than {tolerance:.0e}")
    print(f"{name}: right, error {error:.1e}")


def loops(assembly: str) -> list[list[str]]:
    """The instructions of each innermost loop: from a label to the branch back to it."""
    lines = [line.strip() for line in assembly.split("\n")]
    labels = {line[:-1]: i for i, line in enumerate(lines) if line.endswith(":")}
    found = []
    for i, line in enumerate(lines):
        target = re.match(r"b\w+\s+(?:.*,\s*)?(\.\w+)$", line)
        start = labels.get(target.group(1), i) if target else i
        if start < i and not any(s.endswith(":") for s in lines[start + 1 : i]):
            found.append([s for s in lines[start + 1 : i + 1] if s and not s.startswith((".", "#"))])
    return found


def proof(compiled: Any, products: bool = False) -> None:
    """Print what a kernel's code consists of; an error if it has no vector code, or no products in a loop."""
    assembly = compiled.asm["object"]
    vector = len(re.findall(r"^\s+v(?!setvl|setivl)\w+\.\w+", assembly, re.M))
    inner = max(
        (sum(s.startswith(("vfmacc", "vfmadd", "vmacc", "vmadd")) for s in loop) for loop in loops(assembly)), default=0
    )
    if not vector or (products and not inner):
        raise SystemExit(f"{compiled.metadata.name}: no vector code where there should be")
    words = f", {inner} vector multiply-adds in its busiest loop" if products else ""
    print(f"{compiled.metadata.name}: {vector} vector instructions{words}")
