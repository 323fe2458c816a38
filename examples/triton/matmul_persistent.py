"""C = A @ B by as many programs as there are cores: each walks over output tiles until there are none left."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from proof import compare, proof

TILE = {"BM": 32, "BN": 64, "BK": 32}
PROGRAMS = 4


@triton.jit
def matmul_persistent(a, b, c, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    across = tl.cdiv(N, BN)
    source_a = tl.make_tensor_descriptor(a, [M, K], [K, 1], [BM, BK])
    source_b = tl.make_tensor_descriptor(b, [K, N], [N, 1], [BK, BN])
    target = tl.make_tensor_descriptor(c, [M, N], [N, 1], [BM, BN])
    for tile in tl.range(tl.program_id(0), tl.cdiv(M, BM) * across, tl.num_programs(0), flatten=True):
        i, j = tile // across * BM, tile % across * BN
        total = tl.zeros((BM, BN), tl.float32)
        for k in range(0, K, BK):
            total = tl.dot(source_a.load([i, k]), source_b.load([k, j]), total)
        target.store([i, j], total.to(c.dtype.element_ty))


def multiply(a: torch.Tensor, b: torch.Tensor):
    """(a @ b in a's type, the compiled kernel)."""
    (m, k), n = a.shape, b.shape[1]
    c = torch.empty(m, n, dtype=a.dtype)
    return c, matmul_persistent[(PROGRAMS,)](a, b, c, m, n, k, **TILE)


def main() -> None:
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.float16, 1e-3)):
        for m, n, k in ((128, 128, 64), (100, 136, 72)):
            a, b = torch.randn(m, k).to(dtype), torch.randn(k, n).to(dtype)
            out, compiled = multiply(a, b)
            compare(f"matmul_persistent {m}x{n}x{k} {dtype}", out, a.double() @ b.double(), tolerance)
    proof(compiled, products=True)


if __name__ == "__main__":
    main()
