"""Products of matrices of several sizes in one launch: their addresses and sizes are loaded from memory."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from proof import compare, proof

TILE = {"BM": 32, "BN": 32, "BK": 32}
PROGRAMS = 4


@triton.jit
def grouped_gemm(addresses, sizes, groups, DTYPE: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    tile, done = tl.program_id(0), 0
    for group in range(groups):
        M, N, K = tl.load(sizes + group * 3), tl.load(sizes + group * 3 + 1), tl.load(sizes + group * 3 + 2)
        across = tl.cdiv(N, BN)
        tiles = tl.cdiv(M, BM) * across
        if tile < done + tiles:
            a = tl.load(addresses + group * 3).to(tl.pointer_type(DTYPE))
            b = tl.load(addresses + group * 3 + 1).to(tl.pointer_type(DTYPE))
            c = tl.load(addresses + group * 3 + 2).to(tl.pointer_type(DTYPE))
            while tile < done + tiles:
                i = (tile - done) // across * BM + tl.arange(0, BM)
                j = (tile - done) % across * BN + tl.arange(0, BN)
                k = tl.arange(0, BK)
                total = tl.zeros((BM, BN), tl.float32)
                for start in range(0, K, BK):
                    left = (i[:, None] < M) & (start + k[None, :] < K)
                    right = (start + k[:, None] < K) & (j[None, :] < N)
                    x = tl.load(a + i[:, None] * K + start + k[None, :], mask=left, other=0.0)
                    y = tl.load(b + (start + k[:, None]) * N + j[None, :], mask=right, other=0.0)
                    total = tl.dot(x, y, total)
                mask = (i[:, None] < M) & (j[None, :] < N)
                tl.store(c + i[:, None] * N + j[None, :], total.to(DTYPE), mask=mask)
                tile += tl.num_programs(0)
        done += tiles


NAMES = {torch.float32: tl.float32, torch.float16: tl.float16}


def multiply(lefts: list[torch.Tensor], rights: list[torch.Tensor]):
    """([a @ b for each pair], the compiled kernel)."""
    outs = [torch.empty(a.shape[0], b.shape[1], dtype=a.dtype) for a, b in zip(lefts, rights, strict=True)]
    groups = list(zip(lefts, rights, outs, strict=True))
    addresses = torch.tensor([t.data_ptr() for group in groups for t in group])
    sizes = torch.tensor([n for a, b, _ in groups for n in (a.shape[0], b.shape[1], a.shape[1])], dtype=torch.int32)
    return outs, grouped_gemm[(PROGRAMS,)](addresses, sizes, len(groups), DTYPE=NAMES[lefts[0].dtype], **TILE)


def main() -> None:
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.float16, 1e-3)):
        shapes = [(64, 64, 64), (100, 30, 77), (1, 129, 16)]
        lefts = [torch.randn(m, k).to(dtype) for m, _, k in shapes]
        rights = [torch.randn(k, n).to(dtype) for _, n, k in shapes]
        outs, compiled = multiply(lefts, rights)
        for out, a, b, shape in zip(outs, lefts, rights, shapes, strict=True):
            compare(f"grouped_gemm {shape} {dtype}", out, a.double() @ b.double(), tolerance)
    proof(compiled, products=True)


if __name__ == "__main__":
    main()
