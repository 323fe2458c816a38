"""Scaled dot-product attention, forward and backward, of (B, H, L, E) heads.

    many queries      flash.py's kernels: a block of queries walks over the keys, no matrix of scores in memory
    one query         softmax(q @ k.T) @ v as reductions over the cache of keys and values: bound by memory anyway
    aten              dropout, types without a kernel, dynamic head sizes, options={"attention": "aten"}

Sums are in f32. A row that is masked off entirely gives zeros, as in aten. Keys and values may have fewer heads
than the queries.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from torch_rvv import flash
from torch_rvv.knobs import knobs
from torch_rvv.obstacles import FLOATS, left_to_aten

# Beyond this head size blocks of rows do not fit the cache beside the keys.
LARGEST_HEAD = 256


def _stays(query: Tensor, key: Tensor, value: Tensor, dropout_p: float, scale: float | None, what: str) -> bool:
    obstacles = (
        (dropout_p != 0.0, "dropout"),
        (query.dtype not in FLOATS or {key.dtype, value.dtype} != {query.dtype}, "a type that has no kernel"),
        (not isinstance(query.shape[-1], int) or not isinstance(value.shape[-1], int), "a dynamic head size"),
        (not isinstance(scale, float | int | None), "a dynamic scale"),
        (any(not isinstance(n, int) for n in (query.shape[1], key.shape[1])), "a dynamic number of heads"),
        (any(isinstance(n, int) and n == 0 for n in (*query.shape, *key.shape)), "no elements"),
    )
    return left_to_aten("attention", f"{what} {'x'.join(map(str, query.shape))}", obstacles)


def forward(query: Tensor, key: Tensor, value: Tensor, dropout_p: float = 0.0, is_causal: bool = False, *,
            attn_mask: Tensor | None = None, scale: float | None = None) -> Any:  # fmt: skip
    """aten._scaled_dot_product_flash_attention_for_cpu: (output, logsumexp (B, H, L))."""
    if _stays(query, key, value, dropout_p, scale, "attention"):
        return NotImplemented
    factor = 1.0 / math.sqrt(query.shape[-1]) if scale is None else float(scale)
    length, head = query.shape[2], max(query.shape[-1], value.shape[-1])
    blocked = not (isinstance(length, int) and length == 1) and head <= LARGEST_HEAD and factor > 0
    if blocked and not knobs.force_fallback:
        return flash.forward(query, key, value, attn_mask, is_causal, factor)
    return plain(query, key, value, attn_mask, is_causal, factor)


def backward(grad_out: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, logsumexp: Tensor,
             dropout_p: float, is_causal: bool, *, attn_mask: Tensor | None = None,
             scale: float | None = None) -> Any:  # fmt: skip
    """aten._scaled_dot_product_flash_attention_for_cpu_backward: gradients of query, key and value."""
    if _stays(query, key, value, dropout_p, scale, "gradient of attention") or knobs.force_fallback:
        return NotImplemented
    factor = 1.0 / math.sqrt(query.shape[-1]) if scale is None else float(scale)
    if max(query.shape[-1], value.shape[-1]) > LARGEST_HEAD or not factor > 0:
        return NotImplemented
    return flash.backward(grad_out, query, key, value, out, logsumexp, attn_mask, is_causal, factor)


def plain(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None, is_causal: bool,
          factor: float) -> tuple[Tensor, Tensor]:  # fmt: skip
    """forward with all scores at once, in terms of products."""
    b, heads, length, _ = query.shape
    groups = heads // key.shape[1]
    if groups > 1:
        key, value = (
            t[:, :, None].expand(b, t.shape[1], groups, *t.shape[2:]).reshape(b, heads, *t.shape[2:])
            for t in (key, value)
        )
    scores = torch.matmul(query.float(), key.float().transpose(-1, -2))
    # Without a bias the exponential's argument is scaled, and not the scores that the maximum is taken of.
    early = attn_mask is not None or not factor > 0
    if early:
        scores = scores * factor
    if is_causal:
        rows = torch.arange(length, device=query.device)[:, None]
        columns = torch.arange(key.shape[2], device=query.device)[None, :]
        scores = torch.where(columns <= rows, scores, -math.inf)
    if attn_mask is not None:
        bias = torch.where(attn_mask, 0.0, -math.inf) if attn_mask.dtype == torch.bool else attn_mask.float()
        scores = scores + bias
    most = scores.amax(-1, keepdim=True)
    most = torch.where(most == -math.inf, 0.0, most)
    weights = torch.exp(scores - most if early else (scores - most) * factor)
    total = weights.sum(-1, keepdim=True)
    # Divided last: a head's size is less than the number of keys.
    out = (torch.matmul(weights, value.float()) / torch.where(total == 0.0, 1.0, total)).to(query.dtype)
    most = most if early else most * factor
    return out.transpose(1, 2).contiguous().transpose(1, 2), (most + total.log()).squeeze(-1)
