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


def innermost(size, stride=None, copies=False):
    """The lines of the innermost loop of a product of so many rows, columns and steps: of rounds, not of the rest.
    stride: of its rows, if it is a number; copies: the loop that copies the right operand on the way."""
    text = BODY.replace("EXTRA", "").replace("RESULT", "%d").replace("ROWS", "%aa").replace("STEP", "16")
    text = text.replace("16", str(size))
    if stride is not None:
        for name, value in (("ns", stride), ("downs", stride * size)):
            text, found = re.subn(rf"(%{name} = )tt\.splat .*-> (.*)", rf"\1arith.constant dense<{value}> : \2", text)
            assert found == 1
    lines = lower(text, CodegenOptions(target=TARGETS["k1"]))[0]["vector"].split("\n")
    starts = [i for i, line in enumerate(lines) if "scf.for" in line and "vector<" in line]
    loops = [lines[i : next(j for j in range(i, len(lines)) if "scf.yield" in lines[j])] for i in starts]
    return max((loop for loop in loops if any("llvm.vp.store" in line for line in loop) == copies), key=len)


@pytest.mark.ir
def test_behind_a_wide_product_stands_one_addition_and_none_beside_a_load_of_a_vector():
    lines = innermost(32)
    gaps = "\n".join(lines).split("math.fma")[1:]
    moves = [sum(bool(MOVE.search(line)) for line in gap.split("\n")) for gap in gaps]
    rows = len(gaps) // depthloop.UNROLL[4]
    assert sum(moves) == rows + depthloop.UNROLL[4] and max(moves) == 1 and moves[-1] == 0
    assert not any(count for count, gap in zip(moves, gaps, strict=True) if "llvm.vp.load" in gap)


@pytest.mark.ir
def test_a_copy_on_the_way_is_stored_once_a_step_and_no_addition_stands_beside_it():
    gaps = "\n".join(innermost(32, copies=True)).split("math.fma")[1:]
    stores, loads, moves = (
        [sum(bool(re.search(what, line)) for line in gap.split("\n")) for gap in gaps]
        for what in ("llvm.vp.store", "llvm.vp.load", MOVE)
    )
    rows, steps = len(gaps) // depthloop.UNROLL[4], depthloop.UNROLL[4]
    assert sum(stores) == sum(loads) == steps and sum(moves) == rows + 2 * steps
    assert all(
        move <= 1 and not (move and (store or load)) for move, store, load in zip(moves, stores, loads, strict=True)
    )


@pytest.mark.ir
@pytest.mark.parametrize(
    "stride, pointers",
    [(64, 1), (200, 1), (204, 2), (500, 2), (507, 2), (508, 3), (1015, 3), (1016, 6), (4096, 6), (None, 6)],
)
def test_rows_that_the_offset_of_a_load_reaches_share_a_pointer(stride, pointers):
    lines = innermost(32, stride)
    rounds = depthloop.UNROLL[4]
    assert sum("math.fma" in line for line in lines) == 6 * rounds
    assert sum(bool(MOVE.search(line)) for line in lines) == pointers + rounds


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


@triton.jit
def known(a, b, c, M, K, first, am: tl.constexpr, ak: tl.constexpr, B: tl.constexpr, N: tl.constexpr, D: tl.constexpr):
    product(a + first, b, c, M, K, am, ak, B, N, D)


@pytest.mark.board
@pytest.mark.parametrize("columns", [8, 16, 64], ids=lambda n: f"N{n}")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("strides", [(-19, 1), (204, 1), (512, 1), (-900, -1), (1, 300), (3, 100)], ids=str)
def test_rows_that_share_a_pointer(strides, dtype, columns, monkeypatch):
    """Every number of rows; nothing is read before the first or behind the last element."""
    monkeypatch.setenv("TORCH_RVV_FALLBACK", "error")
    for depth, rows, guard in ((19, 16, "end"), (10, 7, "start"), (9, 5, "end"), (5, 1, "start")):
        monkeypatch.setenv("TORCH_RVV_GUARD", guard)
        length = (rows - 1) * abs(strides[0]) + (depth - 1) * abs(strides[1]) + 1
        memory = torch.randn(length, generator=torch.Generator().manual_seed(depth)).to(dtype)
        places = [torch.arange(n) * s for n, s in zip((rows, depth), strides, strict=True)]
        places = [p - p.min() for p in places]
        a = memory[places[0][:, None] + places[1][None, :]]
        first = sum(int(p[0]) for p in places)
        b, c = torch.randn(depth, columns).to(dtype), torch.full((rows, columns), float("nan"))
        known[(1,)](memory, b, c, rows, depth, first, *strides, B=16, N=columns, D=32)
        torch.testing.assert_close(c.double(), a.double() @ b.double(), rtol=1e-5, atol=1e-5)


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
