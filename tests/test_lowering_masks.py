"""Masks of lanes from comparisons of indices, and how large an index can get."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl
from torch_rvv.lowering.bounds import remainders, upper_bound
from torch_rvv.lowering.lmul import choose, pressure
from torch_rvv.lowering.mlir import context, ir


@triton.jit
def compared(out, u, start, STEP: tl.constexpr, BLOCK: tl.constexpr):
    lane = tl.arange(0, BLOCK)
    x = lane.to(tl.int64) * STEP + start
    u = u.to(tl.int64)
    tl.store(out + lane, (x < u).to(tl.int32) + 2 * (x <= u) + 4 * (x > u) + 8 * (x >= u))
    tl.store(out + BLOCK + lane, (u < x).to(tl.int32) + 2 * (u <= x) + 4 * (u > x) + 8 * (u >= x))


@pytest.mark.board
@pytest.mark.parametrize("step", [1, 2, 3, 64, 5000, -2])
@pytest.mark.parametrize("u", [-(2**63), -7, 0, 4, 31, 32, 33, 95, 189, 190, 191, 2**40, 2**63 - 1])
def test_an_index_compared_with_a_number_is_right_in_every_lane(step, u):
    out = torch.zeros(256, dtype=torch.int32)
    compared[(1,)](out, u, 5, STEP=step, BLOCK=128)
    x = torch.arange(128) * step + 5
    less, same = x < u, x == u
    low, high = (less + 2 * (less | same)), 4 * (~less & ~same) + 8 * ~less
    other = (~less & ~same) + 2 * ~less + 4 * less + 8 * (less | same)
    assert torch.equal(out, torch.cat([low + high, other]).to(torch.int32))


INDICES = """func.func @f(%pid: i32, %x: index) {
  %block = arith.constant 64 : index
  %n = arith.constant 33 : index
  %i = arith.index_cast %pid : i32 to index
  %step = arith.constant -64 : index
  %before = arith.muli %i, %step : index
  %left = arith.addi %n, %before : index
  %size = arith.minsi %block, %left : index
  %zero = arith.constant 0 : index
  %positive = arith.maxsi %size, %zero : index
  %grown = arith.muli %i, %block : index
  %unknown = arith.addi %n, %grown : index
  %half = arith.minsi %unknown, %block : index
  return
}"""


@pytest.mark.ir
def test_bounds_of_sizes_are_read_from_their_minima():
    with context(), ir.Location.unknown():
        module = ir.Module.parse(INDICES)
        operations = list(module.body.operations[0].regions[0].blocks[0].operations)
        found = [upper_bound(op.operation.results[0]) for op in operations[:-1]]
        left = [remainders(op.operation.results[0]) for op in operations[:-1]]
    assert found == [64, 33, None, -64, 0, 33, 33, 0, 33, None, None, 64]
    left = [set(rests) if rests is not None else None for rests in left]
    assert left == [{0}, {1}, None, {0}, {0}, {1}, {0, 1}, {0}, {0, 1}, {0}, {1}, {0, 1}]


GUARDED = """scf.if %some {
  %zero = vector.broadcast %z : f32 to vector<[8]xf32>
  scf.for %i = %a to %b step %c {
    %x = llvm.call_intrinsic "llvm.vp.load"(%p, %m, %l) : (!llvm.ptr, vector<[8]xi1>, i32) -> vector<[8]xf32>
    %y = arith.addf %x, %x : vector<[8]xf32>
    %s = arith.select %m, %y, %zero : vector<[8]xi1>, vector<[8]xf32>
    %r = scf.if %rare -> (vector<[8]xf32>) {
      %u = arith.mulf %x, %y : vector<[8]xf32>
      %w = arith.mulf %u, %y : vector<[8]xf32>
      scf.yield %w : vector<[8]xf32>
    } else {
      scf.yield %s : vector<[8]xf32>
    }
    %t = arith.addf %x, %r : vector<[8]xf32>
  }
}"""


@pytest.mark.ir
def test_live_vectors_are_counted_in_guarded_loops_but_not_in_rare_paths():
    live, widest = pressure(GUARDED.split("\n"))
    assert widest == 32 and live == 3  # x, y or s, and the zero that a select keeps
    assert pressure(GUARDED.replace("-> (vector<[8]xf32>) ", "").split("\n"))[0] > live


@pytest.mark.ir
def test_rows_that_are_short_get_no_more_registers_than_they_fill():
    assert [choose(3, n) for n in (None, 100, 64, 32, 14, 7)] == [8, 8, 8, 4, 2, 1]
    assert choose(3, 14, 64) == 4 and choose(20, 1000) == 1
