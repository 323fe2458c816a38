"""Answers to Inductor's search for tilings: kept, the same as its own, and nobody's to change."""

from __future__ import annotations

import pytest
import sympy
import torch
from torch._inductor.virtualized import V
from torch.utils._sympy.functions import FloorDiv, ModularIndexing

from torch_rvv import tilings

x, n = sympy.Symbol("x", integer=True, nonnegative=True), sympy.Symbol("n", integer=True, positive=True)
QUESTIONS = [
    (4 * x, sympy.Integer(60), 2),
    (sympy.Integer(0), sympy.Integer(60), 2),
    (10 * FloorDiv(x, 6) + ModularIndexing(x, 1, 6), sympy.Integer(60), 2),
    (7 * ModularIndexing(x, 1, 6) + FloorDiv(x, 6), sympy.Integer(60), 2),
    (7 * ModularIndexing(x, 1, 7) + FloorDiv(x, 7), sympy.Integer(60), 2),
]


class Sizes:
    """Of a graph without dynamic sizes."""

    class sizevars:
        statically_known_multiple_of = staticmethod(lambda a, b: a % b == 0)
        statically_known_equals = staticmethod(lambda a, b: sympy.simplify(a - b) == 0)
        remove_precomputed_replacements = staticmethod(lambda e: e)
        simplify = staticmethod(lambda e: e)


@pytest.mark.ir
@pytest.mark.parametrize("question", QUESTIONS, ids=str)
def test_answers_are_inductors(question):
    index, numel, dims = question
    with V.set_graph_handler(Sizes()):
        wanted = tilings._match(index, x, numel, dims)
        found = tilings._matched(index, x, numel, dims)
        assert (found is None) == (wanted is None) and (found is None or list(found) == list(wanted))
        if found is not None:
            found[0].append("mine")
            assert list(tilings._matched(index, x, numel, dims)) == list(wanted)


@pytest.mark.ir
def test_dynamic_sizes_are_asked_anew(monkeypatch):
    asked = []
    monkeypatch.setattr(tilings, "_match", lambda *question: asked.append(question))
    for _ in range(2):
        tilings._matched(n * x, x, sympy.Integer(60), 2)
        tilings._matched(4 * x, x, n, 2)
    assert len(asked) == 4


@pytest.mark.board
def test_like_layers_ask_once():
    def layers(a, b):
        for _ in range(4):
            a, b = a.t().contiguous().softmax(-1), b * a.sum()
        return a, b

    before = tilings._kept.cache_info()
    inputs = torch.randn(31, 31), torch.randn(10)
    result = torch.compile(layers, backend="rvv")(*inputs)
    after = tilings._kept.cache_info()
    assert after.hits - before.hits > after.misses - before.misses
    torch.testing.assert_close(result, layers(*inputs))
