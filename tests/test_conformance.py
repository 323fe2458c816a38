"""A sample of the conformance table: every seventh cell, at the VLEN of the board we tune for."""

from __future__ import annotations

import pytest

from tests.conformance.run import judge, load

pytestmark = [pytest.mark.board, pytest.mark.filterwarnings("ignore")]
SAMPLE = load()[::7]


@pytest.mark.parametrize("case", SAMPLE, ids=lambda case: case.name)
def test_cell_is_right_or_refused(case, monkeypatch):
    monkeypatch.setenv("TORCH_RVV_FALLBACK", "error")
    kind, message = judge(case)
    assert kind in ("passed", "refused"), message


def test_most_of_the_language_is_there():
    families = {case.family for case in load()}
    assert {"memory", "blocks", "products", "folds", "atomics", "control", "language", "smt"} <= families
    assert len(load()) > 1000
