"""Attention without a matrix of scores in memory: forward with running maxima, backward from the saved log-sums.

Each program keeps a block of queries and walks over the keys (forward, and gradient of the queries), or keeps a block
of keys and walks over the queries (gradients of keys and values). Causal: a query sees no later key.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from proof import compare, proof

TILE = {"BQ": 32, "BK": 32}


@triton.jit
def rows_of(pointer, start, length, i, d, D: tl.constexpr):
    """Rows start + i of a (length, D) matrix; zero beyond its end."""
    return tl.load(pointer + (start + i[:, None]) * D + d[None, :], mask=start + i[:, None] < length, other=0.0)


@triton.jit
def scores_of(q, k, query, key, length, scale, CAUSAL: tl.constexpr):
    """Scaled products of queries and keys; minus infinity where a query does not see a key."""
    seen = (query[:, None] < length) & (key[None, :] < length)
    if CAUSAL:
        seen = seen & (query[:, None] >= key[None, :])
    return tl.where(seen, tl.dot(q, tl.trans(k)) * scale, -float("inf"))


@triton.jit
def attention(q, k, v, out, logsum, length, scale, D: tl.constexpr, CAUSAL: tl.constexpr, BQ: tl.constexpr,
              BK: tl.constexpr):  # fmt: skip
    head, start = tl.program_id(1) * length, tl.program_id(0) * BQ
    i, j, d = tl.arange(0, BQ), tl.arange(0, BK), tl.arange(0, D)
    queries = rows_of(q + head * D, start, length, i, d, D)
    highest = tl.full((BQ,), -float("inf"), tl.float32)
    weight = tl.zeros((BQ,), tl.float32)
    total = tl.zeros((BQ, D), tl.float32)
    end = min(start + BQ, length) if CAUSAL else length
    for key in range(0, end, BK):
        scores = scores_of(
            queries, rows_of(k + head * D, key, length, j, d, D), start + i, key + j, length, scale, CAUSAL
        )
        new = tl.maximum(highest, tl.max(scores, 1))
        power = tl.where(new[:, None] > -float("inf"), tl.exp(scores - new[:, None]), 0.0)
        shrink = tl.where(new > -float("inf"), tl.exp(highest - new), 1.0)
        weight = weight * shrink + tl.sum(power, 1)
        values = rows_of(v + head * D, key, length, j, d, D)
        total = tl.dot(power.to(values.dtype), values, total * shrink[:, None])
        highest = new
    mask = start + i < length
    tl.store(logsum + head + start + i, highest + tl.log(weight), mask=mask)
    target = out + (head + start + i[:, None]) * D + d[None, :]
    tl.store(target, (total / weight[:, None]).to(out.dtype.element_ty), mask=mask[:, None])


@triton.jit
def query_gradient(q, k, v, grad, logsum, delta, dq, length, scale, D: tl.constexpr, CAUSAL: tl.constexpr,
                   BQ: tl.constexpr, BK: tl.constexpr):  # fmt: skip
    head, start = tl.program_id(1) * length, tl.program_id(0) * BQ
    i, j, d = tl.arange(0, BQ), tl.arange(0, BK), tl.arange(0, D)
    mask = start + i < length
    queries = rows_of(q + head * D, start, length, i, d, D)
    dy = rows_of(grad + head * D, start, length, i, d, D)
    sums = tl.load(logsum + head + start + i, mask=mask, other=0.0)
    dots = tl.load(delta + head + start + i, mask=mask, other=0.0)
    total = tl.zeros((BQ, D), tl.float32)
    end = min(start + BQ, length) if CAUSAL else length
    for key in range(0, end, BK):
        keys = rows_of(k + head * D, key, length, j, d, D)
        scores = scores_of(queries, keys, start + i, key + j, length, scale, CAUSAL)
        p = tl.exp(scores - sums[:, None])
        dp = tl.dot(dy, tl.trans(rows_of(v + head * D, key, length, j, d, D)))
        total = tl.dot((p * (dp - dots[:, None])).to(keys.dtype), keys, total)
    tl.store(
        dq + (head + start + i[:, None]) * D + d[None, :], (total * scale).to(dq.dtype.element_ty), mask=mask[:, None]
    )


@triton.jit
def key_gradient(q, k, v, grad, logsum, delta, dk, dv, length, scale, D: tl.constexpr, CAUSAL: tl.constexpr,
                 BQ: tl.constexpr, BK: tl.constexpr):  # fmt: skip
    head, start = tl.program_id(1) * length, tl.program_id(0) * BK
    i, j, d = tl.arange(0, BQ), tl.arange(0, BK), tl.arange(0, D)
    keys = rows_of(k + head * D, start, length, j, d, D)
    values = rows_of(v + head * D, start, length, j, d, D)
    total_k, total_v = tl.zeros((BK, D), tl.float32), tl.zeros((BK, D), tl.float32)
    first = start // BQ * BQ if CAUSAL else 0
    for query in range(first, length, BQ):
        mask = query + i < length
        queries = rows_of(q + head * D, query, length, i, d, D)
        dy = rows_of(grad + head * D, query, length, i, d, D)
        sums = tl.load(logsum + head + query + i, mask=mask, other=0.0)
        dots = tl.load(delta + head + query + i, mask=mask, other=0.0)
        p = tl.exp(scores_of(queries, keys, query + i, start + j, length, scale, CAUSAL) - sums[:, None])
        total_v = tl.dot(tl.trans(p.to(dy.dtype)), dy, total_v)
        ds = p * (tl.dot(dy, tl.trans(values)) - dots[:, None])
        total_k = tl.dot(tl.trans(ds.to(queries.dtype)), queries, total_k)
    mask = start + j[:, None] < length
    at = (head + start + j[:, None]) * D + d[None, :]
    tl.store(dk + at, (total_k * scale).to(dk.dtype.element_ty), mask=mask)
    tl.store(dv + at, total_v.to(dv.dtype.element_ty), mask=mask)


def forward(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool):
    """(attention of (heads, length, D) tensors, log-sums, the compiled kernel)."""
    heads, length, depth = q.shape
    out, logsum = torch.empty_like(q), torch.empty(heads, length)
    grid = (triton.cdiv(length, TILE["BQ"]), heads)
    compiled = attention[grid](q, k, v, out, logsum, length, 1 / math.sqrt(depth), D=depth, CAUSAL=causal, **TILE)
    return out, logsum, compiled


def backward(q, k, v, out, logsum, grad, causal: bool):
    """Gradients of q, k and v; the compiled kernels."""
    heads, length, depth = q.shape
    delta = (grad.float() * out.float()).sum(-1)
    grads = [torch.empty_like(t) for t in (q, k, v)]
    common = (q, k, v, grad, logsum, delta)
    options = {"D": depth, "CAUSAL": causal, **TILE}
    scale = 1 / math.sqrt(depth)
    one = query_gradient[(triton.cdiv(length, TILE["BQ"]), heads)](*common, grads[0], length, scale, **options)
    two = key_gradient[(triton.cdiv(length, TILE["BK"]), heads)](*common, *grads[1:], length, scale, **options)
    return grads, (one, two)


def main() -> None:
    for dtype, tolerance in ((torch.float32, 5e-6), (torch.float16, 4e-3)):
        for causal in (False, True):
            for heads, length, depth in ((2, 64, 32), (1, 77, 64)):
                name = f"attention of {heads}x{length}x{depth} {dtype}{', causal' if causal else ''}"
                q, k, v, grad = (torch.randn(heads, length, depth).to(dtype) for _ in range(4))
                out, logsum, compiled = forward(q, k, v, causal)
                exact = [t.double().requires_grad_() for t in (q, k, v)]
                wanted = torch.nn.functional.scaled_dot_product_attention(*exact, is_causal=causal)
                compare(name, out, wanted.detach(), tolerance)
                wanted.backward(grad.double())
                grads, both = backward(q, k, v, out, logsum, grad, causal)
                for letter, ours, theirs in zip("qkv", grads, exact, strict=True):
                    compare(f"{name}, gradient of {letter}", ours, theirs.grad, tolerance)
    for kernel in (compiled, *both):
        proof(kernel, products=True)


if __name__ == "__main__":
    main()
