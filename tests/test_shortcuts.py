"""Answers to Inductor's search for shortcuts: kept, the same as its own, and nobody's to change."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import sympy
import torch
import torch._inductor.lowering  # Its rules of dtypes.
from torch._inductor.dtype_propagation import DtypePropagationOpsHandler
from torch._inductor.sizevars import SizeVarAllocator
from torch._inductor.utils import OpDtypeRule, op_dtype_propagation_rules
from torch._inductor.virtualized import V
from torch._prims_common import ELEMENTWISE_TYPE_PROMOTION_KIND
from torch.utils._sympy.functions import FloorDiv, ModularIndexing

from torch_rvv import shortcuts

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
        wanted = shortcuts._match(index, x, numel, dims)
        found = shortcuts._matched(index, x, numel, dims)
        assert (found is None) == (wanted is None) and (found is None or list(found) == list(wanted))
        if found is not None:
            found[0].append("mine")
            assert list(shortcuts._matched(index, x, numel, dims)) == list(wanted)


@pytest.mark.ir
def test_dynamic_sizes_are_asked_anew(monkeypatch):
    asked = []
    monkeypatch.setattr(shortcuts, "_match", lambda *question: asked.append(question))
    for _ in range(2):
        shortcuts._matched(n * FloorDiv(x, 6), x, sympy.Integer(60), 2)
        shortcuts._matched(4 * FloorDiv(x, 6), x, n, 2)
    assert len(asked) == 4


@pytest.mark.ir
@pytest.mark.parametrize(
    "index",
    [
        sympy.Integer(7),
        3 * (x + 2 * n) + 5,
        FloorDiv(x, 4),
        FloorDiv(x, 64) + x,
        ModularIndexing(x, 1, 70) + 64 * FloorDiv(x, 64),
        ModularIndexing(x, 1, 8) + 8 * ModularIndexing(x, 8, 8),
    ],
    ids=str,
)
def test_an_index_is_simplified_as_by_inductor(index):
    sizes, ranges = SizeVarAllocator(), {x: sympy.Integer(64)}
    assert shortcuts._simplified(sizes, index, ranges) == shortcuts._simplify(sizes, index, ranges)


@pytest.mark.ir
@pytest.mark.parametrize(
    "index", [x, 2 * x, -3 * x, x / 2, x + 6, 2 * x - 5, FloorDiv(x, 8), 4 * FloorDiv(x, 8)], ids=str
)
def test_a_tiling_is_solved_as_by_inductor(index):
    assert shortcuts._solved(index) == shortcuts._solve(index)


@pytest.mark.ir
def test_a_rule_of_dtypes_that_comes_later_is_known(monkeypatch):
    shortcuts.register()
    handler = DtypePropagationOpsHandler()
    flag = SimpleNamespace(dtype=torch.bool)
    assert DtypePropagationOpsHandler() is handler and handler.exp(flag) is torch.float32
    rule = OpDtypeRule(ELEMENTWISE_TYPE_PROMOTION_KIND.DEFAULT, torch.int8)
    with monkeypatch.context() as changed:
        changed.setitem(op_dtype_propagation_rules, "exp", rule)
        assert DtypePropagationOpsHandler().exp(flag) is torch.int8
    assert DtypePropagationOpsHandler().exp(flag) is torch.float32


@pytest.mark.board
def test_like_layers_ask_once():
    def layers(a, b):
        for _ in range(4):
            a, b = a.t().contiguous().softmax(-1), b * a.sum()
        return a, b

    before = shortcuts._kept.cache_info()
    inputs = torch.randn(31, 31), torch.randn(10)
    result = torch.compile(layers, backend="rvv")(*inputs)
    after = shortcuts._kept.cache_info()
    assert after.hits - before.hits > after.misses - before.misses
    torch.testing.assert_close(result, layers(*inputs))
