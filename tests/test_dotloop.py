"""Loops around products: several rounds in one product, and the same to the last bit as a product a round."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl
from conftest import sample
from torch_rvv.lowering import convert_dot, convert_dotloop
from torch_rvv.lowering.pipeline import lower

from torch_rvv.knobs import CodegenOptions
from torch_rvv.target import TARGETS


@triton.jit
def masked(a, b, c, M, N, K, am, ak, bk, bn, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, ACC: tl.constexpr):
    """A mask of its own for each round."""
    m, n = tl.program_id(0) * BM + tl.arange(0, BM), tl.program_id(1) * BN + tl.arange(0, BN)
    total = tl.zeros((BM, BN), ACC)
    for k in range(0, K, BK):
        r = k + tl.arange(0, BK)
        x = tl.load(a + m[:, None] * am + r[None, :] * ak, mask=(m[:, None] < M) & (r[None, :] < K), other=0)
        y = tl.load(b + r[:, None] * bk + n[None, :] * bn, mask=(r[:, None] < K) & (n[None, :] < N), other=0)
        total = tl.dot(x, y, total, out_dtype=ACC)
    tl.store(c + m[:, None] * N + n[None, :], total, mask=(m[:, None] < M) & (n[None, :] < N))


@triton.jit
def moving(a, b, c, M, N, K, am, ak, bk, bn, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, ACC: tl.constexpr):
    """Pointers that move, and masks by what is left."""
    m, n = tl.program_id(0) * BM + tl.arange(0, BM), tl.program_id(1) * BN + tl.arange(0, BN)
    r = tl.arange(0, BK)
    xs = a + (m % M)[:, None] * am + r[None, :] * ak
    ys = b + r[:, None] * bk + (n % N)[None, :] * bn
    total = tl.zeros((BM, BN), ACC)
    for k in range(0, tl.cdiv(K, BK)):
        x = tl.load(xs, mask=r[None, :] < K - k * BK, other=0)
        y = tl.load(ys, mask=r[:, None] < K - k * BK, other=0)
        total = tl.dot(x, y, total, out_dtype=ACC)
        xs += BK * ak
        ys += BK * bk
    tl.store(c + m[:, None] * N + n[None, :], total, mask=(m[:, None] < M) & (n[None, :] < N))


@triton.jit
def unmasked(a, b, c, M, N, K, am, ak, bk, bn, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, ACC: tl.constexpr):
    """Whole blocks of K, and nothing that says where the tensors end."""
    m, n = tl.program_id(0) * BM + tl.arange(0, BM), tl.program_id(1) * BN + tl.arange(0, BN)
    total = tl.zeros((BM, BN), ACC)
    for k in range(0, K // BK):
        r = k * BK + tl.arange(0, BK)
        x = tl.load(a + (m % M)[:, None] * am + r[None, :] * ak)
        y = tl.load(b + r[:, None] * bk + (n % N)[None, :] * bn)
        total = tl.dot(x, y, total, out_dtype=ACC)
    tl.store(c + m[:, None] * N + n[None, :], total, mask=(m[:, None] < M) & (n[None, :] < N))


@triton.jit
def computed(a, b, c, M, N, K, am, ak, bk, bn, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, ACC: tl.constexpr):
    """Operands that are computed: what is behind the mask is not zero there, and counts."""
    m, n = tl.program_id(0) * BM + tl.arange(0, BM), tl.program_id(1) * BN + tl.arange(0, BN)
    total = tl.zeros((BM, BN), ACC)
    other = tl.zeros((BM, BN), ACC)
    for k in range(0, K, BK):
        r = k + tl.arange(0, BK)
        x = tl.load(a + m[:, None] * am + r[None, :] * ak, mask=(m[:, None] < M) & (r[None, :] < K), other=0) * 2 + 1
        y = tl.load(b + r[:, None] * bk + n[None, :] * bn, mask=(r[:, None] < K) & (n[None, :] < N), other=0) - 3
        total = tl.dot(x, y, total, out_dtype=ACC)
        other = tl.dot(x.to(tl.float32).to(ACC), (y + y).to(tl.float32).to(ACC), other, out_dtype=ACC)
    tl.store(c + m[:, None] * N + n[None, :], total + other, mask=(m[:, None] < M) & (n[None, :] < N))


def run(kernel, a, b, blocks, monkeypatch, folder, depth):
    """The product by a kernel whose groups are so deep, and what the kernel compiled to."""
    monkeypatch.setattr(convert_dotloop, "DEPTH", depth)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(folder / str(depth)))
    kernel.device_caches.clear()
    (m, k), n = a.shape, b.shape[1]
    bm, bn, bk = blocks
    kind = torch.float64 if a.dtype == torch.float64 else torch.float32 if a.dtype.is_floating_point else torch.int32
    c = torch.zeros(m, n, dtype=kind)
    acc = {torch.float64: tl.float64, torch.float32: tl.float32, torch.int32: tl.int32}[kind]
    grid = triton.cdiv(m, bm), triton.cdiv(n, bn)
    compiled = kernel[grid](a, b, c, m, n, k, *a.stride(), *b.stride(), BM=bm, BN=bn, BK=bk, ACC=acc)
    return c, compiled


KERNELS = [masked, moving, unmasked, computed]


@pytest.fixture(autouse=True)
def errors_are_errors(monkeypatch):
    monkeypatch.setenv("TORCH_RVV_FALLBACK", "error")


@pytest.mark.board
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: k.__name__)
@pytest.mark.parametrize("depth", [0, 8, 24, 72, 104], ids=lambda k: f"K{k}")
@pytest.mark.parametrize("guard", ["end", "start"])
def test_groups_of_rounds_give_the_same_bits(kernel, depth, guard, monkeypatch, tmp_path):
    """No rounds, less than a group, one and two and a bit; nothing is read that the kernel does not ask for."""
    monkeypatch.setenv("TORCH_RVV_GUARD", guard)
    a, b = torch.randn(21, depth), torch.randn(depth, 33)
    plain, one = run(kernel, a, b, (16, 32, 8), monkeypatch, tmp_path, 0)
    wide, several = run(kernel, a, b, (16, 32, 8), monkeypatch, tmp_path, 32)
    assert torch.equal(plain, wide) and one.asm["linalg"] != several.asm["linalg"]
    if kernel is not computed:
        torch.testing.assert_close(wide, a @ b, rtol=1e-4, atol=1e-4)


@pytest.mark.board
@pytest.mark.parametrize("kernel", [masked, moving, computed], ids=lambda k: k.__name__)
@pytest.mark.parametrize("depth", [1, 7, 29, 77], ids=lambda k: f"K{k}")
@pytest.mark.parametrize("rows", [16, 64])
def test_a_depth_that_ends_within_a_round(kernel, depth, rows, monkeypatch, tmp_path):
    a, b = torch.randn(rows + 3, depth), torch.randn(depth, 20)
    plain, _ = run(kernel, a, b, (rows, 16, 8), monkeypatch, tmp_path, 0)
    wide, _ = run(kernel, a, b, (rows, 16, 8), monkeypatch, tmp_path, 64)
    assert torch.equal(plain, wide)
    if kernel is not computed:
        torch.testing.assert_close(wide, a @ b, rtol=1e-4, atol=1e-4)


@pytest.mark.board
@pytest.mark.parametrize("guard", ["end", "start"])
def test_operands_that_are_copied_whole_are_not_read_behind_the_last_round(guard, monkeypatch, tmp_path):
    """As where loop bounds cannot say which of their elements count."""
    monkeypatch.setenv("TORCH_RVV_GUARD", guard)
    a, b = torch.randn(21, 40), torch.randn(40, 33)
    plain, _ = run(unmasked, a, b, (16, 32, 8), monkeypatch, tmp_path, 0)
    monkeypatch.setattr(convert_dot, "_domain", lambda *_: None)
    wide, _ = run(unmasked, a, b, (16, 32, 8), monkeypatch, tmp_path, 32)
    torch.testing.assert_close(wide, plain)


@pytest.mark.board
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int8], ids=str)
@pytest.mark.parametrize("kernel", [masked, unmasked], ids=lambda k: k.__name__)
@pytest.mark.parametrize("transposed", [False, True])
def test_other_types_and_operands_in_another_order(kernel, dtype, transposed, monkeypatch, tmp_path):
    a, b = (sample(dtype, 40 * 48, seed).nan_to_num(0, 1, -1).clamp(-9, 9) for seed in (1, 2))
    a, b = (a.reshape(48, 40).T, b.reshape(40, 48).T) if transposed else (a.reshape(40, 48), b.reshape(48, 40))
    plain, _ = run(kernel, a, b, (32, 16, 16), monkeypatch, tmp_path, 0)
    wide, _ = run(kernel, a, b, (32, 16, 16), monkeypatch, tmp_path, 128)
    assert torch.equal(plain, wide)
    exact = a.double() @ b.double()
    torch.testing.assert_close(wide.double(), exact, rtol=1e-3, atol=1e-2)


BODY = """module {
 tt.func public @k(%p: !tt.ptr<f32>, %q: !tt.ptr<f32>, %n: i32, %s: i32) {
    %l = tt.make_range {end = 16 : i32, start = 0 : i32} : tensor<16xi32>
    %re = tt.expand_dims %l {axis = 1 : i32} : tensor<16xi32> -> tensor<16x1xi32>
    %le = tt.expand_dims %l {axis = 0 : i32} : tensor<16xi32> -> tensor<1x16xi32>
    %ns = tt.splat %n : i32 -> tensor<16x1xi32>
    %rw = arith.muli %re, %ns : tensor<16x1xi32>
    %rb = tt.broadcast %rw : tensor<16x1xi32> -> tensor<16x16xi32>
    %lb = tt.broadcast %le : tensor<1x16xi32> -> tensor<16x16xi32>
    %o = arith.addi %rb, %lb : tensor<16x16xi32>
    %ps = tt.splat %p : !tt.ptr<f32> -> tensor<16x16x!tt.ptr<f32>>
    %aa = tt.addptr %ps, %o : tensor<16x16x!tt.ptr<f32>>, tensor<16x16xi32>
    %qs = tt.splat %q : !tt.ptr<f32> -> tensor<16x16x!tt.ptr<f32>>
    %qq = tt.addptr %qs, %o : tensor<16x16x!tt.ptr<f32>>, tensor<16x16xi32>
    %ss = tt.splat %s : i32 -> tensor<16x1xi32>
    %rem = arith.remsi %re, %ss : tensor<16x1xi32>
    %remb = tt.broadcast %rem : tensor<16x1xi32> -> tensor<16x16xi32>
    %wrapped = tt.addptr %aa, %remb : tensor<16x16x!tt.ptr<f32>>, tensor<16x16xi32>
    %z = arith.constant dense<0.0> : tensor<16x16xf32>
    %zero = arith.constant 0 : i32
    %one = arith.constant 1 : i32
    %c16 = arith.constant dense<STEP> : tensor<16x16xi32>
    %c16n = arith.constant 16 : i32
    %down = arith.muli %n, %c16n : i32
    %downs = tt.splat %down : i32 -> tensor<16x16xi32>
    %r:3 = scf.for %i = %zero to %s step %one iter_args(%acc = %z, %a = ROWS, %b = %aa)
        -> (tensor<16x16xf32>, tensor<16x16x!tt.ptr<f32>>, tensor<16x16x!tt.ptr<f32>>) : i32 {
      %is = tt.splat %i : i32 -> tensor<16x1xi32>
      %later = arith.addi %re, %is : tensor<16x1xi32>
      %anew = arith.remsi %later, %ss : tensor<16x1xi32>
      %there = tt.broadcast %anew : tensor<16x1xi32> -> tensor<16x16xi32>
      %elsewhere = tt.addptr %a, %there : tensor<16x16x!tt.ptr<f32>>, tensor<16x16xi32>
      %x = tt.load %a : tensor<16x16x!tt.ptr<f32>>
      %y = tt.load %b : tensor<16x16x!tt.ptr<f32>>
      %d = tt.dot %x, %y, %acc : tensor<16x16xf32> * tensor<16x16xf32> -> tensor<16x16xf32>
      EXTRA
      %an = tt.addptr %a, %c16 : tensor<16x16x!tt.ptr<f32>>, tensor<16x16xi32>
      %bn = tt.addptr %b, %downs : tensor<16x16x!tt.ptr<f32>>, tensor<16x16xi32>
      scf.yield RESULT, %an, %bn : tensor<16x16xf32>, tensor<16x16x!tt.ptr<f32>>, tensor<16x16x!tt.ptr<f32>>
    }
    tt.store %qq, %r#0 : tensor<16x16x!tt.ptr<f32>>
    tt.return
 }
}"""


def linalg(step: str = "16", extra: str = "", result: str = "%d", rows: str = "%aa", read: str = "%a") -> str:
    text = BODY.replace("STEP", step).replace("EXTRA", extra).replace("RESULT", result).replace("ROWS", rows)
    text = text.replace("%x = tt.load %a", f"%x = tt.load {read}")
    return lower(text, CodegenOptions(target=TARGETS["k1"]))[0]["linalg"]


@pytest.mark.ir
@pytest.mark.parametrize("rows", ["%aa", "%wrapped"])
def test_eight_rounds_of_sixteen_steps_are_one_product(rows):
    text = linalg(rows=rows)
    assert text.count("scf.for") == 1 and text.count("arith.minsi") > 0 and "arith.constant 8 : i32" in text


@pytest.mark.ir
@pytest.mark.parametrize(
    "other",
    [
        {"step": "17"},
        {"extra": "tt.store %qq, %x : tensor<16x16x!tt.ptr<f32>>"},
        {"read": "%elsewhere"},
        {"extra": "%e = arith.addf %d, %x : tensor<16x16xf32>", "result": "%e"},
    ],
    ids=["columns that do not follow each other", "a store", "rows that wrap anew", "a sum that is used"],
)
def test_other_loops_have_a_product_a_round(other):
    assert "arith.minsi" not in linalg(**other)
