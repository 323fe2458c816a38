"""Blocks that wrap around at the end of an axis: a side for those that do not, and the same results on both."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl
from torch_rvv.lowering.pipeline import lower

from torch_rvv.knobs import CodegenOptions
from torch_rvv.target import TARGETS

ROWS = """module {
 tt.func public @k(%p: !tt.ptr<f32>, %q: !tt.ptr<f32>, %m: i32, %n: i32) {
    %pid = tt.get_program_id x : i32
    %c = arith.constant 16 : i32
    %s = arith.muli %pid, %c : i32
    %ss = tt.splat %s : i32 -> tensor<16xi32>
    %l = tt.make_range {end = 16 : i32, start = 0 : i32} : tensor<16xi32>
    %i = arith.addi %ss, %l : tensor<16xi32>
    %size = SIZE
    %r = arith.remsi %i, %size : tensor<16xi32>
    EXTRA
    %re = tt.expand_dims %r {axis = 1 : i32} : tensor<16xi32> -> tensor<16x1xi32>
    %le = tt.expand_dims %l {axis = 0 : i32} : tensor<16xi32> -> tensor<1x16xi32>
    %w = arith.constant dense<16> : tensor<16x1xi32>
    %rw = arith.muli %re, %w : tensor<16x1xi32>
    %rb = tt.broadcast %rw : tensor<16x1xi32> -> tensor<16x16xi32>
    %lb = tt.broadcast %le : tensor<1x16xi32> -> tensor<16x16xi32>
    %o = arith.addi %rb, %lb : tensor<16x16xi32>
    %ps = tt.splat %p : !tt.ptr<f32> -> tensor<16x16x!tt.ptr<f32>>
    %pp = tt.addptr %ps, %o : tensor<16x16x!tt.ptr<f32>>, tensor<16x16xi32>
    %x = tt.load %pp : tensor<16x16x!tt.ptr<f32>>
    %z = arith.constant dense<0.0> : tensor<16x16xf32>
    %y = VALUE
    %qs = tt.splat %q : !tt.ptr<f32> -> tensor<16x16x!tt.ptr<f32>>
    %qq = tt.addptr %qs, %o : tensor<16x16x!tt.ptr<f32>>, tensor<16x16xi32>
    tt.store %qq, %y : tensor<16x16x!tt.ptr<f32>>
    tt.return
 }
}"""
SPLAT = "tt.splat %m : i32 -> tensor<16xi32>"
DOT = "tt.dot %x, %x, %z : tensor<16x16xf32> * tensor<16x16xf32> -> tensor<16x16xf32>"


def linalg(size: str = SPLAT, value: str = DOT, extra: str = "") -> str:
    text = ROWS.replace("SIZE", size).replace("VALUE", value).replace("EXTRA", extra)
    return lower(text, CodegenOptions(target=TARGETS["k1"]))[0]["linalg"]


@pytest.mark.ir
def test_both_sides_are_there_and_one_has_no_remainder():
    text = linalg()
    assert text.count("scf.if") == 1
    within, around = text.split("} else {")
    assert "arith.remsi" not in within and "arith.remsi" in around


@pytest.mark.ir
def test_what_is_computed_from_a_remainder_before_the_next_one_is_computed_anew_on_each_side():
    """Between the two: the first one's pointers."""
    early, late = "    %re = tt.expand_dims %r", "    %le = tt.expand_dims %l"
    text = ROWS.replace("EXTRA", "").replace("SIZE", SPLAT).replace("VALUE", DOT)
    second = (
        "    %ns = tt.splat %n : i32 -> tensor<16xi32>\n    %ln = arith.addi %ss, %l : tensor<16xi32>\n"
        "    %lr = arith.remsi %ln, %ns : tensor<16xi32>\n    %le = tt.expand_dims %lr"
    )
    assert early in text and text.index(early) < text.index(late)
    text = text.replace(late, second)
    within, around = lower(text, CodegenOptions(target=TARGETS["k1"]))[0]["linalg"].split("} else {")
    assert "arith.remsi" not in within and "arith.remsi" in around


