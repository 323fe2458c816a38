"""z = x + y: one block of elements a program, the last one ragged."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from proof import compare, proof


@triton.jit
def vector_add(x, y, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = i < n
    tl.store(out + i, tl.load(x + i, mask=mask) + tl.load(y + i, mask=mask), mask=mask)


def add(x: torch.Tensor, y: torch.Tensor):
    """(x + y, the compiled kernel)."""
    out, n = torch.empty_like(x), x.numel()
    return out, vector_add[(triton.cdiv(n, 1024),)](x, y, out, n, BLOCK=1024)


def main() -> None:
    for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.int32):
        for n in (1, 1024, 10007):
            x, y = (torch.randn(n) * 10).to(dtype), (torch.randn(n) * 10).to(dtype)
            out, compiled = add(x, y)
            compare(f"vector_add of {n} {dtype}", out, x + y, 0)
    proof(compiled)


if __name__ == "__main__":
    main()
