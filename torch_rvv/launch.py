"""A Triton kernel of ours as a node of a graph that is being traced, for what no formula of operators says."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch._higher_order_ops.triton_kernel_wrap import kernel_side_table, triton_kernel_wrapper_functional
from torch._inductor.runtime.runtime_utils import next_power_of_2

# Elements that indices of 32 bits reach.
REACH = 1 << 31


def launch(kernel: Any, grid: tuple[Any, ...], tensors: dict[str, Tensor], numbers: dict[str, Any],
           constants: dict[str, Any], written: list[str]) -> dict[str, Tensor]:  # fmt: skip
    """The tensors that the kernel writes. numbers: arguments that may be symbolic; constants: its constexprs."""
    result: dict[str, Tensor] = triton_kernel_wrapper_functional(
        kernel_idx=kernel_side_table.add_kernel(kernel),
        constant_args_idx=kernel_side_table.add_constant_args(constants),
        grid=[(*grid, 1, 1)[:3]],  # Inductor takes the last three of a call's numbers for it.
        tma_descriptor_metadata={},
        kwargs={**tensors, **numbers},
        tensors_to_clone=written,
    )
    return result


def block(size: Any, most: int) -> int:
    """A block's size along a dimension: no more than it needs, where that is known."""
    return max(16, min(most, next_power_of_2(size))) if isinstance(size, int) else most
