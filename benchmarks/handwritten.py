"""A product as people write it in Triton for GPUs: what our lowering makes of kernels that were not written for it."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _product(a, b, c, M, N, K, am, ak, bk, bn, cm, cn, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    """Tiles by moving pointers; rows and columns wrap around at the end, K is masked."""
    first, left = tl.program_id(0) * BM, tl.program_id(1) * BN
    k = tl.arange(0, BK)
    x = a + ((first + tl.arange(0, BM)) % M)[:, None] * am + k[None, :] * ak
    y = b + k[:, None] * bk + ((left + tl.arange(0, BN)) % N)[None, :] * bn
    total = tl.zeros((BM, BN), tl.float32)
    for block in range(tl.cdiv(K, BK)):
        inside = k < K - block * BK
        total = tl.dot(tl.load(x, inside[None, :], 0.0), tl.load(y, inside[:, None], 0.0), total)
        x += BK * ak
        y += BK * bk
    rows, columns = first + tl.arange(0, BM), left + tl.arange(0, BN)
    at = c + rows[:, None] * cm + columns[None, :] * cn
    tl.store(at, total.to(c.dtype.element_ty), mask=(rows[:, None] < M) & (columns[None, :] < N))


def product(a: Tensor, b: Tensor) -> Tensor:
    """a @ b in blocks of 64 × 64 × 32."""
    (m, k), n = a.shape, b.shape[1]
    c = torch.empty(m, n, dtype=a.dtype)
    grid = (triton.cdiv(m, 64), triton.cdiv(n, 64))
    _product[grid](a, b, c, m, n, k, *a.stride(), *b.stride(), *c.stride(), BM=64, BN=64, BK=32)
    return c
