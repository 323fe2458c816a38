"""The rest of the language: arguments, constants, random numbers, prints, assertions, assembly, hints."""

from __future__ import annotations

import contextlib
import io

import pytest
import torch

from tests.conformance.harness import (
    BF16,
    BOOL,
    F16,
    F32,
    F64,
    I8,
    I16,
    I32,
    I64,
    INTEGERS,
    NUMBERS,
    U8,
    case,
    kernel,
    same,
    values,
)
from torch_rvv.errors import KernelAssert

FAMILY = "language"


@case(FAMILY, "float_arguments", F16, BF16, F32, F64)
def floats(dtype):
    name = {F16: "tl.float16", BF16: "tl.bfloat16", F32: "tl.float32", F64: "tl.float64"}[dtype]
    for number in (0.1, -1e-3, 3.0, float("inf"), 65504.0, -0.0):
        out = torch.zeros(1, dtype=dtype)
        kernel(f"o, s: {name}", "tl.store(o, s)")[(1,)](out, number)
        assert torch.equal(out.view(torch.uint8), torch.tensor([number], dtype=dtype).view(torch.uint8)), number


@case(FAMILY, "plain_float_argument", F32, F64)
def plain_float(dtype):
    out = torch.zeros(1, dtype=dtype)
    kernel("o, s", "tl.store(o, s)")[(1,)](out, 0.1)
    assert out.item() == torch.tensor(0.1, dtype=F32).item()


@case(FAMILY, "integer_arguments", *INTEGERS)
def integers(dtype):
    info = torch.iinfo(dtype)
    for number in (0, 1, -1, info.min, info.max, 16):
        out = torch.zeros(1, dtype=dtype)
        kernel("o, s", "tl.store(o, s)")[(1,)](out, number)
        assert out.item() == number


@case(FAMILY, "unsigned_argument", I64)
def unsigned(dtype):
    out = torch.zeros(1, dtype=torch.uint64)
    kernel("o, s", "tl.store(o, s)")[(1,)](out, 2**63 + 5)
    assert out.view(I64).item() == 5 - 2**63


@case(FAMILY, "bool_argument", BOOL)
def boolean(dtype):
    for flag in (True, False):
        out = torch.zeros(2, dtype=I32)
        kernel("o, f", "tl.store(o, tl.where(f, 3, 4))\nif f:\n    tl.store(o + 1, 1)")[(1,)](out, flag)
        assert out.tolist() == [3, 1] if flag else out.tolist() == [4, 0]


@case(FAMILY, "none_argument")
def none():
    x, out = values(F32, 32), torch.zeros(32)
    body = "i = tl.arange(0, 32)\nv = tl.load(x + i)\nif b is not None:\n    v += tl.load(b + i)\ntl.store(o + i, v)"
    kernel("x, b, o", body)[(1,)](x, None, out)
    assert torch.equal(out, x)
    kernel("x, b, o", body)[(1,)](x, x, out)
    assert torch.equal(out, x + x)


@case(FAMILY, "constexpr_arguments", F32)
def constexprs(dtype):
    out = torch.zeros(4)
    body = "tl.store(o, N)\ntl.store(o + 1, S)\nif T == 'a':\n    tl.store(o + 2, 1)\ntl.store(o + 3, L[1])"
    kernel("o, N: tl.constexpr, S: tl.constexpr, T: tl.constexpr, L: tl.constexpr", body)[(1,)](
        out, 5, 0.25, "a", (1, 7)
    )
    assert out.tolist() == [5, 0.25, 1, 7]


@case(FAMILY, "global_constexpr", I32)
def global_constant(dtype):
    out = torch.zeros(1, dtype=I32)
    kernel("o", "tl.store(o, K + 1)", "K = tl.constexpr(41)")[(1,)](out)
    assert out.item() == 42


@case(FAMILY, "constexpr_function", I32)
def constexpr_function(dtype):
    out = torch.zeros(8, dtype=I32)
    before = "@triton.constexpr_function\ndef half(n):\n    return n // 2\n"
    kernel("o, N: tl.constexpr", "tl.store(o + tl.arange(0, half(N)), 3)", before)[(1,)](out, 16)
    assert bool((out == 3).all())


