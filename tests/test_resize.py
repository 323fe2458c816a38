"""Interpolation in words that read memory in order, beside aten; and what is computed once because it is read often."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from test_gemm import BF16, F16, F32
from torch_rvv.runtime import record

from torch_rvv import resize

pytestmark = pytest.mark.board

# Sizes of the image, arguments, whether elements are chosen one by one.
CASES = {
    "nearest, twice": ((2, 3, 7, 9), {"scale_factor": 2}, False),
    "nearest, thrice and four times": ((1, 2, 5, 6), {"size": (15, 24)}, False),
    "nearest, by the middle": ((1, 2, 5, 6), {"scale_factor": 2, "mode": "nearest-exact"}, False),
    "nearest, any size": ((1, 2, 5, 6), {"size": (7, 8)}, True),
    "nearest, smaller": ((1, 2, 8, 6), {"scale_factor": 0.5}, True),
    "nearest, one dimension": ((2, 3, 11), {"scale_factor": 4}, False),
    "nearest, three dimensions": ((1, 2, 3, 4, 5), {"scale_factor": 2}, False),
    "bilinear, twice": ((2, 3, 7, 9), {"scale_factor": 2, "mode": "bilinear"}, False),
    "bilinear, four times": ((1, 3, 6, 5), {"scale_factor": 4, "mode": "bilinear"}, False),
    "bilinear, one pixel": ((1, 3, 1, 1), {"scale_factor": 2, "mode": "bilinear"}, False),
    "bilinear, any size": ((1, 3, 6, 5), {"size": (11, 17), "mode": "bilinear"}, True),
    "bilinear, smaller": ((1, 3, 16, 15), {"size": (5, 7), "mode": "bilinear"}, True),
    "bilinear, one smaller, one larger": ((1, 3, 16, 15), {"size": (5, 30), "mode": "bilinear"}, True),
    "bilinear, the same size": ((1, 3, 6, 5), {"size": (6, 5), "mode": "bilinear"}, False),
    "bilinear, a scale that is kept": (
        (1, 3, 6, 5), {"scale_factor": 1.9, "mode": "bilinear", "recompute_scale_factor": False}, True,
    ),
    "bilinear, corners": ((1, 3, 6, 5), {"scale_factor": 2, "mode": "bilinear", "align_corners": True}, True),
    "bilinear, corners, one pixel": ((1, 3, 6, 5), {"size": (1, 9), "mode": "bilinear", "align_corners": True}, True),
    "linear": ((2, 3, 13), {"scale_factor": 2, "mode": "linear"}, False),
    "trilinear": ((1, 2, 3, 4, 5), {"scale_factor": 2, "mode": "trilinear"}, False),
    "bicubic, twice": ((2, 3, 7, 9), {"scale_factor": 2, "mode": "bicubic"}, False),
    "bicubic, any size": ((1, 3, 6, 5), {"size": (11, 17), "mode": "bicubic"}, True),
    "bicubic, corners": ((1, 3, 6, 5), {"size": (11, 3), "mode": "bicubic", "align_corners": True}, True),
}  # fmt: skip
TOLERANCE = {F32: 1e-5, F16: 2e-3, BF16: 2e-2}


def compiled(function, *inputs, **options):
    torch._dynamo.reset()
    with record.collecting() as graphs:
        result = torch.compile(function, backend="rvv", **options)(*inputs)
    assert not any(g.extern for g in graphs) and all(k.compiled for g in graphs for k in g.kernels)
    return result, [nest for g in graphs for k in g.kernels for nest in k.metadata["nests"]]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [F32, BF16], ids=str)
def test_interpolation(name, dtype):
    shape, arguments, chosen = CASES[name]
    torch.manual_seed(0)
    x = torch.randn(shape).to(dtype)

    def function(x):
        return F.interpolate(x, **arguments)

    ours, nests = compiled(function, x)
    wanted = function(x.double())
    assert ours.dtype == dtype and ours.stride() == function(x).stride()
    torch.testing.assert_close(ours.double(), wanted, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    if "nearest" in arguments.get("mode", "nearest"):
        assert torch.equal(ours, function(x))
    assert chosen or not any(nest["gathers"] for nest in nests)


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
def test_images_by_channel_last_and_special_numbers(mode):
    x = torch.randn(2, 4, 6, 7).to(memory_format=torch.channels_last)
    x[0, 0, 2, 3], x[1, 1, 0, 0], x[1, 2, -1, -1] = torch.nan, torch.inf, -torch.inf

    def function(x):
        return F.interpolate(x, scale_factor=2, mode=mode)

    ours, _ = compiled(function, x)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(ours, function(x), equal_nan=True, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize(
    "arguments",
    [{"scale_factor": 2}, {"scale_factor": 2, "mode": "bilinear"}, {"size": (9, 5), "mode": "bilinear"},
     {"size": (9, 5), "mode": "bicubic"}],
)  # fmt: skip
def test_gradients(arguments):
    torch.manual_seed(0)
    x, factor = torch.randn(2, 3, 5, 6), None
    results = []
    for compile_ in (lambda f: f, lambda f: torch.compile(f, backend="rvv")):
        torch._dynamo.reset()
        leaf = x.clone().requires_grad_()
        out = compile_(lambda x: F.interpolate(x * 1.5, **arguments))(leaf)
        factor = torch.randn(out.shape) if factor is None else factor
        (out * factor).sum().backward()
        results.append(leaf.grad)
    torch.testing.assert_close(results[1], results[0], rtol=1e-5, atol=1e-5)


def test_sizes_that_are_not_known_and_integers_are_left_to_pytorch():
    def function(x):
        return F.interpolate(x, scale_factor=2, mode="bilinear")

    x = torch.randn(1, 2, 5, 6)
    ours, _ = compiled(function, x, dynamic=True)
    torch.testing.assert_close(ours, function(x))
    image = torch.randint(0, 255, (1, 3, 5, 6), dtype=torch.uint8)
    ours, _ = compiled(lambda x: F.interpolate(x, size=(7, 9)), image)
    assert torch.equal(ours, F.interpolate(image, size=(7, 9)))


@pytest.mark.ir
def test_only_a_whole_number_that_rounds_as_pytorchs_indices_do_repeats():
    assert resize._times(5, 10, None, False) == 2
    assert resize._times(5, 10, 2.0, True) == 2
    assert resize._times(5, 11, None, False) is None
    assert resize._times(5, 10, 1.7, False) is None
    assert resize._times(3, 3 * 40, None, False) is None  # More often than is worth a loop.


# -- what is read several times is computed once

READ_OFTEN = {
    "overlapping windows": lambda x: F.avg_pool2d(F.silu(x), 3, 1, 1),
    "overlapping windows, largest": lambda x: F.max_pool2d(F.silu(x), 3, 2, 1),
    "elements chosen again": lambda x: F.silu(x)[:, :, torch.arange(40) % 7],
    "patches": lambda x: F.unfold(F.silu(x), 3, padding=1) + 1,
}


@pytest.mark.parametrize("name", READ_OFTEN)
def test_what_is_read_often_is_computed_once(name):
    function, x = READ_OFTEN[name], torch.randn(1, 4, 12, 13)
    torch._dynamo.reset()
    with record.collecting() as graphs:
        ours = torch.compile(function, backend="rvv")(x)
    torch.testing.assert_close(ours, function(x))
    assert len(graphs[0].kernels) > 1


def test_windows_side_by_side_are_fused_with_what_they_read():
    x = torch.randn(1, 4, 12, 12)
    torch._dynamo.reset()
    with record.collecting() as graphs:
        ours = torch.compile(lambda x: F.avg_pool2d(F.silu(x), 2), backend="rvv")(x)
    torch.testing.assert_close(ours, F.avg_pool2d(F.silu(x), 2))
    assert len(graphs[0].kernels) == 1
