"""Batch normalisation by running statistics, as one operator."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from test_gemm import BF16, F16, F32, agree
from torch_rvv.runtime import record

pytestmark = pytest.mark.board


def statistics(channels=5):
    torch.manual_seed(0)
    return torch.randn(channels), torch.rand(channels) + 0.5, torch.randn(channels), torch.randn(channels)


@pytest.mark.parametrize("dtype", [F32, F16, BF16], ids=str)
@pytest.mark.parametrize("shape", [(2, 5, 6, 7), (3, 5), (2, 5, 9), (1, 5, 2, 3, 4), (0, 5, 3)], ids=str)
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_by_running_statistics(shape, affine, dtype):
    mean, var, weight, bias = statistics()
    x = torch.randn(shape).to(dtype)
    if not affine:
        agree(lambda x, m, v: F.batch_norm(x, m.to(x.dtype), v.to(x.dtype)), x, mean, var)
        return
    agree(lambda x, *of: F.batch_norm(x, *(t.to(x.dtype) for t in of)), x, mean, var, weight, bias)


@pytest.mark.parametrize("dtype", [F16, BF16], ids=str)
def test_statistics_may_be_wider_than_the_image(dtype):
    x, (mean, var, weight, bias) = torch.randn(2, 5, 33).to(dtype), statistics()
    wanted = F.batch_norm(x.double(), mean.double(), var.double(), weight.double(), bias.double())
    found = torch.compile(F.batch_norm, backend="rvv")(x, mean, var, weight, bias)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), wanted, rtol=2e-3 if dtype == F16 else 2e-2, atol=1e-2)


@pytest.mark.parametrize("affine", [(True, True), (True, False), (False, True), (False, False)], ids=str)
def test_it_is_what_eager_pytorch_computes_and_keeps_the_order_of_the_image(affine):
    torch._dynamo.reset()
    x, (mean, var, weight, bias) = torch.randn(2, 5, 6, 7).to(memory_format=torch.channels_last), statistics()
    x[0, 0, 0, :3] = torch.tensor([torch.inf, -torch.inf, torch.nan])
    x[1, 0, 0, :2] = torch.tensor([-0.0, 1e38])
    of = mean, var, weight if affine[0] else None, bias if affine[1] else None
    found, wanted = torch.compile(F.batch_norm, backend="rvv")(x, *of), F.batch_norm(x, *of)
    assert found.stride() == wanted.stride()
    torch.testing.assert_close(found, wanted, equal_nan=True, rtol=1e-6, atol=1e-6)


def test_doubles_are_left_to_the_usual_decomposition():
    torch._dynamo.reset()
    x, of = torch.randn(2, 5, 6).double(), [t.double() for t in statistics()]
    with record.collecting() as graphs:
        found = torch.compile(F.batch_norm, backend="rvv")(x, *of)
    torch.testing.assert_close(found, F.batch_norm(x, *of))
    assert not any(g.extern for g in graphs)


def test_it_is_one_kernel_with_what_is_around_it_and_nothing_is_saved_of_it_for_the_gradient():
    torch._dynamo.reset()
    x, (mean, var, weight, bias) = torch.randn(2, 5, 6, 7, requires_grad=True), statistics()

    def function(x):
        return F.batch_norm(x.exp(), mean, var, weight, bias).sigmoid()

    with record.collecting() as graphs:
        result = torch.compile(function, backend="rvv")(x)
        # x, and what the result is: not the normalised image.
        saved = [tensor for tensor in result.grad_fn.saved_tensors if tensor.numel() == x.numel()]
        (found,) = torch.autograd.grad(result.square().sum(), x)
    (wanted,) = torch.autograd.grad(function(x).square().sum(), x)
    torch.testing.assert_close(found, wanted)
    assert len(saved) <= 2, [tuple(t.shape) for t in saved]
    (kernel,) = [k for k in graphs[0].kernels if "no_training" in k.name]  # The other: numbers by channel.
    assert "exp_sigmoid" in kernel.name and not graphs[0].extern
