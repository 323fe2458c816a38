"""Products turned round: the same bits as by way of a copy, for operands by column; others stay as they are."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl
from torch_rvv.lowering import turned
from torch_rvv.lowering.nodes import Fill, Node, Print

F32, F16, BF16, I8 = torch.float32, torch.float16, torch.bfloat16, torch.int8
BLOCK = 32


@triton.jit
def product(a, b, c, M, N, K, am: tl.constexpr, ak: tl.constexpr, bk: tl.constexpr, bn, cm, cn, BM: tl.constexpr,
            BN: tl.constexpr, BK: tl.constexpr, ACC: tl.constexpr):  # fmt: skip
    """c = relu(a @ b)."""
    m, n = tl.program_id(0) * BM + tl.arange(0, BM), tl.program_id(1) * BN + tl.arange(0, BN)
    total = tl.zeros((BM, BN), ACC)
    for k in range(0, K, BK):
        r = k + tl.arange(0, BK)
        x = tl.load(a + m[:, None] * am + r[None, :] * ak, mask=(m[:, None] < M) & (r[None, :] < K), other=0)
        y = tl.load(b + r[:, None] * bk + n[None, :] * bn, mask=(r[:, None] < K) & (n[None, :] < N), other=0)
        total = tl.dot(x, y, total, out_dtype=ACC)
    at = c + m[:, None] * cm + n[None, :] * cn
    tl.store(at, tl.where(total > 0, total, 0), mask=(m[:, None] < M) & (n[None, :] < N))


@triton.jit
def computed(a, b, c, K: tl.constexpr, S: tl.constexpr):
    """Operands that are computed, and sums that are read twice, one of them crosswise."""
    i, r = tl.arange(0, S), tl.arange(0, K)
    x = tl.load(a + i[:, None] + r[None, :] * S) * 2
    y = tl.load(b + r[:, None] + i[None, :] * K) - 3
    total = tl.dot(x, y)
    tl.store(c + i[:, None] * S + i[None, :], total + tl.trans(total) - tl.sum(total, 0)[None, :])


@pytest.fixture(autouse=True)
def errors_are_errors(monkeypatch):
    monkeypatch.setenv("TORCH_RVV_FALLBACK", "error")


@pytest.fixture
def both(monkeypatch, tmp_path):
    """run(kernel, a function that launches it) → what it gives with products turned round and without, and how many
    were turned round."""

    def run(kernel, launch):
        count, results = [], []
        plain = turned._turn
        for name, settle in (("turned", turned.settle), ("plain", lambda graph: None)):
            with monkeypatch.context() as patch:
                patch.setattr(turned, "settle", settle)
                patch.setattr(turned, "_turn", lambda *args: count.append(plain(*args)))
                patch.setenv("TRITON_CACHE_DIR", str(tmp_path / name))
                kernel.device_caches.clear()
                results.append(launch())
        return *results, len(count)

    return run


def by_column(rows, columns, dtype=F32):
    generator = torch.Generator().manual_seed(rows)
    values = torch.randn(columns, rows, generator=generator)
    return (values.to(dtype) if dtype.is_floating_point else (values * 40).clamp(-128, 127).to(dtype)).t()


@pytest.mark.board
@pytest.mark.parametrize("dtype", [F32, F16, BF16, I8], ids=str)
@pytest.mark.parametrize(
    "shape", [(16, 16, 16), (1, 30, 50), (13, 1, 70), (37, 45, 33), (64, 70, 130), (97, 33, 40)], ids=str
)
@pytest.mark.parametrize("result", ["rows", "columns"])
@pytest.mark.parametrize("guard", ["end", "start"])
def test_a_product_of_operands_by_column(guard, result, shape, dtype, both, monkeypatch):
    """Every rest of rows, columns and depth; nothing is read or written that the kernel does not ask for."""
    monkeypatch.setenv("TORCH_RVV_GUARD", guard)
    m, n, k = shape
    a, b = by_column(m, k, dtype), by_column(k, n, dtype)
    kind, acc = (torch.int32, tl.int32) if dtype == I8 else (F32, tl.float32)

    def launch():
        c = torch.zeros(m, n, dtype=kind) if result == "rows" else torch.zeros(n, m, dtype=kind).t()
        strides = (1, m, 1, k, *c.stride())  # As of a matrix even where one is a row or a column.
        grid = triton.cdiv(m, BLOCK), triton.cdiv(n, BLOCK)
        product[grid](a, b, c, m, n, k, *strides, BM=BLOCK, BN=BLOCK, BK=BLOCK, ACC=acc)
        return c

    ours, plain, count = both(product, launch)
    assert torch.equal(ours, plain)
    torch.testing.assert_close(ours.double(), (a.double() @ b.double()).relu(), rtol=1e-4, atol=1e-4)
    # Columns of 97 rows lie farther apart than a copy's; what is converted is a copy.
    assert bool(count) == (m <= BLOCK + turned.CLOSE or dtype in (BF16, I8))


def crosswise(a, b):
    """A launch of `computed`."""

    def launch():
        c = torch.zeros(a.shape[0], a.shape[0])
        computed[(1,)](a, b, c, K=a.shape[1], S=a.shape[0])
        return c

    return launch


@pytest.mark.board
def test_sums_that_are_read_in_any_order(both):
    a, b = by_column(16, 32), by_column(32, 16)
    ours, plain, count = both(computed, crosswise(a, b))
    assert count == 1
    torch.testing.assert_close(ours, plain, rtol=1e-6, atol=1e-4)  # A sum of all rows has another order.
    total = (a.double() * 2) @ (b.double() - 3)
    torch.testing.assert_close(ours.double(), total + total.t() - total.sum(0), rtol=1e-5, atol=1e-3)


@pytest.mark.board
def test_a_few_steps_do_not_pay_for_sums_that_leave_crosswise(both):
    *_, count = both(computed, crosswise(by_column(64, 16), by_column(16, 64)))
    assert count == 0


@pytest.mark.ir
def test_what_reads_a_buffer_as_bytes_keeps_it_row_after_row():
    buffer, other = (Node("buffer", (4, 4), "f32", name=name) for name in ("%b1", "%b2"))
    fill = Fill(shape=(4, 4), buffer=other, value=buffer)
    assert not turned.seen_raw(buffer, [fill, Print(buffer=other)])
    assert turned.seen_raw(buffer, [fill, Print(buffer=buffer)])
