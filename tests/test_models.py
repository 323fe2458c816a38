"""Whole models: accuracy against float64, as the command line judges it."""

from __future__ import annotations

import json

import pytest
import torch
from torch_rvv.benchmarks.accuracy import measure
from torch_rvv.benchmarks.models import MODELS, build

from torch_rvv.cli import main
from torch_rvv.errors import OptionError

pytestmark = pytest.mark.models


@pytest.mark.parametrize("name", MODELS)
def test_model_agrees_with_float64_no_worse_than_eager(name):
    result = measure(name)
    assert result.status == "pass" and result.fell_back == 0 and result.kernels > 0, result
    assert result.unstructured_share <= 0.05


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_llama(dtype):
    result = measure("llama", dtype)
    assert result.status == "pass" and result.fell_back == 0, result


@pytest.mark.parametrize("name", ["gpt2", "bert", "resnet"])
def test_training(name):
    result = measure(name, training=True)
    assert result.status == "pass" and result.fell_back == 0, result


def test_dynamic_shapes():
    result = measure("gpt2", dynamic=True)
    assert result.status == "pass" and result.fell_back == 0, result


def test_every_kernel_of_a_model_agrees_with_its_aten_twin(monkeypatch):
    monkeypatch.setenv("TORCH_RVV_VERIFY", "1")
    for name in ("gpt2", "convnext"):
        result = measure(name)
        assert result.status == "pass", result


def test_the_command_line_writes_json(tmp_path):
    path = tmp_path / "result.json"
    assert main(["accuracy", "--models", "convnext", "--json", str(path)]) == 0
    (entry,) = json.loads(path.read_text())
    assert set(entry) == {"model", "dtype", "status", "max_abs_err", "kernels", "compiled", "fell_back", "reasons",
                          "unstructured_share", "seconds"}  # fmt: skip
    assert entry["status"] == "pass" and entry["compiled"] == entry["kernels"]


def test_an_unknown_model_lists_the_known_ones():
    with pytest.raises(OptionError, match="gpt2, bert"):
        build("nonesuch")