@pytest.mark.ir
@pytest.mark.parametrize(
    "other",
    [
        {"size": "arith.constant dense<48> : tensor<16xi32>"},
        {"value": "arith.addf %x, %x : tensor<16x16xf32>"},
        {"extra": "%quotient = arith.divsi %i, %size : tensor<16xi32>"},
    ],
    ids=["a constant size", "no product", "an index split in two"],
)
def test_other_remainders_are_left_alone(other):
    assert "scf.if" not in linalg(**other)


MASK = """%end = tt.splat %LIMIT : i32 -> tensor<16xi32>
    %within = arith.cmpi slt, %i, %end : tensor<16xi32>
    %we = tt.expand_dims %within {axis = 1 : i32} : tensor<16xi1> -> tensor<16x1xi1>
    %mask = tt.broadcast %we : tensor<16x1xi1> -> tensor<16x16xi1>"""


def masked(limit: str, value: str) -> str:
    """The text with a mask at the store: rows before a limit."""
    text = ROWS.replace("tt.store %qq, %y", "tt.store %qq, %y, %mask").replace("VALUE", value).replace("SIZE", SPLAT)
    text = text.replace("EXTRA", MASK.replace("LIMIT", limit))
    return lower(text, CodegenOptions(target=TARGETS["k1"]))[0]["linalg"]


@pytest.mark.ir
@pytest.mark.parametrize("limit, remainders", [("m", False), ("n", True)])
def test_what_a_mask_keeps_below_the_size_does_not_wrap(limit, remainders):
    assert ("arith.remsi" in masked(limit, "arith.addf %x, %x : tensor<16x16xf32>")) == remainders


@pytest.mark.ir
@pytest.mark.parametrize("limit, wrapping", [("m", 1), ("n", 3)])
def test_rows_that_nobody_stores_do_not_wrap(limit, wrapping):
    """The copy of the left operand and the store do not; of the right operand, which is the same, all is asked for."""
    _, around = masked(limit, DOT).split("} else {")
    assert sum("arith.remsi" in nest for nest in around.split("linalg.generic")) == wrapping


@triton.jit
def wrapped(a, b, c, M, N, K, first, M_BLOCK: tl.constexpr, N_BLOCK: tl.constexpr, K_BLOCK: tl.constexpr):
    """Rows from `first` on, which may be negative: then what is read is as far from the base as the remainder says."""
    rows = (first + tl.program_id(0) * M_BLOCK + tl.arange(0, M_BLOCK)) % M
    columns = (tl.program_id(1) * N_BLOCK + tl.arange(0, N_BLOCK)) % N
    total = tl.zeros((M_BLOCK, N_BLOCK), tl.float32)
    for k in range(0, K, K_BLOCK):
        depth = k + tl.arange(0, K_BLOCK)
        x = tl.load(a + rows[:, None] * K + depth[None, :], mask=depth[None, :] < K, other=0.0)
        y = tl.load(b + depth[:, None] * N + columns[None, :], mask=depth[:, None] < K, other=0.0)
        total = tl.dot(x, y, total)
    at = tl.program_id(0) * M_BLOCK + tl.arange(0, M_BLOCK)
    columns = tl.program_id(1) * N_BLOCK + tl.arange(0, N_BLOCK)
    tl.store(c + at[:, None] * N + columns[None, :], total, mask=(at[:, None] < M) & (columns[None, :] < N))


@pytest.mark.board
@pytest.mark.parametrize("first", [0, -5, 3, 2**31 - 10])
@pytest.mark.parametrize("shape", [(64, 48, 40), (33, 17, 20), (5, 3, 7), (1, 1, 1)], ids=str)
def test_programs_that_wrap_and_that_do_not_give_the_same(shape, first, monkeypatch):
    monkeypatch.setenv("TORCH_RVV_FALLBACK", "error")
    m, n, k = shape
    generator = torch.Generator().manual_seed(0)
    # Remainders of negative numbers are negative: the matrix stands in the middle of its memory.
    memory = torch.randn(2 * m, k, generator=generator)
    b, c = torch.randn(k, n, generator=generator), torch.full((m, n), float("nan"))
    wrapped[triton.cdiv(m, 16), triton.cdiv(n, 16)](memory[m:], b, c, m, n, k, first, 16, 16, 8)
    index = torch.arange(m, dtype=torch.int32) + torch.tensor(first, dtype=torch.int32)
    rows = memory[m + torch.fmod(index, m).long()]
    torch.testing.assert_close(c, rows @ b, rtol=1e-5, atol=1e-5)
