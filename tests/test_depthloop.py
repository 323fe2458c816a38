"""The innermost loop of products: what follows what, and every depth and number of rows."""

from __future__ import annotations

import re

import pytest
import torch
import triton
import triton.language as tl
from test_dotloop import BODY
from torch_rvv.lowering import depthloop
from torch_rvv.lowering.pipeline import lower

from torch_rvv.knobs import CodegenOptions
from torch_rvv.target import TARGETS

MOVE = re.compile(r"llvm\.getelementptr .*, i8$")


def innermost(size):
    """The lines of the innermost loop of a product of so many rows, columns and steps: of rounds, not of the rest."""
    text = BODY.replace("EXTRA", "").replace("RESULT", "%d").replace("STEP", "16").replace("16", str(size))
    lines = lower(text, CodegenOptions(target=TARGETS["k1"]))[0]["vector"].split("\n")
    starts = [i for i, line in enumerate(lines) if "scf.for" in line and "vector<" in line]
    loops = [lines[i : next(j for j in range(i, len(lines)) if "scf.yield" in lines[j])] for i in starts]
    return max(loops, key=len)


@pytest.mark.ir
def test_behind_a_wide_product_stands_one_addition_and_none_beside_a_load_of_a_vector():
    lines = innermost(32)
    gaps = "\n".join(lines).split("math.fma")[1:]
    moves = [sum(bool(MOVE.search(line)) for line in gap.split("\n")) for gap in gaps]
    rows = len(gaps) // depthloop.UNROLL[4]
    assert sum(moves) == rows + depthloop.UNROLL[4] and max(moves) == 1 and moves[-1] == 0
    assert not any(count for count, gap in zip(moves, gaps, strict=True) if "llvm.vp.load" in gap)


@pytest.mark.ir
def test_beside_narrow_products_pointers_move_together_at_the_end_of_a_longer_round():
    lines = innermost(16)
    last = max(i for i, line in enumerate(lines) if "math.fma" in line)
    kept = [i for i, line in enumerate(lines) if "launder" in line]
    assert not any(MOVE.search(line) for line in lines) and min(kept) > last
    rows = sum("math.fma" in line for line in lines) // depthloop.UNROLL[2]
    assert len(kept) == rows + depthloop.UNROLL[2]


@triton.jit
def product(a, b, c, M, K, am, ak, B: tl.constexpr, N: tl.constexpr, D: tl.constexpr):
    m, n, k = tl.arange(0, B), tl.arange(0, N), tl.arange(0, D)
    x = tl.load(a + m[:, None] * am + k[None, :] * ak, mask=(m[:, None] < M) & (k[None, :] < K), other=0)
    y = tl.load(b + k[:, None] * N + n[None, :], mask=k[:, None] < K, other=0)
    tl.store(c + m[:, None] * N + n[None, :], tl.dot(x, y), mask=m[:, None] < M)


@pytest.mark.board
@pytest.mark.parametrize("columns", [8, 16, 32, 64], ids=lambda n: f"N{n}")
@pytest.mark.parametrize("rows", [1, 2, 3, 5, 6, 7, 16], ids=lambda m: f"M{m}")
@pytest.mark.parametrize("transposed", [False, True])
def test_every_depth_and_number_of_rows(rows, columns, transposed, monkeypatch):
    """Nothing, one step, a round and one step more or less, two and some; nothing is read behind the last step."""
    monkeypatch.setenv("TORCH_RVV_FALLBACK", "error")
    monkeypatch.setenv("TORCH_RVV_GUARD", "end")
    for depth in (0, 1, 2, 4, 5, 8, 9, 10, 19):
        generator = torch.Generator().manual_seed(depth)
        a = (
            torch.randn(depth, rows, generator=generator).t()
            if transposed
            else torch.randn(rows, depth, generator=generator)
        )
        b, c = torch.randn(depth, columns, generator=generator), torch.full((rows, columns), float("nan"))
        strides = (1, rows) if transposed else (depth, 1)
        product[(1,)](a, b, c, rows, depth, *strides, B=16, N=columns, D=32)
        torch.testing.assert_close(c.double(), a.double() @ b.double(), rtol=1e-5, atol=1e-5)
