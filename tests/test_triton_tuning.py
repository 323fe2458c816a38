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
from torch_rvv.plugin import tuning
from torch_rvv.plugin.tuning import TuningError, TuningWarning

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


def test_if_all_configurations_fail_one_error_has_every_reason():
    kernel = tuned((32, True), (48, False))
    for _ in range(2):  # Nothing of a round without a winner is remembered.
        with warnings.catch_warnings(), pytest.raises(TuningError, match="(?s)all 2.*vector registers.*power of 2"):
            warnings.simplefilter("ignore")
            launch(kernel)
    with warnings.catch_warnings(), pytest.raises(TuningError, match="all 1"):
        warnings.simplefilter("ignore")
        made = [triton.Config({"BLOCK": 64, "BAD": bad}) for bad in (True, False)]
        only_bad = {"early_config_prune": lambda configs, named, **_: [c for c in configs if c.kwargs["BAD"]]}
        launch(triton.autotune(made, key=["n"], prune_configs_by=only_bad)(triton.jit(double)))


def fragile(x, out, n, BLOCK: tl.constexpr, HOW: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    v = tl.load(x + i, mask=i < n)
    if HOW == "fault":
        v += tl.load(x + (1 << 40) + i, mask=i < n)
    if HOW == "assert":
        tl.device_assert(v > 1000, "too small")
    if HOW == "endless":
        while tl.load(x) < 1000:
            tl.store(out + n - 1, 0.0)
    tl.store(out + i, v * 2, mask=i < n)


@pytest.mark.parametrize(
    ("how", "why"), [("fault", "SIGSEGV"), ("assert", "too small"), ("endless", "did not end within 1 s")]
)
def test_a_configuration_that_fails_as_it_runs_is_never_timed(how, why, monkeypatch):
    monkeypatch.setenv("TORCH_RVV_TIMEOUT", "1")
    made = [triton.Config({"BLOCK": 64, "HOW": name}) for name in (how, "")]
    kernel = triton.autotune(made, key=["n"])(triton.jit(fragile))
    x, out = torch.rand(100), torch.zeros(100)
    with pytest.warns(TuningWarning, match=f"fragile: the configuration.*HOW: {how}.*is out.*{why}"):
        kernel[(2,)](x, out, 100, debug=True)
    assert kernel.best_config.kwargs["HOW"] == "" and torch.equal(out, x * 2)
    assert [t[0] for t in kernel.configs_timings.values()][0] == float("inf")


def test_a_launch_that_runs_nothing_does_not_win():
    kernel = tuned((64, False), (1024, False))
    x, out = torch.randn(100), torch.zeros(100)
    with pytest.warns(TuningWarning, match="BLOCK: 1024.*runs no program"):
        kernel[lambda meta: (100 // meta["BLOCK"] + (meta["BLOCK"] == 64),)](x, out, 100)
    assert kernel.best_config.kwargs["BLOCK"] == 64 and torch.equal(out, x * 2)


@triton.jit
def through_addresses(table, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    x, out = tl.load(table).to(tl.pointer_type(tl.float32)), tl.load(table + 1).to(tl.pointer_type(tl.float32))
    for start in range(0, n, BLOCK):
        tl.store(out + start + i, tl.load(x + start + i, mask=start + i < n) * 2, mask=start + i < n)


def test_launches_that_cannot_be_counted_are_timed_and_that_is_said():
    kernel = triton.autotune([triton.Config({"BLOCK": b}) for b in (16, 64)], key=["n"])(through_addresses)
    x, out = torch.randn(100), torch.zeros(100)
    with pytest.warns(TuningWarning, match="the emulator's time: kernel through_addresses makes addresses"):
        kernel[(1,)](torch.tensor([x.data_ptr(), out.data_ptr()]), 100)
    assert torch.equal(out, x * 2)
    assert all(0 < t[0] < float("inf") for t in kernel.configs_timings.values())


def test_arguments_are_restored_between_configurations():
    @triton.jit
    def increment(x, n, BLOCK: tl.constexpr):
        i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        tl.store(x + i, tl.load(x + i, mask=i < n) + 1, mask=i < n)

    made = [triton.Config({"BLOCK": b}) for b in (16, 32, 64)]
    kernel, x = triton.autotune(made, key=["n"], restore_value=["x"])(increment), torch.zeros(100)
    kernel[lambda meta: (triton.cdiv(100, meta["BLOCK"]),)](x, 100)
    assert bool((x == 1).all())


def test_do_bench_gives_times_and_says_whose():
    x, out, kernel = torch.randn(100), torch.zeros(100), triton.jit(double)
    tuning._say_whose_time.cache_clear()
    with pytest.warns(TuningWarning, match="times the emulator"):
        spent = triton.testing.do_bench(lambda: kernel[(4,)](x, out, 100, BLOCK=32, BAD=False), warmup=1, rep=2)
    assert spent > 0 and torch.equal(out, x * 2)


def test_what_fails_outside_of_an_autotuner_is_raised():
    x, out, kernel = torch.randn(100), torch.zeros(100), triton.jit(double)
    with pytest.raises(Declined, match="vector registers"):
        tuning.benchmark(lambda: kernel[(4,)](x, out, 100, BLOCK=32, BAD=True))
    assert tuning.benchmark(lambda: kernel[(4,)](x, out, 100, BLOCK=32, BAD=False), (0.5, 0.2))[1] > 0


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


def test_explain_goes_through_heuristics_without_running_an_autotuner():
    x, out = torch.randn(100), torch.zeros(100)
    kernel = triton.heuristics({"n": lambda a: a["x"].numel()})(tuned((32, False), (64, False)))
    report = torch_rvv.explain(kernel[(4,)], x, out)
    assert [r.origins for r in report.rows] == [["BLOCK: 32, BAD: False"], ["BLOCK: 64, BAD: False"]]
    assert not out.any() and not kernel.fn.cache


def test_explain_of_a_launch_takes_the_options_of_code_generation():
    x, out = torch.randn(100), torch.zeros(100)
    launch = triton.jit(double)[(4,)]
    report = torch_rvv.explain(launch, x, out, 100, BLOCK=32, BAD=False, options={"lmul": 2})
    assert report.rows[0].lmul == "2"
    with pytest.raises(TorchRvvError, match="Unknown option 'gemm'"):
        torch_rvv.explain(launch, x, out, 100, BLOCK=32, BAD=False, options={"gemm": 2})


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
