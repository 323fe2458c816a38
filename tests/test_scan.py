"""Scans across rows and along them: the same results, in the order that either takes, and where the result goes."""

from __future__ import annotations

import re

import pytest
import torch
import triton
import triton.language as tl
from torch_rvv.lowering import contracts, linalg_to_vector, scan
from torch_rvv.lowering.ttir_to_linalg import ttir_to_linalg

from tests.conftest import sample
from torch_rvv.knobs import CodegenOptions

ROWS_FIRST, COLUMNS_FIRST = "rows", "columns"


@triton.jit
def running(x, y, R, K, xr, xk, yr, yk, BACK: tl.constexpr, ROWS: tl.constexpr, STEPS: tl.constexpr):
    """Running sums of R rows of K elements; any strides."""
    r, k = tl.arange(0, ROWS)[:, None], tl.arange(0, STEPS)[None, :]
    inside = (r < R) & (k < K)
    total = tl.cumsum(tl.load(x + r * xr + k * xk, inside, other=0), 1, reverse=BACK)
    tl.store(y + r * yr + k * yk, total, inside)


@triton.jit
def read_twice(x, y, z, ROWS: tl.constexpr, STEPS: tl.constexpr):
    """A running maximum, which two stores read, one of them what becomes of it."""
    r, k = tl.arange(0, ROWS)[:, None], tl.arange(0, STEPS)[None, :]
    most = tl.associative_scan(tl.load(x + r + k * ROWS), 1, _larger)
    tl.store(y + r + k * ROWS, most)
    tl.store(z + r * STEPS + k, most * 2)


@triton.jit
def _larger(a, b):
    return tl.maximum(a, b)


@triton.jit
def _after(a0, b0, a1, b1):
    return a0 * a1, b0 * a1 + b1


@triton.jit
def recurrence(a, b, y, ROWS: tl.constexpr, STEPS: tl.constexpr):
    """y[k] = a[k] y[k-1] + b[k]."""
    r, k = tl.arange(0, ROWS)[:, None], tl.arange(0, STEPS)[None, :]
    _, state = tl.associative_scan((tl.load(a + r + k * ROWS), tl.load(b + r + k * ROWS)), 1, _after)
    tl.store(y + r + k * ROWS, state)


@triton.jit
def in_place(x, K, SHIFT: tl.constexpr, ROWS: tl.constexpr, STEPS: tl.constexpr):
    """Running sums of a matrix of 16 rows where it is, or that far behind."""
    r, k = tl.arange(0, ROWS)[:, None], tl.arange(0, STEPS)[None, :]
    total = tl.cumsum(tl.load(x + r * K + k, k < K, other=0), 1)
    tl.store(x + r * K + k + SHIFT, total, k < K)


@triton.jit
def scaled(x, y, s, K, ROWS: tl.constexpr, STEPS: tl.constexpr):
    """Running sums of a matrix of 16 columns times a number, of which the last few are not stored."""
    r, k = tl.arange(0, ROWS)[:, None], tl.arange(0, STEPS)[None, :]
    total = tl.cumsum(tl.load(x + r + k * ROWS, k < K, other=0) * s, 1)
    tl.store(y + r + k * ROWS, total, k < K - 3)


@pytest.fixture(autouse=True)
def errors_are_errors(monkeypatch):
    monkeypatch.setenv("TORCH_RVV_FALLBACK", "error")


@pytest.fixture
def forms(monkeypatch, tmp_path):
    """run(kernel, a function that launches it) → its result across rows, along them, and the scans of the first."""

    def run(kernel, launch):
        found, results, plain = [], [], scan.write
        for name, least in (("across", scan.SIDE_BY_SIDE), ("along", 1 << 30)):
            with monkeypatch.context() as patch:
                patch.setattr(scan, "SIDE_BY_SIDE", least)
                if name == "across":
                    patch.setattr(
                        linalg_to_vector.scan, "write", lambda rows, *rest: (found.append(rows), plain(rows, *rest))[1]
                    )
                patch.setenv("TRITON_CACHE_DIR", str(tmp_path / name))
                kernel.device_caches.clear()
                results.append(launch())
        kernel.device_caches.clear()
        return *results, found

    return run


def laid(values, order):
    """The same matrix, row after row or column after column."""
    return values.contiguous() if order == ROWS_FIRST else values.t().contiguous().t()


def sums(values, order, back=False):
    """A launch of `running`; its result is laid as `order` says."""

    def launch():
        out = laid(torch.zeros_like(values), order)
        blocks = [triton.next_power_of_2(max(n, 1)) for n in values.shape]
        strides = (*values.stride(), *out.stride())
        running[(1,)](values, out, *values.shape, *strides, BACK=back, ROWS=blocks[0], STEPS=blocks[1])
        return out

    return launch


SHAPES = [(16, 4), (4, 8), (4, 100), (5, 33), (16, 128), (37, 60), (100, 9), (64, 300)]


