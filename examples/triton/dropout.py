"""Dropout from a seed: the same seed gives the same mask, so the backward pass needs none in memory."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from proof import compare, proof


@triton.jit
def dropout(x, out, n, p, seed, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = i < n
    kept = tl.rand(seed, i) > p
    tl.store(out + i, tl.where(kept, tl.load(x + i, mask=mask) / (1 - p), 0.0), mask=mask)


def drop(x: torch.Tensor, p: float, seed: int):
    """(x with a share p of its elements zero and the others scaled, the compiled kernel)."""
    out, n = torch.empty_like(x), x.numel()
    return out, dropout[(triton.cdiv(n, 1024),)](x, out, n, p, seed, BLOCK=1024)


def main() -> None:
    x = torch.rand(20011) + 0.5
    for p in (0.0, 0.25, 0.9):
        out, compiled = drop(x, p, seed=123)
        kept = out != 0
        compare(f"dropout {p}, what is kept", out[kept], x[kept] / (1 - p), 1e-6)
        compare(f"dropout {p}, how much is kept", kept.double().mean(), torch.tensor(1 - p), 0.15)
        compare(f"dropout {p}, the same seed again", drop(x, p, seed=123)[0], out, 0)
        if p and torch.equal(drop(x, p, seed=124)[0], out):
            raise SystemExit("another seed gave the same mask")
    proof(compiled)


if __name__ == "__main__":
    main()
