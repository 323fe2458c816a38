"""tl.dot and tl.dot_scaled."""

from __future__ import annotations

import torch

from tests.conformance.harness import BF16, E4M3, E5M2, F16, F32, F64, I8, I32, case, kernel, values

FAMILY = "products"
INPUTS = (F32, F64, F16, BF16, I8, E4M3, E5M2)


def operand(dtype: torch.dtype, *shape: int, seed: int = 0) -> torch.Tensor:
    if dtype == I8:
        return torch.randint(-128, 128, shape, generator=torch.Generator().manual_seed(seed)).to(I8)
    return values(F32, *shape, seed=seed, low=-2, high=2).to(dtype)


def result(dtype: torch.dtype) -> tuple[torch.dtype, str]:
    return {I8: (I32, "tl.int32"), F64: (F64, "tl.float64")}.get(dtype, (F32, "tl.float32"))


def close(
    ours: torch.Tensor, a: torch.Tensor, b: torch.Tensor, plus: float | torch.Tensor = 0.0, tolerance: float = 1e-5
) -> None:
    """Compare with a float64 product, relative to the sum of magnitudes."""
    a, b = (
        a.to(F32).double() if a.dtype not in (F64, I8) else a.double(),
        b.to(F32).double() if b.dtype not in (F64, I8) else b.double(),
    )
    wanted, size = a @ b + plus, a.abs() @ b.abs() + abs(plus) + 1e-9
    limit = 0 if ours.dtype == I32 else 1e-13 if ours.dtype == F64 else tolerance
    error = ((ours.double() - wanted).abs() / size).max().item()
    assert error <= limit, f"relative error {error}"


LOAD = (
    "i, j, k = tl.arange(0, M), tl.arange(0, N), tl.arange(0, K)\n"
    "x = tl.load(a + i[:, None] * am + k[None, :] * ak)\ny = tl.load(b + k[:, None] * bk + j[None, :] * bn)\n"
)
STORE = "\ntl.store(c + i[:, None] * N + j[None, :], z)"
PARAMETERS = "a, b, c, am, ak, bk, bn, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr"


def product(dtype, shape, expression, transposed=(False, False), out=None, plus=0.0, tolerance=1e-5):
    m, n, k = shape
    a = operand(dtype, k, m).t() if transposed[0] else operand(dtype, m, k)
    b = operand(dtype, n, k, seed=1).t() if transposed[1] else operand(dtype, k, n, seed=1)
    c = torch.zeros(m, n, dtype=out or result(dtype)[0])
    kernel(PARAMETERS, LOAD + "z = " + expression + STORE)[(1,)](a, b, c, *a.stride(), *b.stride(), m, n, k)
    close(c, a, b, plus, tolerance)


for shape in [(16, 16, 16), (32, 64, 32), (1, 16, 64), (16, 1, 32), (128, 8, 16), (64, 32, 1), (1, 1, 16)]:

    @case(FAMILY, "dot_" + "x".join(map(str, shape)), *INPUTS)
    def dot(dtype, shape=shape):
        product(dtype, shape, f"tl.dot(x, y, out_dtype={result(dtype)[1]})")


for name, which in [("left", (True, False)), ("right", (False, True)), ("both", (True, True))]:

    @case(FAMILY, f"dot_transposed_{name}", *INPUTS)
    def transposed(dtype, which=which):
        product(dtype, (32, 32, 16), f"tl.dot(x, y, out_dtype={result(dtype)[1]})", which)


@case(FAMILY, "dot_of_trans", F32, F16, I8)
def of_trans(dtype):
    a, b = operand(dtype, 16, 32), operand(dtype, 16, 32, seed=1)
    c = torch.zeros(16, 16, dtype=result(dtype)[0])
    body = (
        "i, k = tl.arange(0, 16), tl.arange(0, 32)\np = i[:, None] * 32 + k[None, :]\n"
        "z = tl.dot(tl.load(a + p), tl.trans(tl.load(b + p)))\ntl.store(c + i[:, None] * 16 + i[None, :], z)"
    )
    kernel("a, b, c", body)[(1,)](a, b, c)
    close(c, a, b.t())


@case(FAMILY, "dot_accumulator", *INPUTS)
def accumulator(dtype):
    out = result(dtype)[1]
    product(dtype, (16, 32, 16), f"tl.dot(x, y, tl.full((M, N), 3, {out}), out_dtype={out})", plus=3.0)


@case(FAMILY, "dot_plus", F32, F16, I8)
def plus(dtype):
    product(dtype, (16, 32, 16), "tl.dot(x, y) + 2", plus=2.0)


@case(FAMILY, "dot_half_result", F16)
def half(dtype):
    product(dtype, (16, 32, 32), "tl.dot(x, y, out_dtype=tl.float16)", out=F16, tolerance=1e-3)


for precision in ("ieee", "tf32", "tf32x3", "bf16x3", "bf16x6"):

    @case(FAMILY, f"dot_precision_{precision}", F32)
    def precise(dtype, precision=precision):
        product(dtype, (16, 16, 16), f"tl.dot(x, y, input_precision='{precision}')")


