"""Attention as blocks of queries walking over keys: forward, gradients, masks, heads that share keys, types."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch_rvv.runtime import record

import torch_rvv
from torch_rvv import attention

pytestmark = pytest.mark.board
F32, F16, BF16 = torch.float32, torch.float16, torch.bfloat16
TOLERANCE = {F32: 2e-6, F16: 2e-3, BF16: 1e-2}

# batch, heads, heads of keys, queries, keys, head size, type, causal, mask
CASES = {
    "one block": (1, 2, 2, 64, 64, 64, F32, False, None),
    "causal, ragged": (2, 4, 4, 77, 77, 32, F32, True, None),
    "causal, several blocks": (1, 2, 2, 300, 300, 16, F32, True, None),
    "causal, fewer keys": (1, 2, 2, 150, 40, 16, F32, True, None),
    "keys shared by heads": (2, 6, 2, 130, 200, 48, F16, False, None),
    "a mask of rows and columns": (1, 4, 4, 33, 300, 80, BF16, False, "bool"),
    "a bias a head": (1, 4, 4, 33, 300, 16, F32, False, "bias"),
    "a bias a key": (2, 2, 2, 20, 150, 24, F32, False, "key"),
    "a large head": (1, 2, 2, 150, 150, 256, F32, False, None),
    "a larger head": (1, 1, 1, 20, 30, 300, F32, False, None),
    "one query": (2, 4, 2, 1, 100, 64, F32, False, None),
    "two queries": (1, 2, 2, 2, 3, 8, F32, True, None),
}


def case(name):
    """(tensors, mask, a function of them, the same in f64)."""
    b, h, hk, length, keys, e, dtype, causal, kind = CASES[name]
    torch.manual_seed(0)
    tensors = [torch.randn(b, heads, n, e).to(dtype) for heads, n in ((h, length), (hk, keys), (hk, keys))]
    mask = {
        None: lambda: None,
        "bool": lambda: torch.rand(b, 1, length, keys) > 0.3,
        "bias": lambda: torch.randn(1, h, length, keys).to(dtype),
        "key": lambda: torch.randn(b, 1, 1, keys).to(dtype).expand(b, 1, length, keys),
    }[kind]()
    if kind == "bool":
        mask[:, :, 2] = False

    def ours(q, k, v, mask):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, enable_gqa=h != hk)

    def exact(q, k, v, mask):
        k, v = (t.repeat_interleave(h // hk, 1) for t in (k, v))
        wide = mask if mask is None or mask.dtype == torch.bool else mask.double()
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=wide, is_causal=causal)
        return out if kind != "bool" else torch.where(mask.any(-1, keepdim=True), out, 0.0)

    return tensors, mask, ours, exact


def close(ours, wanted, dtype):
    error = (ours.double() - wanted).abs().max() / wanted.abs().max().clamp(min=1e-30)
    assert ours.dtype == dtype and ours.shape == wanted.shape and error <= TOLERANCE[dtype], error


@pytest.mark.parametrize("name", CASES)
def test_attention(name):
    tensors, mask, function, exact = case(name)
    torch._dynamo.reset()
    with record.collecting() as graphs:
        ours = torch.compile(function, backend="rvv")(*tensors, mask)
    close(ours, exact(*(t.double() for t in tensors), mask), tensors[0].dtype)
    assert not any(g.extern or g.reason for g in graphs) and all(k.compiled for g in graphs for k in g.kernels)
    blocked = any(k.name.startswith("attention_forward") for g in graphs for k in g.kernels)
    assert blocked == (name not in ("one query", "a larger head"))


@pytest.mark.parametrize("name", ["causal, ragged", "keys shared by heads", "a mask of rows and columns", "one block"])
def test_gradients(name):
    tensors, mask, function, exact = case(name)
    leaves = [t.requires_grad_() for t in tensors]
    wide = [t.detach().double().requires_grad_() for t in tensors]
    torch._dynamo.reset()
    with record.collecting() as graphs:
        ours = torch.compile(function, backend="rvv")(*leaves, mask)
        grad = torch.randn_like(ours)
        found = torch.autograd.grad(ours, leaves, grad)
    for a, b in zip(found, torch.autograd.grad(exact(*wide, mask), wide, grad.double()), strict=True):
        close(a, b, a.dtype)
    assert not any(g.extern for g in graphs)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kind", [None, "bool", "bias"])
def test_blocks_give_what_all_scores_at_once_give(causal, kind):
    """The optimised path against its plain twin, outputs and log-sums; a row that is masked off entirely."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, n, 40) for n in (70, 150, 150))
    mask = {None: None, "bool": torch.rand(2, 3, 70, 150) > 0.5, "bias": torch.randn(2, 3, 70, 150)}[kind]
    if mask is not None:
        mask[0, 1, 5] = False if kind == "bool" else -float("inf")
    op = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    bias = mask if kind != "bool" else torch.zeros(mask.shape).masked_fill(~mask, -float("inf"))
    compiled = torch.compile(lambda *a: op(*a, 0.0, causal, attn_mask=bias, scale=0.3), backend="rvv")
    ours, twin = compiled(q, k, v), attention.plain(q, k, v, mask, causal, 0.3)
    for a, b in zip(ours, twin, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert ours[0].stride() == twin[0].stride()


def test_non_finite_scores():
    q, k, v = (torch.randn(1, 1, 40, 16) for _ in range(3))
    q[0, 0, 3, 2], k[0, 0, 7] = float("nan"), float("inf")
    ours = torch.compile(F.scaled_dot_product_attention, backend="rvv")(q, k, v)
    wanted = torch.softmax(q @ k.mT / 4, -1) @ v
    torch.testing.assert_close(ours, wanted, equal_nan=True, rtol=1e-5, atol=1e-5)


def test_a_dynamic_number_of_queries_and_keys():
    torch._dynamo.reset()
    function = torch.compile(F.scaled_dot_product_attention, backend="rvv")
    with record.collecting() as graphs:
        for length, keys in ((30, 40), (129, 300), (5, 1000)):
            q, k, v = (torch.randn(1, 2, n, 32) for n in (length, keys, keys))
            for t in (q, k, v):
                torch._dynamo.mark_dynamic(t, 2)
            torch.testing.assert_close(function(q, k, v), F.scaled_dot_product_attention(q, k, v))
    assert len(graphs) == 1 and not graphs[0].extern


def test_views_of_one_projection_are_read_where_they_stand():
    x = torch.randn(2, 70, 3 * 4 * 16)

    def heads(x):
        q, k, v = (t.view(2, 70, 4, 16).transpose(1, 2) for t in x.split(64, -1))
        return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(2, 70, 64) + 1

    with record.collecting() as graphs:
        ours = torch.compile(heads, backend="rvv")(x)
    torch.testing.assert_close(ours, heads(x))
    assert [len(g.kernels) for g in graphs] == [2]


def test_what_stays_in_aten_is_said():
    q, k, v = (torch.randn(1, 2, 20, 16) for _ in range(3))
    report = torch_rvv.explain(F.scaled_dot_product_attention, q, k, v, options={"attention": "aten"})
    assert report.extern and 'options={"attention": "aten"}' in str(report)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_that_inductor_finds_in_a_graph(masked, training):
    """Written out as products and a softmax; Inductor makes the operator of it when decompositions are done."""

    def written_out(q, k, v, mask):
        scores = torch.matmul(q, k.transpose(-2, -1)) / 4.0
        return torch.matmul(torch.softmax(scores + mask if masked else scores, -1), v)

    torch.manual_seed(0)
    tensors = [torch.randn(2, 4, 40, 16, requires_grad=training) for _ in range(3)]
    mask = torch.randn(2, 1, 1, 40)
    torch._dynamo.reset()
    with record.collecting() as graphs:
        out = torch.compile(written_out, backend="rvv")(*tensors, mask)
        ours = torch.autograd.grad(out.square().sum(), tensors) if training else ()
    exact = [t.detach().double().requires_grad_() for t in tensors]
    wanted = written_out(*exact, mask.double())
    theirs = torch.autograd.grad(wanted.square().sum(), exact) if training else ()
    assert not any(g.extern for g in graphs)
    if not training:
        assert any("attention_forward" in k.name for g in graphs for k in g.kernels)
    for mine, other in zip([out, *ours], [wanted, *theirs], strict=True):
        assert (mine.double() - other).abs().max() <= 2e-5 * other.abs().max()


def test_attention_of_dynamic_sizes_that_inductor_finds_stays_in_aten():
    def written_out(q, k, v):
        return torch.matmul(torch.softmax(torch.matmul(q, k.transpose(-2, -1)) / 4.0, -1), v)

    torch._dynamo.reset()
    compiled = torch.compile(written_out, backend="rvv")
    with record.collecting() as graphs:
        for length in (40, 23, 64):
            torch.manual_seed(length)
            tensors = [torch.randn(2, 4, length, 16, requires_grad=True) for _ in range(3)]
            ours = torch.autograd.grad(compiled(*tensors).square().sum(), tensors)
            theirs = torch.autograd.grad(written_out(*tensors).square().sum(), tensors)
            for a, b in zip(ours, theirs, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    first, *dynamic = [bool(g.extern) for g in graphs[::2]]
    assert not first and all(dynamic)


def test_gradients_with_dynamic_lengths():
    """The forward graph hands a number of blocks, which it worked out, to the backward one."""
    torch._dynamo.reset()
    compiled = torch.compile(lambda q, k, v: F.scaled_dot_product_attention(q, k, v), backend="rvv")
    with record.collecting() as graphs:
        for length in (40, 23, 150):
            torch.manual_seed(length)
            tensors = [torch.randn(2, 4, length, 16, requires_grad=True) for _ in range(3)]
            ours = torch.autograd.grad(compiled(*tensors).square().sum(), tensors)
            theirs = torch.autograd.grad(F.scaled_dot_product_attention(*tensors).square().sum(), tensors)
            for a, b in zip(ours, theirs, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    assert len(graphs) == 4 and not any(g.extern or g.reason for g in graphs)
