"""Autotuning, heuristics, explaining and compiling kernels written by hand."""

from __future__ import annotations

import warnings

import pytest
import torch
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

import torch_rvv
from torch_rvv.errors import Declined, TorchRvvError
from torch_rvv.plugin.tuning import TuningWarning

pytestmark = pytest.mark.board


@pytest.fixture(autouse=True)
def errors_are_errors(monkeypatch):
    monkeypatch.setenv("TORCH_RVV_FALLBACK", "error")


def double(x, out, n, BLOCK: tl.constexpr, BAD: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    v = tl.load(x + i, mask=i < n)
    if BAD:
        v = tl.inline_asm_elementwise("vmv.v.v $0, $1", "=vr,vr", [v], tl.float32, is_pure=True, pack=1)
    tl.store(out + i, v * 2, mask=i < n)


def tuned(*configs):
    made = [triton.Config({"BLOCK": block, "BAD": bad}) for block, bad in configs]
    return triton.autotune(made, key=["n"])(triton.jit(double))


def launch(kernel, n=10007):
    x, out = torch.randn(n), torch.zeros(n)
    kernel[lambda meta: (triton.cdiv(n, meta["BLOCK"]),)](x, out, n)
    return torch.equal(out, x * 2)


def test_the_configuration_with_the_fewest_instructions_wins():
    kernel = tuned((16, False), (1024, False), (64, False))
    assert launch(kernel)
    assert kernel.best_config.kwargs["BLOCK"] == 1024
    costs = {c.kwargs["BLOCK"]: t[0] for c, t in kernel.configs_timings.items()}
    assert costs[16] > costs[64] > costs[1024] > 0


def test_a_configuration_that_fails_is_named_and_the_others_go_on():
    kernel = tuned((1024, True), (32, False), (64, False))
    with pytest.warns(TuningWarning, match="(?s)double.*BLOCK: 1024.*is out.*vector registers.*test_triton_tuning"):
        assert launch(kernel)
    assert kernel.best_config.kwargs == {"BLOCK": 64, "BAD": False}
    bad = next(t for c, t in kernel.configs_timings.items() if c.kwargs["BAD"])
    assert bad[0] == float("inf")


def test_a_configuration_that_triton_refuses_is_named_too():
    kernel = tuned((48, False), (64, False))
    with pytest.warns(TuningWarning, match="BLOCK: 48.*power of 2"):
        assert launch(kernel)


def test_if_all_configurations_fail_the_kernel_says_why():
    with warnings.catch_warnings(), pytest.raises(Declined, match="vector registers"):
        warnings.simplefilter("ignore")
        launch(tuned((32, True), (64, True)))


def test_heuristics_choose_from_the_arguments():
    kernel = triton.heuristics({"BLOCK": lambda a: triton.next_power_of_2(a["n"]), "BAD": lambda a: False})(
        triton.jit(double)
    )
    assert launch(kernel, 100)


def test_explain_compiles_a_launch_and_does_not_run_it():
    x, out = torch.randn(100), torch.zeros(100)
    report = torch_rvv.explain(triton.jit(double)[(4,)], x, out, 100, BLOCK=32, BAD=False)
    (row,) = report.rows
    assert row.compiled and row.vector > 3 and row.accesses == {"unit": 2} and row.name == "double"
    assert bool((out == 0).all()) and "1 of 1 kernels compiled" in str(report)


def test_explain_shows_every_configuration_and_why_one_is_declined():
    x, out = torch.randn(100), torch.zeros(100)
    report = torch_rvv.explain(tuned((32, False), (64, True))[(4,)], x, out, 100)
    good, bad = report.rows
    assert good.compiled and not bad.compiled
    assert "vector registers" in bad.reason and "test_triton_tuning.py:" in bad.where and bad.where in str(report)


def test_explain_asks_for_the_launch():
    with pytest.raises(TorchRvvError, match=r"explain\(kernel\[grid\]"):
        torch_rvv.explain(triton.jit(double), torch.zeros(1))


def test_kernels_compile_ahead_of_time():
    source = ASTSource(
        triton.jit(double),
        {"x": "*fp32", "out": "*fp32", "n": "i32", "BLOCK": "constexpr", "BAD": "constexpr"},
        {"BLOCK": 64, "BAD": False},
    )
    compiled = triton.compile(source, target=GPUTarget("cpu", "riscv64", 1))
    assert compiled.asm["so"][:4] == b"\x7fELF" and "vle32.v" in compiled.asm["object"]
