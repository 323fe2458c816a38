"""Twenty random programs, and what the fuzzer itself must do: find a difference, and shrink it."""

from __future__ import annotations

import pytest

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