@pytest.mark.board
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("order", [ROWS_FIRST, COLUMNS_FIRST])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int8, torch.int64], ids=str)
def test_sums_across_rows_and_along_them(dtype, order, shape, forms):
    """Integers the same; floats near those of float64."""
    values = laid(sample(dtype, shape[0] * shape[1]).nan_to_num(0.5, 2.0, -2.0).clamp(-9, 9).reshape(shape), order)
    across, along, scans = forms(running, sums(values, order))
    assert bool(scans) == (shape[1] >= scan.SHORTEST)
    for rows in scans:
        assert rows.turned == (order == COLUMNS_FIRST) and (rows.goes is not None) == (dtype != torch.int8)
    if dtype.is_floating_point:
        exact = values.double().cumsum(1)
        for ours in (across, along):
            torch.testing.assert_close(ours.double(), exact, rtol=1e-5, atol=1e-4)
    else:
        assert torch.equal(across, along) and torch.equal(across, values.cumsum(1).to(dtype))


@pytest.mark.board
@pytest.mark.parametrize("vlen", [128, 1024])
@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize("guard", ["end", "start"])
def test_every_vlen_both_ends_and_nothing_beyond(guard, back, vlen, forms, monkeypatch):
    monkeypatch.setenv("TORCH_RVV_GUARD", guard)
    monkeypatch.setenv("TORCH_RVV_VLEN", str(vlen))
    for order in (ROWS_FIRST, COLUMNS_FIRST):
        values = laid(torch.randint(-50, 50, (21, 45), dtype=torch.int32), order)
        across, along, (rows,) = forms(running, sums(values, order, back))
        expected = (values.flip(1).cumsum(1).flip(1) if back else values.cumsum(1)).int()
        assert torch.equal(across, expected) and torch.equal(along, expected)
        assert (rows.goes is None) == back


@pytest.mark.board
@pytest.mark.parametrize("rows, length", [(0, 9), (9, 0), (1, 9), (9, 1)])
def test_no_rows_and_no_steps(rows, length, forms):
    """Blocks of 16 by 16 of which nothing, or one row or step, is there."""
    values = torch.arange(1, rows * length + 1, dtype=torch.int64).reshape(rows, length)

    def launch():
        out = torch.full((16, 16), -1)
        running[(1,)](values, out, rows, length, length, 1, 16, 1, BACK=False, ROWS=16, STEPS=16)
        return out

    across, along, _ = forms(running, launch)
    expected = torch.full((16, 16), -1)
    expected[:rows, :length] = values.cumsum(1)
    assert torch.equal(across, expected) and torch.equal(along, expected)


@pytest.mark.board
@pytest.mark.parametrize("shift", [0, 1, 5, 45])
def test_over_what_is_scanned(shift, forms):
    """The same elements may be read and written in turn; others only after all is read."""
    values = torch.randint(-50, 50, (16, 45))

    def launch():
        memory = torch.cat([values.flatten(), torch.zeros(45, dtype=torch.int64)])
        in_place[(1,)](memory, 45, SHIFT=shift, ROWS=16, STEPS=64)
        return memory

    across, along, (rows,) = forms(in_place, launch)
    expected = torch.cat([values.flatten(), torch.zeros(45, dtype=torch.int64)])
    expected[shift : shift + values.numel()] = values.cumsum(1).flatten()
    assert torch.equal(across, expected) and torch.equal(along, expected)
    assert (rows.views[0].base == rows.goes.base) == (shift == 0)


@pytest.mark.board
def test_two_arguments_in_the_same_memory(forms):
    """Found when it is launched: the version that is run then reads all before it writes."""
    values = torch.randint(-50, 50, (16, 45))

    def launch():
        memory = torch.cat([values.flatten(), torch.zeros(45, dtype=torch.int64)])
        strides = (45, 1, 45, 1)
        running[(1,)](memory, memory[7:], 16, 45, *strides, BACK=False, ROWS=16, STEPS=64)
        return memory[7 : 7 + values.numel()].reshape(16, 45)

    across, along, _ = forms(running, launch)
    assert torch.equal(across, values.cumsum(1)) and torch.equal(along, values.cumsum(1))


@pytest.mark.board
@pytest.mark.parametrize("length", [2, 3, 40])
def test_what_is_computed_first_and_stored_in_part(length, forms):
    x = torch.randint(-50, 50, (length, 16))

    def launch():
        y = torch.full((length, 16), 7)
        scaled[(1,)](x, y, 3, length, ROWS=16, STEPS=64)
        return y

    across, along, (rows,) = forms(scaled, launch)
    expected = torch.full((length, 16), 7)
    expected[: length - 3] = (x * 3).cumsum(0)[: length - 3] if length > 3 else expected[: length - 3]
    assert torch.equal(across, expected) and torch.equal(along, expected)
    assert rows.turned and rows.goes is not None and rows.views[0].base.startswith("%b")


