"""Rows side by side in nests without reductions: what they share is read once, and the results are those of one at a
time."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch_rvv.lowering import jam, loops, neighbours
from torch_rvv.lowering.linear import Poly
from torch_rvv.lowering.mlir import context, ir


@triton.jit
def taps(x, w, y, rows, columns, pitch, PITCH: tl.constexpr, STEP: tl.constexpr, R: tl.constexpr, C: tl.constexpr):
    """A filter of 3 by 3; the image's rows are PITCH elements, or `pitch` where that is 0."""
    i = (tl.program_id(1) * R + tl.arange(0, R))[:, None]
    j = (tl.program_id(0) * C + tl.arange(0, C))[None, :]
    apart = pitch if PITCH == 0 else PITCH
    total = tl.zeros((R, C), tl.float32)
    stored = (i < rows) & (j < columns)
    for a in tl.static_range(3):
        for b in tl.static_range(3):
            total += tl.load(x + (i * STEP + a) * apart + j * STEP + b, stored) * tl.load(w + a * 3 + b)
    tl.store(y + i * columns + j, total, stored)


@triton.jit
def in_place(x, columns: tl.constexpr, R: tl.constexpr, C: tl.constexpr):
    """Each row becomes itself and its right neighbour."""
    i, j = tl.arange(0, R)[:, None], tl.arange(0, C)[None, :]
    value = tl.load(x + i * columns + j) + tl.load(x + i * columns + j + 1)
    tl.store(x + i * columns + j, value)


@triton.jit
def with_a_branch(x, which, out, W: tl.constexpr, R: tl.constexpr, C: tl.constexpr):
    i, j = tl.arange(0, R)[:, None], tl.arange(0, C)[None, :]
    at = i * W + j
    far = tl.load(x + at + 2, mask=tl.load(which + at) > 0, other=0.0)
    tl.store(out + i * C + j, (tl.load(x + at) + tl.load(x + at + 1)) * far)


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Launch a kernel as it is, and with neither rows nor reads shared."""
    monkeypatch.setenv("TORCH_RVV_FALLBACK", "error")
    counts: list[dict[int, int]] = []

    def launch(kernel, grid, *args, plain, **constants):
        with monkeypatch.context() as m:
            m.setenv("TRITON_CACHE_DIR", str(tmp_path / f"{plain}"))
            beside = jam.beside
            if plain:
                m.setattr(jam, "beside", lambda *_: {})
                m.setattr(neighbours, "anchored", lambda *_: {})
            else:
                m.setattr(jam, "beside", lambda *a: counts.append(beside(*a)) or counts[-1])
            kernel.device_caches.clear()
            kernel[grid](*args, **constants)
        return counts

    return launch


@pytest.mark.board
@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("rows, columns", [(1, 1), (2, 64), (7, 9), (17, 33), (33, 70)])
def test_a_filter_gives_the_same_bits_as_row_by_row(rows, columns, step, run):
    height, width = (rows - 1) * step + 3, (columns - 1) * step + 3
    x, w = torch.randn(height, width), torch.randn(3, 3)
    x.view(-1)[::7] = float("inf")
    x.view(-1)[3::11] = -0.0
    outs = [torch.full((rows + 1, columns), 9.0) for _ in range(2)]
    for out, plain in zip(outs, (False, True), strict=True):
        grid = (triton.cdiv(columns, 64), triton.cdiv(rows, 16))
        counts = run(taps, grid, x, w, out, rows, columns, 0, plain=plain, PITCH=width, STEP=step, R=16, C=64)
    assert any(counts) == (rows > 1)
    assert torch.equal(outs[0].view(torch.int32), outs[1].view(torch.int32))
    torch.testing.assert_close(
        outs[0][:rows], F.conv2d(x[None, None], w[None, None], stride=step)[0, 0], equal_nan=True
    )


@pytest.mark.board
def test_rows_at_a_distance_known_at_run_time_only_are_right(run):
    x, w, out = torch.randn(19, 35), torch.randn(3, 3), torch.empty(17, 33)
    run(taps, (1, 2), x, w, out, 17, 33, 35, plain=False, PITCH=0, STEP=1, R=16, C=64)
    torch.testing.assert_close(out, F.conv2d(x[None, None], w[None, None])[0, 0])


@pytest.mark.board
def test_rows_that_are_written_over_what_is_read_are_right(run):
    x = torch.randn(17, 65)
    want = x.clone()
    want[:16, :64] += x[:16, 1:]
    run(in_place, (1,), x, 65, plain=False, R=16, C=64)
    assert torch.equal(x, want)


@pytest.mark.board
def test_a_body_with_masks_of_data_reads_by_itself(run):
    x, out = torch.randn(16, 40), torch.empty(16, 32)
    which = torch.randint(0, 2, (16, 40), dtype=torch.int32)
    run(with_a_branch, (1,), x, which, out, plain=False, W=40, R=16, C=32)
    far = torch.where(which > 0, x.roll(-2, 1), torch.zeros(()))
    torch.testing.assert_close(out, ((x + x.roll(-1, 1)) * far)[:, :32])


INDICES = """func.func @f(%pid: i32, %x: index) {
  %i = arith.index_cast %pid : i32 to index
  %width = arith.constant 114 : index
  %row = arith.muli %i, %width : index
  %one = arith.constant 1 : index
  %a = arith.addi %row, %one : index
  %more = arith.addi %width, %a : index
  %b = arith.subi %more, %one : index
  %c = arith.addi %b, %x : index
  return
}"""


@pytest.mark.ir
def test_distances_are_those_of_polynomials():
    with context(), ir.Location.unknown():
        module = ir.Module.parse(INDICES)
        operations = [op.operation for op in module.body.operations[0].regions[0].blocks[0].operations]
        origins = neighbours.Origins()
        row, a, b, c = (origins.of(operations[at].results[0]) for at in (2, 4, 6, 7))
    assert a - row == Poly(1) and b - row == Poly(114) and (c - row).constant is None


@pytest.mark.ir
def test_a_body_that_branches_or_writes_memory_stands_alone():
    assert loops.jam is jam
    assert [jam._repeats(name) for name in ("scf.if", "memref.store", "llvm.atomicrmw")] == [False] * 3
    assert [jam._repeats(name) for name in ("arith.addf", "math.exp", "memref.load")] == [True] * 3
