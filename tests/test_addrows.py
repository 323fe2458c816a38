"""Rows added where an index says: in eager PyTorch's order, beside Inductor's atomics, and where they are taken."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from test_gemm import BF16, F16, F32
from torch_rvv.runtime import record

from torch_rvv import addrows
from torch_rvv.errors import KernelAssert

ROWS, COUNT = 10, 37


def tensors(width: int = 21, dtype: torch.dtype = F32):
    torch.manual_seed(0)
    x, source = torch.randn(ROWS, width) * 8, torch.randn(COUNT, width) * 8
    return x.to(dtype), torch.randint(0, ROWS, (COUNT,)), source.to(dtype)


def index_add(x, index, source):
    return x.index_add(0, index, source)


def weighted(x, index, source):
    return x.index_add(0, index, source, alpha=2)


def scatter_add(x, index, source):
    return x.scatter_add(0, index[:, None].expand_as(source), source)


def ours(function, *args, dynamic: bool = False):
    """(result, whether the kernel was launched)."""
    torch._dynamo.reset()
    with record.collecting() as graphs:
        result = torch.compile(function, backend="rvv", dynamic=dynamic)(*args)
    return result, any(k.name.startswith("add_rows") for g in graphs for k in g.kernels)


@pytest.mark.board
@pytest.mark.parametrize("dtype", [F32, torch.float64, torch.int32, torch.int64], ids=str)
@pytest.mark.parametrize("function", [index_add, weighted, scatter_add])
def test_sums_are_eager_pytorchs_to_the_bit(function, dtype):
    x, index, source = tensors(dtype=dtype)
    result, taken = ours(function, x, index, source)
    assert taken and torch.equal(result, function(x, index, source))


@pytest.mark.board
@pytest.mark.parametrize("dtype", [F16, BF16], ids=str)
@pytest.mark.parametrize("function", [index_add, scatter_add])
def test_sums_of_short_floats_are_rounded_once(function, dtype):
    x, index, source = tensors(dtype=dtype)
    result, taken = ours(function, x, index, source)
    exact = function(x.double(), index, source.double())
    assert taken and torch.equal(result, exact.float().to(dtype))


@pytest.mark.board
def test_the_plain_form_has_the_same_sums(monkeypatch):
    x, index, source = tensors()
    x, source = x.round(), source.round()  # Nothing is rounded, so that the order says nothing.
    source[3, 5], source[4, 6], x[int(index[7]), 8] = torch.inf, torch.nan, -torch.inf
    result, _ = ours(index_add, x, index, source)
    monkeypatch.setattr(addrows, "_applies", lambda *_: False)
    plain, taken = ours(index_add, x, index, source)
    assert not taken
    torch.testing.assert_close(result, plain, rtol=0, atol=0, equal_nan=True)


@pytest.mark.board
@pytest.mark.parametrize("width", [16, 64, 600, 5000])
def test_rows_of_any_width_and_negative_indices_of_two_dimensions(width):
    x, index, source = tensors(width)
    index = (index - ROWS // 2).reshape(1, COUNT)

    def call(x, index, source):
        return (x * 2).index_put_((index,), source[None].sin(), accumulate=True)

    result, taken = ours(call, x, index, source)
    assert taken
    torch.testing.assert_close(result, call(x, index, source), rtol=1e-6, atol=1e-5)


@pytest.mark.board
def test_values_are_broadcast_and_rows_may_have_dimensions():
    x, index = torch.randn(ROWS, 3, 17), torch.randint(0, ROWS, (5, 4))
    call = lambda x, index, row: x.index_put((index,), row, accumulate=True)  # noqa: E731
    row = torch.randn(17)
    result, taken = ours(call, x, index, row)
    assert taken and torch.equal(result, call(x, index, row))


@pytest.mark.board
def test_no_rows_and_any_number_of_them():
    x, index, source = tensors()
    for count in (0, 1, COUNT):
        result, taken = ours(index_add, x, index[:count], source[:count])
        assert taken and torch.equal(result, index_add(x, index[:count], source[:count]))
    compiled = torch.compile(
        lambda x, i, s: x.view(-1, 32).index_add(0, i, s.view(-1, 32)), backend="rvv", dynamic=True
    )
    for count in (5, 11):
        index, source = torch.randint(0, 3 * count, (2 * count,)), torch.randn(2 * count * 32)
        wanted = torch.zeros(3 * count, 32).index_add(0, index, source.view(-1, 32))
        assert torch.equal(compiled(torch.zeros(3 * count * 32), index, source), wanted)


@pytest.mark.board
@pytest.mark.parametrize("function, wrong", [(index_add, ROWS), (scatter_add, ROWS), (scatter_add, -1)])
def test_an_index_without_a_row_is_an_error(function, wrong):
    x, index, source = tensors()
    index[-1] = wrong
    with pytest.raises(KernelAssert, match="index out of bounds"):
        ours(function, x, index, source)


@pytest.mark.board
def test_gradients_of_rows_that_are_read():
    def embedded(table, index):
        return (F.embedding(index, table, padding_idx=2).sin() + table[index.flip(0)]).sum()

    table, index, _ = tensors()
    table.requires_grad_()
    grads = []
    for call in (embedded, torch.compile(embedded, backend="rvv")):
        torch._dynamo.reset()
        with record.collecting() as graphs:
            grads.append(torch.autograd.grad(call(table, index), table)[0])
    assert any(k.name.startswith("add_rows") for g in graphs for k in g.kernels)
    torch.testing.assert_close(*grads, rtol=1e-5, atol=1e-5)


@pytest.mark.board
def test_what_stays_what_it_was():
    """Narrow rows, other dimensions, indices that differ along a row, rows that are put."""
    x, index, source = tensors()
    others = [
        (index_add, x[:, :9].contiguous(), index, source[:, :9].contiguous()),
        (lambda x, i, s: x.index_add(1, i, s), x.t().contiguous(), index, source.t().contiguous()),
        (lambda x, i, s: x.scatter_add(0, i, s), x, torch.randint(0, ROWS, source.shape), source),
        (lambda x, i, s: x.index_put((i,), s), x, torch.arange(ROWS), source[:ROWS]),
    ]
    for call, *args in others:
        result, taken = ours(call, *args)
        assert not taken
        torch.testing.assert_close(result, call(*args), rtol=1e-5, atol=1e-4)
