"""Columns that are left over from whole strips of a product, in strips of a smaller LMUL."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl
from torch_rvv.lowering import matmul
from torch_rvv.lowering.matmul import Access, Contraction, Leftover

NOWHERE = Access("", 0, {})


def product(*rests: int, elem: str = "f32") -> Contraction:
    return Contraction(
        NOWHERE, NOWHERE, NOWHERE, elem, elem, [1, 1, 1], [], [None, frozenset(rests), None], [], 0, 1, 2
    )


@pytest.mark.ir
@pytest.mark.parametrize(
    "rests, elem, lmul",
    [
        ((4,), "f32", 1), ((0, 8), "f32", 1), ((9,), "f32", 2), ((16,), "f32", 2), ((3, 12), "f32", 1),
        ((17,), "f32", 1), ((25,), "f32", None), ((31,), "f32", None), ((0,), "f32", None), ((), "f32", None),
        ((4,), "f64", 2), ((20,), "f64", 2), ((15,), "f64", None), ((8,), "i32", 1),
    ],
)  # fmt: skip
def test_few_columns_take_a_small_lmul(rests, elem, lmul):
    assert matmul.leftover(product(*rests, elem=elem), 4) == (lmul and Leftover(lmul))


@pytest.mark.ir
def test_what_is_narrow_already_stays_as_it_is():
    assert matmul.leftover(product(4), 2) is None


@pytest.mark.ir
@pytest.mark.parametrize("elem, lmul", [("f32", 1), ("i32", 1), ("f64", 2)])
def test_an_unknown_number_of_columns_is_looked_at_when_the_kernel_runs(elem, lmul):
    unknown = Contraction(NOWHERE, NOWHERE, NOWHERE, elem, elem, ["%m", "%n", "%k"], [], [None] * 3, [], 0, 1, 2)
    assert matmul.leftover(unknown, 4) == Leftover(lmul, known=False) and matmul.leftover(unknown, 2) is None


@triton.jit
def linear(a, b, bias, c, M, N, K: tl.constexpr, S: tl.constexpr, T: tl.constexpr, BIAS: tl.constexpr):
    rows, k = tl.arange(0, S), tl.arange(0, K)
    columns = tl.program_id(0) * T + tl.arange(0, T)
    x = tl.load(a + rows[:, None] * K + k[None, :], mask=rows[:, None] < M, other=0.0)
    y = tl.load(b + k[:, None] * N + columns[None, :], mask=columns[None, :] < N, other=0.0)
    total = tl.dot(x, y)
    if BIAS:
        total = tl.maximum(total + tl.load(bias + columns, mask=columns < N)[None, :], 0.0)
    tl.store(c + rows[:, None] * N + columns[None, :], total, mask=(rows[:, None] < M) & (columns[None, :] < N))


@triton.jit
def fixed(a, b, bias, c, M, N: tl.constexpr, K: tl.constexpr, S: tl.constexpr, T: tl.constexpr, BIAS: tl.constexpr):
    linear(a, b, bias, c, M, N, K, S, T, BIAS)


@triton.jit
def changing(a, b, bias, c, M, N, K: tl.constexpr, S: tl.constexpr, T: tl.constexpr, BIAS: tl.constexpr):
    linear(a, b, bias, c, M, N, K, S, T, BIAS)


@pytest.mark.board
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("elem", [torch.float32, torch.float16, torch.int8, torch.float64], ids=str)
@pytest.mark.parametrize("rows, columns", [(13, 68), (1, 72), (16, 36), (7, 140), (5, 4), (16, 79)])
@pytest.mark.parametrize("kernel", [fixed, changing], ids=["fixed", "changing"])
def test_leftover_columns_are_those_of_wide_strips(kernel, rows, columns, elem, bias, monkeypatch, tmp_path):
    if elem in (torch.int8, torch.float64) and bias:
        pytest.skip("the bias is f32")
    monkeypatch.setenv("TORCH_RVV_FALLBACK", "error")
    whole = elem == torch.int8
    a, b = (torch.randint(-9, 9, shape).to(elem) if whole else torch.randn(*shape).to(elem)
            for shape in ((rows, 32), (32, columns)))  # fmt: skip
    if not whole:
        a.view(-1)[3::17], b.view(-1)[5::41] = float("inf"), float("nan")
    outs, added, found = [], torch.randn(columns), []
    chosen = matmul.leftover
    for choose in (lambda *args: found.append(chosen(*args)) or found[-1], lambda *_: None):
        monkeypatch.setattr(matmul, "leftover", choose)
        monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / str(len(outs))))
        kernel.device_caches.clear()
        kind = torch.int32 if whole else torch.float64 if elem == torch.float64 else torch.float32
        out = torch.full((rows + 1, columns), 9, dtype=kind)
        kernel[(triton.cdiv(columns, 64),)](a, b, added, out, rows, columns, K=32, S=16, T=64, BIAS=bias)
        outs.append(out)
    # One row takes a kernel of its own, and 4 columns are narrow as they are.
    assert rows == 1 or (columns == 4 and kernel is fixed) or any(found) or elem == torch.float64
    assert torch.equal(outs[0].view(torch.uint8), outs[1].view(torch.uint8))
    assert bool((outs[0][rows] == 9).all())
    want = a.double() @ b.double()
    want = torch.fmax(want + added.double(), torch.zeros(())) if bias else want  # tl.maximum passes NaN by
    torch.testing.assert_close(outs[0][:rows].double(), want, rtol=1e-3, atol=1e-3, equal_nan=True)