@case(FAMILY, "dot_3d", *INPUTS)
def batched(dtype):
    a, b = operand(dtype, 4, 16, 8), operand(dtype, 4, 8, 32, seed=1)
    c = torch.zeros(4, 16, 32, dtype=result(dtype)[0])
    body = (
        "q, i, j, k = tl.arange(0, 4)[:, None, None], tl.arange(0, 16), tl.arange(0, 32), tl.arange(0, 8)\n"
        "x = tl.load(a + q * 128 + i[None, :, None] * 8 + k[None, None, :])\n"
        "y = tl.load(b + q * 256 + k[None, :, None] * 32 + j[None, None, :])\n"
        f"tl.store(c + q * 512 + i[None, :, None] * 32 + j[None, None, :], tl.dot(x, y, out_dtype={result(dtype)[1]}))"
    )
    kernel("a, b, c", body)[(1,)](a, b, c)
    close(c, a, b)


@case(FAMILY, "dot_k_loop_masked", *INPUTS)
def looped(dtype):
    m, n, k = 23, 37, 50
    a, b, c = operand(dtype, m, k), operand(dtype, k, n, seed=1), torch.zeros(m, n, dtype=result(dtype)[0])
    out = result(dtype)[1]
    zero = "0" if dtype == I8 else "0.0"
    body = (
        "i, j, k = tl.arange(0, 32), tl.arange(0, 64), tl.arange(0, 16)\n"
        "p, q = a + i[:, None] * K + k[None, :], b + k[:, None] * N + j[None, :]\n"
        f"z = tl.zeros((32, 64), {out})\nfor s in range(0, K, 16):\n"
        f"    x = tl.load(p, mask=(i[:, None] < M) & (s + k[None, :] < K), other={zero})\n"
        f"    y = tl.load(q, mask=(s + k[:, None] < K) & (j[None, :] < N), other={zero})\n"
        f"    z = tl.dot(x, y, z, out_dtype={out})\n    p += 16\n    q += 16 * N\n"
        "tl.store(c + i[:, None] * N + j[None, :], z, mask=(i[:, None] < M) & (j[None, :] < N))"
    )
    kernel("a, b, c, M, N, K", body)[(1,)](a, b, c, m, n, k)
    close(c, a, b)


@case(FAMILY, "dot_chain", F32)
def chain(dtype):
    a, b, c = operand(dtype, 16, 16), operand(dtype, 16, 16, seed=1), torch.zeros(16, 16)
    body = (
        "i = tl.arange(0, 16)\np = i[:, None] * 16 + i[None, :]\nx, y = tl.load(a + p), tl.load(b + p)\n"
        "z = tl.dot(x, y)\nw = tl.dot(z, x, z)\nw = tl.dot(tl.trans(w), y, w)\ntl.store(c + p, w)"
    )
    kernel("a, b, c", body)[(1,)](a, b, c)
    z = a.double() @ b.double()
    w = z @ a.double() + z
    w = w.t() @ b.double() + w
    assert ((c.double() - w).abs().max() / w.abs().max()).item() < 1e-5


FP4 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6])
KINDS = ("e2m1", "e4m3", "e5m2", "bf16", "fp16")


def scaled(kind: str, rows: int, depth: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(operand as passed, its values)."""
    g = torch.Generator().manual_seed(seed)
    if kind == "e2m1":
        codes = torch.randint(0, 256, (rows, depth // 2), generator=g, dtype=torch.uint8)
        return codes, torch.stack([FP4[(codes & 15).long()], FP4[(codes >> 4).long()]], -1).flatten(-2)
    to = {"e4m3": E4M3, "e5m2": E5M2, "bf16": BF16, "fp16": F16}[kind]
    x = (torch.rand(rows, depth, generator=g) * 4 - 2).to(to)
    return x, x.float()


for left in KINDS:
    for right in KINDS:
        if ("fp16" in (left, right) or "bf16" in (left, right)) and left != right and "e2m1" not in (left, right):
            continue

        @case(FAMILY, f"dot_scaled_{left}_{right}")
        def micro(left=left, right=right):
            a, af = scaled(left, 16, 64, 0)
            bt, bf = scaled(right, 32, 64, 1)
            b = bt.t().contiguous()
            ka, kb = (32 if k == "e2m1" else 64 for k in (left, right))
            scales = [
                torch.randint(122, 131, (n, 2), generator=torch.Generator().manual_seed(n), dtype=torch.uint8)
                for n in (16, 32)
            ]
            has = [k not in ("bf16", "fp16") for k in (left, right)]
            c = torch.zeros(16, 32)
            body = (
                f"i, j = tl.arange(0, 16), tl.arange(0, 32)\n"
                f"x = tl.load(a + i[:, None] * {ka} + tl.arange(0, {ka})[None, :])\n"
                f"y = tl.load(b + tl.arange(0, {kb})[:, None] * 32 + j[None, :])\ns = tl.arange(0, 2)[None, :]\n"
                "xs = tl.load(sa + i[:, None] * 2 + s)\nys = tl.load(sb + j[:, None] * 2 + s)\n"
                f"z = tl.dot_scaled(x, {'xs' if has[0] else 'None'}, '{left}', y, "
                f"{'ys' if has[1] else 'None'}, '{right}')\n"
                "tl.store(c + i[:, None] * 32 + j[None, :], z)"
            )
            kernel("a, b, c, sa, sb", body)[(1,)](a, b, c, *scales)
            factors = [
                torch.exp2(s.float() - 127).repeat_interleave(32, 1) if h else 1.0
                for s, h in zip(scales, has, strict=True)
            ]
            close(c, (af * factors[0]).double(), (bf * factors[1]).double().t())
