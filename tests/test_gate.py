"""1 + tanh(u) as a sigmoid: right where it applies, and where it does not."""

from __future__ import annotations

import pytest
import torch
from conftest import FLOATS, assert_same, sample
from torch.fx.experimental.proxy_tensor import make_fx

from torch_rvv.simplify import simplify

aten = torch.ops.aten


def targets(function, x):
    return [n.target for n in simplify(make_fx(function, tracing_mode="fake")(x)).graph.nodes]


@pytest.mark.ir
def test_a_tanh_beside_one_becomes_a_sigmoid():
    assert aten.sigmoid.default in targets(lambda x: (torch.tanh(x) + 1) * x, torch.randn(4))
    assert aten.tanh.default not in targets(lambda x: 1.0 + torch.tanh(x), torch.randn(4))


@pytest.mark.ir
@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.tanh(x) + 2,
        lambda x: torch.tanh(x) + x,
        lambda x: torch.add(torch.tanh(x), 1, alpha=3),
        lambda x: (lambda t: (t + 1) * t)(torch.tanh(x)),
    ],
)
def test_another_sum_or_a_tanh_that_others_need_stays(function):
    assert aten.sigmoid.default not in targets(function, torch.randn(4))


@pytest.mark.board
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_values_are_those_of_the_sum(dtype, rvv):
    x = torch.cat([sample(dtype, low=-20.0, high=20.0), sample(dtype, 50)])
    ours = rvv(lambda x: torch.tanh(x) + 1)(x)
    exact = 2 * torch.sigmoid(2 * x.double())
    assert_same(ours, torch.tanh(x) + 1, 4.0, exact)


@pytest.mark.board
def test_a_gradient_through_it_is_right(rvv):
    x = torch.randn(300, requires_grad=True)
    gelu = lambda x: (0.5 * x * (1 + torch.tanh(0.7978845608 * (x + 0.044715 * x**3)))).sum()  # noqa: E731
    (ours,) = torch.autograd.grad(rvv(gelu)(x), x)
    (wanted,) = torch.autograd.grad(gelu(x), x)
    torch.testing.assert_close(ours, wanted)
