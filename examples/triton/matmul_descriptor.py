"""C = A @ B through tensor descriptors that the host makes: sizes, strides and tiles in one argument each."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from proof import compare, proof
from triton.tools.tensor_descriptor import TensorDescriptor

BM, BN, BK = 32, 64, 32


@triton.jit
def matmul_descriptor(a, b, c, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    i, j = tl.program_id(0) * BM, tl.program_id(1) * BN
    total = tl.zeros((BM, BN), tl.float32)
    for k in range(0, K, BK):
        total = tl.dot(a.load([i, k]), b.load([k, j]), total)
    c.store([i, j], total.to(c.dtype))


def multiply(a: torch.Tensor, b: torch.Tensor):
    """(a @ b in a's type, the compiled kernel)."""
    c = torch.empty(a.shape[0], b.shape[1], dtype=a.dtype)
    tiles = ((a, [BM, BK]), (b, [BK, BN]), (c, [BM, BN]))
    described = [TensorDescriptor(t, list(t.shape), list(t.stride()), tile) for t, tile in tiles]
    grid = (triton.cdiv(a.shape[0], BM), triton.cdiv(b.shape[1], BN))
    return c, matmul_descriptor[grid](*described, a.shape[1], BM=BM, BN=BN, BK=BK)


def main() -> None:
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.float16, 1e-3)):
        for m, n, k in ((64, 64, 64), (100, 136, 72)):
            a, b = torch.randn(m, k).to(dtype), torch.randn(k, n).to(dtype)
            out, compiled = multiply(a, b)
            compare(f"matmul_descriptor {m}x{n}x{k} {dtype}", out, a.double() @ b.double(), tolerance)
    proof(compiled, products=True)


if __name__ == "__main__":
    main()
