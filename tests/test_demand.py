"""Rows and columns that nobody stores are not multiplied; all others are."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl
from torch_rvv.lowering import demand

ROWS = 16


@triton.jit
def stored_once(a, b, c, M, N, K: tl.constexpr, S: tl.constexpr):
    """Rows and columns wrap around; what is stored is not what wraps."""
    rows, columns, k = tl.arange(0, S), tl.arange(0, S), tl.arange(0, K)
    x = tl.load(a + (rows % M)[:, None] * K + k[None, :])
    y = tl.load(b + k[:, None] * N + (columns % N)[None, :])
    total = tl.dot(x, y) * 2 + 1
    tl.store(c + rows[:, None] * N + columns[None, :], total, mask=(rows[:, None] < M) & (columns[None, :] < N))


@triton.jit
def stored_with_axes_of_one(a, b, c, M, N, K: tl.constexpr, S: tl.constexpr):
    """As Inductor writes products: more axes than two."""
    rows, columns, k = tl.arange(0, S), tl.arange(0, S), tl.arange(0, K)
    x = tl.load(a + (rows % M)[:, None] * K + k[None, :])
    y = tl.load(b + k[:, None] * N + (columns % N)[None, :])
    total = tl.expand_dims(tl.expand_dims(tl.dot(x, y), 0), 3) * 2 + 1
    i, j = rows[None, :, None, None], columns[None, None, :, None]
    tl.store(c + i * N + j, total, mask=(i < M) & (j < N))


@triton.jit
def stored_twice(a, b, c, M, N, K: tl.constexpr, S: tl.constexpr):
    """The sum of all rows counts those that are not stored, too."""
    rows, columns, k = tl.arange(0, S), tl.arange(0, S), tl.arange(0, K)
    x = tl.load(a + (rows % M)[:, None] * K + k[None, :])
    y = tl.load(b + k[:, None] * N + (columns % N)[None, :])
    total = tl.dot(x, y)
    tl.store(c + rows[:, None] * N + columns[None, :], total, mask=(rows[:, None] < M) & (columns[None, :] < N))
    tl.store(c + M * N + columns, tl.sum(total, 0), mask=columns < N)


@triton.jit
def stored_by_round(a, b, c, M, N, K: tl.constexpr, S: tl.constexpr):
    """A row is stored from some round on, with the sum of all of them."""
    rows, columns, k = tl.arange(0, S), tl.arange(0, S), tl.arange(0, K)
    total = tl.zeros((S, S), tl.float32)
    for t in range(M):
        x = tl.load(a + (rows % M)[:, None] * K + k[None, :])
        y = tl.load(b + k[:, None] * N + (columns % N)[None, :])
        total = tl.dot(x, y, total)
        mask = (rows[:, None] <= t) & (columns[None, :] < N)
        tl.store(c + rows[:, None] * N + columns[None, :], total, mask=mask & (rows[:, None] < M))


def run(kernel, m, n, monkeypatch, folder, more=0):
    """(what the kernel stores, whether it bounds a product, its operands, its linalg)."""
    monkeypatch.setenv("TORCH_RVV_FALLBACK", "error")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(folder))
    kernel.device_caches.clear()
    restricted = []
    plain = demand._restrict
    monkeypatch.setattr(demand, "_restrict", lambda *args: restricted.append(plain(*args)))
    generator = torch.Generator().manual_seed(m)
    a, b = torch.randn(m, 8, generator=generator), torch.randn(8, n, generator=generator)
    c = torch.full((m + more, n), float("nan"))
    compiled = kernel[(1,)](a, b, c, m, n, K=8, S=ROWS)
    return c, bool(restricted), (a, b), compiled.asm["linalg"]


@pytest.mark.board
@pytest.mark.parametrize("kernel", [stored_once, stored_with_axes_of_one], ids=lambda k: k.fn.__name__)
@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (16, 16), (15, 16), (9, 30)], ids=str)
def test_what_is_stored_is_right_and_the_rest_not_computed(shape, kernel, monkeypatch, tmp_path):
    m, n = shape
    c, bounded, (a, b), linalg = run(kernel, m, n, monkeypatch, tmp_path)
    want = torch.full((m, n), float("nan"))
    want[:, :ROWS] = (a @ b * 2 + 1)[:, :ROWS]
    torch.testing.assert_close(c, want, equal_nan=True, rtol=1e-5, atol=1e-5)
    assert bounded
    assert linalg.count("memref.alloca()") == 2, "the accumulator and the right operand: the left one needs no copy now"


@pytest.mark.board
def test_rows_that_someone_else_reads_are_computed(monkeypatch, tmp_path):
    c, bounded, (a, b), linalg = run(stored_twice, 5, 7, monkeypatch, tmp_path, more=1)
    torch.testing.assert_close(c[:5], a @ b, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(c[5], a[torch.arange(ROWS) % 5].sum(0) @ b, rtol=1e-5, atol=1e-5)
    assert not bounded and linalg.count("memref.alloca()") > 2


@pytest.mark.board
def test_a_mask_that_grows_with_the_rounds_bounds_none_of_them(monkeypatch, tmp_path):
    c, _, (a, b), _ = run(stored_by_round, 5, 7, monkeypatch, tmp_path)
    torch.testing.assert_close(c, 5 * (a @ b), rtol=1e-5, atol=1e-5)
