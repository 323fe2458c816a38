"""Products with a vector, integers and attention as kernels of ours, and what stays in aten."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from test_gemm import BF16, F16, F32, agree

import torch_rvv

pytestmark = pytest.mark.board


def test_what_stays_in_aten_is_said():
    x = torch.randn(1, 4, 5, 5)
    report = torch_rvv.explain(lambda x: F.conv2d(x.double(), x.double()), x)
    assert report.extern and "a type that has no kernel" in str(report)
    report = torch_rvv.explain(lambda x: F.conv2d(x, x), x, options={"conv": "aten"})
    assert report.extern and 'options={"conv": "aten"}' in str(report)
    q = torch.randn(1, 2, 8, 16)
    report = torch_rvv.explain(F.scaled_dot_product_attention, q, q, q, options={"attention": "aten"})
    assert any("attention" in name for name in report.extern)


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize(
    "shape, dim", [((0,), None), ((0, 5), None), ((3, 0), 1), ((0, 4), 1), ((2, 3), 0), ((), None)]
)
def test_variance_and_mean_of_nothing(shape, dim, keepdim):
    def function(x):
        return torch.var_mean(x, dim, correction=1, keepdim=keepdim)

    torch._dynamo.reset()
    x = torch.randn(shape)
    torch.testing.assert_close(torch.compile(function, backend="rvv")(x), function(x), equal_nan=True)


@pytest.mark.parametrize("dtype", [F32, F16, BF16], ids=str)
@pytest.mark.parametrize(
    ("heads", "kv_heads", "length", "keys", "size", "causal"),
    [(12, 12, 40, 40, 64, False), (3, 3, 33, 33, 16, True), (8, 2, 17, 17, 32, True), (8, 8, 1, 100, 64, False)],
)
def test_attention(heads, kv_heads, length, keys, size, causal, dtype):
    torch.manual_seed(0)
    q = torch.randn(2, heads, length, size).to(dtype)
    k, v = (torch.randn(2, kv_heads, keys, size).to(dtype) for _ in "kv")
    graphs = agree(
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=heads != kv_heads), q, k, v
    )
    assert not any(g.extern for g in graphs)


@pytest.mark.parametrize("kind", ["bias", "bool"])
def test_masked_attention_and_rows_without_any_key(kind):
    torch.manual_seed(0)
    q, k, v = torch.randn(1, 4, 20, 32), torch.randn(1, 4, 50, 32), torch.randn(1, 4, 50, 32)
    mask = torch.rand(20, 50) < 0.7
    mask[3] = False
    mask = mask if kind == "bool" else torch.where(mask, torch.randn(20, 50), -torch.inf)
    ours = torch.compile(F.scaled_dot_product_attention, backend="rvv")(q, k, v, mask)
    torch.testing.assert_close(ours, F.scaled_dot_product_attention(q, k, v, mask), rtol=1e-5, atol=1e-5)


def test_gradients_of_attention():
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 2, 9, 16, requires_grad=True) for _ in "qkv")

    def loss(q, k, v):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True).square().sum()

    wanted = torch.autograd.grad(loss(q, k, v), (q, k, v))
    ours = torch.autograd.grad(torch.compile(loss, backend="rvv")(q, k, v), (q, k, v))
    for a, b in zip(ours, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
