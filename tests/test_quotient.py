"""A softmax divides once a row: where it is one, and to the last bit what a division gives."""

from __future__ import annotations

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch_rvv.runtime import record

from torch_rvv.simplify import simplify

OURS = torch.ops.torch_rvv.quotient.default


def softmax(x, dim=-1, by=None):
    power = torch.exp(x - x.amax(dim, True))
    return power / power.sum(dim if by is None else by, keepdim=True)


def divides_by_row(function, x):
    return OURS in [n.target for n in simplify(make_fx(function, tracing_mode="fake")(x)).graph.nodes]


@pytest.mark.ir
@pytest.mark.parametrize("dim", [-1, 2, (1, 2), (0, 1, 2)], ids=str)
def test_a_softmax_along_what_lies_side_by_side_divides_by_row(dim):
    assert divides_by_row(lambda x: softmax(x, dim), torch.randn(3, 4, 5))


@pytest.mark.ir
@pytest.mark.parametrize(
    "function",
    [
        lambda x: softmax(x, 0),
        lambda x: softmax(x, (0, 1)),
        lambda x: softmax(x, -1, 1),
        lambda x: torch.exp(x) / torch.exp(x).sum(-1, keepdim=True),
        lambda x: torch.exp(x - x.amin(-1, True)) / torch.exp(x - x.amin(-1, True)).sum(-1, keepdim=True),
        lambda x: (lambda power: power / power.sum(-1, keepdim=True))(torch.exp2(x - x.amax(-1, True))),
        lambda x: (lambda power: power.sum(-1, keepdim=True) / power)(torch.exp(x - x.amax(-1, True))),
        lambda x: (lambda power: power / power.amax(-1, True))(torch.exp(x - x.amax(-1, True))),
        lambda x: torch.div(*(lambda p: (p, p.sum(-1, keepdim=True)))(torch.exp(x - x.amax(-1, True))),
                            rounding_mode="floor"),
    ],
    ids="columns planes another_sum no_maximum minimum another_power upside_down another_fold rounded".split(),
)  # fmt: skip
def test_another_division_stays(function):
    assert not divides_by_row(function, torch.randn(3, 4, 5))


@pytest.mark.board
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_to_the_last_bit_what_a_division_gives(dtype, rvv):
    torch.manual_seed(0)
    x = torch.randn(200, 301, dtype=dtype) * torch.logspace(-3, 1.5, 200, dtype=dtype)[:, None]

    def parts(x):
        power = torch.exp(x - x.amax(-1, True))
        return power / power.sum(-1, keepdim=True), power, power.sum(-1, keepdim=True)

    with record.collecting() as graphs:
        ours, power, total = rvv(parts)(x)
    wanted = power / total
    tiny = wanted < torch.finfo(dtype).tiny * 2**26  # Where remainders of quotients underflow.
    assert torch.equal(ours[~tiny], wanted[~tiny])
    torch.testing.assert_close(
        ours[tiny], wanted[tiny], rtol=torch.finfo(dtype).eps, atol=torch.finfo(dtype).tiny / 2**20
    )
    assert not any(g.extern for g in graphs)


@pytest.mark.board
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_rows_of_infinities_and_nans_are_those_of_pytorch(dtype, rvv):
    x = torch.randn(7, 67).to(dtype)
    x[0, 3], x[1, 4], x[2], x[3], x[4, :5] = torch.nan, torch.inf, -torch.inf, torch.inf, -torch.inf
    x[5] = torch.linspace(-200, 0, 67)
    function = lambda x: torch.softmax(x, -1)  # noqa: E731
    torch.testing.assert_close(rvv(function)(x), function(x), equal_nan=True)


@pytest.mark.board
@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (0, 4), (2, 3, 5)], ids=str)
def test_small_shapes(shape, rvv):
    x = torch.randn(shape)
    torch.testing.assert_close(rvv(lambda x: torch.softmax(x, -1))(x), torch.softmax(x, -1))