@pytest.mark.board
def test_what_several_read_is_stored_first(forms):
    x = torch.randn(60, 32)

    def launch():
        y, z = torch.zeros(64, 32), torch.zeros(32, 64)
        read_twice[(1,)](torch.cat([x, x[:4]]), y, z, ROWS=32, STEPS=64)
        return torch.cat([y, z.t()])

    across, along, (rows,) = forms(read_twice, launch)
    most = torch.cat([x, x[:4]]).cummax(0).values
    assert rows.goes is None and torch.equal(across, along) and torch.equal(across, torch.cat([most, most * 2]))


@pytest.mark.board
@pytest.mark.parametrize("rows", [2, 8, 64])
def test_a_recurrence_of_two_values(rows, forms):
    a, b = torch.rand(32, rows), torch.randn(32, rows)

    def launch():
        y = torch.zeros(32, rows)
        recurrence[(1,)](a, b, y, ROWS=rows, STEPS=32)
        return y

    across, along, (found,) = forms(recurrence, launch)
    state, states = torch.zeros(rows, dtype=torch.float64), []
    for k in range(32):
        state = a[k].double() * state + b[k].double()
        states.append(state)
    assert found.turned == (rows >= scan.SIDE_BY_SIDE) and found.goes is None
    for ours in (across, along):
        torch.testing.assert_close(ours.double(), torch.stack(states), rtol=1e-5, atol=1e-5)


@pytest.mark.board
@pytest.mark.parametrize("dim", [0, 1])
def test_infinities_and_nan_stay_where_they_are(dim, rvv):
    """As aten: what comes before them is a number."""
    x = torch.ones(20, 40)
    x[3, 5], x[7, 9], x[8, 30], x[8, 31] = float("inf"), float("nan"), float("inf"), float("-inf")
    ours = torch.compile(lambda x: (x.cumsum(dim), x.logcumsumexp(dim)), backend="rvv")(x)
    for mine, theirs in zip(ours, (x.cumsum(dim), x.logcumsumexp(dim)), strict=True):
        torch.testing.assert_close(mine, theirs, equal_nan=True)


KERNEL = """module {{
  tt.func public @k(%p: !tt.ptr<f32>, %q: !tt.ptr<f32>) {{
    %r = tt.make_range {{end = 16 : i32, start = 0 : i32}} : tensor<16xi32>
    %rows = tt.expand_dims %r {{axis = 1 : i32}} : tensor<16xi32> -> tensor<16x1xi32>
    %steps = tt.expand_dims %r {{axis = 0 : i32}} : tensor<16xi32> -> tensor<1x16xi32>
    %apart = arith.constant dense<16> : tensor<1x16xi32>
    %far = arith.muli %steps, %apart : tensor<1x16xi32>
    %i = tt.broadcast %rows : tensor<16x1xi32> -> tensor<16x16xi32>
    %k = tt.broadcast %far : tensor<1x16xi32> -> tensor<16x16xi32>
    %at = arith.addi %i, %k : tensor<16x16xi32>
    %ps = tt.splat %p : !tt.ptr<f32> -> tensor<16x16x!tt.ptr<f32>>
    %qs = tt.splat %q : !tt.ptr<f32> -> tensor<16x16x!tt.ptr<f32>>
    %from = tt.addptr %ps, %at : tensor<16x16x!tt.ptr<f32>>, tensor<16x16xi32>
    %to = tt.addptr %qs, %at : tensor<16x16x!tt.ptr<f32>>, tensor<16x16xi32>
    %x = tt.load %from : tensor<16x16x!tt.ptr<f32>>
    %s = "tt.scan"(%x) <{{axis = 1 : i32, reverse = {reverse}}}> ({{
    ^bb0(%a: f32, %b: f32):
      %sum = arith.addf %a, %b : f32
      tt.scan.return %sum : f32
    }}) : (tensor<16x16xf32>) -> tensor<16x16xf32>
    tt.store %to, {stored} : tensor<16x16x!tt.ptr<f32>>
    tt.return
  }}
}}"""


@pytest.mark.ir
@pytest.mark.parametrize("reverse, stored, own", [("false", "%s", True), ("true", "%s", False), ("false", "%x", False)])
def test_a_store_is_the_scan_s_own_or_stays(reverse, stored, own):
    """In reverse, or of something else, it stays a nest of its own."""
    text = ttir_to_linalg(KERNEL.format(reverse=reverse, stored=stored), {}, CodegenOptions())
    contracts.check("linalg", text)
    (call,) = re.findall(r"call @torch_rvv.scan0\((.*?)\) \{.*turned = (\w+).*stored = (\w+)", text)
    assert (call[0].count("%"), call[2]) == ((2, "true") if own else (1, "false"))
    assert call[1] == "true" and text.count("linalg.generic") == (0 if own else 2)
