"""Convolution and attention as kernels of ours: shapes, strides, masks, types, what stays in aten."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from test_gemm import BF16, F16, F32, agree

import torch_rvv

pytestmark = pytest.mark.board

# n, c, h, w, o, kernel, stride, padding, dilation, groups
CONVOLUTIONS = {
    "first layer": (1, 3, 32, 32, 16, 7, 2, 3, 1, 1),
    "3x3": (2, 16, 14, 14, 24, 3, 1, 1, 1, 1),
    "1x1": (1, 32, 15, 17, 40, 1, 1, 0, 1, 1),
    "1x1 with stride": (1, 32, 15, 17, 40, 1, 2, 0, 1, 1),
    "depthwise": (1, 24, 15, 17, 24, 3, 1, 1, 1, 24),
    "depthwise with stride": (1, 24, 15, 17, 24, 3, 2, 1, 1, 24),
    "large depthwise": (1, 12, 15, 17, 12, 7, 1, 3, 1, 12),
    "groups and dilation": (1, 8, 15, 17, 12, 3, 1, 2, 2, 4),
    "one output": (1, 8, 3, 3, 4, 3, 1, 0, 1, 1),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("dtype", [F32, BF16], ids=str)
def test_convolution(name, dtype):
    n, c, h, w, o, k, stride, padding, dilation, groups = CONVOLUTIONS[name]
    torch.manual_seed(0)
    x, bias = torch.randn(n, c, h, w).to(dtype), torch.randn(o).to(dtype)
    weight = (torch.randn(o, c // groups, k, k) / (c * k * k / groups) ** 0.5).to(dtype)
    graphs = agree(lambda x, w, b: F.conv2d(x, w, b, stride, padding, dilation, groups).relu(), x, weight, bias)
    assert not any(g.extern for g in graphs)
    assert not any(nest["gathers"] for g in graphs for k in g.kernels for nest in k.metadata["nests"]) or dtype == BF16


def test_convolution_in_one_and_three_dimensions_and_channels_last():
    torch.manual_seed(0)
    agree(lambda x, w: F.conv1d(x, w, None, 2, 1), torch.randn(2, 5, 31), torch.randn(7, 5, 3))
    agree(lambda x, w: F.conv3d(x, w, None, 1, 1), torch.randn(1, 3, 6, 7, 8), torch.randn(4, 3, 3, 3, 3))
    x = torch.randn(2, 8, 9, 11).to(memory_format=torch.channels_last)
    agree(lambda x, w: F.conv2d(x, w, padding=1), x, torch.randn(6, 8, 3, 3))


def test_gradients_of_a_convolution():
    torch.manual_seed(0)
    layer, x = torch.nn.Conv2d(4, 6, 3, padding=1), torch.randn(2, 4, 9, 9)
    wanted = torch.autograd.grad(layer(x).square().sum(), layer.parameters())
    ours = torch.autograd.grad(torch.compile(layer, backend="rvv")(x).square().sum(), layer.parameters())
    for a, b in zip(ours, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_what_stays_in_aten_is_said():
    x, w = torch.randn(1, 4, 5, 5), torch.randn(4, 6, 3, 3)
    report = torch_rvv.explain(lambda x, w: F.conv_transpose2d(x, w), x, w)
    assert report.extern and "a transposed convolution" in str(report)
    report = torch_rvv.explain(lambda x: F.conv2d(x, x), x, options={"conv": "aten"})
    assert report.extern and 'options={"conv": "aten"}' in str(report)
    q = torch.randn(1, 2, 8, 16)
    report = torch_rvv.explain(F.scaled_dot_product_attention, q, q, q, options={"attention": "aten"})
    assert any("attention" in name for name in report.extern)


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
