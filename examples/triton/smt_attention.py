"""Attention with SpacemiT's SMT extension: both products on packed tiles, the softmax between them on plain ones."""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
import triton.language.extra.smt as smt
from proof import compare, proof

TILE = {"BQ": 16, "BK": 32}


@triton.jit
def smt_attention(q, k, v, out, length, scale, D: tl.constexpr, BQ: tl.constexpr, BK: tl.constexpr):
    head, start = tl.program_id(1) * length * D, tl.program_id(0) * BQ
    j = tl.arange(0, BK)
    queries = tl.make_block_ptr(q + head, (length, D), (D, 1), (start, 0), (BQ, D), (1, 0))
    keys = tl.make_block_ptr(k + head, (D, length), (1, D), (0, 0), (D, BK), (0, 1))
    values = tl.make_block_ptr(v + head, (length, D), (D, 1), (0, 0), (BK, D), (1, 0))
    x = smt.view(smt.descriptor_load(queries, (0, 0)), (0, 0), (BQ, D), (8, 8))
    highest, weight = tl.full((BQ,), -float("inf"), tl.float32), tl.zeros((BQ,), tl.float32)
    total = tl.zeros((BQ, D), tl.float32)
    for key in range(0, length, BK):
        y = smt.view(smt.descriptor_load(keys, (0, key)), (0, 0), (D, BK), (8, 8))
        scores = smt.view(smt.dot(x, y), (0, 0), (BQ, BK), (1, 1)) * scale
        scores = tl.where(key + j[None, :] < length, scores, -float("inf"))
        new = tl.maximum(highest, tl.max(scores, 1))
        power = tl.exp(scores - new[:, None])
        shrink = tl.exp(highest - new)
        weight = weight * shrink + tl.sum(power, 1)
        z = smt.view(smt.descriptor_load(values, (key, 0)), (0, 0), (BK, D), (8, 8))
        part = smt.dot(smt.view(power.to(q.dtype.element_ty), (0, 0), (BQ, BK), (8, 8)), z)
        total = total * shrink[:, None] + smt.view(part, (0, 0), (BQ, D), (1, 1))
        highest = new
    target = tl.make_block_ptr(out + head, (length, D), (D, 1), (start, 0), (BQ, D), (1, 0))
    tl.store(target, (total / weight[:, None]).to(out.dtype.element_ty), boundary_check=(0,))


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor):
    """(attention of (heads, length, D) tensors, the compiled kernel)."""
    heads, length, depth = q.shape
    out = torch.empty_like(q)
    grid = (triton.cdiv(length, TILE["BQ"]), heads)
    return out, smt_attention[grid](q, k, v, out, length, 1 / math.sqrt(depth), D=depth, **TILE)


def main() -> None:
    for dtype, tolerance in ((torch.float32, 5e-6), (torch.float16, 4e-3)):
        for shape in ((2, 64, 32), (1, 77, 64)):
            q, k, v = (torch.randn(shape).to(dtype) for _ in range(3))
            out, compiled = attend(q, k, v)
            wanted = torch.nn.functional.scaled_dot_product_attention(q.double(), k.double(), v.double())
            compare(f"smt_attention of {shape} {dtype}", out, wanted, tolerance)
    proof(compiled, products=True)


if __name__ == "__main__":
    main()
