"""torch_rvv::batch_norm(x, weight, bias, mean, var, eps): by running statistics, as one elementwise operator.

    y = x * slope[c] + level[c]     slope = weight / sqrt(var + eps), level = bias - mean * slope

Two numbers a channel, as PyTorch's own kernel for CPUs has them; Inductor's (x - mean) / std * weight + bias is four
operations an element. In aten's operators it is eleven nodes of the graph, and every pass goes over all of them; as
one node with a lowering of its own it fuses all the same. All of it is in f32.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._inductor import ir
from torch._inductor.lowering import register_lowering
from torch._inductor.virtualized import ops

from torch_rvv.obstacles import FLOATS


@torch.library.custom_op("torch_rvv::batch_norm", mutates_args=())
def by_channel(x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, var: Tensor, eps: float) -> Tensor:
    """x (N, C, ...) and C numbers of each of the others, as PyTorch runs it."""
    slope, level = (t if t is None else t.float() for t in (weight, bias))
    wide = F.batch_norm(x.float(), mean.float(), var.float(), slope, level, training=False, eps=eps)
    return torch.empty_like(x).copy_(wide)


@by_channel.register_fake
def _like(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x)


def batch_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, var: Tensor, momentum: float,
               eps: float) -> Any:  # fmt: skip
    """aten._native_batch_norm_legit_no_training: the result, and no statistics, as on CPUs."""
    if x.dtype not in FLOATS:
        return NotImplemented
    nothing = x.new_empty(0, dtype=mean.dtype)
    return by_channel(x, weight, bias, mean, var, eps), nothing, nothing


@cache
def register() -> None:
    """Tell Inductor what the operator is."""

    @register_lowering(torch.ops.torch_rvv.batch_norm.default, type_promotion_kind=None)
    def lower(x: Any, weight: Any, bias: Any, mean: Any, var: Any, eps: float) -> Any:
        dtype = x.get_dtype()
        read, slopes, levels, means, vars_ = (t and _wide(t) for t in (x, weight, bias, mean, var))

        def fitted(index: Sequence[Any]) -> Any:
            channel = [index[1]]
            std = ops.sqrt(ops.add(vars_(channel), ops.constant(eps, torch.float32)))
            slope = ops.reciprocal(std) if slopes is None else ops.mul(ops.reciprocal(std), slopes(channel))
            moved = ops.mul(means(channel), slope)
            level = ops.neg(moved) if levels is None else ops.sub(levels(channel), moved)
            result = ops.fma(read(index), slope, level)
            return result if dtype == torch.float32 else ops.to_dtype(result, dtype)

        return ir.Pointwise.create(device=x.get_device(), dtype=dtype, inner_fn=fitted, ranges=list(x.get_size()))


def _wide(operand: Any) -> Any:
    """A loader of an operand's elements as f32."""
    load, dtype = operand.make_loader(), operand.get_dtype()
    return load if dtype == torch.float32 else lambda index: ops.to_dtype(load(index), torch.float32)
