"""Kernels that other compilers for these boards refuse or compile wrong: each trap, at the shapes that showed it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import triton
import triton.language as tl
from torch_rvv.lowering.pipeline import lower

from torch_rvv.errors import Declined, KernelAssert
from torch_rvv.innerloops import innermost
from torch_rvv.knobs import CodegenOptions
from torch_rvv.plugin import cachekey

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "triton"))
import matmul_added
import matmul_bare
import matmul_block_pointer
import matmul_scaled
import proof

pytestmark = [pytest.mark.board, pytest.mark.filterwarnings("ignore:tl.make_block_ptr")]


@pytest.fixture(autouse=True)
def errors_are_errors(monkeypatch):
    monkeypatch.setenv("TORCH_RVV_FALLBACK", "error")
    torch.manual_seed(0)


# -- an accumulator scaled after its loop


@pytest.mark.parametrize("kernel", matmul_scaled.KERNELS, ids=lambda k: k.__name__)
def test_accumulator_scaled_by_argument_constant_and_literal(kernel):
    a, b = torch.randn(32, 64), torch.randn(64, 32)
    out, compiled = matmul_scaled.multiply(kernel, a, b)
    torch.testing.assert_close(out, 0.37 * (a @ b), rtol=1e-5, atol=1e-5)
    proof.proof(compiled, products=True)


@triton.jit
def scaled_then_refused(a, c, scale):
    i = tl.arange(0, 16)
    at = i[:, None] * 16 + i[None, :]
    total = tl.dot(tl.load(a + at), tl.load(a + at)) * scale
    total = tl.inline_asm_elementwise("vmv.v.v $0, $1", "=vr,vr", [total], tl.float32, is_pure=True, pack=1)
    tl.store(c + at, total)


def test_an_error_behind_a_scaled_product_names_its_own_line():
    line = scaled_then_refused.starting_line_number + 5
    with pytest.raises(Declined, match=f"test_triton_traps.py:{line}"):
        scaled_then_refused[(1,)](torch.zeros(256), torch.zeros(256), 0.5)


# -- products without vector code, and nobody says so


def test_bare_tiled_and_block_pointer_products_multiply_vectors_in_their_inner_loop():
    a, b = torch.randn(64, 64), torch.randn(64, 64)
    for multiply in (matmul_bare.multiply, matmul_block_pointer.multiply):
        out, compiled = multiply(a, b)
        torch.testing.assert_close(out, a @ b, rtol=1e-4, atol=1e-4)
        assert max(loop.multiply_adds for loop in innermost(compiled.asm["so"])) >= 6


# -- reduce, reshape, reshape, broadcast


@triton.jit
def regrouped(x, out, A: tl.constexpr, B: tl.constexpr, C: tl.constexpr):
    i = tl.arange(0, A * B * C)
    v = tl.reshape(tl.load(x + i), [A, B, C])
    s = tl.reshape(tl.reshape(tl.sum(v, 1), [A * C]), [A, 1, C])
    tl.store(out + i, tl.reshape(tl.broadcast_to(s, [A, B, C]) + v, [A * B * C]))


@pytest.mark.parametrize("shape", [(2, 2, 2), (1, 4, 2), (4, 1, 4), (2, 8, 1), (8, 16, 4)])
def test_reduction_reshaped_twice_and_broadcast(shape):
    x, out = torch.randn(shape), torch.zeros(shape)
    regrouped[(1,)](x, out, *shape)
    torch.testing.assert_close(out, x.sum(1, keepdim=True) + x)


# -- a fold by a function whose start is read through // and %


@triton.jit
def least(x, out, A: tl.constexpr, B: tl.constexpr, C: tl.constexpr):
    block = tl.make_block_ptr(x, (A, B, C), (B * C, C, 1), (-1, 1, 0), (A, B, C), (2, 1, 0))
    v = tl.load(block, boundary_check=(0, 1, 2), padding_option="zero")
    flat = tl.reshape(v, [A * 2, B * C // 2])
    tl.store(out + tl.arange(0, B * C // 2), tl.argmin(flat, 0))


@pytest.mark.parametrize("shape", [(2, 4, 8), (4, 4, 16), (2, 8, 4), (2, 2, 32)])
def test_the_start_of_a_fold_lies_where_its_column_does(shape):
    a, b, c = shape
    x, out = torch.randn(shape), torch.full((b * c // 2,), -1, dtype=torch.int32)
    least[(1,)](x, out, *shape)
    padded = torch.zeros(shape)
    padded[1:, : b - 1] = x[: a - 1, 1:]
    assert torch.equal(out.long(), padded.reshape(a * 2, -1).argmin(0))


# -- a product and an added matrix through block pointers, large tiles


def test_added_matrix_through_block_pointers_in_tiles_of_256_by_256_by_32():
    a, b, d = torch.randn(256, 64), torch.randn(64, 256), torch.randn(256, 256)
    out, compiled = matmul_added.multiply(a, b, d)
    torch.testing.assert_close(out, a @ b + d, rtol=1e-4, atol=1e-4)
    kinds = {a["kind"] for a in compiled.metadata.accesses}
    assert kinds <= {"unit", "broadcast", "strided"}, "a block pointer became a tensor of pointers"
    proof.proof(compiled, products=True)


# -- pointers chosen at run time, indices from memory


@triton.jit
def chosen(x, y, out, index, n, N: tl.constexpr):
    i = tl.arange(0, N)
    p = x
    if n > 3:
        p = y
    at = tl.load(index + i)
    tl.device_assert((at >= 0) & (at < N), "index out of range")
    tl.store(out + i, tl.load(tl.where(i % 2 == 0, p + at, x + i)))


def test_pointers_by_select_and_if_with_checked_indices_from_memory():
    x, y, index = torch.randn(64), torch.randn(64), torch.randint(0, 64, (64,))
    for n, p in ((1, x), (5, y)):
        out = torch.zeros(64)
        chosen[(1,)](x, y, out, index, n, 64, debug=True)
        assert torch.equal(out, torch.where(torch.arange(64) % 2 == 0, p[index], x))
    index[7] = 64
    with pytest.raises(KernelAssert, match="index out of range"):
        chosen[(1,)](x, y, out, index, 1, 64, debug=True)


# -- identities, precision, arguments, division, keys, dumps


@triton.jit
def both(a, b):
    return a & b


@triton.jit
def all_ones(out, N: tl.constexpr):
    tl.store(out, tl.reduce(tl.full((N,), -1, tl.int32), 0, both))
    tl.store(out + 1, tl.reduce(tl.arange(0, N) | 6, 0, both))


def test_a_reduction_by_and_starts_at_all_ones():
    out = torch.zeros(2, dtype=torch.int32)
    all_ones[(1,)](out, 16)
    assert out.tolist() == [-1, 6]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_products_are_not_rounded_between_blocks_of_k(dtype):
    a, b = torch.randn(32, 4096).to(dtype), torch.randn(4096, 32).to(dtype)
    out, _ = matmul_block_pointer.multiply(a, b)
    exact = a.double() @ b.double()
    assert ((out.double() - exact).abs().max() / exact.abs().max()).item() < torch.finfo(dtype).eps


@triton.jit
def exact_scalars(out, half: tl.float16, brain: tl.bfloat16, single: tl.float32, double: tl.float64):
    tl.store(out, half.to(tl.float64))
    tl.store(out + 1, brain.to(tl.float64))
    tl.store(out + 2, single.to(tl.float64))
    tl.store(out + 3, double)


def test_scalar_arguments_arrive_in_their_own_precision():
    out = torch.zeros(4, dtype=torch.float64)
    exact_scalars[(1,)](out, 0.1, 0.1, 0.1, 0.1)
    dtypes = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    assert out.tolist() == [torch.tensor(0.1, dtype=d).item() for d in dtypes]


@triton.jit
def divided(x, y, out, n, N: tl.constexpr):
    i = tl.arange(0, N)
    mask = i < n
    a, b = tl.load(x + i, mask=mask, other=7), tl.load(y + i, mask=mask, other=0)
    tl.store(out + i, a // b + a % b, mask=mask)


def test_masked_off_lanes_may_divide_by_zero():
    x, y, out = torch.arange(1, 41), torch.arange(1, 41) % 7 + 1, torch.zeros(40, dtype=torch.int64)
    divided[(1,)](x, y, out, 40, 64)
    assert torch.equal(out, x // y + x % y)


def test_the_cache_key_holds_our_own_source(tmp_path, monkeypatch):
    before = cachekey.environment_key()
    assert before == cachekey.environment_key()
    options = CodegenOptions()
    assert options.key() != replace(options, lmul=2).key()
    assert len(before) >= 32


@triton.jit
def same_name(x, K: tl.constexpr):
    tl.store(x, K)


def test_dumps_of_kernels_of_one_name_lie_side_by_side(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_RVV_DUMP", str(tmp_path))
    x = torch.zeros(1)
    for k in (1.25, 2.25):
        same_name[(1,)](x, k)
    folders = [p for p in tmp_path.rglob("*") if p.is_dir() and "same_name" in p.name]
    assert len(folders) >= 2


def test_declining_names_the_operation_and_never_crashes():
    text = "module {\n tt.func public @k(%p: !tt.ptr<f32>) {\n %z = tt.frobnicate %p : !tt.ptr<f32>\n tt.return\n }\n}"
    with pytest.raises(Declined, match="frobnicate"):
        lower(text, CodegenOptions())
