"""Convolutions of images that change their size: one graph for all, and gradients that read the right elements."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch_rvv.runtime import record

pytestmark = pytest.mark.board

IMAGES = [(2, 8, 15, 17), (2, 8, 20, 33), (2, 8, 6, 7), (2, 8, 41, 64)]
LAYERS = {
    "3x3": lambda: nn.Conv2d(8, 12, 3, 1, 1),
    "stride": lambda: nn.Conv2d(8, 12, 3, 2, 1),
    "1x1": lambda: nn.Conv2d(8, 12, 1),
    "groups and dilation": lambda: nn.Conv2d(8, 12, 3, 1, 2, 2, groups=4),
    "depthwise": lambda: nn.Conv2d(8, 8, 3, 1, 1, groups=8),
    "large depthwise": lambda: nn.Conv2d(8, 8, 7, 1, 3, groups=8),
    "transposed": lambda: nn.ConvTranspose2d(8, 12, 4, 2, 1),
    "transposed, output padding": lambda: nn.ConvTranspose2d(8, 12, 3, 2, 1, output_padding=1),
}


def compiled_by_us(graphs):
    return not any(g.extern or g.decisions for g in graphs) and all(k.compiled for g in graphs for k in g.kernels)


@pytest.mark.parametrize("name", LAYERS)
def test_any_number_of_pixels(name):
    torch.manual_seed(0)
    torch._dynamo.reset()
    layer = LAYERS[name]().eval()
    with record.collecting() as graphs, torch.no_grad():
        compiled = torch.compile(layer, backend="rvv")
        for shape in IMAGES:
            x = torch.randn(shape)
            torch.testing.assert_close(compiled(x), layer(x), rtol=1e-5, atol=1e-5)
    # The first size, any size; and any size that is odd, even or the like where a stride asks for it.
    assert 2 <= len(graphs) <= 3
    assert all(k.compiled for g in graphs for k in g.kernels) and not any(g.extern for g in graphs)


def gradients(function, x, parameters):
    out = function(x)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).reshape(out.shape)
    return [out, *torch.autograd.grad((out * weights).sum(), [x, *parameters])]


@pytest.mark.parametrize("name", LAYERS)
def test_gradients(name):
    torch.manual_seed(0)
    torch._dynamo.reset()
    layer = LAYERS[name]()
    exact = LAYERS[name]().double()
    exact.load_state_dict(layer.state_dict())
    compiled = torch.compile(layer, backend="rvv")
    with record.collecting() as graphs:
        for shape in IMAGES:
            x = torch.randn(shape, requires_grad=True)
            ours = gradients(compiled, x, list(layer.parameters()))
            wanted = gradients(exact, x.detach().double().requires_grad_(), list(exact.parameters()))
            for got, want in zip(ours, wanted, strict=True):
                torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=1e-4 * want.abs().max().item())
    assert not any(g.extern for g in graphs)


def test_one_dimension_and_three():
    torch.manual_seed(0)
    for layer, shapes in (
        (nn.Conv1d(8, 6, 7, 2, 3), [(2, 8, 55), (2, 8, 101), (2, 8, 20)]),
        (nn.Conv3d(4, 6, 3, 1, 1), [(1, 4, 5, 6, 7), (1, 4, 4, 8, 9), (1, 4, 6, 7, 7)]),
    ):
        torch._dynamo.reset()
        with record.collecting() as graphs, torch.no_grad():
            compiled = torch.compile(layer.eval(), backend="rvv")
            for shape in shapes:
                x = torch.randn(shape)
                torch.testing.assert_close(compiled(x), layer(x), rtol=1e-5, atol=1e-5)
        assert compiled_by_us(graphs) and len(graphs) == 2


@pytest.mark.parametrize("dynamic", [False, True])
def test_what_is_saved_for_the_gradient_is_the_image_and_not_its_patches(dynamic):
    """Patches of 3 x 3 would be nine images; those of a changing size were read with the strides of the first one."""
    torch._dynamo.reset()
    layer = nn.Conv2d(8, 12, 3, 2, 1)
    x = torch.randn(2, 8, 31, 33, requires_grad=True)
    if dynamic:
        torch._dynamo.mark_dynamic(x, 2)
    out = torch.compile(layer, backend="rvv")(x)
    saved = [t for t in out.grad_fn.saved_tensors if isinstance(t, torch.Tensor)]
    assert saved and max(t.numel() for t in saved) < 1.5 * x.numel()


def test_a_view_of_overlapping_windows_for_the_gradient_of_any_size():
    def function(x):
        windows = x.sin().unfold(1, 3, 1)
        return (windows.exp() * windows).sum(-1)

    torch._dynamo.reset()
    compiled = torch.compile(function, backend="rvv")
    for shape in ((4, 6), (9, 13), (31, 17)):
        x = torch.randn(shape, requires_grad=True)
        for got, want in zip(gradients(compiled, x, []), gradients(function, x, []), strict=True):
            torch.testing.assert_close(got, want)


def test_the_gradient_of_a_number_is_read_where_it_stands():
    """A tensor of no dimensions whose memory a kernel may reuse."""

    def function(x, w):
        a, b = x.sin().chunk(2, 0)
        return (a.exp() * a).sum() * w.sum() + (b * b.tanh()).sum()

    torch._dynamo.reset()
    compiled = torch.compile(function, backend="rvv")
    for shape in ((4, 6), (10, 13), (30, 17)):
        x, w = torch.randn(shape, requires_grad=True), torch.randn(3, requires_grad=True)
        ours, theirs = (torch.autograd.grad(f(x, w) ** 2, [x, w]) for f in (compiled, function))
        for got, want in zip(ours, theirs, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
