"""Indices that an assertion keeps in bounds: 32 bits, clamped, checked beside the load; and what is left alone."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from test_lowering import linalg
from torch_rvv.runtime import record

from torch_rvv.errors import KernelAssert

HEAD = """
    %zero = arith.constant dense<0> : tensor<64xi64>
    %n = arith.constant dense<100> : tensor<64xi64>
    %r = tt.make_range {end = 64 : i32, start = 0 : i32} : tensor<64xi32>
    %is = tt.splat %i : !tt.ptr<i64> -> tensor<64x!tt.ptr<i64>>
    %ip = tt.addptr %is, %r : tensor<64x!tt.ptr<i64>>, tensor<64xi32>
    %x = tt.load %ip : tensor<64x!tt.ptr<i64>>
    %moved = arith.addi %x, %n : tensor<64xi64>
    %below = arith.cmpi slt, %x, %zero : tensor<64xi64>
    %t = arith.select %below, %moved, %x : tensor<64xi1>, tensor<64xi64>
    %low = arith.cmpi sge, %t, %zero : tensor<64xi64>
    %high = arith.cmpi slt, %t, %n : tensor<64xi64>
    %ok = arith.andi %low, %high : tensor<64xi1>
    tt.assert %ok, "out of bounds" : tensor<64xi1>
    %ps = tt.splat %p : !tt.ptr<f32> -> tensor<64x!tt.ptr<f32>>
    %pp = tt.addptr %ps, %t : tensor<64x!tt.ptr<f32>>, tensor<64xi64>
    %y = tt.load %pp : tensor<64x!tt.ptr<f32>>
    %qs = tt.splat %q : !tt.ptr<f32> -> tensor<64x!tt.ptr<f32>>
    %qp = tt.addptr %qs, %r : tensor<64x!tt.ptr<f32>>, tensor<64xi32>
    tt.store %qp, %y : tensor<64x!tt.ptr<f32>>
"""
ARGUMENTS = "%i: !tt.ptr<i64>, %p: !tt.ptr<f32>, %q: !tt.ptr<f32>, %k: !tt.ptr<i64>"


@pytest.mark.ir
def test_a_checked_index_is_clamped_in_32_bits_and_checked_where_it_is_used():
    text, _ = linalg(HEAD, ARGUMENTS)
    assert text.count("linalg.generic") == 1 and text.count("arith.minui") == 1 and "index_castui" in text
    assert text.index("linalg.generic") < text.index("func.call @torch_rvv.check(%")
    assert "memref<100xf32" in text and "i64, i64) -> (i1)" not in text


@pytest.mark.ir
@pytest.mark.parametrize(("mask", "narrow"), [("63", True), ("-64", False)])
def test_an_index_that_is_masked_by_a_number_has_32_bits(mask, narrow):
    start, end = HEAD.index("    %moved"), HEAD.index("    %ps")
    body = (
        HEAD[:start]
        + f"""    %m = arith.constant dense<{mask}> : tensor<64xi64>
    %t = arith.andi %x, %m : tensor<64xi64>
"""
        + HEAD[end:]
    )
    text, _ = linalg(body, ARGUMENTS)
    assert ("index_castui" in text and "memref<64xf32" in text) == narrow


@pytest.mark.ir
def test_an_index_that_is_for_more_than_addresses_is_checked_first_as_it_is():
    text, _ = linalg(
        HEAD
        + """
    %ks = tt.splat %k : !tt.ptr<i64> -> tensor<64x!tt.ptr<i64>>
    %kp = tt.addptr %ks, %r : tensor<64x!tt.ptr<i64>>, tensor<64xi32>
    tt.store %kp, %t : tensor<64x!tt.ptr<i64>>""",
        ARGUMENTS,
    )
    assert "arith.minui" not in text
    assert text.index("func.call @torch_rvv.check(%") < text.index("memref.load %m")


@pytest.mark.ir
def test_a_store_to_memory_that_the_kernel_reads_waits_for_the_check():
    text, _ = linalg(HEAD.replace("tt.splat %q", "tt.splat %p"), ARGUMENTS)
    assert "arith.minui" in text
    assert text.index("func.call @torch_rvv.check(%") < text.rindex("linalg.generic")


def gathered(x, ids, count=1):
    torch._dynamo.reset()
    with record.collecting() as graphs:
        ours = torch.compile(lambda x, ids: x[ids] * 2, backend="rvv")(x, ids)
    assert torch.equal(ours, x[ids] * 2)
    assert sum(nest["gathers"] for g in graphs for k in g.kernels for nest in k.metadata["nests"]) == count


@pytest.mark.board
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64, torch.int8, torch.bool], ids=str)
@pytest.mark.parametrize("kind", [torch.int64, torch.int32], ids=str)
def test_gathers_by_positive_and_negative_indices(dtype, kind):
    torch.manual_seed(0)
    x = (torch.randn(1003) * 9).to(dtype)
    if dtype == torch.bool:
        ids = torch.randint(-1003, 1003, (777,)).to(kind)
        assert torch.equal(torch.compile(lambda x, ids: x[ids], backend="rvv")(x, ids), x[ids])
        return
    ids = torch.cat([torch.randint(-1003, 1003, (777,)), torch.tensor([0, -1, 1002, -1003])]).to(kind)
    gathered(x, ids)


@pytest.mark.board
def test_gathers_from_a_matrix_by_two_indices():
    x, i, j = torch.randn(30, 41), torch.randint(-30, 30, (99,)), torch.randint(-41, 41, (99,))
    torch._dynamo.reset()
    assert torch.equal(torch.compile(lambda x, i, j: x[i, j] + x[i, 3], backend="rvv")(x, i, j), x[i, j] + x[i, 3])


@pytest.mark.board
@pytest.mark.parametrize("bad", [1003, -1004, 2**31, 2**31 + 5, 2**32 + 5, -(2**32) + 5, -(2**63), 2**63 - 1])
def test_an_index_out_of_bounds_is_an_error_whatever_its_low_bits_say(bad):
    x, ids = torch.randn(1003), torch.randint(0, 1003, (300,))
    compiled = torch.compile(lambda x, ids: x[ids] * 2, backend="rvv")
    assert torch.equal(compiled(x, ids), x[ids] * 2)
    ids[171] = bad
    with pytest.raises(KernelAssert, match="index out of bounds"):
        compiled(x, ids)
    ids[171] = 3
    assert torch.equal(compiled(x, ids), x[ids] * 2)


@pytest.mark.board
def test_a_failed_index_leaves_memory_that_is_updated_in_place_as_it_was():
    x, ids = torch.randn(50), torch.randint(0, 50, (50,))

    def update(x, ids):
        return x.add_(x[ids])

    compiled = torch.compile(update, backend="rvv")
    wanted = update(x.clone(), ids)
    assert torch.equal(compiled(x, ids), wanted)
    ids[7], before = 51, x.clone()
    with pytest.raises(KernelAssert):
        compiled(x, ids)
    assert torch.equal(x, before)


@pytest.mark.board
def test_rows_of_a_table_by_indices():
    table, ids = torch.randn(70, 33), torch.randint(0, 70, (5, 9))
    assert torch.equal(torch.compile(F.embedding, backend="rvv")(ids, table), F.embedding(ids, table))
    ids[2, 2] = 70
    with pytest.raises(KernelAssert):
        torch.compile(F.embedding, backend="rvv")(ids, table)
