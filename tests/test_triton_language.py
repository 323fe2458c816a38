"""Hand-written kernels on the board: blocks, descriptors, products, early returns, casts, assembly, SMT."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl
import triton.language.extra.smt as smt
from triton.tools.tensor_descriptor import TensorDescriptor

from torch_rvv.errors import Declined

pytestmark = [pytest.mark.board, pytest.mark.filterwarnings("ignore:tl.make_block_ptr")]


@pytest.fixture(autouse=True)
def errors_are_errors(monkeypatch):
    monkeypatch.setenv("TORCH_RVV_FALLBACK", "error")
    torch.manual_seed(0)


@triton.jit
def padded(x, out, M, N, i, j, BM: tl.constexpr, BN: tl.constexpr, KIND: tl.constexpr):
    block = tl.make_block_ptr(x, (M, N), (N, 1), (i, j), (BM, BN), (1, 0))
    value = tl.load(block, boundary_check=(0, 1), padding_option=KIND)
    tl.store(tl.make_block_ptr(out, (BM, BN), (BN, 1), (0, 0), (BM, BN), (1, 0)), value)


@pytest.mark.parametrize("kind", ["zero", "nan"])
@pytest.mark.parametrize(("i", "j"), [(0, 0), (-3, 2), (5, -7), (-20, 0), (9, 12)])
def test_block_pointer_padding_on_every_side(i, j, kind):
    x, out = torch.randn(10, 13), torch.full((16, 16), 7.0)
    padded[(1,)](x, out, 10, 13, i, j, BM=16, BN=16, KIND=kind)
    wanted = torch.full((60, 60), 0.0 if kind == "zero" else float("nan"))
    wanted[20:30, 20:33] = x
    torch.testing.assert_close(out, wanted[20 + i : 36 + i, 20 + j : 36 + j], equal_nan=True, rtol=0, atol=0)


@triton.jit
def described(x, out, M, N, BM: tl.constexpr, BN: tl.constexpr):
    source = tl.make_tensor_descriptor(x, [M, N], [N, 1], [BM, BN])
    target = tl.make_tensor_descriptor(out, [M, N], [N, 1], [BM, BN])
    value = source.load([0, 4])
    target.store([2, 3], value)
    target.atomic_add([0, 0], value)
    rows = tl.make_tensor_descriptor(x, [M, N], [N, 1], [1, BN]).gather(tl.arange(0, 8) * 3, 4)
    tl.make_tensor_descriptor(out, [M, N], [N, 1], [1, BN]).scatter(rows, 40 + tl.arange(0, 8), 8)


def test_descriptors_load_store_add_gather_and_scatter():
    x, out = torch.randn(60, 64), torch.zeros(60, 64)
    described[(1,)](x, out, 60, 64, BM=16, BN=16)
    wanted = torch.zeros(60, 64)
    wanted[2:18, 3:19] = x[0:16, 4:20]
    wanted[0:16, 0:16] += x[0:16, 4:20]
    wanted[40:48, 8:24] = x[0:24:3, 4:20]
    assert torch.equal(out, wanted)


@triton.jit
def copied(source, target, i, j):
    target.store([i, j], source.load([i, j]))


@pytest.mark.parametrize("padding", ["zero", "nan"])
def test_descriptors_made_on_the_host(padding):
    x, out = torch.randn(20, 32), torch.full((64, 64), 5.0)
    source = TensorDescriptor(x, [20, 32], [32, 1], [16, 16], padding=padding)
    copied[(1,)](source, TensorDescriptor(out, [64, 64], [64, 1], [16, 16]), 10, 20)
    edge = torch.full((64, 64), 0.0 if padding == "zero" else float("nan"))
    edge[:20, :32] = x
    torch.testing.assert_close(out[10:26, 20:36], edge[10:26, 20:36], equal_nan=True, rtol=0, atol=0)
    assert bool((out[26:] == 5).all())


@triton.jit
def multiply(a, b, c, M, N, K, am, ak, bk, bn, cm, cn, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
             OUT: tl.constexpr):  # fmt: skip
    i = tl.program_id(0) * BM + tl.arange(0, BM)
    j = tl.program_id(1) * BN + tl.arange(0, BN)
    k = tl.arange(0, BK)
    left, right = a + i[:, None] * am + k[None, :] * ak, b + k[:, None] * bk + j[None, :] * bn
    acc = tl.zeros((BM, BN), OUT)
    for step in range(0, tl.cdiv(K, BK)):
        x = tl.load(left, mask=(i[:, None] < M) & (k[None, :] < K - step * BK), other=0.0)
        y = tl.load(right, mask=(k[:, None] < K - step * BK) & (j[None, :] < N), other=0.0)
        acc = tl.dot(x, y, acc, out_dtype=OUT)
        left += BK * ak
        right += BK * bk
    tl.store(c + i[:, None] * cm + j[None, :] * cn, acc, mask=(i[:, None] < M) & (j[None, :] < N))


@pytest.mark.parametrize(
    ("dtype", "kind", "out"),
    [
        (torch.float32, tl.float32, torch.float32),
        (torch.float64, tl.float64, torch.float64),
        (torch.float16, tl.float32, torch.float32),
        (torch.float16, tl.float16, torch.float16),
        (torch.bfloat16, tl.float32, torch.float32),
        (torch.int8, tl.int32, torch.int32),
        (torch.float8_e4m3fn, tl.float32, torch.float32),
        (torch.float8_e5m2, tl.float32, torch.float32),
    ],
)
def test_products_with_a_transposed_operand_and_ragged_edges(dtype, kind, out):
    M, N, K = 50, 70, 100
    if dtype == torch.int8:
        a, b = (torch.randint(-128, 127, s, dtype=dtype) for s in ((M, K), (N, K)))
    else:
        a, b = torch.randn(M, K).to(dtype), torch.randn(N, K).to(dtype)
    b, c = b.t(), torch.zeros(M, N, dtype=out)
    grid = (triton.cdiv(M, 32), triton.cdiv(N, 64))
    multiply[grid](a, b, c, M, N, K, *a.stride(), *b.stride(), *c.stride(), BM=32, BN=64, BK=16, OUT=kind)
    exact = a.double() @ b.double()
    error = (c.double() - exact).abs().max() / exact.abs().max()
    assert error <= (0 if out == torch.int32 else 2e-3 if out == torch.float16 else 1e-6)


@triton.jit
def batched(a, b, c, B: tl.constexpr, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    q, m, n, k = tl.arange(0, B), tl.arange(0, M), tl.arange(0, N), tl.arange(0, K)
    x = tl.load(a + q[:, None, None] * M * K + m[None, :, None] * K + k[None, None, :])
    y = tl.load(b + q[:, None, None] * N * K + k[None, :, None] * N + n[None, None, :])
    tl.store(c + q[:, None, None] * M * N + m[None, :, None] * N + n[None, None, :], tl.dot(x, y) * 2)


@pytest.mark.parametrize("sizes", [(4, 16, 32, 8), (2, 1, 1, 16), (1, 4, 1, 8), (2, 1, 8, 1)])
def test_products_of_three_dimensions(sizes):
    B, M, N, K = sizes
    a, b, c = torch.randn(B, M, K), torch.randn(B, K, N), torch.zeros(B, M, N)
    batched[(1,)](a, b, c, *sizes)
    torch.testing.assert_close(c, 2 * (a @ b))


@triton.jit
def microscaled(a, a_scale, b, b_scale, c):
    i, j, half, two = tl.arange(0, 16), tl.arange(0, 64), tl.arange(0, 32), tl.arange(0, 2)
    x = tl.load(a + i[:, None] * 32 + half[None, :])
    y = tl.load(b + j[:, None] * 16 + i[None, :])
    xs = tl.load(a_scale + i[:, None] * 2 + two[None, :])
    ys = tl.load(b_scale + i[:, None] * 2 + two[None, :])
    tl.store(c + i[:, None] * 16 + i[None, :], tl.dot_scaled(x, xs, "e2m1", y, ys, "e4m3"))


def test_scaled_product_of_4_and_8_bit_floats():
    codes = torch.randint(0, 256, (16, 32), dtype=torch.uint8)
    b = torch.randn(64, 16).to(torch.float8_e4m3fn)
    a_scale, b_scale = (torch.randint(120, 132, (16, 2), dtype=torch.uint8) for _ in range(2))
    c = torch.zeros(16, 16)
    microscaled[(1,)](codes, a_scale, b, b_scale, c)
    values = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6])
    a = torch.stack([values[(codes & 15).long()], values[(codes >> 4).long()]], -1).flatten(-2)
    left = a * torch.exp2(a_scale.float() - 127).repeat_interleave(32, 1)
    right = b.float() * torch.exp2(b_scale.float() - 127).repeat_interleave(32, 1).t()
    torch.testing.assert_close(c, left @ right)


@triton.jit(noinline=True)
def twice_or_mark(n, mark):
    if n > 3:
        return n + 1, 1.0
    tl.store(mark, 3.0)
    return n * 2, 2.0


@triton.jit
def early(x, n, m):
    i = tl.arange(0, 8)
    value = tl.load(x + i)
    if n > 3:
        if n > 5:
            tl.store(x + i, value * 2)
            return
        n = n + 1
        value = value + 1
    else:
        if m > 0:
            if m > 1:
                return
            value = value - 5
    a, b = twice_or_mark(n, x + 8)
    tl.store(x + i, value + a + b)


@pytest.mark.parametrize("m", [0, 1, 2])
@pytest.mark.parametrize("n", [1, 3, 4, 5, 6])
def test_early_returns_and_functions_with_several(n, m):
    def plain(n):
        x = torch.arange(9.0)
        if n > 3:
            if n > 5:
                x[:8] *= 2
                return x
            n += 1
            x[:8] += 1
        elif m > 0:
            if m > 1:
                return x
            x[:8] -= 5
        if n > 3:
            x[:8] += n + 1 + 1.0
        else:
            x[8] = 3
            x[:8] += n * 2 + 2.0
        return x

    x = torch.arange(9.0)
    early[(1,)](x, n, m)
    assert torch.equal(x, plain(n))


@triton.jit
def larger(a, b):
    if a > b:
        return a
    return b


@triton.jit
def both_ways(a, b):
    if a > b:
        r = a * 2
    else:
        r = b - a
    return r, a


@triton.jit
def moved(x, index, out, N: tl.constexpr):
    i = tl.arange(0, N)
    v = tl.load(x + i)
    tl.store(out + i, tl.gather(v, tl.load(index + i), 0))
    tl.store(out + N + i, tl.sort(v))
    tl.store(out + 2 * N + i, tl.flip(v, 0))
    tl.store(out + 3 * N + tl.arange(0, 2 * N), tl.cat(v, v * 2, can_reorder=True))
    tl.store(out + 5 * N + tl.arange(0, 2 * N), tl.interleave(v, -v))
    r, a = tl.map_elementwise(both_ways, v, 1 - v)
    tl.store(out + 7 * N + i, r + a)
    tl.store(out + 8 * N, tl.reduce(v, 0, larger))


def test_gather_sort_flip_cat_interleave_and_functions_of_elements():
    n = 64
    x, index, out = torch.randn(n), torch.randint(0, n, (n,), dtype=torch.int32), torch.zeros(8 * n + 1)
    moved[(1,)](x, index, out, n)
    y = 1 - x
    parts = [x[index.long()], x.sort()[0], x.flip(0), x, x * 2, torch.stack([x, -x], 1).flatten()]
    assert torch.equal(out, torch.cat([*parts, torch.where(x > y, x * 2, y - x) + x, x.max()[None]]))


@triton.jit
def rounded(x, e4m3, e5m2, f16, bf16, N: tl.constexpr):
    i = tl.arange(0, N)
    v = tl.load(x + i)
    tl.store(e4m3 + i, v.to(tl.float8e4nv))
    tl.store(e5m2 + i, v.to(tl.float8e5))
    tl.store(f16 + i, v.to(tl.float16, fp_downcast_rounding="rtz"))
    tl.store(bf16 + i, v.to(tl.bfloat16, fp_downcast_rounding="rtz"))


def test_casts_saturate_8_bit_floats_and_round_towards_zero():
    n = 1024
    x = torch.randn(n) * torch.exp(torch.randn(n) * 5)
    x[:6] = torch.tensor([float("inf"), float("nan"), 1e9, -1e9, 1e-9, -0.0])
    dtypes = (torch.float8_e4m3fn, torch.float8_e5m2, torch.float16, torch.bfloat16)
    outs = [torch.zeros(n, dtype=d) for d in dtypes]
    rounded[(1,)](x, *outs, n)
    half = x.half()
    wanted = [
        x.clamp(-448, 448).to(torch.float8_e4m3fn),
        x.clamp(-57344, 57344).to(torch.float8_e5m2),
        torch.where(half.float().abs() > x.abs(), (half.view(torch.int16) - 1).view(torch.float16), half),
        (x.view(torch.int32) & -65536).view(torch.float32).bfloat16(),
    ]
    for out, value in zip(outs, wanted, strict=True):
        torch.testing.assert_close(out.float(), value.float(), rtol=0, atol=0, equal_nan=True)


@triton.jit
def assembled(x, y, added, crossed, floats, halves):
    i = tl.arange(0, 16)
    v, w = tl.load(x + i), tl.load(y + i)
    tl.store(added + i, tl.inline_asm_elementwise("add $0, $1, $2", "=r,r,r", [w, w], tl.int32, is_pure=True, pack=1))
    bytes_ = [w.to(tl.int8), (w * 3).to(tl.int8)]
    tl.store(crossed + i, tl.inline_asm_elementwise("xor $0, $1, $2", "=r,r,r", bytes_, tl.int8, is_pure=True, pack=4))
    text: tl.constexpr = "fadd.s $0, $2, $3\nfsub.s $1, $2, $3"
    p, q = tl.inline_asm_elementwise(text, "=&f,=f,f,f", [v, v * 2], (tl.float32, tl.float32), is_pure=True, pack=1)
    tl.store(floats + i, p)
    tl.store(floats + 16 + i, q)
    half = v.to(tl.float16)
    tl.store(halves + i, tl.inline_asm_elementwise("mv $0, $1", "=r,r", [half], tl.float16, is_pure=True, pack=2))


def test_inline_assembly_packed_and_with_several_results():
    x, y = torch.randn(16), torch.randint(-100, 100, (16,), dtype=torch.int32)
    added, crossed = torch.zeros(16, dtype=torch.int32), torch.zeros(16, dtype=torch.int8)
    floats, halves = torch.zeros(32), torch.zeros(16, dtype=torch.float16)
    assembled[(1,)](x, y, added, crossed, floats, halves)
    assert torch.equal(added, y * 2) and torch.equal(crossed, y.to(torch.int8) ^ (y * 3).to(torch.int8))
    assert torch.equal(floats, torch.cat([x + x * 2, x - x * 2])) and torch.equal(halves, x.half())


@triton.jit
def bad_assembly(x):
    i = tl.arange(0, 16)
    v = tl.load(x + i)
    tl.store(x + i, tl.inline_asm_elementwise("frob $0, $1", "=f,f", [v], tl.float32, is_pure=True, pack=1))


def test_assembly_that_is_none_is_refused_with_the_assemblers_words():
    with pytest.raises(Declined, match="(?s)refuses the inline assembly.*frob|unrecognized"):
        bad_assembly[(1,)](torch.zeros(16))


@triton.jit
def accumulated(p, x, out, KIND: tl.constexpr):
    i = tl.arange(0, 16)
    v = tl.load(x + i)
    if KIND == "add":
        old = tl.atomic_add(p + i % 4, v)
    else:
        old = tl.atomic_max(p + i % 4, v)
    tl.store(out + tl.program_id(0) * 16 + i, old)


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int32, torch.int64]
)
def test_atomics_from_many_programs(dtype):
    x, out = torch.randint(-4, 4, (16,)).to(dtype), torch.zeros(16 * 20).to(dtype)
    p = torch.zeros(4).to(dtype)
    accumulated[(20,)](p, x, out, "add")
    assert torch.equal(p, (x.double().view(4, 4).sum(0) * 20).to(dtype))
    if dtype not in (torch.float16, torch.bfloat16):
        p.zero_()
        accumulated[(20,)](p, x, out, "max")
        assert torch.equal(p, x.view(4, 4).amax(0).clamp(min=0))


# -- SMT


@triton.jit
def packed_product(a, b, c, M, N, K, scale, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, TILE: tl.constexpr,
                   DEPTH: tl.constexpr, ACC: tl.constexpr):  # fmt: skip
    i, j = tl.program_id(0) * BM, tl.program_id(1) * BN
    left = tl.make_block_ptr(a, (M, K), (K, 1), (i, 0), (BM, BK), (1, 0))
    right = tl.make_block_ptr(b, (K, N), (N, 1), (0, j), (BK, BN), (1, 0))
    acc = smt.view(tl.zeros((BM, BN), ACC), (0, 0), (BM, BN), (TILE, TILE))
    for k in range(0, tl.cdiv(K, BK)):
        x = smt.view(smt.descriptor_load(left, (0, k * BK)), (0, 0), (BM, BK), (TILE, DEPTH))
        y = smt.view(smt.descriptor_load(right, (k * BK, 0)), (0, 0), (BK, BN), (DEPTH, TILE))
        acc = smt.dot(x, y, acc)
    value = smt.view(acc, (0, 0), (BM, BN), (1, 1)) * scale
    target = tl.make_block_ptr(c, (M, N), (N, 1), (i, j), (BM, BN), (1, 0))
    tl.store(target, value.to(c.dtype.element_ty), boundary_check=(0, 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.int8])
def test_smt_product_of_packed_tiles(dtype):
    M, N, K = 50, 70, 40
    exact_type = torch.int32 if dtype == torch.int8 else torch.float32
    if dtype == torch.int8:
        a, b = torch.randint(-100, 100, (M, K), dtype=dtype), torch.randint(-100, 100, (K, N), dtype=dtype)
    else:
        a, b = torch.randn(M, K).to(dtype), torch.randn(K, N).to(dtype)
    c = torch.zeros(M, N, dtype=exact_type)
    acc = tl.int32 if dtype == torch.int8 else tl.float32
    packed_product[(2, 2)](a, b, c, M, N, K, 2, BM=32, BN=64, BK=32, TILE=8, DEPTH=16, ACC=acc)
    torch.testing.assert_close(c.double(), 2 * (a.double() @ b.double()), rtol=1e-4, atol=1e-4)


@triton.jit
def sub_blocks(a, b, c, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, SUB: tl.constexpr):
    left = tl.make_block_ptr(a, (M, K), (K, 1), (0, 0), (BM, BK), (1, 0))
    right = tl.make_block_ptr(b, (K, N), (N, 1), (0, 0), (BK, BN), (1, 0))
    held = smt.alloc((BM, BK), tl.float32)
    copies = smt.alloc_copies((BK, BN), 2, tl.float32)
    barrier = smt.mbarrier()
    smt.barrier_set_expect(barrier, 1)
    x = smt.descriptor_load(left, (0, 0), held)
    for n in range(2):
        smt.descriptor_load(right, (0, 0), copies[n])
    y = smt.view(copies[1], (0, 0), (BK, BN), (8, 8))
    for s in smt.parallel(0, (M + SUB - 1) // SUB, bind_sub_block=True):
        from_memory = smt.view(held, (s * SUB, 0), (SUB, BK), (8, 8))
        from_value = smt.view(x, (s * SUB, 0), (SUB, BK), (8, 8))
        total = smt.dot(from_memory, y) + smt.dot(from_value, y)
        smt.barrier_arrive(barrier)
        smt.barrier_wait(barrier)
        target = tl.make_block_ptr(c, (M, N), (N, 1), (s * SUB, 0), (SUB, BN), (1, 0))
        tl.store(target, smt.view(total, (0, 0), (SUB, BN), (1, 1)), boundary_check=(0, 1))


def test_smt_sub_blocks_scratch_tiles_and_barriers():
    a, b, c = torch.randn(30, 32), torch.randn(32, 24), torch.zeros(30, 24)
    sub_blocks[(1,)](a, b, c, 30, 24, 32, BM=32, BN=32, BK=32, SUB=8)
    torch.testing.assert_close(c, 2 * a @ b)


@triton.jit
def repacked(x, out, M: tl.constexpr, K: tl.constexpr):
    i, j = tl.arange(0, M), tl.arange(0, K)
    value = tl.load(x + i[:, None] * K + j[None, :])
    tiles = smt.view(value, (0, 0), (M, K), (8, 4))
    again = smt.view(smt.view(tiles, (0, 0), (M, K), (4, 8)), (0, 0), (M, K), (1, 1))
    tl.store(out + i[:, None] * K + j[None, :], again)
    tl.store(out + M * K + tl.arange(0, M * K), tl.reshape(tiles, (M * K,)))
    corner = smt.view(value, (M - 4, K - 8), (8, 16), (8, 16))
    tl.store(out + 2 * M * K + tl.arange(0, 128), tl.reshape(corner, (128,)))


def test_smt_view_packs_repacks_unpacks_and_pads():
    x, out = torch.randn(16, 32), torch.ones(2 * 512 + 128)
    repacked[(1,)](x, out, 16, 32)
    corner = torch.zeros(8, 16)
    corner[:4, :8] = x[12:, 24:]
    tiles = x.view(2, 8, 8, 4).permute(0, 2, 1, 3)
    assert torch.equal(out, torch.cat([x.flatten(), tiles.flatten(), corner.flatten()]))


@triton.jit
def dependent(x, n):
    total = 0.0
    for s in smt.parallel(0, n):
        total += s
    tl.store(x, total)


@triton.jit
def allocating(x, n):
    for s in range(0, n):
        tile = smt.alloc((8, 8))
        tl.store(tile, tl.zeros((8, 8), tl.float32))
        tl.store(x, s)


@triton.jit
def too_large(x):
    tile = smt.alloc((1024, 1024), tl.float32, "tcm")
    tl.store(x, tl.sum(tl.load(tile)))


@pytest.mark.parametrize(
    ("kernel", "arguments", "why"),
    [
        (dependent, (3,), "must not depend on each other, but hand on total"),
        (allocating, (3,), r"(?s)alloc inside a loop.*test_triton_language.py:\d+"),
        (too_large, (), "4194304 bytes of tcm do not fit"),
    ],
)
def test_smt_says_what_it_refuses(kernel, arguments, why):
    with pytest.raises(Exception, match=why):
        kernel[(1,)](torch.zeros(1), *arguments)
