"""Convolutions whose groups have few channels: the kernel beside the matrix product, and where it is taken."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from conftest import assert_same
from test_gemm import BF16, F16, F32, agree

from torch_rvv import narrowgroups
from torch_rvv.geometry import Geometry

# n, channels, rows, columns, result's channels, filter, stride, padding, dilation, groups
SHAPES = {
    "groups of four": (1, 16, 14, 17, 16, (3, 3), (1, 1), (1, 1), (1, 1), 4),
    "groups of three, one at a time": (2, 6, 9, 7, 6, (3, 3), (1, 1), (1, 1), (1, 1), 2),
    "stride": (1, 16, 15, 18, 16, (3, 3), (2, 2), (1, 1), (1, 1), 4),
    "pixels that no tap sees": (1, 8, 16, 20, 8, (2, 2), (3, 3), (0, 0), (1, 1), 2),
    "two strides": (2, 6, 13, 19, 12, (3, 2), (2, 3), (2, 0), (1, 1), 3),
    "gaps between taps": (1, 8, 15, 17, 12, (3, 3), (1, 1), (2, 2), (2, 2), 4),
    "stride and gaps": (1, 8, 21, 17, 8, (3, 3), (2, 2), (2, 3), (3, 2), 4),
    "channels twice": (1, 6, 11, 13, 12, (3, 3), (1, 1), (1, 1), (1, 1), 6),
    "one channel of a group": (2, 9, 8, 10, 3, (3, 3), (1, 1), (1, 1), (1, 1), 3),
    "large depthwise with stride": (1, 6, 17, 20, 6, (5, 5), (2, 2), (2, 2), (1, 1), 6),
    "one pixel": (1, 8, 3, 3, 8, (3, 3), (1, 1), (0, 0), (1, 1), 2),
    "several blocks": (1, 4, 60, 70, 4, (3, 3), (1, 1), (1, 1), (1, 1), 2),
}


def tensors(name: str, dtype: torch.dtype):
    n, c, rows, columns, out, kernel, *walk, groups = SHAPES[name]
    torch.manual_seed(0)
    weight = torch.randn(out, c // groups, *kernel) / (c // groups * kernel[0] * kernel[1]) ** 0.5
    return torch.randn(n, c, rows, columns).to(dtype), weight.to(dtype), (*walk, groups)


def taken(graphs) -> bool:
    return any(k.name.startswith("narrow_groups") for g in graphs for k in g.kernels)


@pytest.mark.board
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("dtype", [F32, F16, BF16], ids=str)
def test_narrow_groups(name, dtype):
    x, weight, walk = tensors(name, dtype)
    bias = torch.randn(weight.shape[0]).to(dtype)
    graphs = agree(lambda x, w, b: F.conv2d(x, w, b, *walk).relu(), x, weight, bias)
    assert taken(graphs) and not any(g.extern for g in graphs)


@pytest.mark.board
@pytest.mark.parametrize("name", SHAPES)
def test_sums_are_those_of_the_plain_form(name, rvv, monkeypatch):
    x, weight, walk = tensors(name, F32)
    x, weight = ((t * 4).round() for t in (x, weight))  # Nothing is rounded, so that nothing may differ.
    x[0, 0, 0, 0], x[-1, -1, -1, -1] = torch.inf, torch.nan  # And nothing is read that is no tap's.

    def call(x, w):
        return F.conv2d(x, w, None, *walk)

    ours = rvv(call)(x, weight)
    monkeypatch.setattr(narrowgroups, "applies", lambda *_: False)
    torch._dynamo.reset()
    assert_same(ours, rvv(call)(x, weight), ulps=0)
    assert_same(ours, call(x, weight), ulps=0)


@pytest.mark.board
@pytest.mark.parametrize("name", ["groups of four", "stride", "stride and gaps"])
def test_memory_in_any_order_and_gradients(name, rvv):
    x, weight, walk = tensors(name, F32)
    agree(lambda x, w: F.conv2d(x, w, None, *walk), x.to(memory_format=torch.channels_last), weight)
    agree(lambda x, w: F.conv2d(x[:, :, 1:, ::2], w.mT, None, *walk), x, weight)
    held = [t.requires_grad_() for t in (x, weight)]
    ours = torch.autograd.grad(rvv(lambda x, w: F.conv2d(x, w, None, *walk).square().sum())(*held), held)
    exact = [t.detach().double().requires_grad_() for t in held]
    theirs = torch.autograd.grad(F.conv2d(*exact, None, *walk).square().sum(), exact)
    for a, b in zip(ours, theirs, strict=True):
        assert (a.double() - b).abs().max() <= 2e-5 * b.abs().max()


@pytest.mark.board
def test_what_stays_what_it_was(rvv):
    """Wide groups, single taps, few taps by channel, and sizes that are not numbers."""
    x = torch.randn(1, 32, 9, 11)
    for channels, kernel, groups in ((16, 3, 2), (4, 1, 8), (1, 3, 32)):
        weight = torch.randn(32, channels, kernel, kernel)
        assert not taken(agree(lambda x, w, g=groups: F.conv2d(x, w, None, 1, 1, 1, g), x, weight))
    weight = torch.randn(8, 4, 3, 3)
    compiled = torch.compile(lambda x, w: F.conv2d(x, w, None, 1, 1, 1, 2), backend="rvv", dynamic=True)
    for size in (9, 14):
        x = torch.randn(1, 8, size, size + 3)
        torch.testing.assert_close(compiled(x, weight), F.conv2d(x, weight, None, 1, 1, 1, 2), rtol=1e-5, atol=1e-5)


@pytest.mark.ir
def test_pixels_and_what_their_taps_see():
    geometry = Geometry((2, 2), (1, 1), (1, 1), 4)
    assert narrowgroups.Pixels.of((15, 18), (3, 3), geometry) == narrowgroups.Pixels(8, 9, 9, 10)
    assert narrowgroups.Pixels(8, 9, 9, 10).count == 79
    assert [narrowgroups.at_once(n) for n in (1, 2, 3, 4, 6, 8, 12)] == [1, 2, 1, 4, 2, 4, 4]
