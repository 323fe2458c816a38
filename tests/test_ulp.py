"""Errors of compiled vector math on the board, against what is promised."""

from __future__ import annotations

import pytest
import torch
from torch_rvv.benchmarks import ulp
from torch_rvv.lowering.vecmath import FUNCTIONS


@pytest.mark.board
@pytest.mark.parametrize("name", ulp.REFERENCES)
def test_errors_are_within_what_is_promised(name):
    promised = FUNCTIONS[name].max_ulp if name in FUNCTIONS else (0.5, 0.5)
    assert ulp.single(name, 1 << 14) <= promised[0] and ulp.double(name) <= promised[1]
    assert max(ulp.half(name, torch.float16), ulp.half(name, torch.bfloat16)) < 0.51


@pytest.mark.ir
def test_a_wrong_infinity_is_no_small_error():
    wanted = torch.tensor([1e39, 3.4028235e38, float("nan"), 1.0, 0.0], dtype=torch.float64)
    ours = torch.tensor([3.4028235e38, float("inf"), 1.0, 1.0 + 2**-23, -0.0])
    assert ulp.errors(ours, wanted).tolist() == [1.0, 1.0, float("inf"), 1.0, 0.0]
