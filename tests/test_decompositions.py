"""Products with a vector, integers and attention as kernels of ours, and what stays in aten."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from test_gemm import BF16, F16, F32, agree
from torch._inductor.fx_passes import joint_graph
from torch_rvv.runtime import record

import torch_rvv
from torch_rvv import patterns as patterns_

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


def test_a_softmax_of_scaled_numbers_is_one_pass_here_and_is_left_alone_elsewhere():
    x = torch.randn(4, 50)
    x[0, 1], x[1, 2], x[2] = torch.inf, torch.nan, -torch.inf

    def function(x):
        return (x * 0.125).softmax(-1)

    torch._dynamo.reset()
    with record.collecting() as graphs:
        ours = torch.compile(function, backend="rvv")(x)
    torch.testing.assert_close(ours, function(x), equal_nan=True)
    assert len(graphs[0].kernels) == 1 and "abs" not in graphs[0].kernels[0].name
    for entries in (e for patterns in joint_graph.pass_patterns for e in patterns.patterns.values()):
        for entry in entries:
            if getattr(entry, "handler", None) in patterns_.SCALED_SOFTMAX:
                match = SimpleNamespace(kwargs={"other": 2.0})
                assert entry.extra_check(match)


@pytest.mark.parametrize("dtype", [F32, F16, BF16, torch.float64, torch.int32], ids=str)
@pytest.mark.parametrize("limits", [(0, 6), (-1.5, 1.25), (2, 1)], ids=str)
def test_clamping_between_two_limits(limits, dtype):
    torch._dynamo.reset()
    x = torch.tensor([-9, -1.5, -1, -0.0, 0.0, 0.5, 1.25, 6, 7, torch.nan, torch.inf, -torch.inf])
    x = x.nan_to_num(3, 4, -4).to(dtype) if dtype == torch.int32 else x.to(dtype)
    found = torch.compile(torch.ops.aten.hardtanh, backend="rvv")(x, *limits)
    torch.testing.assert_close(found, torch.ops.aten.hardtanh(x, *limits), equal_nan=True, rtol=0, atol=0)