def philox(seed: int, offset: torch.Tensor, rounds: int = 10) -> list[torch.Tensor]:
    """Philox-4x32 as published: four words for each counter."""
    mask = 0xFFFFFFFF
    c = [offset & mask, torch.zeros_like(offset), torch.zeros_like(offset), torch.zeros_like(offset)]
    k0, k1 = seed & mask, seed >> 32 & mask
    for _ in range(rounds):
        a, b = c[0], c[2]
        high_b, low_b = _multiply(b, 0xCD9E8D57)
        high_a, low_a = _multiply(a, 0xD2511F53)
        c = [(high_b ^ c[1] ^ k0) & mask, low_b, (high_a ^ c[3] ^ k1) & mask, low_a]
        k0, k1 = (k0 + 0x9E3779B9) & mask, (k1 + 0xBB67AE85) & mask
    return c


def _multiply(a: torch.Tensor, b: int) -> tuple[torch.Tensor, torch.Tensor]:
    products = [int(x) * b for x in a]
    return torch.tensor([p >> 32 for p in products]), torch.tensor([p & 0xFFFFFFFF for p in products])


@case(FAMILY, "randint", I32)
def randint(dtype):
    for seed in (0, 42, 2**40 + 7):
        out = torch.zeros(64, dtype=I32)
        kernel("o, s", "i = tl.arange(0, 64)\ntl.store(o + i, tl.randint(s, i))")[(1,)](out, seed)
        wanted = philox(seed, torch.arange(64))[0]
        assert torch.equal(out.long() & 0xFFFFFFFF, wanted)


@case(FAMILY, "randint4x", I32)
def randint4(dtype):
    out = torch.zeros(4, 64, dtype=I32)
    body = "i = tl.arange(0, 64)\na, b, c, d = tl.randint4x(s, i)\n" + "\n".join(
        f"tl.store(o + {k * 64} + i, {n})" for k, n in enumerate("abcd")
    )
    kernel("o, s", body)[(1,)](out, 99)
    assert torch.equal(out.long() & 0xFFFFFFFF, torch.stack(philox(99, torch.arange(64))))


@case(FAMILY, "rand", F32)
def rand(dtype):
    out = torch.zeros(2048)
    kernel("o, s", "i = tl.arange(0, 2048)\ntl.store(o + i, tl.rand(s, i))")[(1,)](out, 7)
    assert out.min() >= 0 and out.max() < 1 and abs(out.mean() - 0.5) < 0.03
    word = philox(7, torch.arange(2048))[0]
    signed = torch.where(word >= 2**31, word - 2**32, word)
    wanted = torch.where(signed < 0, -signed - 1, signed).double() * 4.6566127342e-10
    same(out, wanted)


@case(FAMILY, "randn", F32)
def randn(dtype):
    out = torch.zeros(2048)
    kernel("o, s", "i = tl.arange(0, 2048)\ntl.store(o + i, tl.randn(s, i))")[(1,)](out, 7)
    assert abs(out.mean()) < 0.08 and abs(out.std() - 1) < 0.08 and torch.isfinite(out).all()


@case(FAMILY, "device_print", F32, I32, U8)
def printed(dtype):
    x = values(dtype, 4)
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        kernel("x", 'i = tl.arange(0, 4)\ntl.device_print("value", tl.load(x + i))')[(2,)](x)
    lines = [line for line in text.getvalue().split("\n") if "value" in line]
    assert len(lines) == 8 and "pid (0, 0, 0) idx (0)" in lines[0] + lines[4], text.getvalue()


@case(FAMILY, "device_assert", F32)
def asserted(dtype):
    x = values(dtype, 32).abs() + 1
    launch = kernel("x", 'i = tl.arange(0, 32)\ntl.device_assert(tl.load(x + i) > 0, "not positive")')
    launch[(1,)](x, debug=True)
    x[5] = -1
    with pytest.raises(KernelAssert, match="(?s)not positive.*:\\d+"):
        launch[(1,)](x, debug=True)
    launch[(1,)](x)


