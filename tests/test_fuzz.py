"""Some random programs and functions, and what the fuzzers themselves must do: find a difference, and shrink it."""

from __future__ import annotations

import pytest
import torch

from tests.fuzz import graphs
from tests.fuzz.generate import generate
from tests.fuzz.program import Block, Program
from tests.fuzz.run import Session

pytestmark = pytest.mark.board


@pytest.fixture(scope="module")
def session():
    session = Session()
    yield session
    session.close()


@pytest.mark.parametrize("seed", range(20))
def test_program_gives_what_the_interpreter_gives(seed, session):
    finding = session.judge(generate(seed))
    assert finding is None, finding.message + finding.program.text()


def test_a_seed_is_a_program():
    assert generate(5) == generate(5) and generate(5).text() != generate(6).text()


def test_a_difference_is_found_and_shrunk(session, monkeypatch):
    body = (
        "v1 = tl.load(x0 + tl.arange(0, 8))",
        "v2 = v1 * 2",
        Block("if n0 > 1:", ("v3 = v1 + 1",)),
        "tl.store(o0 + tl.arange(0, 8), v1)",
        "tl.store(o0 + 8 + tl.arange(0, 8), v2)",
    )
    program = Program(1, 256, 1, (("x0", "int32", 4096), ("o0", "int32", 4096)), (("n0", 2),), body)
    real = session.reference.run

    def wrong(*arguments):
        said, tensors = real(*arguments)
        if tensors:
            tensors[1][:8] += tensors[1][:8] != 0
        return said, tensors

    monkeypatch.setattr(session.reference, "run", wrong)
    finding = session.judge(program)
    assert finding is not None and finding.kind == "mismatch" and "o0 (int32) differs" in finding.message
    small = session.shrink(finding).program
    assert small.body == ("v1 = tl.load(x0 + tl.arange(0, 8))", "tl.store(o0 + tl.arange(0, 8), v1)")


@pytest.mark.parametrize("seed", range(8))
def test_function_gives_what_float64_gives(seed):
    function = graphs.generate(seed)
    message = graphs.judge(function)
    assert message is None, f"{message}\n{function.text()}"


def test_a_seed_is_a_function():
    assert graphs.generate(5) == graphs.generate(5) and graphs.generate(5).text() != graphs.generate(6).text()


def test_a_wrong_function_loses_the_lines_that_do_not_matter():
    lines = (("v0", "torch.sin(x0)"), ("v1", "(v0 + x1)"), ("v2", "torch.exp(x1)"), ("v3", "v1.sum()"))
    function = graphs.Function(0, (graphs.Input("x0", (3,)), graphs.Input("x1", (3,))), lines)

    def wrong(function):
        return "wrong" if any("sin" in expression for _, expression in function.lines) else None

    small = graphs.shrink(function, wrong)
    assert small.text() == "def function(x0):\n    v0 = torch.sin(x0)\n    return [v0]\n"


def test_a_difference_of_a_function_is_found(monkeypatch):
    function = graphs.Function(1, (graphs.Input("x0", (3, 4)),), (("v0", "torch.sin(x0)"),))
    assert graphs.judge(function) is None
    monkeypatch.setattr(torch, "compile", lambda plain, **_: lambda x: [r * (1 + 1e-3) for r in plain(x)])
    assert graphs.judge(function).startswith("v0 is wrong by 1.0e-03")
    monkeypatch.setattr(torch, "compile", lambda plain, **_: lambda x: [r.detach() + 0 * x for r in plain(x)])
    assert graphs.judge(function).startswith("the gradient of x0 is wrong by 1.0e+00")
