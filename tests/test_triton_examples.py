"""The kernels of examples/triton: each checks its results against torch and proves that it is vector code."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[1] / "examples" / "triton"
EXAMPLES = sorted(p.stem for p in FOLDER.glob("*.py") if p.stem != "proof")
pytestmark = [pytest.mark.board, pytest.mark.filterwarnings("ignore:tl.make_block_ptr")]


@pytest.fixture(autouse=True)
def in_folder(monkeypatch):
    monkeypatch.setenv("TORCH_RVV_FALLBACK", "error")
    monkeypatch.syspath_prepend(str(FOLDER))
    torch.manual_seed(0)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name in EXAMPLES or name == "proof":
            del sys.modules[name]


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_is_right_and_vector_code(name, capsys):
    importlib.import_module(name).main()
    assert "vector instructions" in capsys.readouterr().out


@pytest.mark.parametrize("vlen", ["128", "1024"])
@pytest.mark.parametrize("name", ["softmax", "matmul", "layer_norm", "grouped_gemm"])
def test_example_is_right_at_other_vector_lengths(name, vlen, monkeypatch):
    monkeypatch.setenv("TORCH_RVV_VLEN", vlen)
    importlib.import_module(name).main()


def test_there_is_an_example_of_each_kind():
    wanted = {"vector_add", "softmax", "matmul", "matmul_bare", "layer_norm", "attention", "grouped_gemm", "dropout"}
    assert wanted | {"matmul_persistent", "smt_matmul", "smt_attention"} <= set(EXAMPLES)


def test_a_wrong_result_is_an_error():
    proof = importlib.import_module("proof")
    with pytest.raises(SystemExit, match="error 1.00e-01 is more than"):
        proof.compare("sum", torch.tensor([10.0, 0.0]), torch.tensor([10.0, 1.0]), 1e-3)
