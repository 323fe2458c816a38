"""Whole graphs from disk: what is found is what was compiled, and nothing is found that should not be."""

from __future__ import annotations

import pytest
import torch
from conftest import assert_same
from torch._dynamo.utils import counters
from torch._functorch import config as functorch_config
from torch_rvv.runtime import record


@pytest.fixture
def cached(monkeypatch, tmp_path):
    """compile(function, **keywords) with AOTAutograd's cache on, in an empty folder; forgets what is in memory."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))

    def compile_(function, **keywords):
        torch._dynamo.reset()
        counters.clear()
        return torch.compile(function, backend="rvv", **keywords)

    with functorch_config.patch(enable_autograd_cache=True):
        yield compile_


def found() -> tuple[int, int]:
    """(graphs found on disk, graphs saved there) since the last compile."""
    return counters["aot_autograd"]["autograd_cache_hit"], counters["aot_autograd"]["autograd_cache_saved"]


def block(x, weight):
    scale = torch.tensor([0.5, 2.0, -1.0])
    return torch.softmax(x @ weight, -1) * scale, x.exp().sum(), torch.linalg.inv(weight.T @ weight)


def test_a_graph_is_found_again_and_gives_the_same(cached):
    x, weight = torch.randn(17, 5), torch.randn(5, 3)
    with record.collecting() as first:
        want = cached(block)(x, weight)
    assert found() == (0, 1)
    with record.collecting() as second:
        got = cached(block)(x, weight)
    assert found() == (1, 0)
    for g, w, plain in zip(got, want, block(x, weight), strict=True):
        assert torch.equal(g, w)
        torch.testing.assert_close(g, plain)
    assert [k.name for g in first for k in g.kernels] == [k.name for g in second for k in g.kernels]
    assert [k.binary for g in first for k in g.kernels] == [k.binary for g in second for k in g.kernels]


@pytest.mark.parametrize("other", [{"lmul": 1}, {"target": "k3-a100"}, {"gemm": "aten"}, {"winograd": False}])
def test_other_options_are_another_graph(cached, other):
    x, weight = torch.randn(17, 5), torch.randn(5, 3)
    want = cached(block)(x, weight)
    got = cached(block, options=other)(x, weight)
    assert found() == (0, 1)
    torch.testing.assert_close(got[0], want[0])


def test_another_device_runs_the_same_graph(cached):
    from torch_rvv.runtime.virtual import VirtualBoard

    x = torch.randn(100)
    want = cached(lambda x: x.exp() + 1)(x)
    board = VirtualBoard(vlen=512)
    assert torch.equal(cached(lambda x: x.exp() + 1, options={"device": board})(x), want)
    assert found() == (1, 0)


@pytest.mark.parametrize("lazy", [False, True])
def test_forward_and_backward_are_found_again_if_compiled_together(cached, lazy):
    def loss(x, weight):
        return torch.tanh(x @ weight).square().sum()

    def gradients():
        x, weight = (torch.ones(4, 5) / 3).requires_grad_(), torch.full((5, 3), 0.25).requires_grad_()
        with functorch_config.patch(force_non_lazy_backward_lowering=not lazy):
            cached(loss)(x, weight).backward()
        return x.grad, weight.grad

    want = gradients()
    assert found() == (0, 0 if lazy else 1)
    got = gradients()
    assert found() == (0 if lazy else 1, 0)
    assert all(torch.equal(g, w) for g, w in zip(got, want, strict=True))


def test_dynamic_sizes_are_found_again_and_still_dynamic(cached):
    def function(x):
        return (x * 2 + 1).sum(-1), x.shape[0]

    torch.manual_seed(0)  # Sums that cancel have no small error in units of themselves.
    for times in range(2):
        compiled = cached(function, dynamic=True)
        for n in (7, 12):
            x = torch.randn(n, 9)
            assert_same(compiled(x)[0], function(x)[0], ulps=16)
        assert found() == ((1, 0) if times else (0, 1))


def test_a_graph_with_a_kernel_in_aten_is_not_saved(cached, monkeypatch):
    from torch_rvv.lowering import pipeline

    from torch_rvv.errors import Declined

    def declines(*_):
        raise Declined("not today")

    monkeypatch.setitem(pipeline.STAGES, "linalg", declines)
    monkeypatch.setenv("TRITON_ALWAYS_COMPILE", "1")
    with pytest.warns(UserWarning, match="not today"):
        cached(lambda x: x * 3)(torch.ones(5))
    assert found() == (0, 0)


@pytest.mark.parametrize("knob", ["TORCH_RVV_VERIFY", "TORCH_RVV_FORCE_FALLBACK", "TORCH_RVV_DUMP"])
def test_knobs_that_look_at_the_compile_turn_it_off(cached, monkeypatch, tmp_path, knob):
    x = torch.ones(5)
    cached(lambda x: x * 3)(x)
    monkeypatch.setenv(knob, str(tmp_path / "dump") if knob.endswith("DUMP") else "1")
    with pytest.warns() if knob.endswith("FALLBACK") else torch.no_grad():
        cached(lambda x: x * 3)(x)
    assert found() == (0, 0)


def test_a_saved_kernel_whose_overlap_version_declines_reads_the_values_from_before(cached, monkeypatch):
    from torch_rvv.errors import Declined
    from torch_rvv.plugin.driver import Launcher

    def function(x):
        x.copy_(x.flip(0) + 1)
        return x

    cached(function)(torch.arange(9.0))
    held = Launcher.launch

    def launch(self, grid, values):
        from torch_rvv.plugin.driver import overlap

        if overlap(values, self.written):
            raise Declined("overlap")
        held(self, grid, values)

    monkeypatch.setattr(Launcher, "launch", launch)
    x = torch.arange(9.0)
    cached(function)(x)
    assert found()[0] == 1
    assert torch.equal(x, torch.arange(9.0).flip(0) + 1)
