"""C = leaky_relu(A @ B): tiles by pointer arithmetic, masks at every edge, programs ordered in groups of rows."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from proof import compare, proof

TILE = {"BM": 32, "BN": 64, "BK": 32}


@triton.jit
def leaky_relu(x):
    return tl.where(x >= 0, x, 0.01 * x)


@triton.jit
def matmul(a, b, c, M, N, K, am, ak, bk, bn, cm, cn, ACTIVATION: tl.constexpr,
           BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr):  # fmt: skip
    program, columns = tl.program_id(0), tl.cdiv(N, BN)
    first = program // (GROUP * columns) * GROUP
    height = min(tl.cdiv(M, BM) - first, GROUP)
    inside = program % (GROUP * columns)
    i = (first + inside % height) * BM + tl.arange(0, BM)
    j = inside // height * BN + tl.arange(0, BN)
    k = tl.arange(0, BK)
    left, right = a + i[:, None] * am + k[None, :] * ak, b + k[:, None] * bk + j[None, :] * bn
    total = tl.zeros((BM, BN), tl.float32)
    for start in range(0, K, BK):
        x = tl.load(left, mask=(i[:, None] < M) & (k[None, :] < K - start), other=0.0)
        y = tl.load(right, mask=(k[:, None] < K - start) & (j[None, :] < N), other=0.0)
        total = tl.dot(x, y, total)
        left += BK * ak
        right += BK * bk
    if ACTIVATION is not None:
        total = ACTIVATION(total)
    mask = (i[:, None] < M) & (j[None, :] < N)
    tl.store(c + i[:, None] * cm + j[None, :] * cn, total.to(c.dtype.element_ty), mask=mask)


def multiply(a: torch.Tensor, b: torch.Tensor, activation=None):
    """(activation(a @ b) in a's type, the compiled kernel)."""
    (m, k), n = a.shape, b.shape[1]
    c = torch.empty(m, n, dtype=a.dtype)
    grid = (triton.cdiv(m, TILE["BM"]) * triton.cdiv(n, TILE["BN"]),)
    strides = (*a.stride(), *b.stride(), *c.stride())
    return c, matmul[grid](a, b, c, m, n, k, *strides, ACTIVATION=activation, GROUP=4, **TILE)


def main() -> None:
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.float16, 1e-3), (torch.bfloat16, 8e-3)):
        for m, n, k in ((64, 64, 64), (97, 130, 75)):
            a, b = torch.randn(m, k).to(dtype), torch.randn(n, k).to(dtype).t()
            out, compiled = multiply(a, b, leaky_relu)
            wanted = torch.nn.functional.leaky_relu(a.double() @ b.double())
            compare(f"matmul {m}x{n}x{k} {dtype}", out, wanted, tolerance)
    proof(compiled, products=True)


if __name__ == "__main__":
    main()
