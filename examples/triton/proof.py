"""What the examples share: is the result right, and is the code vector code?

`compare` prints a line a check; `proof` counts the instructions of a compiled kernel and finds the loops that
multiply and add.
"""

from __future__ import annotations

from typing import Any

import torch

from torch_rvv.innerloops import innermost
from torch_rvv.machinecode import count


def compare(name: str, ours: torch.Tensor, wanted: torch.Tensor, tolerance: float = 1e-5) -> None:
    """Largest error relative to the largest magnitude; an error if it is beyond the tolerance."""
    scale = max(wanted.double().abs().max().item(), 1e-30) if wanted.numel() else 1.0
    error = (ours.double() - wanted.double()).abs().max().item() / scale if wanted.numel() else 0.0
    if not error <= tolerance:
        raise SystemExit(f"{name}: error {error:.2e} is more than {tolerance:.0e}")
    print(f"{name}: right, error {error:.1e}")


def proof(compiled: Any, products: bool = False) -> None:
    """Print what a kernel's code consists of; an error if it has no vector code, or no products in a loop."""
    vector = count(compiled.asm["so"]).vector
    inner = max((loop.multiply_adds for loop in innermost(compiled.asm["so"])), default=0)
    if not vector or (products and not inner):
        raise SystemExit(f"{compiled.metadata.name}: no vector code where there should be")
    words = f", {inner} vector multiply-adds in its busiest loop" if products else ""
    print(f"{compiled.metadata.name}: {vector} vector instructions{words}")
