"""The judge of accuracy runs itself: what passes, what fails, what is counted."""

from __future__ import annotations

import pytest
import torch
from torch_rvv.benchmarks import accuracy, models
from torch_rvv.benchmarks.accuracy import Result, measure, table, unstructured_share
from torch_rvv.runtime.record import KernelRecord

from torch_rvv import cli
from torch_rvv.errors import OptionError


class Small(torch.nn.Module):
    """A layer whose result, and sharpness, are set from outside."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(24, 8)
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, x):
        return {"out": self.dropout(torch.softmax(self.linear(x), -1)), "mask": x.sum(-1) > 0}


def small():
    return Small(), {"x": torch.randn(6, 24)}


class Pair(Small):
    def forward(self, x):
        return x.exp(), [super().forward(x)["out"]]


def pair():
    return Pair(), {"x": torch.randn(6, 24)}


def broken():
    class Broken(torch.nn.Module):
        def forward(self, x):
            raise RuntimeError("this model cannot run")

    return Broken(), {"x": torch.ones(3)}


def wrong_form():
    return Small(), (torch.ones(3),)


PATH = f"{__name__}:small"


def access(kind: str, elements: int | None, op: str = "load") -> dict:
    return {"kind": kind, "elements_per_program": elements, "op": op, "arg": 1, "why": "an index from memory"}


@pytest.mark.ir
def test_the_share_of_gathers_counts_elements_and_programs():
    often = KernelRecord("often", metadata={"accesses": [access("unit", 100), access("gather", 20)]}, programs=10)
    once = KernelRecord("once", metadata={"accesses": [access("strided", 100), access("broadcast", 700)]}, programs=1)
    share, why = unstructured_share([often, once, KernelRecord("in aten", compiled=False)])
    assert share == pytest.approx(200 / 2000)
    assert why == ["often: load of argument 1: an index from memory"]
    assert unstructured_share([]) == (0.0, [])


@pytest.mark.board
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_by_its_path(dtype, training):
    result = measure(PATH, dtype, training)
    assert result.status == "pass" and result.compiled == result.kernels > 0, result
    assert result.max_abs_err < (1e-6 if dtype == torch.float32 else 1e-2)


@pytest.mark.board
def test_a_model_whose_result_is_a_tuple_at_two_sizes():
    result = measure(f"{__name__}:pair", dynamic=True)
    assert result.status == "pass" and result.fell_back == 0, result


@pytest.mark.board
@pytest.mark.parametrize("training", [False, True])
def test_a_result_that_is_a_little_off_fails(training, monkeypatch):
    plain = accuracy._run

    def off(network, call, inputs, training):
        found = plain(network, call, inputs, training)
        # Only what was compiled is changed, and of it the last group only.
        return found if call is network else [*found[:-1], [t * 1.01 for t in found[-1]]]

    monkeypatch.setattr(accuracy, "_run", off)
    monkeypatch.setattr(Small, "forward", lambda self, x: {"out": torch.softmax(self.linear(x) * 1e-3, -1) * 1e-4})
    assert measure(PATH, training=training).status == "fail"


@pytest.mark.board
def test_a_model_that_raises_is_an_error_with_its_reason():
    result = measure(f"{__name__}:broken")
    assert result.status == "error" and any("this model cannot run" in reason for reason in result.reasons)


@pytest.mark.board
def test_what_fell_back_is_counted_and_named(monkeypatch):
    monkeypatch.setenv("TORCH_RVV_FORCE_FALLBACK", "1")
    with pytest.warns(UserWarning, match="runs in aten"):
        result = measure(PATH)
    assert result.status == "pass" and result.fell_back == result.kernels > 0 and result.compiled == 0
    assert all("FORCE_FALLBACK" in reason for reason in result.reasons) and result.reasons


@pytest.mark.ir
def test_the_command_fails_if_one_model_does(monkeypatch, capsys):
    outcome = {"good": "pass", "bad": "fail"}
    monkeypatch.setattr(
        accuracy, "measure", lambda name, *_: Result(name, "float32", status=outcome[name], compile_ms=[40.0])
    )
    assert cli.main(["accuracy", "--models", "good"]) == 0
    assert cli.main(["accuracy", "--models", "good,bad"]) == 1
    assert "median lowering time of a kernel: 40 ms" in capsys.readouterr().out


@pytest.mark.ir
def test_who_does_what_is_handed_on_and_what_aten_does_is_shown(monkeypatch, capsys):
    seen = []

    def measured(name, dtype, training, dynamic, options):
        seen.append(options)
        return Result(name, "float32", status="pass", extern={"aten.foo.default": 3})

    monkeypatch.setattr(accuracy, "measure", measured)
    assert cli.main(["accuracy", "--models", "m", "--gemm", "rvv", "--conv", "aten"]) == 0
    assert cli.main(["accuracy", "--models", "m"]) == 0
    assert seen == [{"gemm": "rvv", "conv": "aten"}, None]
    assert "3 x aten.foo.default" in capsys.readouterr().out


@pytest.mark.ir
def test_a_result_without_a_run_has_no_error_column():
    assert " - " in table([Result("none", "float32")])


@pytest.mark.ir
def test_models_are_the_same_each_time_and_alive():
    for name in ("mobilenetv2", "convnext"):
        (first, inputs), (second, again) = models.build(name), models.build(name)
        with torch.no_grad():
            one, two = first(**inputs).logits, second(**again).logits
        assert torch.equal(one, two) and one.std() > 1e-2


@pytest.mark.ir
def test_inputs_must_be_named():
    with pytest.raises(OptionError, match="dict of keyword inputs"):
        models.build(f"{__name__}:wrong_form")
