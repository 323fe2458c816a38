"""Who does an operation, ours or aten: the options "conv" and "attention", and what stands in our way."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from torch_rvv.runtime import record
from torch_rvv.runtime.context import current_placement

# Types of operands that kernels written here or put in other words take; sums are in f32.
FLOATS = (torch.float32, torch.float16, torch.bfloat16)


def left_to_aten(kind: str, what: str, obstacles: Sequence[tuple[bool, str]]) -> bool:
    """Whether an operation stays in aten: by the option `kind`, or for the first obstacle that holds."""
    wanted = getattr(current_placement(), kind)
    asked = (wanted == "aten", f'options={{"{kind}": "aten"}}')
    reason = next((why for holds, why in (asked, *obstacles) if holds), None)
    if reason is not None:
        record.decide(what, f"{record.LEFT}: {reason}")
    return reason is not None
