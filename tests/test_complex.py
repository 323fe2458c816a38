"""Complex numbers: PyTorch's own kernels, and copies as ours."""

from __future__ import annotations

import pytest
import torch
from torch_rvv.runtime import record

pytestmark = pytest.mark.board
C64, C128 = torch.complex64, torch.complex128


def compiled(function, *args):
    torch._dynamo.reset()
    with record.collecting() as graphs:
        found = torch.compile(function, backend="rvv")(*args)
    return found, graphs


@pytest.mark.parametrize(
    "function, part",
    [
        (lambda x, y: torch.diagonal_scatter(x, y), (5,)),
        (lambda x, y: torch.as_strided_scatter(x, y, (2, 2), (3, 1), 1), (2, 2)),
        (lambda x, y: torch.diagonal_scatter(x.t(), y) * 2, (5,)),
    ],
    ids=["diagonal", "strides", "transposed"],
)
def test_copies_are_kernels(function, part):
    x, y = torch.randn(5, 5, dtype=C64), torch.randn(part, dtype=C64)
    x[1, 2] = complex(torch.nan, -torch.inf)
    x[2, 1] = complex(-0.0, 1e-45)
    found, graphs = compiled(function, x, y)
    wanted = function(x, y)
    assert found.stride() == wanted.stride()
    torch.testing.assert_close(found, wanted, rtol=0, atol=0, equal_nan=True)
    assert any(k.compiled for g in graphs for k in g.kernels)


def test_copies_of_what_is_wider_than_an_integer_are_refused_by_name():
    x, y = torch.randn(5, 5, dtype=C128), torch.randn(5, dtype=C128)
    with pytest.raises(Exception, match=r"complex numbers in a kernel \(a copy of \['torch.complex128'\]\)"):
        compiled(torch.diagonal_scatter, x, y)


def test_the_first_run_is_as_right_as_the_next():
    x = torch.randn(5, 5, dtype=C64)
    torch._dynamo.reset()
    function = torch.compile(torch.linalg.pinv, backend="rvv")
    for _ in range(2):
        torch.testing.assert_close(function(x), torch.linalg.pinv(x))
