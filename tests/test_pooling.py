"""Pooling by one axis after the other, and image edges as branches and bounds."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch._inductor import inductor_prims
from torch.fx.experimental.proxy_tensor import make_fx
from torch_rvv.runtime import record

from torch_rvv.simplify import simplify

# kernel, stride, padding, dilation, ceil mode
POOLS = {
    "3 by 2 padded": (3, 2, 1, 1, False),
    "overlapping": (5, 1, 2, 1, False),
    "oblong": ((3, 4), (2, 1), (1, 2), 1, False),
    "dilated": (3, 2, 1, 2, False),
    "rounded up": (3, 2, 0, 1, True),
    "large": (7, 3, 3, 1, False),
    "side by side": (2, 2, 0, 1, False),
}


def special(*shape):
    """Numbers, NaN and infinities, in places where a window meets an edge and where it does not."""
    torch.manual_seed(0)
    x = torch.randn(*shape)
    x.view(-1)[:: x.numel() // 5] = float("nan")
    x[..., 2, 3], x[..., -1, -1] = float("inf"), -float("inf")
    x[0, 0] = -float("inf")
    return x


@pytest.mark.board
@pytest.mark.parametrize("name", POOLS)
def test_max_pooling(name):
    kernel, stride, padding, dilation, ceil = POOLS[name]

    def pool(x):
        return F.max_pool2d(x, kernel, stride, padding, dilation, ceil)

    for x in (special(2, 3, 19, 23), special(1, 2, 64, 131)):
        torch._dynamo.reset()
        with record.collecting() as graphs:
            ours = torch.compile(pool, backend="rvv")(x)
        torch.testing.assert_close(ours, pool(x), equal_nan=True, rtol=0, atol=0)
        assert len(graphs[0].kernels) == (1 if name == "side by side" else 2) and not graphs[0].extern


@pytest.mark.board
def test_max_pooling_in_three_dimensions_of_integers_and_with_positions():
    x = special(1, 2, 7, 9, 11)
    for function, argument in (
        (lambda x: F.max_pool3d(x, 3, 2, 1), x),
        (lambda x: F.max_pool2d(x, 3, 2, 1), torch.randint(-99, 99, (1, 2, 9, 11))),
        (lambda x: F.max_pool2d(x, 3, 2, 1, return_indices=True), torch.randn(1, 2, 9, 11)),
    ):
        torch._dynamo.reset()
        ours = torch.compile(function, backend="rvv")(argument)
        torch.testing.assert_close(ours, function(argument), equal_nan=True, rtol=0, atol=0)


@pytest.mark.board
def test_the_gradient_of_max_pooling():
    x = torch.randn(1, 2, 9, 11, requires_grad=True)

    def total(x):
        return F.max_pool2d(x, 3, 2, 1).square().sum()

    (ours,) = torch.autograd.grad(torch.compile(total, backend="rvv")(x), x)
    (wanted,) = torch.autograd.grad(total(x), x)
    torch.testing.assert_close(ours, wanted)


@pytest.mark.ir
def test_positions_keep_a_pool_whole():
    pool = inductor_prims._low_memory_max_pool_with_offsets

    def pools(function):
        graph = make_fx(function, tracing_mode="fake")(torch.randn(1, 2, 9, 11))
        return [n.args[1] for n in simplify(graph).graph.nodes if n.target == pool]

    assert pools(lambda x: pool(x, [3, 3], [2, 2], [1, 1], [1, 1], False)) == [[3, 3]]
    assert pools(lambda x: pool(x, [3, 3], [2, 2], [1, 1], [1, 1], False)[0]) == [[3, 1], [1, 3]]
    assert pools(lambda x: pool(x, [2, 2], [2, 2], [0, 0], [1, 1], False)[0]) == [[2, 2]]
    assert pools(lambda x: pool(x, [1, 3], [1, 2], [0, 1], [1, 1], False)[0]) == [[1, 3]]


# kernel, stride, padding, divisor; all of overlapping windows
AVERAGES = {
    "3 by 1 padded": (3, 1, 1, None),
    "3 by 2": (3, 2, 0, None),
    "oblong": ((3, 5), (2, 1), (1, 2), None),
    "by a number": (3, 2, 1, 7),
    "large": (7, 2, 3, None),
}


@pytest.mark.board
@pytest.mark.parametrize("name", AVERAGES)
@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_averages_of_overlapping_windows(name, padded, dtype):
    kernel, stride, padding, divisor = AVERAGES[name]
    torch.manual_seed(0)
    x = torch.randn(2, 3, 14, 17).to(dtype)

    def pool(x):
        return F.avg_pool2d(x, kernel, stride, padding, False, padded, divisor)

    torch._dynamo.reset()
    with record.collecting() as graphs:
        ours = torch.compile(pool, backend="rvv")(x)
    assert len(graphs[0].kernels) >= 2 and not graphs[0].extern
    bound = 1e-6 if dtype == torch.float32 else 8e-3
    torch.testing.assert_close(ours.double(), pool(x.double()), rtol=bound, atol=bound)


@pytest.mark.board
def test_averages_with_special_numbers_of_any_size_and_in_three_dimensions():
    cases = [
        (lambda x: F.avg_pool2d(x, 3, 1, 1), special(2, 3, 9, 11), False),
        (lambda x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False), torch.randn(2, 3, 9, 11), True),
        (lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True), torch.randn(3, 9, 10), False),
        (lambda x: F.avg_pool3d(x, 3, 2, 1), torch.randn(1, 2, 7, 8, 9), False),
        (lambda x: F.avg_pool3d(x, (1, 3, 3), 1, 0), torch.randn(1, 2, 4, 8, 9), False),
    ]
    for pool, x, dynamic in cases:
        torch._dynamo.reset()
        ours = torch.compile(pool, backend="rvv", dynamic=dynamic)(x)
        torch.testing.assert_close(ours, pool(x), equal_nan=True)
