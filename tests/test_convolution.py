"""Convolutions, transposed ones and gradients as kernels of ours; their algebra on random geometries against aten."""

from __future__ import annotations

import random

import pytest
import torch
import torch.nn.functional as F
from test_gemm import BF16, F32, TOLERANCE, agree
from torch_rvv.runtime import record

from torch_rvv import convolution

aten = torch.ops.aten

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


@pytest.mark.board
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


@pytest.mark.board
def test_convolution_in_one_and_three_dimensions_and_channels_last():
    torch.manual_seed(0)
    agree(lambda x, w: F.conv1d(x, w, None, 2, 1), torch.randn(2, 5, 31), torch.randn(7, 5, 3))
    agree(lambda x, w: F.conv3d(x, w, None, 1, 1), torch.randn(1, 3, 6, 7, 8), torch.randn(4, 3, 3, 3, 3))
    x = torch.randn(2, 8, 9, 11).to(memory_format=torch.channels_last)
    agree(lambda x, w: F.conv2d(x, w, padding=1), x, torch.randn(6, 8, 3, 3))


# n, c, h, w, o, kernel, stride, padding, output padding, dilation, groups
TRANSPOSED = {
    "twice as large": (2, 8, 9, 11, 6, 4, 2, 1, 0, 1, 1),
    "odd kernel": (1, 16, 7, 9, 8, 3, 2, 1, 1, 1, 1),
    "kernel as large as stride": (1, 8, 5, 7, 12, 2, 2, 0, 0, 1, 1),
    "gaps between taps": (1, 4, 5, 6, 4, 2, 3, 0, 0, 1, 1),
    "groups and dilation": (1, 8, 7, 9, 12, 3, 2, 2, 1, 2, 4),
    "depthwise": (1, 12, 7, 9, 12, 3, 2, 1, 1, 1, 12),
}


@pytest.mark.board
@pytest.mark.parametrize("name", TRANSPOSED)
@pytest.mark.parametrize("dtype", [F32, BF16], ids=str)
def test_transposed_convolution(name, dtype):
    n, c, h, w, o, k, stride, padding, more, dilation, groups = TRANSPOSED[name]
    torch.manual_seed(0)
    x, bias = torch.randn(n, c, h, w).to(dtype), torch.randn(o).to(dtype)
    weight = (torch.randn(c, o // groups, k, k) / (c * k * k / groups) ** 0.5).to(dtype)
    graphs = agree(
        lambda x, w, b: F.conv_transpose2d(x, w, b, stride, padding, more, groups, dilation).relu(), x, weight, bias
    )
    assert not any(g.extern for g in graphs)


LAYERS = {
    "3x3": lambda: torch.nn.Conv2d(4, 6, 3, padding=1),
    "stride": lambda: torch.nn.Conv2d(4, 6, 3, stride=2, padding=1),
    "patches": lambda: torch.nn.Conv2d(4, 6, 3, stride=3),
    "depthwise": lambda: torch.nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=4),
    "groups": lambda: torch.nn.Conv2d(4, 6, 3, padding=2, dilation=2, groups=2),
    "transposed": lambda: torch.nn.ConvTranspose2d(4, 6, 4, stride=2, padding=1),
}


@pytest.mark.board
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("dtype", [F32, BF16], ids=str)
def test_gradients(name, dtype):
    torch.manual_seed(0)
    layer, x = LAYERS[name]().to(dtype), torch.randn(2, 4, 9, 10).to(dtype).requires_grad_()
    exact, y = LAYERS[name]().double(), x.detach().double().requires_grad_()
    exact.load_state_dict(layer.state_dict())

    def gradients(call, module, x):
        return torch.autograd.grad(call(x).square().sum(), [x, *module.parameters()])

    torch._dynamo.reset()
    with record.collecting() as graphs:
        ours = gradients(torch.compile(layer, backend="rvv"), layer, x)
    assert len(graphs) == 2 and not any(g.extern for g in graphs)
    for a, b in zip(ours, gradients(exact, exact, y), strict=True):
        assert a.dtype == dtype and a.shape == b.shape
        # The result's own rounding is squared into the gradients.
        assert (a.double() - b).abs().max() <= 8 * TOLERANCE[dtype] * b.abs().max()


def _geometry(choose: random.Random):
    """Arguments of aten.convolution: everything that PyTorch takes, small."""
    d, groups, transposed = choose.choice([1, 2, 2, 3]), choose.choice([1, 1, 2, 3]), choose.random() < 0.5
    c, o = groups * choose.randint(1, 3), groups * choose.randint(1, 3)
    kernel, stride, dilation, padding = (
        [choose.randint(low, high) for _ in range(d)] for low, high in ((1, 4), (1, 3), (1, 3), (0, 2))
    )
    more = [choose.randint(0, max(s, t) - 1) if transposed else 0 for s, t in zip(stride, dilation, strict=True)]
    x = torch.randn(2, c, *(choose.randint(1, 9) for _ in range(d)))
    weight = torch.randn(*((c, o // groups) if transposed else (o, c // groups)), *kernel)
    return x, weight, torch.randn(o), stride, padding, dilation, transposed, more, groups


@pytest.mark.ir
def test_the_algebra_is_atens_on_any_geometry():
    torch.manual_seed(0)
    choose, seen = random.Random(0), 0
    for _ in range(300):
        x, weight, bias, *rest = _geometry(choose)
        try:
            wanted = aten.convolution(x, weight, bias, *rest)
        except RuntimeError:  # The image is smaller than the filter.
            continue
        if wanted.numel() == 0:
            continue
        seen += 1
        grad, asked = torch.randn_like(wanted), [choose.random() < 0.8 for _ in range(3)]
        torch.testing.assert_close(convolution.forward(x, weight, bias, *rest), wanted, rtol=1e-4, atol=1e-4)
        ours = convolution.backward(grad, x, weight, [bias.numel()], *rest, asked)
        theirs = aten.convolution_backward(grad, x, weight, [bias.numel()], *rest, asked)
        for a, b, needed in zip(ours, theirs, asked, strict=True):
            assert (a is not None) == needed
            if needed:
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-3)
    assert seen > 150


@pytest.mark.ir
def test_what_has_no_form_here_is_declined():
    x, w = torch.randn(1, 4, 5, 5), torch.randn(4, 4, 3, 3)
    rest = ([1, 1], [0, 0], [1, 1], False, [0, 0], 1)
    assert convolution.forward(x.double(), w.double(), None, *rest) is NotImplemented
    grad = aten.convolution(x, w, None, *rest).double()
    assert convolution.backward(grad, x.double(), w.double(), None, *rest, [True] * 3) is NotImplemented
    assert convolution.forward(x[:0], w, None, *rest) is NotImplemented