@case(FAMILY, "static_assert_and_print")
def static():
    from triton.compiler.errors import CompileTimeAssertionFailure

    out = torch.zeros(1)
    launch = kernel("o, N: tl.constexpr", 'tl.static_assert(N > 3, "too few")\ntl.store(o, N)')
    launch[(1,)](out, 4)
    with pytest.raises(CompileTimeAssertionFailure, match="too few"):
        launch[(1,)](out, 2)
    assert out.item() == 4


for pack, dtypes in ((1, (I32, I64, F32, F64)), (2, (I16, F16)), (4, (I8,))):

    @case(FAMILY, f"inline_asm_pack_{pack}", *dtypes)
    def assembly(dtype, pack=pack):
        x, y, out = values(dtype, 64), values(dtype, 64, seed=1), torch.zeros(64, dtype=dtype)
        letter = "f" if dtype in (F32, F64) else "r"
        op = {F32: "fadd.s", F64: "fadd.d"}.get(dtype, "xor")
        kind = "x.dtype.element_ty"
        body = (
            "i = tl.arange(0, 64)\n"
            f"v = tl.inline_asm_elementwise('{op} $0, $1, $2', '={letter},{letter},{letter}', "
            "[tl.load(x + i), tl.load(y + i)],"
            f" dtype={kind}, is_pure=True, pack={pack})\ntl.store(o + i, v)"
        )
        kernel("x, y, o", body)[(1,)](x, y, out)
        wanted = (
            x + y
            if letter == "f"
            else (x.view(I16 if dtype == F16 else dtype) ^ y.view(I16 if dtype == F16 else dtype)).view(dtype)
        )
        assert torch.equal(out.view(torch.uint8), wanted.view(torch.uint8))


@case(FAMILY, "inline_asm_two_results", I32)
def two_results(dtype):
    x, out = values(dtype, 32), torch.zeros(64, dtype=dtype)
    body = (
        "i = tl.arange(0, 32)\n"
        "a, b = tl.inline_asm_elementwise('addi $0, $2, 1\\naddi $1, $2, 2', '=&r,=r,r', [tl.load(x + i)],"
        " dtype=(tl.int32, tl.int32), is_pure=True, pack=1)\ntl.store(o + i, a)\ntl.store(o + 32 + i, b)"
    )
    kernel("x, o", body)[(1,)](x, out)
    assert torch.equal(out, torch.cat([x + 1, x + 2]))


@case(FAMILY, "inline_asm_scalar", I32)
def scalar_assembly(dtype):
    out = torch.zeros(1, dtype=I32)
    body = (
        "tl.store(o, tl.inline_asm_elementwise('slli $0, $1, 3', '=r,r', [n], dtype=tl.int32, is_pure=False, pack=1))"
    )
    kernel("o, n", body)[(1,)](out, 5)
    assert out.item() == 40


@case(FAMILY, "map_elementwise", F32, I32)
def mapped(dtype):
    before = (
        "@triton.jit\ndef f(a, b):\n    if a > b:\n        r = a - b\n    elif a > 0:\n"
        "        r = a * 2\n    else:\n        r = b\n    return r\n"
    )
    x, y, out = values(dtype, 64), values(dtype, 64, seed=1), torch.zeros(64, dtype=dtype)
    kernel(
        "x, y, o",
        "i = tl.arange(0, 64)\ntl.store(o + i, tl.map_elementwise(f, tl.load(x + i), tl.load(y + i)))",
        before,
    )[(1,)](x, y, out)
    assert torch.equal(out, torch.where(x > y, x - y, torch.where(x > 0, x * 2, y)))


@case(FAMILY, "extern_elementwise", F32, F64)
def extern(dtype):
    x, out = values(dtype, 64), torch.zeros(64, dtype=dtype)
    kernel("x, o", "i = tl.arange(0, 64)\ntl.store(o + i, libdevice.tanh(tl.load(x + i)))")[(1,)](x, out)
    same(out, x.double().tanh(), scale=4)


