"""C = A @ B through block pointers that advance along K, boundaries checked, the rest padded with zero."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from proof import compare, proof

TILE = {"BM": 32, "BN": 64, "BK": 32}


@triton.jit
def matmul_block_pointer(a, b, c, M, N, K, am, ak, bk, bn, cm, cn, BM: tl.constexpr, BN: tl.constexpr,
                         BK: tl.constexpr):  # fmt: skip
    i, j = tl.program_id(0) * BM, tl.program_id(1) * BN
    left = tl.make_block_ptr(a, (M, K), (am, ak), (i, 0), (BM, BK), (1, 0))
    right = tl.make_block_ptr(b, (K, N), (bk, bn), (0, j), (BK, BN), (1, 0))
    total = tl.zeros((BM, BN), tl.float32)
    for _ in range(0, K, BK):
        x = tl.load(left, boundary_check=(0, 1), padding_option="zero")
        y = tl.load(right, boundary_check=(0, 1), padding_option="zero")
        total = tl.dot(x, y, total)
        left = tl.advance(left, (0, BK))
        right = tl.advance(right, (BK, 0))
    target = tl.make_block_ptr(c, (M, N), (cm, cn), (i, j), (BM, BN), (1, 0))
    tl.store(target, total.to(c.dtype.element_ty), boundary_check=(0, 1))


def multiply(a: torch.Tensor, b: torch.Tensor):
    """(a @ b in a's type, the compiled kernel)."""
    (m, k), n = a.shape, b.shape[1]
    c = torch.empty(m, n, dtype=a.dtype)
    grid = (triton.cdiv(m, TILE["BM"]), triton.cdiv(n, TILE["BN"]))
    return c, matmul_block_pointer[grid](a, b, c, m, n, k, *a.stride(), *b.stride(), *c.stride(), **TILE)


def main() -> None:
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.float16, 1e-3), (torch.bfloat16, 8e-3)):
        for m, n, k in ((64, 64, 64), (97, 130, 75)):
            a, b = torch.randn(m, k).to(dtype), torch.randn(k, n).to(dtype)
            out, compiled = multiply(a, b)
            compare(f"matmul_block_pointer {m}x{n}x{k} {dtype}", out, a.double() @ b.double(), tolerance)
    proof(compiled, products=True)


if __name__ == "__main__":
    main()
