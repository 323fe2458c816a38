"""Depthwise convolutions with large filters: the kernel beside the sum over taps, and where it is taken."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from conftest import assert_same
from test_gemm import BF16, F16, F32, agree

from torch_rvv import convolution, depthwise, taps

# n, channels, rows, columns, filter, padding, dilation
SHAPES = {
    "five by five": (1, 6, 16, 20, (5, 5), (2, 2), (1, 1)),
    "seven by seven, odd": (2, 3, 7, 9, (7, 7), (3, 3), (1, 1)),
    "rows in pairs": (1, 5, 14, 14, (5, 5), (2, 2), (1, 1)),
    "long rows": (1, 2, 9, 150, (3, 7), (0, 3), (1, 1)),
    "one column of taps": (1, 3, 19, 6, (11, 1), (5, 0), (1, 1)),
    "gaps between taps": (1, 3, 21, 23, (4, 5), (3, 4), (2, 2)),
    "wide gaps": (2, 2, 30, 17, (3, 4), (5, 0), (5, 3)),
    "one pixel": (1, 4, 5, 5, (5, 5), (0, 0), (1, 1)),
}


def tensors(name: str, dtype: torch.dtype):
    n, c, rows, columns, kernel, padding, dilation = SHAPES[name]
    torch.manual_seed(0)
    return torch.randn(n, c, rows, columns).to(dtype), torch.randn(c, 1, *kernel).to(dtype), padding, dilation


def taken(graphs) -> bool:
    return any(k.name.startswith("depthwise") for g in graphs for k in g.kernels)


@pytest.mark.board
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("dtype", [F32, F16, BF16], ids=str)
def test_large_filters(name, dtype):
    x, weight, padding, dilation = tensors(name, dtype)
    bias = torch.randn(x.shape[1]).to(dtype)
    graphs = agree(lambda x, w, b: F.conv2d(x, w, b, 1, padding, dilation, x.shape[1]).relu(), x, weight, bias)
    assert taken(graphs) and not any(g.extern for g in graphs)


@pytest.mark.board
@pytest.mark.parametrize("name", SHAPES)
def test_sums_are_those_of_the_plain_form(name, rvv, monkeypatch):
    x, weight, padding, dilation = tensors(name, F32)
    x, weight = ((t * 4).round() for t in (x, weight))  # Nothing is rounded, so that nothing may differ.
    x[0, 0, 0, 0], x[-1, -1, -1, -1] = torch.inf, torch.nan  # And nothing is read that is no tap's.

    def call(x, w):
        return F.conv2d(x, w, None, 1, padding, dilation, x.shape[1])

    ours = rvv(call)(x, weight)
    monkeypatch.setattr(depthwise, "applies", lambda *_: False)
    torch._dynamo.reset()
    assert_same(ours, rvv(call)(x, weight), ulps=0)
    assert_same(ours, call(x, weight), ulps=0)


@pytest.mark.board
def test_memory_in_any_order_and_gradients(rvv):
    x, weight, _, _ = tensors("five by five", F32)
    agree(lambda x, w: F.conv2d(x, w, padding=2, groups=6), x.to(memory_format=torch.channels_last), weight)
    agree(lambda x, w: F.conv2d(x[:, :, 1:, ::2], w.mT, groups=6), x, weight)
    held = [t.requires_grad_() for t in (x, weight)]
    ours = torch.autograd.grad(rvv(lambda x, w: F.conv2d(x, w, padding=2, groups=6).square().sum())(*held), held)
    exact = [t.detach().double().requires_grad_() for t in held]
    theirs = torch.autograd.grad(F.conv2d(*exact, padding=2, groups=6).square().sum(), exact)
    for a, b in zip(ours, theirs, strict=True):
        assert (a.double() - b).abs().max() <= 2e-5 * b.abs().max()


@pytest.mark.board
@pytest.mark.parametrize("kernel, stride, groups", [(3, 1, 6), (5, 2, 6), (5, 1, 3)])
def test_what_stays_what_it_was(kernel, stride, groups):
    """Few taps, strides, and groups of several channels."""
    x, weight = torch.randn(1, 6, 16, 20), torch.randn(6, 6 // groups, kernel, kernel)
    assert not taken(agree(lambda x, w: F.conv2d(x, w, None, stride, 2, 1, groups), x, weight))


@pytest.mark.ir
def test_rows_at_once():
    assert [depthwise.rows_of(n) for n in (56, 16, 15, 14, 13, 7, 4, 1)] == [4, 4, 4, 2, 2, 2, 4, 2]
    assert convolution.UNROLLED_TAPS >= 9


@pytest.mark.board
@pytest.mark.parametrize("kernel, stride", [(3, 1), (3, 2), (5, 2)])
@pytest.mark.parametrize("dtype", [F32, BF16], ids=str)
def test_what_a_filter_reads_is_computed_once_and_not_once_a_tap(kernel, stride, dtype):
    torch.manual_seed(0)
    x, weight, level = torch.randn(2, 6, 13, 15).to(dtype), torch.randn(6, 1, kernel, kernel).to(dtype), torch.randn(6)

    def call(x, w, level):
        x = torch.sigmoid(x + level.to(dtype).reshape(-1, 1, 1))
        return F.conv2d(x, w, None, stride, kernel // 2, 1, 6)

    graphs = agree(call, x, weight, level)
    assert len(graphs[0].kernels) >= 2


@pytest.mark.board
@pytest.mark.parametrize("stride", [1, 2])
def test_few_taps_of_images_by_channel_last_of_any_size_and_in_other_dimensions(stride):
    torch.manual_seed(0)
    weight = torch.randn(6, 1, 3, 3)

    def call(x, w):
        return F.conv2d(x, w, None, stride, 1, 1, 6)

    x = torch.randn(2, 6, 9, 11).to(memory_format=torch.channels_last)
    agree(call, x, weight)
    agree(lambda x, w: F.conv1d(x, w, None, stride, 1, 1, 6), torch.randn(2, 6, 19), torch.randn(6, 1, 4))
    agree(lambda x, w: F.conv3d(x, w, None, stride, 1, 1, 6), torch.randn(1, 6, 5, 6, 7), torch.randn(6, 1, 2, 2, 2))
    torch._dynamo.reset()
    compiled = torch.compile(call, backend="rvv", dynamic=True)
    for size in (9, 14):
        x = torch.randn(1, 6, size, size + 3)
        torch.testing.assert_close(compiled(x, weight), call(x, weight), rtol=1e-5, atol=1e-5)


@pytest.mark.ir
def test_the_operator_of_a_few_taps_does_as_pytorchs_does():
    torch.manual_seed(0)
    x, weight = torch.randn(2, 6, 9, 11), torch.randn(6, 1, 3, 2)
    wanted = F.conv2d(x, weight, None, (2, 1), 0, (1, 3), 6)
    torch.testing.assert_close(taps.sum_of_taps(x, weight, (2, 1), (1, 3)), wanted)
    last = x.to(memory_format=torch.channels_last)
    assert taps.sum_of_taps(last, weight, (2, 1), (1, 3)).is_contiguous(memory_format=torch.channels_last)
    torch.library.opcheck(taps.sum_of_taps, (x, weight, [2, 1], [1, 3]))
