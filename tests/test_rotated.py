"""Loops whose loads stand one strip ahead: what is rotated, and that nothing is read or written that should not be."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl
from torch_rvv.lowering import rotated

LOAD = "%v = llvm.load %p {alignment = 4 : i64} : !llvm.ptr -> vector<[16]xf32>"
ADDRESS = ["%i = arith.index_cast %iv : index to i64", "%p = llvm.getelementptr %a[%i] : (!llvm.ptr, i64) -> !llvm.ptr"]
SUM = '%w = "arith.addf"(%v, %v) {} : (vector<[16]xf32>, vector<[16]xf32>) -> (vector<[16]xf32>)'
STORE = "llvm.store %w, %q {alignment = 4 : i64} : vector<[16]xf32>, !llvm.ptr"
KIND = "vector<[16]xf32>"
SUMMED = (KIND, "%w")


@pytest.mark.ir
def test_loads_go_and_stores_come_last():
    found = rotated.split(["  " + line for line in (*ADDRESS, LOAD, STORE, SUM)], "%iv", [])
    assert found is not None and found.stores == [STORE] and found.done == [SUM]
    assert [(load.name, load.kind, load.lines) for load in found.loads] == [("%v", KIND, [*ADDRESS, LOAD])]


@pytest.mark.ir
@pytest.mark.parametrize(
    "lines, carried",
    [
        ([*ADDRESS, LOAD, "llvm.store %v, %q : vector<[16]xf32>, !llvm.ptr"], []),
        ([LOAD, SUM], []),
        ([*ADDRESS, LOAD.replace("%p", "%q"), SUM], []),
        (["%i = llvm.load %iv : !llvm.ptr -> i64", ADDRESS[1], LOAD, SUM], []),
        ([*ADDRESS, LOAD, SUM, "scf.if %c {", "}"], []),
        ([*ADDRESS, LOAD, SUM, 'llvm.call_intrinsic "llvm.vp.store"(%w, %q, %m, %n) : ()'], []),
        ([*ADDRESS, LOAD, SUM, "func.call @torch_rvv.here() : () -> ()"], []),
        ([*ADDRESS, LOAD, SUM, "%s = llvm.load volatile %q : !llvm.ptr -> f32"], []),
        ([*ADDRESS, LOAD, SUM, "%s:2 = arith.mulsi_extended %x, %y : i32"], []),
        ([*ADDRESS, LOAD, SUM, STORE], [SUMMED] * 3),
        ([*ADDRESS, LOAD, SUM, "%m = arith.cmpf olt, %v, %w : vector<[16]xi1>", "llvm.store %m, %r : x"], [SUMMED] * 3),
    ],
    ids=(
        "a copy,from nowhere,the same each time,an index from memory,a branch,a short store,a place that keeps order,"
        "a volatile load,several results,four groups,three groups and masks"
    ).split(","),
)
def test_other_bodies_stay(lines, carried):
    assert rotated.split([*ADDRESS, LOAD, SUM], "%iv", [*carried, SUMMED][:1]) is not None
    assert rotated.split(lines, "%iv", carried or [SUMMED]) is None


@pytest.mark.ir
def test_what_is_read_twice_is_read_once_and_what_nobody_needs_is_left_out():
    copy = [line.replace("%", "%o") for line in ADDRESS] + [LOAD.replace("%p", "%op").replace("%v", "%x")]
    copy = [line.replace("%oiv", "%iv").replace("%oa", "%a") for line in copy]
    found = rotated.split([*ADDRESS, LOAD, *copy, SUM.replace("%v)", "%x)"), SUM.replace("%w", "%z")], "%iv", [SUMMED])
    assert found is not None and [load.name for load in found.loads] == ["%v"] and found.done == [SUM]


@triton.jit
def elementwise(x, y, out, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    a, b = tl.load(x + i, mask=i < n), tl.load(y + i, mask=i < n)
    tl.store(out + i, tl.maximum(a, b) * 2 - a, mask=i < n)


@triton.jit
def folds(x, out, n, M: tl.constexpr, BLOCK: tl.constexpr):
    m, i = tl.arange(0, M), tl.arange(0, BLOCK)
    a = tl.load(x + m[:, None] * n + i[None, :], mask=i[None, :] < n, other=0.0)
    tl.store(out + m, tl.sum(a, 1))
    tl.store(out + M + m, tl.max(a, 1))
    tl.store(out + 2 * M + m, tl.sum(a * a, 1))


LENGTHS = [0, 1, 7, 31, 32, 33, 63, 64, 65, 127, 128, 129, 191, 192, 255, 256, 257, 320, 511, 513, 1000, 1023, 1024]


@pytest.mark.board
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int32], ids=str)
@pytest.mark.parametrize("guard", ["start", "end"])
def test_every_number_of_strips_reads_and_writes_what_there_is(guard, dtype, monkeypatch):
    monkeypatch.setenv("TORCH_RVV_FALLBACK", "error")
    monkeypatch.setenv("TORCH_RVV_GUARD", guard)
    for n in LENGTHS:
        x, y = ((torch.randn(n) * 8).to(dtype) for _ in "xy")
        out = torch.empty(n, dtype=dtype)
        elementwise[(1,)](x, y, out, n, BLOCK=1024)
        wide = torch.float32 if dtype.is_floating_point else dtype
        wanted = (torch.maximum(x, y).to(dtype) * 2 - x).to(dtype)
        torch.testing.assert_close(
            out.to(wide), wanted.to(wide), rtol=1e-2 if dtype == torch.bfloat16 else 1e-3, atol=0.1
        )


@pytest.mark.board
@pytest.mark.parametrize("guard", ["start", "end"])
def test_every_number_of_strips_is_folded(guard, monkeypatch):
    monkeypatch.setenv("TORCH_RVV_FALLBACK", "error")
    monkeypatch.setenv("TORCH_RVV_GUARD", guard)
    for n in LENGTHS[1:]:
        x, out = torch.randn(4, n), torch.empty(12)
        folds[(1,)](x, out, n, M=4, BLOCK=1024)
        wide = x.double()
        top = wide.amax(1).clamp(min=0.0) if n < 1024 else wide.amax(1)
        wanted = torch.cat([wide.sum(1), top, wide.square().sum(1)])
        torch.testing.assert_close(out.double(), wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.board
@pytest.mark.parametrize("shift", [0, 1, 5, 64, -1, -64])
def test_results_that_overlap_what_is_read(shift, monkeypatch):
    """All of a block is read before any of it is written."""
    monkeypatch.setenv("TORCH_RVV_FALLBACK", "error")
    n, memory = 1000, torch.randn(1200)
    x, out = memory[100 : 100 + n], memory[100 + shift : 100 + shift + n]
    y = torch.randn(n)
    wanted = torch.maximum(x, y) * 2 - x
    elementwise[(1,)](x, y, out, n, BLOCK=1024)
    torch.testing.assert_close(out, wanted)
