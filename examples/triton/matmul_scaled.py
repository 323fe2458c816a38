"""C = scale * (A @ B), scaled after the K loop: by a scalar at run time, by a constant argument, by a literal."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from proof import compare, proof

TILE = {"BM": 32, "BN": 32, "BK": 16}


@triton.jit
def product(a, b, K, M: tl.constexpr, N: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    i, j, k = tl.arange(0, BM), tl.arange(0, BN), tl.arange(0, BK)
    total = tl.zeros((BM, BN), tl.float32)
    for start in range(0, K, BK):
        x = tl.load(
            a + i[:, None] * K + start + k[None, :], mask=(i[:, None] < M) & (start + k[None, :] < K), other=0.0
        )
        y = tl.load(
            b + (start + k[:, None]) * N + j[None, :], mask=(start + k[:, None] < K) & (j[None, :] < N), other=0.0
        )
        total = tl.dot(x, y, total)
    return total, i[:, None] * N + j[None, :], (i[:, None] < M) & (j[None, :] < N)


@triton.jit
def scaled_by_argument(a, b, c, scale, K, M: tl.constexpr, N: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
                       BK: tl.constexpr):  # fmt: skip
    total, at, mask = product(a, b, K, M, N, BM, BN, BK)
    tl.store(c + at, total * scale, mask=mask)


@triton.jit
def scaled_by_constant(a, b, c, scale: tl.constexpr, K, M: tl.constexpr, N: tl.constexpr, BM: tl.constexpr,
                       BN: tl.constexpr, BK: tl.constexpr):  # fmt: skip
    total, at, mask = product(a, b, K, M, N, BM, BN, BK)
    tl.store(c + at, total * scale, mask=mask)


@triton.jit
def scaled_by_literal(a, b, c, scale, K, M: tl.constexpr, N: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
                      BK: tl.constexpr):  # fmt: skip
    total, at, mask = product(a, b, K, M, N, BM, BN, BK)
    tl.store(c + at, total * 0.37, mask=mask)


KERNELS = (scaled_by_argument, scaled_by_constant, scaled_by_literal)


def multiply(kernel, a: torch.Tensor, b: torch.Tensor):
    """(0.37 * a @ b, the compiled kernel), for matrices of one tile."""
    (m, k), n = a.shape, b.shape[1]
    c = torch.empty(m, n)
    return c, kernel[(1,)](a, b, c, 0.37, k, m, n, **TILE)


def main() -> None:
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        a, b = torch.randn(30, 100).to(dtype), torch.randn(100, 29).to(dtype)
        for kernel in KERNELS:
            out, compiled = multiply(kernel, a, b)
            compare(f"{kernel.__name__} {dtype}", out, 0.37 * (a.double() @ b.double()), 1e-6)
            proof(compiled, products=True)


if __name__ == "__main__":
    main()
