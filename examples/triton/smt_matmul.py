"""C = scale * (A @ B) with SpacemiT's SMT extension: packed tiles, a K loop, sub-blocks of rows, boundary tiles."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
import triton.language.extra.smt as smt
from proof import compare, proof

TILE = {"BM": 32, "BN": 32, "BK": 32, "SUB": 16}
# (rows, depth, columns) of a micro tile, by type.
MICRO = {torch.float32: (8, 8, 8), torch.float16: (8, 8, 16), torch.int8: (4, 8, 4)}


@triton.jit
def smt_matmul(a, b, c, scale, M, N, K, ACC: tl.constexpr, TM: tl.constexpr, TK: tl.constexpr, TN: tl.constexpr,
               BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, SUB: tl.constexpr):  # fmt: skip
    i, j = tl.program_id(0) * BM, tl.program_id(1) * BN
    right = tl.make_block_ptr(b, (K, N), (N, 1), (0, j), (BK, BN), (1, 0))
    for s in smt.parallel(0, tl.cdiv(min(BM, M - i), SUB)):
        left = tl.make_block_ptr(a, (M, K), (K, 1), (i + s * SUB, 0), (SUB, BK), (1, 0))
        total = smt.view(tl.zeros((SUB, BN), ACC), (0, 0), (SUB, BN), (TM, TN))
        for k in range(0, K, BK):
            x = smt.view(smt.descriptor_load(left, (0, k)), (0, 0), (SUB, BK), (TM, TK))
            y = smt.view(smt.descriptor_load(right, (k, 0)), (0, 0), (BK, BN), (TK, TN))
            total = smt.dot(x, y, total)
        value = smt.view(total, (0, 0), (SUB, BN), (1, 1)) * scale
        target = tl.make_block_ptr(c, (M, N), (N, 1), (i + s * SUB, j), (SUB, BN), (1, 0))
        tl.store(target, value.to(c.dtype.element_ty), boundary_check=(0, 1))


def multiply(a: torch.Tensor, b: torch.Tensor, scale):
    """(scale * a @ b, in int32 for int8 and else float32, the compiled kernel)."""
    (m, k), n = a.shape, b.shape[1]
    whole = a.dtype == torch.int8
    c = torch.empty(m, n, dtype=torch.int32 if whole else torch.float32)
    grid = (triton.cdiv(m, TILE["BM"]), triton.cdiv(n, TILE["BN"]))
    micro = dict(zip(("TM", "TK", "TN"), MICRO[a.dtype], strict=True))
    return c, smt_matmul[grid](a, b, c, scale, m, n, k, ACC=tl.int32 if whole else tl.float32, **micro, **TILE)


def main() -> None:
    for dtype in MICRO:
        for m, n, k in ((64, 64, 64), (50, 70, 40)):
            if dtype == torch.int8:
                a, b = torch.randint(-128, 128, (m, k), dtype=dtype), torch.randint(-128, 128, (k, n), dtype=dtype)
            else:
                a, b = torch.randn(m, k).to(dtype), torch.randn(k, n).to(dtype)
            scale = 3 if dtype == torch.int8 else 0.37
            out, compiled = multiply(a, b, scale)
            compare(f"smt_matmul {m}x{n}x{k} {dtype}", out, (a.double() @ b.double()) * scale, 1e-6)
    proof(compiled, products=True)


if __name__ == "__main__":
    main()
