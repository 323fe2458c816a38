"""One tile's product and nothing else: no masks, no loop, no epilogue."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from proof import compare, proof


@triton.jit
def matmul_bare(a, b, c, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    i, j, k = tl.arange(0, M), tl.arange(0, N), tl.arange(0, K)
    x = tl.load(a + i[:, None] * K + k[None, :])
    y = tl.load(b + k[:, None] * N + j[None, :])
    tl.store(c + i[:, None] * N + j[None, :], tl.dot(x, y))


def multiply(a: torch.Tensor, b: torch.Tensor):
    """(a @ b in float32, the compiled kernel). All sizes are powers of two."""
    (m, k), n = a.shape, b.shape[1]
    c = torch.empty(m, n)
    return c, matmul_bare[(1,)](a, b, c, m, n, k)


def main() -> None:
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        a, b = torch.randn(64, 32).to(dtype), torch.randn(32, 128).to(dtype)
        out, compiled = multiply(a, b)
        compare(f"matmul_bare {dtype}", out, a.double() @ b.double(), 1e-6)
    proof(compiled, products=True)


if __name__ == "__main__":
    main()