@case(FAMILY, "hints", F32)
def hints(dtype):
    x, out = values(dtype, 64), torch.zeros(64)
    body = (
        "i = tl.max_constancy(tl.max_contiguous(tl.multiple_of(tl.arange(0, 64), 4), 64), 1)\ntl.assume(n > 0)\n"
        "v = tl.load(x + i)\ntl.debug_barrier()\ntl.store(o + i, v)"
    )
    kernel("x, o, n", body)[(1,)](x, out, 3)
    assert torch.equal(out, x)


@case(FAMILY, "heuristics", I32)
def heuristics(dtype):
    import triton

    out = torch.zeros(16, dtype=I32)
    inner = kernel("o, n, BLOCK: tl.constexpr", "tl.store(o + tl.arange(0, BLOCK), BLOCK)")
    triton.heuristics({"BLOCK": lambda args: 2 * args["n"]})(inner)[(1,)](out, 8)
    assert bool((out == 16).all())


@case(FAMILY, "autotune", F32)
def autotuned(dtype):
    import triton

    x, out = values(dtype, 200), torch.zeros(200)
    body = (
        "i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)\n"
        "tl.store(o + i, tl.load(x + i, mask=i < n) * 2, mask=i < n)"
    )
    inner = kernel("x, o, n, BLOCK: tl.constexpr", body)
    tuned = triton.autotune([triton.Config({"BLOCK": b}) for b in (32, 128)], key=["n"])(inner)
    tuned[lambda meta: (triton.cdiv(200, meta["BLOCK"]),)](x, out, 200)
    assert torch.equal(out, x * 2)


@case(FAMILY, "warmup")
def warmed():
    compiled = kernel("x", "tl.store(x, 1.0)").warmup(F32, grid=(1,))
    assert "vector" in compiled.asm and compiled.asm["so"][:4] == b"\x7fELF"


@case(FAMILY, "ahead_of_time")
def ahead():
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    source = ASTSource(
        kernel("x, N: tl.constexpr", "tl.store(x + tl.arange(0, N), 1.0)"), {"x": "*fp32", "N": "constexpr"}, {"N": 16}
    )
    compiled = triton.compile(source, target=GPUTarget("cpu", "riscv64", 1))
    assert compiled.asm["so"][:4] == b"\x7fELF"


@case(FAMILY, "dtype_attributes", *NUMBERS)
def attributes(dtype):
    out = torch.zeros(3, dtype=I32)
    body = (
        "d = x.dtype.element_ty\ntl.store(o, d.primitive_bitwidth)\ntl.store(o + 1, d.is_floating())\n"
        "tl.store(o + 2, (tl.zeros((4,), d) + 1).numel)"
    )
    kernel("x, o", body)[(1,)](torch.zeros(1, dtype=dtype), out)
    assert out.tolist() == [8 * dtype.itemsize, int(dtype.is_floating_point), 4]


@case(FAMILY, "inline_asm_vector_registers", F32)
def vector_assembly(dtype):
    x, out = values(dtype, 64), torch.zeros(64)
    text = "tl.inline_asm_elementwise('vmv.v.v $0, $1', '=vr,vr', [tl.load(x + i)], tl.float32, is_pure=True, pack=1)"
    kernel("x, o", f"i = tl.arange(0, 64)\ntl.store(o + i, {text})")[(1,)](x, out)
    assert torch.equal(out, x)


@case(FAMILY, "extern_unknown_function", F32)
def unknown(dtype):
    x, out = values(dtype, 64), torch.zeros(64)
    body = (
        "i = tl.arange(0, 64)\nv = tl.core.extern_elementwise('', '', [tl.load(x + i)],"
        " {(tl.core.dtype('fp32'),): ('cyl_bessel_k9', tl.core.dtype('fp32'))}, is_pure=True)\ntl.store(o + i, v)"
    )
    kernel("x, o", body)[(1,)](x, out)
