"""Sums of a loop's rounds, begun in the first and done with in the last: the same bits as outside of the loop."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl
from test_dotloop import BODY
from torch_rvv.lowering import matmul, products
from torch_rvv.lowering.pipeline import lower

from torch_rvv.knobs import CodegenOptions
from torch_rvv.target import TARGETS


@triton.jit
def finished(
    a, b, bias, c, M, N, K, ROUNDS,
    END: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """END of a @ b; rounds behind the last step of K have no depth."""
    rows, columns, k = (
        tl.program_id(0) * BM + tl.arange(0, BM),
        tl.program_id(1) * BN + tl.arange(0, BN),
        tl.arange(0, BK),
    )
    total = tl.zeros((BM, BN), tl.float32)
    for block in range(ROUNDS):
        r = block * BK + k
        x = tl.load(a + (rows % M)[:, None] * K + r[None, :], mask=r[None, :] < K, other=0.0)
        y = tl.load(b + r[:, None] * N + (columns % N)[None, :], mask=r[:, None] < K, other=0.0)
        total = tl.dot(x, y, total)
    inside = (rows[:, None] < M) & (columns[None, :] < N)
    if END == "bias and relu":
        total = tl.maximum(total + tl.load(bias + columns, mask=columns < N)[None, :], 0.0)
    if END == "exponential":
        total = tl.exp(total)
    if END == "no row":
        inside = inside & (rows[:, None] < 0)
    if END == "into a":
        tl.store(a + rows[:, None] * K + columns[None, :], total, mask=inside & (columns[None, :] < K))
    else:
        tl.store(c + rows[:, None] * N + columns[None, :], total.to(c.dtype.element_ty), mask=inside)


F32, F16, BF16 = torch.float32, torch.float16, torch.bfloat16
ENDS = [
    ("none", F32), ("none", BF16), ("bias and relu", F32), ("bias and relu", F16), ("exponential", F32),
    ("no row", F32), ("into a", F32),
]  # fmt: skip


@pytest.mark.board
def test_products_that_are_nests_of_loops_begin_and_end_in_the_rounds_too(monkeypatch, tmp_path):
    monkeypatch.setattr(matmul, "match", lambda *_: None)
    test_every_number_of_rounds_ends_as_it_does_in_memory("bias and relu", F32, monkeypatch, tmp_path)


@pytest.mark.board
@pytest.mark.parametrize("end, dtype", ENDS, ids=lambda value: str(value))
def test_every_number_of_rounds_ends_as_it_does_in_memory(end, dtype, monkeypatch, tmp_path):
    """None at all, rounds without depth, one, groups of them; blocks inside of the matrix and at its edges."""
    monkeypatch.setenv("TORCH_RVV_FALLBACK", "error")
    generator = torch.Generator().manual_seed(0)
    for m, k, n, rounds in ((70, 40, 33, 0), (70, 0, 33, 2), (32, 16, 64, 1), (70, 42, 33, 9), (64, 300, 64, 19)):
        monkeypatch.setenv("TORCH_RVV_GUARD", "end" if rounds % 2 else "start")
        n = min(n, 32) if end == "into a" else n  # No program reads what another one writes.
        a, b = (torch.randn(shape, generator=generator) / 4 for shape in ((m, k), (k, n)))
        bias, results = torch.randn(n, generator=generator), []
        for twin in (False, True):
            monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / str(twin)))
            finished.device_caches.clear()
            with monkeypatch.context() as patch:
                if twin:
                    patch.setattr(products, "rounds_of", lambda *_: None)
                left, out = a.clone(), torch.full((m, n), 7.0, dtype=dtype)
                grid = triton.cdiv(m, 32), triton.cdiv(n, 32)
                finished[grid](left, b, bias, out, m, n, k, rounds, END=end, BM=32, BN=32, BK=16)
            results.append(left if end == "into a" else out)
        assert torch.equal(*results), (m, k, n, rounds)
        wanted = a[:, : rounds * 16] @ b[: rounds * 16]
        if end == "none":
            torch.testing.assert_close(results[0].float(), wanted, rtol=1e-2, atol=1e-2)
        if end == "bias and relu":
            torch.testing.assert_close(results[0].float(), (wanted + bias).relu(), rtol=1e-2, atol=1e-2)


STORE = "tt.store %qq, %r#0 : tensor<16x16x!tt.ptr<f32>>"


def product(store: str = STORE, start: str = "%z", noalias: bool = True) -> tuple[bool, bool]:
    """Whether a product's sums begin, and end, in registers."""
    text = BODY.replace("EXTRA", "").replace("RESULT", "%d").replace("ROWS", "%aa").replace("STEP", "16")
    text = text.replace(STORE, store).replace("%acc = %z", f"%acc = {start}")
    if start != "%z":
        text = text.replace("    %zero =", f"    {start} = tt.load %qq : tensor<16x16x!tt.ptr<f32>>\n    %zero =", 1)
    _, metadata = lower(text, CodegenOptions(target=TARGETS["k1"], noalias=noalias))
    (found,) = [nest for nest in metadata["nests"] if "rows" in nest]
    return found["begins"], found["ends"]


@pytest.mark.ir
def test_sums_of_rounds_begin_and_end_in_registers():
    assert product() == (True, True)


@pytest.mark.ir
@pytest.mark.parametrize(
    "other",
    [
        {"store": STORE + "\n    " + STORE.replace("%qq", "%aa")},
        {"store": STORE.replace("%qq", "%aa")},
        {"noalias": False},
        {"start": "%begin"},
    ],
    ids=["stored twice", "stored over an operand", "stored where an operand may be", "what is read"],
)
def test_other_sums_stay_in_memory(other):
    assert product(**other) == (False, False)
