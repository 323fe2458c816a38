"""Stores through one pointer in one loop: when they never meet, and that the others keep their order."""

from __future__ import annotations

import itertools
import random

import pytest
import torch
import triton
import triton.language as tl
from conftest import assert_same
from torch_rvv.lowering.access import Space
from torch_rvv.lowering.disjoint import never_equal
from torch_rvv.lowering.linear import Atom, Linear, Poly

ROW = Atom("row", nonnegative=True)


def form(space: Space, *numbers: int, row: int = 0) -> Linear:
    """numbers: the constant, then a coefficient a dimension; row: the coefficient of a number known when it runs."""
    constant, *coefs = numbers
    known = Poly(constant) + Poly.of(ROW) * Poly(row)
    return Linear(known, dict(zip(space.dims, map(Poly, coefs), strict=True)))


def places(space: Space, at: Linear, row: int) -> set[int]:
    """All values of a form."""
    constant = sum(n * (row if m else 1) for m, n in at.const.terms.items())
    coefs = [at.coefs[d].constant if d in at.coefs else 0 for d in space.dims]
    return {
        constant + sum(c * i for c, i in zip(coefs, index, strict=True))
        for index in itertools.product(*(range(space.bound(d)) for d in space.dims))
    }


@pytest.mark.ir
@pytest.mark.parametrize(
    "a, b, apart",
    [
        ((0, 0, 2), (1, 0, 2), True),  # Every second element, beginning with either.
        ((0, 8, 1), (32, 8, 1), True),  # One block behind the other ...
        ((0, 8, 1), (24, 8, 1), False),  # ... and its last row once more.
        ((0, 100, 2), (14, 100, 2), True),  # Two rows of an image, channel by channel.
        ((0, 12, 2), (14, 12, 2), False),
        ((0, 8, 1), (0, 8, 1), False),
        ((0, -8, 1), (8, -8, 1), False),
    ],
)
def test_forms_that_never_meet(a, b, apart):
    space = Space.over((4, 8))
    space.high[space.dims[1]] = [Poly(7)]
    assert never_equal(form(space, *a), form(space, *b), space) == apart
    assert never_equal(form(space, *a, row=50), form(space, *b, row=50), space) == apart
    assert not never_equal(form(space, *a, row=50), form(space, *b, row=51), space)
    assert not never_equal(form(space, *a), Linear(Poly.of(Atom("x", varying=True))), space)


@pytest.mark.ir
def test_what_is_said_to_be_apart_is():
    choose, found = random.Random(0), 0
    for _ in range(3000):
        space = Space.over(tuple(choose.choice([1, 2, 3, 4, 6]) for _ in range(2)))
        for dim in space.dims:
            if choose.random() < 0.3:
                space.high[dim] = [Poly(choose.randint(1, dim.size))]
        a, b = (
            form(
                space,
                choose.randint(-20, 20),
                *(choose.randint(-12, 12) for _ in space.dims),
                row=choose.choice([0, 4, 6]),
            )
            for _ in range(2)
        )
        if never_equal(a, b, space):
            found += 1
            assert all(places(space, a, row).isdisjoint(places(space, b, row)) for row in (0, 1, 5))
    assert found > 500


@triton.jit
def pairs(x, y, n, DISTANCE: tl.constexpr, BLOCK: tl.constexpr):
    """x and twice x, each into every second element, so far apart."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + i, mask=i < n)
    tl.store(y + 2 * i, value, mask=i < n)
    tl.store(y + 2 * i + DISTANCE, value * 2, mask=i < n)


@pytest.mark.board
@pytest.mark.parametrize("distance, loops", [(1, 1), (2, 2), (-3, 1), (0, 2)])
@pytest.mark.parametrize("n", [1, 7, 64, 100])
def test_stores_that_never_meet_share_a_loop(n, distance, loops, rvv):
    x, y = torch.randn(n), torch.zeros(2 * n + 8)
    kernel = pairs[(1,)](x, y[4:], n, distance, 128)
    wanted = torch.zeros(2 * n + 8)
    wanted[4 : 4 + 2 * n : 2] = x
    wanted[4 + distance : 4 + distance + 2 * n : 2] = x * 2
    assert_same(y, wanted)
    assert len(kernel.metadata.nests) == loops
