"""Indices carried along a reduction: which combine functions are an order, and what becomes of those that are."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl
from torch_rvv.lowering.argorder import Order, order_of
from torch_rvv.lowering.mlir import context, ir

from tests.conftest import FLOATS, sample

# a, b: values; i, j: indices. Each ends with %m, whether a and i are kept.
ATEN = """
    %gt = arith.cmpf {gt}, %a, %b : f32
    %eq = arith.cmpf oeq, %a, %b : f32
    %an = arith.cmpf une, %a, %a : f32
    %bn = arith.cmpf une, %b, %b : f32
    %yes = arith.constant true
    %bk = arith.xori %bn, %yes : i1
    %only = arith.andi %an, %bk : i1
    %more = arith.ori %gt, %only : i1
    %both = arith.andi %an, %bn : i1
    %same = arith.ori %eq, %both : i1
    %before = arith.cmpi {before}, %i, %j : i32
    %tie = arith.andi %same, %before : i1
    %m = arith.ori %more, %tie : i1"""
TRITON = """
    %eq = arith.cmpf oeq, %a, %b : f32
    %before = arith.cmpi slt, %i, %j : i32
    %tie = arith.andi %eq, %before : i1
    %gt = arith.cmpf ogt, %a, %b : f32
    %m = arith.ori %gt, %tie : i1"""
WHOLE = """
    %eq = arith.cmpi eq, %a, %b : i32
    %before = arith.cmpi slt, %i, %j : i32
    %tie = arith.andi %eq, %before : i1
    %gt = arith.cmpi {gt}, %a, %b : i32
    %m = arith.ori %gt, %tie : i1"""
# NaN is kept if it comes first only; ties go to whoever is on the left; a product of the two; a limit on the index.
HALF_NAN = "%an = arith.cmpf une, %a, %a : f32\n" + TRITON.replace("%m =", "%n =") + "\n%m = arith.ori %n, %an : i1"
LEFT = "%m = arith.cmpf oge, %a, %b : f32"
PRODUCT = "%p = arith.mulf %a, %b : f32\n%m = arith.cmpf ogt, %p, %b : f32"
LIMIT = TRITON + "\n%c = arith.constant 7 : i32\n%l = arith.cmpi slt, %i, %c : i32\n%k = arith.andi %m, %l : i1"


def order(body, kept="%m", elem="f32", other="%a, %b"):
    text = f"""func.func @f(%a: {elem}, %i: i32, %b: {elem}, %j: i32) -> ({elem}, i32) {{
        {body}
        %v = arith.select {kept}, {other} : {elem}
        %w = arith.select {kept}, %i, %j : i32
        return %v, %w : {elem}, i32
    }}"""
    with context(), ir.Location.unknown():
        module = ir.Module.parse(text)
        return order_of(module.body.operations[0].regions[0].blocks[0])


@pytest.mark.ir
@pytest.mark.parametrize(
    "body, elem, wanted",
    [
        (ATEN.format(gt="ogt", before="slt"), "f32", Order(True, False, False)),
        (ATEN.format(gt="olt", before="slt"), "f32", Order(False, False, False)),
        (ATEN.format(gt="ogt", before="sgt"), "f32", Order(True, True, False)),
        (TRITON, "f32", Order(True, False, False)),
        (WHOLE.format(gt="sgt"), "i32", Order(True, False, False)),
        (WHOLE.format(gt="slt"), "i32", Order(False, False, False)),
        (WHOLE.format(gt="ugt"), "i32", Order(True, False, True)),
    ],
)
def test_a_function_that_keeps_by_order(body, elem, wanted):
    assert order(body, elem=elem) == wanted


@pytest.mark.ir
@pytest.mark.parametrize(
    "body, kept",
    [
        (HALF_NAN, "%m"), (LEFT, "%m"), (PRODUCT, "%m"), (LIMIT, "%k"),
        (ATEN.format(gt="one", before="slt"), "%m"), (ATEN.format(gt="ogt", before="ult"), "%m"),
    ],
)  # fmt: skip
def test_functions_that_are_no_order_are_declined(body, kept):
    assert order(body, kept) is None


@pytest.mark.ir
def test_a_value_from_one_side_with_the_other_s_index_is_no_order():
    assert order(TRITON, other="%b, %a") is None


@triton.jit
def first_of_largest(x, y, N, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """Of each row that a program has, the index of its largest element."""
    r, k = tl.arange(0, ROWS)[:, None], tl.arange(0, BLOCK)[None, :]
    tl.store(y + tl.arange(0, ROWS), tl.argmax(tl.load(x + r * N + k, k < N, other=float("-inf")), 1))


@pytest.mark.board
@pytest.mark.parametrize("length", [1, 7, 64, 100])
def test_triton_s_own_argmax(length, monkeypatch):
    monkeypatch.setenv("TORCH_RVV_FALLBACK", "error")
    x = torch.randint(-3, 4, (16, length)).float()
    y = torch.full((16,), -1, dtype=torch.int32)
    first_of_largest[(1,)](x, y, length, ROWS=16, BLOCK=triton.next_power_of_2(length))
    assert torch.equal(y.long(), x.argmax(1))


@pytest.mark.board
@pytest.mark.parametrize("dtype", [*FLOATS, torch.int8, torch.uint8, torch.int64], ids=str)
@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (5, 100), (70, 33)], ids=str)
def test_ties_zeros_infinities_and_nan_as_in_aten(shape, dtype, rvv):
    """Also where a row is nothing but -inf, or the largest there is."""
    x = sample(dtype, shape[0] * shape[1], seed=3).reshape(shape)
    if dtype.is_floating_point:
        x[0] = float("-inf")
        x[-1, x.shape[1] // 2 :] = 0.0
        x[-1, : x.shape[1] // 2] = -0.0
    else:
        x[0] = torch.iinfo(dtype).min
        x[-1] = torch.iinfo(dtype).max
    compiled = rvv(lambda x: (x.argmax(1), x.argmin(1), x.argmax(0), x.argmax(), x.max(1).indices, x.min(0).indices))
    expected = (x.argmax(1), x.argmin(1), x.argmax(0), x.argmax(), x.max(1).indices, x.min(0).indices)
    for ours, theirs in zip(compiled(x), expected, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.board
def test_of_a_value_that_is_computed_too(rvv):
    x = torch.randn(20, 90)
    ours = rvv(lambda x: (x.softmax(1).argmax(1), (x.exp() + 1).max(1)))(x)
    assert torch.equal(ours[0], x.softmax(1).argmax(1)) and torch.equal(ours[1].indices, x.argmax(1))
