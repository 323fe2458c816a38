"""C = A @ B + D, D read through a block pointer, in tiles of 256 x 256 x 32."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from proof import compare, proof

TILE = {"BM": 256, "BN": 256, "BK": 32}


@triton.jit
def matmul_added(a, b, d, c, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    i, j = tl.program_id(0) * BM, tl.program_id(1) * BN
    left = tl.make_block_ptr(a, (M, K), (K, 1), (i, 0), (BM, BK), (1, 0))
    right = tl.make_block_ptr(b, (K, N), (N, 1), (0, j), (BK, BN), (1, 0))
    total = tl.zeros((BM, BN), tl.float32)
    for _ in range(0, K, BK):
        total += tl.dot(tl.load(left, boundary_check=(0, 1)), tl.load(right, boundary_check=(0, 1)))
        left, right = tl.advance(left, (0, BK)), tl.advance(right, (BK, 0))
    added = tl.make_block_ptr(d, (M, N), (N, 1), (i, j), (BM, BN), (1, 0))
    total += tl.load(added, boundary_check=(0, 1))
    target = tl.make_block_ptr(c, (M, N), (N, 1), (i, j), (BM, BN), (1, 0))
    tl.store(target, total.to(c.dtype.element_ty), boundary_check=(0, 1))


def multiply(a: torch.Tensor, b: torch.Tensor, d: torch.Tensor):
    """(a @ b + d, the compiled kernel)."""
    (m, k), n = a.shape, b.shape[1]
    c = torch.empty_like(d)
    grid = (triton.cdiv(m, TILE["BM"]), triton.cdiv(n, TILE["BN"]))
    return c, matmul_added[grid](a, b, d, c, m, n, k, **TILE)


def main() -> None:
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.float16, 1e-3)):
        for m, n, k in ((256, 256, 32), (300, 270, 50)):
            a, b, d = torch.randn(m, k).to(dtype), torch.randn(k, n).to(dtype), torch.randn(m, n).to(dtype)
            out, compiled = multiply(a, b, d)
            compare(f"matmul_added {m}x{n}x{k} {dtype}", out, a.double() @ b.double() + d.double(), tolerance)
    proof(compiled, products=True)


if __name__ == "__main__":
    main()
