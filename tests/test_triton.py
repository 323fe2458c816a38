"""`@triton.jit` kernels launched by hand on CPU tensors."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl
from triton.language.extra import libdevice

from torch_rvv.errors import Declined, KernelAssert
from torch_rvv.knobs import CodegenOptions
from torch_rvv.plugin.compiler import compiling
from torch_rvv.target import TARGETS

pytestmark = pytest.mark.board


@pytest.fixture(autouse=True)
def errors_are_errors(monkeypatch):
    monkeypatch.setenv("TORCH_RVV_FALLBACK", "error")


@triton.jit
def scaled_sum(x, y, out, n, scale, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = i < n
    tl.store(out + i, libdevice.erf(tl.load(x + i, mask=mask)) + tl.load(y + i, mask=mask) * scale, mask=mask)


@pytest.mark.parametrize("n", [1, 255, 256, 257, 1003])
def test_vector_kernel_with_a_scalar_and_a_libdevice_function(n):
    x, y, out = torch.randn(n), torch.randn(n), torch.full((n + 9,), 5.0)
    scaled_sum[(triton.cdiv(n, 256),)](x, y, out, n, 0.1, BLOCK=256)
    torch.testing.assert_close(out[:n], torch.erf(x) + y * 0.1)
    assert bool((out[n:] == 5).all())


def test_every_stage_is_kept_as_text():
    kernel = scaled_sum.warmup(torch.float32, torch.float32, torch.float32, 5, 0.5, BLOCK=64, grid=(1,))
    assert [k for k in kernel.asm if k != "source"] == ["ttir", "linalg", "vector", "llvm", "object", "so"]
    assert "linalg.generic" in kernel.asm["linalg"] and "vle32.v" in kernel.asm["object"]


@triton.jit
def softmax(x, out, n, BLOCK: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    mask = column < n
    value = tl.load(x + row * n + column, mask=mask, other=-float("inf"))
    e = tl.exp(value - tl.max(value, 0))
    tl.store(out + row * n + column, e / tl.sum(e, 0), mask=mask)


def test_softmax_rows():
    x, out = torch.randn(7, 1000), torch.empty(7, 1000)
    softmax[(7,)](x, out, 1000, BLOCK=1024)
    torch.testing.assert_close(out, x.softmax(1))


@triton.jit
def looped_mean(x, out, n, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    pointers = x + row * n + tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK], tl.float32)
    for start in range(0, n, BLOCK):
        mask = start + tl.arange(0, BLOCK) < n
        total += tl.load(pointers, mask=mask, other=0.0)
        pointers += BLOCK
    tl.store(out + row, tl.sum(total, 0) / n)


def test_a_loop_that_carries_pointers_and_an_accumulator():
    x, out = torch.randn(5, 777), torch.empty(5)
    looped_mean[(5,)](x, out, 777, BLOCK=128)
    torch.testing.assert_close(out, x.mean(1))


@triton.jit
def swap_while(x, limit, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    a, b, rounds = tl.load(x + i), tl.load(x + BLOCK + i), 0
    while rounds < limit:
        if rounds % 2 == 0:
            a, b = b + 1, a
        else:
            a, b = b, a
        rounds += 1
    tl.store(x + i, a)
    tl.store(x + BLOCK + i, b)


@pytest.mark.parametrize("limit", [0, 1, 2, 5])
def test_while_and_if_over_tensors(limit):
    x = torch.randn(128)
    a, b = x[:64].clone(), x[64:].clone()
    for k in range(limit):
        a, b = (b + 1, a) if k % 2 == 0 else (b, a)
    swap_while[(1,)](x, limit, BLOCK=64)
    assert torch.equal(x, torch.cat([a, b]))


@triton.jit
def reverse_in_place(x, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    value = tl.load(x + i)
    tl.store(x + BLOCK - 1 - i, value)


def test_a_block_that_overwrites_what_it_reads():
    x = torch.randn(300)
    expected = torch.cat([x[:256].flip(0), x[256:]])
    reverse_in_place[(1,)](x, BLOCK=256)
    assert torch.equal(x, expected)


@triton.jit
def shift(source, target, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    value = tl.load(source + i)
    tl.store(target + i, value * 2)
    tl.store(target + BLOCK + i, value)


def test_different_arguments_that_overlap():
    x = torch.arange(600.0)
    expected = x.clone()
    block = x[:256].clone()
    expected[88 : 88 + 256] = block * 2
    expected[88 + 256 : 88 + 512] = block
    shift[(1,)](x, x[88:], BLOCK=256)
    assert torch.equal(x, expected)


@triton.jit
def guarded(x, limit, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    value = tl.load(x + i)
    tl.device_assert(value < limit, "value too large")
    tl.store(x + i, value + 1)


def test_a_failed_device_assert_is_a_python_error():
    x = torch.arange(64)
    guarded[(1,)](x, 64, BLOCK=64, debug=True)
    with pytest.raises(KernelAssert, match="value too large"):
        guarded[(1,)](x, 64, BLOCK=64, debug=True)


@triton.jit
def exact_scalars(out, a, b, c, BLOCK: tl.constexpr):
    tl.store(out, a.to(tl.float64))
    tl.store(out + 1, b.to(tl.float64))
    tl.store(out + 2, c.to(tl.float64))


def test_integer_and_float_scalars_pass_exactly():
    out = torch.zeros(3, dtype=torch.float64)
    exact_scalars[(1,)](out, -(1 << 52) - 1, 0.1, -7, BLOCK=1)
    assert out.tolist() == [-(1 << 52) - 1, float(torch.tensor(0.1)), -7.0]


@triton.jit
def count(bins, values, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = i < n
    tl.atomic_add(bins + tl.load(values + i, mask=mask), 1.5, mask=mask)


def test_atomic_adds_from_many_programs():
    values, bins = torch.randint(0, 10, (5000,)), torch.zeros(10)
    count[(triton.cdiv(5000, 64),)](bins, values, 5000, BLOCK=64)
    assert torch.equal(bins, torch.bincount(values, minlength=10).float() * 1.5)


@triton.jit
def vector_assembly(x, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    y = tl.inline_asm_elementwise("vmv.v.v $0, $1", "=vr,vr", [tl.load(x + i)], tl.float32, is_pure=True, pack=1)
    tl.store(x + i, y)


def test_what_is_not_supported_is_refused_with_its_source_line():
    with pytest.raises(Declined, match=r"(?s)inline assembly on vector registers.*test_triton.py:\d+"):
        vector_assembly[(1,)](torch.randn(16), BLOCK=16)


@triton.jit
def convert(x, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, (tl.load(x + i, mask=i < n).to(tl.float32) * 1.01).to(out.dtype.element_ty), mask=i < n)


@pytest.mark.parametrize("target", ["rv64gcv", "k1"])
def test_half_floats_with_and_without_hardware(target):
    every = torch.arange(65536, dtype=torch.int32).to(torch.int16).view(torch.float16)
    out = torch.empty_like(every)
    with compiling(CodegenOptions(target=TARGETS[target])):
        convert[(64,)](every, out, 65536, BLOCK=1024)
    torch.testing.assert_close(out, (every.float() * 1.01).half(), rtol=0, atol=0, equal_nan=True)


@triton.jit
def scaled_rows(x, scales, out, rows, n, BLOCK: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, BLOCK)
    mask = row * n + column < rows * n
    mask &= column < n
    scale = tl.load(scales + row.to(tl.int64) * (1 << 34) + column * 0, mask=mask, other=0.0)
    tl.store(out + row * n + column, tl.load(x + row * n + column, mask=mask) * scale, mask=mask)


def test_a_program_that_is_masked_off_whole_touches_no_memory():
    x, scales = torch.randn(1, 100), torch.tensor([3.0])
    out = torch.full((200,), 7.0)
    scaled_rows[(1000,)](x, scales, out, 1, 100, BLOCK=128)
    torch.testing.assert_close(out[:100], x[0] * 3)
    assert bool((out[100:] == 7).all())
