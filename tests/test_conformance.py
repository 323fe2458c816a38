"""A sample of the conformance table: every seventh cell, at the VLEN of the board we tune for."""

from __future__ import annotations

import pytest
import torch

from tests.conformance.run import judge, load

pytestmark = [pytest.mark.board, pytest.mark.filterwarnings("ignore")]
SAMPLE = load()[::7]


@pytest.mark.parametrize("case", SAMPLE, ids=lambda case: case.name)
def test_cell_is_right_or_refused(case, monkeypatch):
    monkeypatch.setenv("TORCH_RVV_FALLBACK", "error")
    kind, message = judge(case)
    assert kind in ("passed", "refused"), message


@pytest.fixture(scope="module")
def operators():
    """The cells of PyTorch's operators: loaded when they are needed, for that takes seconds."""
    return {case.name.removeprefix("operators/"): case for case in load("operators")}


@pytest.mark.parametrize(
    "name",
    ["addcmul/f32", "cat/i64", "var_mean.unbiased/f32", "var_mean.unbiased/c64", "bitwise_xor/bool", "logsumexp/bf16"],
)
def test_operator_is_right(name, operators, monkeypatch):
    monkeypatch.setenv("TORCH_RVV_FALLBACK", "error")
    assert judge(operators[name]) == ("passed", "")


def test_an_operator_that_is_wrong_is_found(operators, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function, **_: lambda held: [x + 1e-3 for x in function(held)])
    kind, message = judge(operators["sin/f32"])
    assert kind == "wrong" and "shapes [(20, 20)]" in message


def test_most_of_the_language_is_there():
    families = {case.family for case in load()}
    assert {"memory", "blocks", "products", "folds", "atomics", "control", "language", "smt"} <= families
    assert len(load()) > 1000
