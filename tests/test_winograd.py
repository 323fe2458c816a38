"""3 x 3 convolutions by tiles: the kernels beside their twin in PyTorch, their errors, when it is done."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from conftest import assert_same
from test_gemm import BF16, F16, F32, agree
from torch._dynamo.exc import BackendCompilerFailed
from torch_rvv.runtime import record
from torch_rvv.runtime.context import Placement, placing

from torch_rvv import winograd
from torch_rvv.explain import Report
from torch_rvv.geometry import Geometry

# n, c, o, rows, columns, padding
SHAPES = {
    "whole tiles": (1, 16, 48, 14, 14, (1, 1)),
    "odd rows and columns": (1, 33, 40, 13, 15, (1, 1)),
    "odd columns, no padding": (1, 32, 16, 12, 17, (0, 0)),
    "several images, two paddings": (3, 20, 36, 9, 12, (2, 0)),
    "long rows": (1, 16, 16, 6, 70, (1, 1)),
    "one tile": (2, 64, 64, 2, 1, (1, 1)),
}


def tensors(name: str, dtype: torch.dtype):
    n, c, o, rows, columns, padding = SHAPES[name]
    torch.manual_seed(0)
    weight = torch.randn(o, c, 3, 3) / (9 * c) ** 0.5
    return torch.randn(n, c, rows, columns).to(dtype), weight.to(dtype), torch.randn(o).to(dtype), padding


@pytest.fixture
def always(monkeypatch):
    """Tiles wherever there can be any."""
    monkeypatch.setattr(winograd, "LEAST_GAIN", 0.0)


def split(graphs) -> bool:
    return any("split_image" in k.name for g in graphs for k in g.kernels)


@pytest.mark.board
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("dtype", [F32, F16, BF16], ids=str)
def test_a_convolution_by_tiles(name, dtype, always):
    x, weight, bias, padding = tensors(name, dtype)
    graphs = agree(lambda x, w, b: F.conv2d(x, w, b, padding=padding).relu(), x, weight, bias)
    assert split(graphs) and not any(g.extern for g in graphs)
    assert not any(nest["gathers"] for g in graphs for k in g.kernels for nest in k.metadata["nests"])


@pytest.mark.board
@pytest.mark.parametrize("name", SHAPES)
def test_the_kernels_do_what_their_twin_does(name, always, rvv):
    x, weight, _, padding = tensors(name, F32)
    whole = [t.sign() * (t.abs() * 8).round() for t in (x, weight)]  # Nothing is rounded, so that nothing may differ.
    ours = rvv(lambda x, w: F.conv2d(x, w, padding=padding))(*whole)
    assert_same(ours, winograd.plain(*whole, padding), ulps=0)


@pytest.mark.board
def test_memory_in_any_order(always):
    x, weight, bias, _ = tensors("odd rows and columns", F32)
    last = torch.channels_last
    agree(lambda x, w, b: F.conv2d(x, w, b, padding=1), x.to(memory_format=last), weight.to(memory_format=last), bias)
    agree(lambda x, w, b: F.conv2d(x[:, ::2, :, 1:], w[:, ::2].mT, b), x, weight, bias)


@pytest.mark.board
def test_gradients_by_tiles(always, rvv):
    torch.manual_seed(0)
    layer, x = torch.nn.Conv2d(16, 32, 3, padding=1), torch.randn(2, 16, 9, 12, requires_grad=True)
    with record.collecting() as graphs:
        ours = torch.autograd.grad(rvv(layer)(x).square().sum(), [x, *layer.parameters()])
    exact, y = layer.double(), x.detach().double().requires_grad_()
    theirs = torch.autograd.grad(exact(y).square().sum(), [y, *exact.parameters()])
    for a, b in zip(ours, theirs, strict=True):
        assert (a.double() - b).abs().max() <= 2e-5 * b.abs().max()
    assert len(graphs) == 2 and all(split([g]) for g in graphs)


@pytest.mark.ir
@pytest.mark.parametrize("channels", [16, 256, 1024])
def test_errors_are_about_those_of_the_sum(channels):
    torch.manual_seed(channels)
    x, weight = torch.randn(1, channels, 12, 12), torch.randn(32, channels, 3, 3) / (9 * channels) ** 0.5
    exact = F.conv2d(x.double(), weight.double(), padding=1)
    ours, theirs = (
        (y.double() - exact).square().mean().sqrt()
        for y in (winograd.plain(x, weight, (1, 1)), F.conv2d(x, weight, padding=1))
    )
    assert ours < 3 * theirs


@pytest.mark.ir
def test_what_is_not_finite_stays_in_its_tiles():
    x, weight = torch.ones(1, 16, 12, 12), torch.ones(16, 16, 3, 3)
    x[0, 3, 5, 6], x[0, 7, 0, 0] = torch.inf, torch.nan
    ours, wanted = winograd.plain(x, weight, (1, 1)), F.conv2d(x, weight, padding=1)
    assert not ours[~wanted.isfinite()].isfinite().any()
    near = F.max_pool2d((~wanted.isfinite()).float(), 2).repeat_interleave(2, 2).repeat_interleave(2, 3) > 0
    assert_same(ours[~near], wanted[~near])


def decides(x, weight, stride=1, padding=1, dilation=1, groups=1, **options) -> bool:
    geometry = Geometry.of(weight, [stride], [padding], [dilation], groups)
    height, width = geometry.pixels([s + 2 * padding for s in x.shape[2:]], weight.shape[2:])
    with placing(Placement(**options)):
        can = winograd.has_tiles(x, weight, geometry)
    return can and winograd.gain(*x.shape[:2], weight.shape[0], height, width) >= winograd.LEAST_GAIN


@pytest.mark.ir
def test_where_tiles_are_taken():
    def image(c, size, n=1):
        return torch.empty(n, c, size, size, device="meta")

    def filters(o, c, k=3):
        return torch.empty(o, c, k, k, device="meta")

    for c, size in ((64, 56), (128, 28), (256, 14), (512, 7)):  # The layers of ResNets.
        assert decides(image(c, size), filters(c, c))
    assert not decides(image(3, 224), filters(64, 3))  # Channels that fill no lanes.
    assert not decides(image(512, 3), filters(512, 512))  # Filters cost more than pixels save ...
    assert winograd.gain(1, 512, 512, 4, 4, frozen=True) > winograd.LEAST_GAIN > winograd.gain(1, 512, 512, 4, 4)
    assert not decides(image(64, 56), filters(64, 64), winograd=False)
    assert not decides(image(64, 56), filters(64, 64), stride=2)
    assert not decides(image(64, 56), filters(64, 64), padding=2, dilation=2)
    assert not decides(image(64, 56), filters(64, 32), groups=2)
    assert not decides(image(64, 56), filters(64, 64, 5), padding=2)
    assert not decides(image(64, 4096, 16), filters(64, 64))  # More elements than 32 bits count.


@pytest.mark.board
def test_the_option_says_who(rvv):
    x, weight, _, _ = tensors("whole tiles", F32)
    x, found = x.expand(4, -1, -1, -1).contiguous(), []
    for tiles in (True, False):
        torch._dynamo.reset()
        with record.collecting() as graphs:
            rvv(lambda x, w: F.conv2d(x, w, padding=1), options={"winograd": tiles})(x, weight)
        assert ("goes by tiles" in str(Report.of(graphs))) == tiles
        found.append(split(graphs))
    assert found == [True, False]
    with pytest.raises(BackendCompilerFailed, match="winograd"):
        rvv(lambda x: x + 1, options={"winograd": "perhaps"})(x)


@pytest.mark.board
def test_frozen_filters_are_split_once(always):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(16, 32, 3), torch.nn.ReLU(), torch.nn.Conv2d(32, 16, 3, padding=1)).eval()
    x = torch.randn(1, 16, 11, 10)
    torch._dynamo.reset()
    with torch.no_grad(), record.collecting() as graphs:
        ours = torch.compile(net, backend="rvv", options={"freezing": True})(x)
        torch.testing.assert_close(ours, net(x), rtol=1e-5, atol=1e-5)
    assert split(graphs) and not any("split_filter" in k.name for g in graphs for k in g.kernels)
