"""What is done with a product's sums is done in registers, bit for bit as it is done through memory."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl
from test_lowering_language import PRODUCT
from torch_rvv.lowering import epilogue
from torch_rvv.lowering.pipeline import lower

from torch_rvv.knobs import CodegenOptions
from torch_rvv.target import TARGETS


def product_of(body: str, noalias: bool = True):
    """(vector-level text, what explain tells of the product) of a kernel with one."""
    options = CodegenOptions(target=TARGETS["k1"], noalias=noalias)
    arguments = "%p: !tt.ptr<f32>, %q: !tt.ptr<f32>"
    stages, metadata = lower(f"module {{\n tt.func public @k({arguments}) {{\n{body}\n tt.return\n }}\n}}", options)
    (product,) = [n for n in metadata["nests"] if "rows" in n]
    return stages["vector"], product, len(metadata["nests"])


SIMPLE = PRODUCT.replace("ELEM", "f32")
STORE = SIMPLE[SIMPLE.rindex("tt.store") :].strip()


@pytest.mark.ir
def test_sums_begin_as_a_splat_and_are_stored_from_registers():
    text, product, nests = product_of(SIMPLE)
    assert product["begins"] and product["ends"]
    # Neither a fill of scratch memory nor a copy from it: besides the product, at most an operand is packed.
    assert nests <= 2 and text.count('"llvm.vp.load"') < text.count("math.fma")


@pytest.mark.ir
def test_sums_that_are_stored_twice_are_kept_in_memory():
    _, product, _ = product_of(SIMPLE.replace(STORE, STORE + "\n    " + STORE.replace("%qp", "%pp")))
    assert not product["ends"]


@pytest.mark.ir
def test_sums_that_may_be_stored_over_an_operand_are_kept_in_memory():
    _, product, _ = product_of(SIMPLE, noalias=False)
    assert product["begins"] and not product["ends"]


@triton.jit
def linear(a, b, bias, added, c, M, N, K: tl.constexpr, S: tl.constexpr, T: tl.constexpr, END: tl.constexpr):
    """END of a @ b, for the ends that the tests name."""
    rows, columns, k = tl.arange(0, S), tl.arange(0, T), tl.arange(0, K)
    inside = (rows[:, None] < M) & (columns[None, :] < N)
    if END == "fewer rows":
        x = tl.load(a + rows[:, None] * K + k[None, :])
    else:
        x = tl.load(a + rows[:, None] * K + k[None, :], mask=rows[:, None] < M, other=0.0)
    y = tl.load(b + k[:, None] * N + columns[None, :], mask=columns[None, :] < N, other=0.0)
    total = tl.dot(x, y)
    at = rows[:, None] * N + columns[None, :]
    if END == "relu":
        total = tl.maximum(total + tl.load(bias + columns, mask=columns < N)[None, :], 0.0)
    elif END == "scaled":
        total = total * 0.5 + tl.load(added + rows[:, None], mask=rows[:, None] < M)
    elif END == "added":
        total += tl.load(c + at, mask=inside)
    elif END == "exponential":
        total = tl.exp(total) / (1 + tl.exp(-total)) * tl.log(total * total + 1)
    elif END == "transposed":
        at = columns[None, :] * M + rows[:, None]
    elif END == "into a":
        tl.store(a + rows[:, None] * K + columns[None, :], total, mask=inside)
    elif END == "chosen":
        inside = inside & ((rows[:, None] + columns[None, :]) % 3 != 0)
    if END != "into a":
        tl.store(c + at, total, mask=inside)


@triton.jit
def by_round(a, b, c, K: tl.constexpr, S: tl.constexpr, ROUNDS: tl.constexpr, ANEW: tl.constexpr):
    """Sums that go on from round to round, or begin anew in each, stored in each."""
    rows, k = tl.arange(0, S), tl.arange(0, K)
    x = tl.load(a + rows[:, None] * K + k[None, :])
    total = tl.zeros((S, S), tl.float32)
    for t in range(ROUNDS):
        y = tl.load(b + t * K * S + k[:, None] * S + rows[None, :])
        if ANEW:
            total = tl.zeros((S, S), tl.float32)
        total = tl.dot(x, y, total)
        tl.store(c + t * S * S + rows[:, None] * S + rows[None, :], total)


@triton.jit
def more_stored(a, b, c, n, S: tl.constexpr):
    """Rows of x from 20 on are zero, whatever memory holds there; they are stored where n is negative."""
    rows = tl.arange(0, S)
    x = tl.load(a + rows[:, None] * S + rows[None, :], mask=rows[:, None] < 20, other=0.0)
    y = tl.load(b + rows[:, None] * S + rows[None, :])
    tl.store(c + rows[:, None] * S + rows[None, :], tl.dot(x, y), mask=rows[:, None] < 20 - n * 64)


@triton.jit
def chain(a, b, c, M, S: tl.constexpr, LENGTH: tl.constexpr):
    """An end in which each value is used three times."""
    rows = tl.arange(0, S)
    x = tl.load(a + (rows % M)[:, None] * S + rows[None, :])
    y = tl.load(b + rows[:, None] * S + rows[None, :])
    total = tl.expand_dims(tl.dot(x, y), 2)
    for _ in tl.static_range(LENGTH):
        total = total * total + total
    tl.store(c + rows[:, None, None] * S + rows[None, :, None], total, mask=rows[:, None, None] < M)


def both(launch, monkeypatch, folder) -> tuple[torch.Tensor, torch.Tensor, int]:
    """(what a kernel stores, what it stores with all sums in memory, beginnings and ends in registers)."""
    monkeypatch.setenv("TORCH_RVV_FALLBACK", "error")
    found: list[object] = []
    in_registers = epilogue.row_of

    def recorded(*args):
        found.append(in_registers(*args))
        return found[-1]

    results = []
    for name, replaced in (("row_of", recorded), ("is_beginning", lambda op: False)):
        monkeypatch.setattr(epilogue, name, replaced)
        if name == "is_beginning":
            monkeypatch.setattr(epilogue, "end_of", lambda *args: None)
        monkeypatch.setenv("TRITON_CACHE_DIR", str(folder / name))
        for kernel in (linear, by_round):
            kernel.device_caches.clear()
        results.append(launch())
    return *results, sum(row is not None for row in found)


# How many of beginning and end are in registers.
ENDS = {
    "none": 2, "relu": 2, "scaled": 2, "added": 1, "chosen": 2, "fewer rows": 2,
    "exponential": 0, "transposed": 0, "into a": 0,
}  # fmt: skip


@pytest.mark.board
@pytest.mark.parametrize("elem", [torch.float32, torch.float16], ids=["f32", "f16"])
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("shape", [(32, 64), (17, 33), (1, 1), (7, 64)], ids=str)
def test_an_end_in_registers_gives_what_one_in_memory_gives(shape, end, elem, monkeypatch, tmp_path):
    m, n = shape
    generator = torch.Generator().manual_seed(m + n)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(elem)

    a, b, bias, added, c = random(32, 64), random(64, n), random(n), random(m), random(m, n)
    a[0, 0], a[-1, -1], b[0, -1] = float("inf"), float("nan"), -0.0

    def launch() -> torch.Tensor:
        left, out = a.clone(), c.clone()
        linear[(1,)](left, b, bias, added, out, m, n, K=64, S=32, T=64, END=end)
        return left if end == "into a" else out

    got, plain, fused = both(launch, monkeypatch, tmp_path)
    bits = torch.int16 if elem == torch.float16 else torch.int32
    assert torch.equal(got.view(bits), plain.view(bits))
    # One column leaves registers for anything, and is its own transpose.
    assert fused == ENDS[end] or shape == (1, 1)
    if end in ("none", "fewer rows"):
        want = (a[:m].float() @ b.float()).to(elem)
        torch.testing.assert_close(got, want, rtol=1e-2, atol=1e-2, equal_nan=True)


@pytest.mark.board
@pytest.mark.parametrize("anew", [False, True])
def test_sums_that_go_on_in_the_next_round_stay_in_memory(anew, monkeypatch, tmp_path):
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(16, 8, generator=generator), torch.randn(3, 8, 16, generator=generator)

    def launch() -> torch.Tensor:
        c = torch.full((3, 16, 16), float("nan"))
        by_round[(1,)](a, b, c, K=8, S=16, ROUNDS=3, ANEW=anew)
        return c

    got, plain, fused = both(launch, monkeypatch, tmp_path)
    each = a @ b
    torch.testing.assert_close(got, each if anew else each.cumsum(0), rtol=1e-5, atol=1e-5)
    assert torch.equal(got, plain) and fused == 2 * anew


@pytest.mark.board
@pytest.mark.parametrize("n", [-2, 0, 1])
def test_rows_that_a_mask_makes_zero_are_stored_as_zero(n, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_RVV_FALLBACK", "error")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    a, b, c = torch.randn(32, 32), torch.randn(32, 32), torch.full((32, 32), -1.0)
    more_stored[(1,)](a, b, c, n, S=32)
    want = torch.full((32, 32), -1.0)
    stored = max(0, min(32, 20 - n * 64))
    want[:stored] = torch.cat([(a @ b)[:20], torch.zeros(12, 32)])[:stored]
    torch.testing.assert_close(c, want, rtol=1e-4, atol=1e-4)


@pytest.mark.board
def test_an_end_of_many_shared_values_is_lowered_as_fast_as_a_short_one(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_RVV_FALLBACK", "error")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    a, b, c = 0.01 * torch.randn(32, 32), 0.01 * torch.randn(32, 32), torch.zeros(32, 32)
    # Twice as many paths with each more: 2**40 do not end.
    chain[(1,)](a, b, c, 31, S=32, LENGTH=40)
    want = a @ b
    for _ in range(40):
        want = want * want + want
    torch.testing.assert_close(c[:31], want[:31], rtol=1e-4, atol=1e-6)
    assert not c[31].any()
