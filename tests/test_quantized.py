"""Graphs as quantization tools leave them: what they multiply, and what is simplified on the way."""

from __future__ import annotations

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch_rvv.runtime import record

from torch_rvv.simplify import simplify

I8 = torch.int8


def dynamic(x, weight, scale):
    """Activations to bytes, a scale a row; unsigned for the product, as torchao has it on a CPU."""
    rows = x.abs().amax(-1, keepdim=True).clamp(min=1e-6) / 127.5
    bytes_ = torch.clamp(torch.round(x * (1.0 / rows)), -128, 127).to(I8)
    right = weight.t()
    product = torch._int_mm((bytes_.to(torch.int32) + 128).to(torch.uint8), right)
    product = product - right.sum(0, keepdim=True, dtype=torch.int32) * 128
    return product.float() * rows * scale


def signed(x, weight, scale):
    """Likewise without the detour over unsigned bytes."""
    rows = x.abs().amax(-1, keepdim=True).clamp(min=1e-6) / 127.0
    bytes_ = torch.round(x / rows).to(I8)
    return torch._int_mm(bytes_, weight.t()).float() * rows * scale


def weight_only(x, weight, scale):
    """Bytes in memory, x's type in the product."""
    return (x @ weight.t().to(x.dtype)) * scale


def groups(x, weight, scale):
    """Numbers of 4 bits, a scale for each 32 along a row."""
    parts = weight.reshape(weight.shape[0], -1, 32).to(x.dtype) * scale[:, None, None] * 0.5
    return torch.addmm(scale, x, parts.reshape(weight.shape).t())


def nibbles(x, weight, scale):
    """The same, two numbers in a byte; unpacked where they are read."""
    pairs = (weight[:, 0::2] & 15) | (weight[:, 1::2] << 4)
    low, high = ((pairs << 4) >> 4), pairs >> 4
    return groups(x, torch.stack([low, high], -1).reshape(weight.shape), scale)


@pytest.mark.board
@pytest.mark.parametrize("rows", [1, 2, 17, 40])
@pytest.mark.parametrize("function", [dynamic, signed, weight_only, groups, nibbles])
def test_quantized_layers(function, rows, rvv):
    torch.manual_seed(rows)
    x, scale = torch.randn(rows, 96), torch.rand(57) / 64
    weight = torch.randint(*((-8, 8) if function in (groups, nibbles) else (-128, 128)), (57, 96), dtype=I8)
    with record.collecting() as graphs:
        ours = torch.compile(function, backend="rvv")(x, weight, scale)
    torch.testing.assert_close(ours, function(x, weight, scale), rtol=1e-5, atol=1e-5)
    assert not any(g.extern for g in graphs)


@pytest.mark.board
@pytest.mark.parametrize(("m", "n", "k"), [(1, 20, 64), (5, 20, 64), (5, 1, 33), (40, 70, 1), (17, 33, 100)])
def test_unsigned_bytes(m, n, k, rvv):
    a = torch.randint(0, 256, (m, k), dtype=torch.uint8)
    b = torch.randint(-128, 128, (k, n), dtype=I8)
    a[0], b[:, 0] = 255, -128
    with record.collecting() as graphs:
        ours = torch.compile(torch._int_mm, backend="rvv")(a, b)
    assert torch.equal(ours, a.int() @ b.int()) and not any(g.extern for g in graphs)


@pytest.mark.board
def test_a_product_without_rows_stays_a_product_without_rows(rvv):
    a, b = torch.empty(0, 8, dtype=I8), torch.zeros(8, 4, dtype=I8)
    assert torch.compile(torch._int_mm, backend="rvv")(a, b).shape == (0, 4)


@pytest.mark.board
@pytest.mark.parametrize("dtype", [I8, torch.uint8], ids=str)
def test_bytes_side_by_side(dtype, rvv):
    """Stacked ones fuse with what reads them, in one kernel; others are a kernel as well."""
    parts = [torch.randint(0, 128, (5, 33), dtype=dtype) for _ in range(3)]
    for function in (
        lambda a, b, c: torch.stack([a, b, c], -1).reshape(5, 99).float() * 2,
        lambda a, b, c: torch.stack([a + 1, b], 1),
        lambda a, b, c: torch.cat([a, b[:2], c], 0),
    ):
        torch._dynamo.reset()
        with record.collecting() as graphs:
            ours = torch.compile(function, backend="rvv")(*parts)
        assert torch.equal(ours, function(*parts)) and not any(g.extern for g in graphs)
    torch._dynamo.reset()
    with record.collecting() as graphs:
        torch.compile(lambda a, b: torch.stack([a, b], -1).float() + 1, backend="rvv")(*parts[:2])
    assert [len(g.kernels) for g in graphs] == [1]


def traced(function, *args):
    graph = make_fx(function, tracing_mode="fake")(*args)
    return graph, [node.target for node in simplify(graph).graph.nodes if node.op == "call_function"]


@pytest.mark.ir
def test_what_is_added_and_taken_away_again_cancels():
    aten = torch.ops.aten
    b, p = torch.ones(4, 6, dtype=I8), torch.ones(3, 6, dtype=torch.int32)
    _, left = traced(
        lambda p, b: (p + b.sum([0], True, dtype=torch.int32) * 2) - b.sum([0], True, dtype=torch.int32) * 2, p, b
    )
    assert left == []
    for function, arguments in (
        (lambda p, b: (p + b.sum([0], True, dtype=torch.int32) * 2) - b.sum([0], True, dtype=torch.int32) * 3, (p, b)),
        (lambda p, b: (p + b) - b, (p.float(), torch.ones(6))),  # rounds
        (lambda p, b: (p + b) - b, (p[:1], torch.ones(3, 6, dtype=torch.int32))),  # is as large as b
        (lambda p, b: torch.sub(p + b, b, alpha=2), (p, p)),
    ):
        _, left = traced(function, *arguments)
        assert aten.sub.Tensor in left
