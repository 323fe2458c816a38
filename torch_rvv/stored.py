"""torch_rvv::stored(x): x itself, but written to memory where it is more than a view or conversion of what is there.

Inductor computes an operand anew wherever it is read. That is right for most kernels; in a product every row is read
once a column, and a normalisation or a rotary embedding in front of it would be done as often.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch._inductor import ir
from torch._inductor.lowering import register_lowering

# What an operand may be made of and still be computed anew by each that reads it.
CHEAP = {"load", "to_dtype", "constant", "index_expr"}
# And with zeros around it.
PADS = {"ge", "lt", "and_", "masked"}


@torch.library.custom_op("torch_rvv::stored", mutates_args=())
def stored(x: Tensor) -> Tensor:
    """x, as PyTorch runs it: a copy, for an operator's result may not be its argument."""
    return x.clone()


@stored.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=x.device)


def pointwise(operand: Any) -> ir.Pointwise | None:
    """The elementwise work that an operand of Inductor's IR waits for, if it is that and not in memory."""
    data = operand.data
    while not isinstance(data, ir.Loops) and hasattr(data, "data"):
        data = data.data
    return data if isinstance(data, ir.Pointwise) else None


def is_computed(operand: Any, cheap: set[str] = CHEAP) -> bool:
    """Whether an operand of Inductor's IR is more than a view or conversion of what is in memory."""
    data = pointwise(operand)
    return data is not None and not data.inner_fn_opcount().used_ops <= cheap


@cache
def register() -> None:
    """Tell Inductor what the operator is."""

    @register_lowering(torch.ops.torch_rvv.stored.default, type_promotion_kind=None)
    def lower(x: Any) -> Any:
        if is_computed(x):
            x.realize()
        return x
