"""Linear layers of few rows: the input by column, where that pays, and once for all that read it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from test_gemm import BF16, F16, F32, F64, I8, agree
from torch_rvv.runtime.context import Placement, placing

from torch_rvv.columns import LINE, MOST_ROWS, apart, lanes, pays

WHERE = "lanes along its rows"


def told(graphs):
    """How many products were decided to be turned round."""
    return sum(WHERE in outcome for g in graphs for outcome in g.decisions.values())


@pytest.mark.board
@pytest.mark.parametrize("dtype", [F32, F16, BF16], ids=str)
@pytest.mark.parametrize(("m", "k", "n"), [(5, 256, 300), (16, 257, 131), (30, 1100, 160), (128, 512, 640)])
def test_a_linear_layer_with_its_epilogue(m, k, n, dtype):
    torch.manual_seed(0)
    x, w, b, y = torch.randn(m, k), torch.randn(n, k) / k**0.5, torch.randn(n), torch.randn(m, n)
    function = lambda x, w, b, y: torch.tanh(F.linear(x, w, b)) * y  # noqa: E731
    graphs = agree(function, *(t.to(dtype) for t in (x, w, b, y)), terms=k)
    assert not any(g.extern for g in graphs) and (told(graphs) or dtype == BF16)


@pytest.mark.board
def test_results_are_those_of_a_copied_weight_to_the_last_bit():
    torch.manual_seed(0)
    x, w = torch.randn(48, 512), torch.randn(256, 512)
    x[3, 5], x[7, 9] = float("nan"), float("inf")
    ours = torch.compile(F.linear, backend="rvv")(x, w)
    copied = torch.compile(lambda x, w: x @ (w * 1.0).t(), backend="rvv")(x, w)
    assert torch.equal(ours.nan_to_num(), copied.nan_to_num()) and torch.equal(ours.isnan(), copied.isnan())


@pytest.mark.board
def test_layers_that_read_the_same_rows_share_them():
    torch.manual_seed(0)
    x, q, k, v = torch.randn(1, 32, 256), *(torch.randn(256, 256) for _ in "qkv")
    graphs = agree(lambda x, *w: sum(F.linear(x + 1, m).relu() for m in w), x, q, k, v)
    assert told(graphs) == 1  # By what they are: three of the same sizes.
    kernels = [k.name for g in graphs for k in g.kernels]
    assert len(kernels) <= 4


@pytest.mark.board
def test_integers_and_gradients():
    torch.manual_seed(0)
    x, w = (torch.randint(-128, 128, size, dtype=I8) for size in ((48, 300), (200, 300)))
    ours = torch.compile(lambda x, w: torch._int_mm(x, w.t()), backend="rvv")(x, w)
    assert torch.equal(ours, torch._int_mm(x, w.t()))
    layer = torch.nn.Sequential(torch.nn.Linear(256, 320), torch.nn.GELU(), torch.nn.Linear(320, 256))
    given = torch.randn(32, 256, requires_grad=True)
    wanted = torch.autograd.grad(layer(given).square().sum(), [given, *layer.parameters()])
    found = torch.autograd.grad(torch.compile(layer, backend="rvv")(given).square().sum(), [given, *layer.parameters()])
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.board
def test_results_have_the_strides_that_they_have_in_eager():
    x, w = torch.randn(2, 16, 256), torch.randn(256, 256)

    def function(x, w):
        y = F.linear(x, w)
        return y, y.view(2, 16, 4, 64).transpose(1, 2), y.t() if y.dim() == 2 else y.mT

    for one, other in zip(torch.compile(function, backend="rvv")(x, w), function(x, w), strict=True):
        assert one.stride() == other.stride()
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [F32, F16, I8], ids=str)
@pytest.mark.parametrize("rows", [5, 16, 32, 33, 64, 128])
def test_rows_of_the_transpose_do_not_share_the_sets_of_a_cache(rows, dtype):
    size = apart(rows, dtype) * dtype.itemsize
    assert rows <= apart(rows, dtype) <= rows + LINE // dtype.itemsize and size % (2 * LINE)


def matrices(m, k, n, dtype=F32):
    return torch.empty(m, k, dtype=dtype), torch.empty(n, k, dtype=dtype).t()


def test_where_it_pays():
    with placing(Placement()):
        assert pays(*matrices(5, 768, 768)) and pays(*matrices(128, 896, 4864)) and pays(*matrices(48, 512, 512, I8))
        # A few rows are reductions, 129 lie far apart, of 20 many lanes would be idle.
        for m, k, n, dtype in (
            (4, 768, 768, F32), (MOST_ROWS + 1, 768, 768, F32), (20, 768, 768, F32),
            (128, 128, 128, F32), (128, 768, 8, F32), (128, 512, 512, BF16), (32, 768, 768, F64),
        ):  # fmt: skip
            assert not pays(*matrices(m, k, n, dtype))
        assert not pays(torch.empty(32, 768), torch.empty(768, 768))
    for placement in (Placement(gemm="aten"), Placement(frozen=True)):
        with placing(placement):
            assert not pays(*matrices(48, 768, 768))
        # A weight that is converted is copied in any case.
        assert pays(*matrices(128, 512, 512)) and not pays(*matrices(128, 512, 512), converted=True)
    assert lanes(32) == 32 and lanes(96) == 96 and 32 < lanes(33) < lanes(48) < lanes(49) == 64


@pytest.mark.board
def test_what_is_computed_or_dynamic_or_frozen_stays():
    torch.manual_seed(0)
    x, w, y = torch.randn(32, 256), torch.randn(256, 256), torch.randn(256, 256)
    assert not told(agree(lambda x, w, y: F.linear(x, w * y), x, w, y))
    assert not told(agree(lambda x, w: F.linear(x, w), x, w, dynamic=True))
    layer = torch.nn.Linear(256, 256).eval()
    with torch.no_grad():
        graphs = agree(lambda x: F.linear(x, layer.weight.to(x.dtype)), x, options={"freezing": True})
    assert not told(graphs)
