"""Reductions, scans, sort, topk, histogram."""

from __future__ import annotations

import torch

from tests.conformance.harness import BF16, BOOL, F16, F32, F64, I8, I16, I32, I64, INTEGERS, case, kernel, same, values

FAMILY = "folds"
NUMBERS = (F32, F64, F16, BF16, I32, I64)
WIDE = {F16: F32, BF16: F32}


def fold(feature, dtypes, expression, wanted, shape=(8, 32), out=None, before="", scale=8.0, edges=False, make=None):
    """Cells for y = expression of x, written flat."""

    def run(dtype):
        x = make(dtype) if make else values(dtype, *shape, edges=edges)
        result = wanted(x)
        target = torch.zeros(result.numel(), dtype=out or dtype)
        text = (
            f"x = tl.reshape(tl.load(xp + tl.arange(0, {x.numel()})), {list(x.shape)})\ny = {expression}\n"
            + ("tl.store(op, y)" if result.ndim == 0 else
               f"tl.store(op + tl.arange(0, {result.numel()}), tl.reshape(y, [{result.numel()}]))")
        )  # fmt: skip
        kernel("xp, op", text, before)[(1,)](x, target)
        same(target, result.flatten().to(target.dtype), scale=scale)

    case(FAMILY, feature, *dtypes)(run)


def total(x, dim):
    return x.to(WIDE.get(x.dtype, x.dtype)).sum(dim, dtype=WIDE.get(x.dtype, x.dtype))


for axis in (0, 1):
    fold(f"sum_axis_{axis}", NUMBERS, f"tl.sum(x, {axis})", lambda x, d=axis: total(x, d))
    fold(f"max_axis_{axis}", NUMBERS, f"tl.max(x, {axis})", lambda x, d=axis: x.amax(d))
    fold(f"min_axis_{axis}", NUMBERS, f"tl.min(x, {axis})", lambda x, d=axis: x.amin(d))
    fold(f"argmax_axis_{axis}", NUMBERS, f"tl.argmax(x, {axis})", lambda x, d=axis: x.argmax(d), out=I32)
    fold(f"argmin_axis_{axis}", NUMBERS, f"tl.argmin(x, {axis})", lambda x, d=axis: x.argmin(d), out=I32)
    fold(
        f"cumsum_axis_{axis}",
        NUMBERS,
        f"tl.cumsum(x, {axis})",
        lambda x, d=axis: x.double().cumsum(d) if x.dtype.is_floating_point else x.cumsum(d, dtype=x.dtype),
        scale=16,
    )
    fold(
        f"cumsum_reverse_{axis}",
        (F32, I32),
        f"tl.cumsum(x, {axis}, reverse=True)",
        lambda x, d=axis: x.flip(d).cumsum(d, dtype=x.dtype).flip(d),
        scale=16,
    )
    fold(f"softmax_axis_{axis}", (F32,), f"tl.softmax(x, {axis}, keep_dims=True)", lambda x, d=axis: x.softmax(d))
fold(
    "sum_all",
    NUMBERS,
    "tl.sum(x)",
    lambda x: x.to(WIDE.get(x.dtype, x.dtype)).sum(dtype=WIDE.get(x.dtype, x.dtype)),
    scale=40,
)
fold("max_all", NUMBERS, "tl.max(x)", lambda x: x.max())
fold(
    "sum_keep_dims", (F32, I32), "tl.sum(x, 1, keep_dims=True) + x", lambda x: x.sum(1, keepdim=True, dtype=x.dtype) + x
)
fold("sum_small", (I8, I16), "tl.sum(x, 1)", lambda x: x.int().sum(1), out=I32)
fold("sum_dtype", (I8, I16), "tl.sum(x, 1, dtype=tl.int64)", lambda x: x.long().sum(1), out=I64)
fold("max_small", (I8, I16), "tl.max(x, 1)", lambda x: x.amax(1), out=I32)
fold("sum_3d_middle", (F32, I32), "tl.sum(x, 1)", lambda x: x.sum(1, dtype=x.dtype), shape=(4, 8, 8))
fold("sum_twice", (F32, I32), "tl.sum(tl.sum(x, 1), 0)", lambda x: x.sum(dtype=x.dtype), scale=40)
fold("xor_sum", INTEGERS, "tl.xor_sum(x, 1)", lambda x: _xor(x), out=I64)
fold("reduce_or", (I32, I64), "tl.reduce_or(x, 1)", lambda x: _fold(x, torch.bitwise_or))
fold("cumprod", (F32, I32), "tl.cumprod(x, 1)", lambda x: x.cumprod(1, dtype=x.dtype), shape=(8, 8), scale=16)
fold("max_nan", (F32, F64), "tl.max(x, 1)", lambda x: _ignoring(x, torch.fmax), edges=True)
fold("min_nan", (F32, F64), "tl.min(x, 1)", lambda x: _ignoring(x, torch.fmin), edges=True)
fold("max_return_indices", NUMBERS, "_second(x)", lambda x: x.argmax(1), out=I32,
     before="@triton.jit\ndef _second(x):\n    v, i = tl.max(x, 1, return_indices=True)\n    return i\n")  # fmt: skip
fold("min_return_indices", (F32, I32), "_both(x)", lambda x: x.amin(1) + x.argmin(1).to(x.dtype),
     before="@triton.jit\ndef _both(x):\n    v, i = tl.min(x, 1, return_indices=True)\n"
"    return v + i.to(x.dtype)\n")  # fmt: skip


def _xor(x):
    return _fold(x, torch.bitwise_xor)


def _fold(x, function):
    result = x[:, 0]
    for k in range(1, x.shape[1]):
        result = function(result, x[:, k])
    return result


def _ignoring(x, function):
    return _fold(x, function)


def ties(dtype):
    return torch.tensor([[1, 3, 3, 0, 0, 3, 0, 1]] * 8).to(dtype)


fold("argmax_ties_left", (F32, I32, F16), "tl.argmax(x, 1)", lambda x: torch.full((8,), 1), out=I32, make=ties)
fold("argmin_ties_left", (F32, I32, F16), "tl.argmin(x, 1)", lambda x: torch.full((8,), 3), out=I32, make=ties)

LARGER = "@triton.jit\ndef f(a, b):\n    if a > b:\n        return a\n    return b\n"
MIXED = "@triton.jit\ndef f(a, b):\n    return a + b + a * b\n"
WELFORD = (
    "@triton.jit\ndef f(ma, va, na, mb, vb, nb):\n    n = na + nb\n    d = mb - ma\n"
    "    return ma + d * nb / n, va + vb + d * d * na * nb / n, n\n"
)
LINEAR = "@triton.jit\ndef f(a1, b1, a2, b2):\n    return a1 * a2, a2 * b1 + b2\n"
CONSTANT = "@triton.jit\ndef f(a, b):\n    return tl.minimum(a + b, 40)\n"
fold("reduce_with_branch", (F32, I32), "tl.reduce(x, 1, f)", lambda x: x.amax(1), before=LARGER)
fold(
    "reduce_with_constant",
    (I32,),
    "tl.reduce(tl.abs(x), 1, f)",
    lambda x: x.abs().sum(1).clamp(max=40).int(),
    before=CONSTANT,
)
fold("reduce_several", (F32,), "_w(x)", lambda x: x.double().var(1, correction=0), before=WELFORD + (
    "@triton.jit\ndef _w(x):\n    m, v, n = tl.reduce((x, x * 0, x * 0 + 1), 1, f)\n    return v / n\n"))  # fmt: skip
fold("reduce_several_axis_0", (F32,), "_w(x)", lambda x: x.double().var(0, correction=0), before=WELFORD + (
    "@triton.jit\ndef _w(x):\n    m, v, n = tl.reduce((x, x * 0, x * 0 + 1), 0, f)\n    return v / n\n"))  # fmt: skip
fold(
    "scan_custom",
    (F32, F64),
    "tl.associative_scan(x * 0.1, 1, f)",
    lambda x: (1 + x.double() * 0.1).cumprod(1) - 1,
    before=MIXED,
    scale=64,
)
fold("scan_with_branch", (F32, I32), "tl.associative_scan(x, 1, f)", lambda x: x.cummax(1)[0], before=LARGER)
fold(
    "scan_reverse",
    (F32, I32),
    "tl.associative_scan(x, 0, f, reverse=True)",
    lambda x: x.flip(0).cummax(0)[0].flip(0),
    before=LARGER,
)


def recurrence(x):
    a, h, rows = x.double() * 0.2, torch.zeros(x.shape[0], dtype=F64), []
    for k in range(x.shape[1]):
        h = a[:, k] * h + x.double()[:, k]
        rows.append(h)
    return torch.stack(rows, 1)


fold("scan_several", (F32,), "_s(x)", recurrence, before=LINEAR + (
    "@triton.jit\ndef _s(x):\n    a, b = tl.associative_scan((x * 0.2, x), 1, f)\n    return b\n"
), scale=64)  # fmt: skip
fold("bool_any", (F32, I32), "tl.reduce_or((x > 3).to(tl.int1), 1).to(tl.int8)", lambda x: (x > 3).any(1), out=I8)
fold("bool_reduce_function", (F32, I32), "tl.reduce(x > 3, 1, f).to(tl.int8)", lambda x: (x > 3).any(1), out=I8,
     before="@triton.jit\ndef f(a, b):\n    return a | b\n")  # fmt: skip
fold("bool_and", (F32, I32), "tl.reduce(x > -3, 1, f).to(tl.int8)", lambda x: (x > -3).all(1), out=I8,
     before="@triton.jit\ndef f(a, b):\n    return a & b\n")  # fmt: skip
fold(
    "and_of_all_ones",
    (I32, I64),
    "tl.reduce(x * 0 - 1, 1, f)",
    lambda x: torch.full((8,), -1),
    before="@triton.jit\ndef f(a, b):\n    return a & b\n",
)
fold("unsigned_max", (torch.uint8,), "tl.max(x, 1)", lambda x: x.int().amax(1), out=I32)
for n in (16, 64, 128):
    fold(f"sort_{n}", (F32, F16, I32, I64, I8), "tl.sort(x)", lambda x: x.sort()[0], shape=(n,))
fold(
    "sort_descending", (F32, I32, I64), "tl.sort(x, descending=True)", lambda x: x.sort(descending=True)[0], shape=(64,)
)
fold("sort_rows", (F32, I32), "tl.sort(x, 1)", lambda x: x.sort(1)[0])
fold("topk", (F32, I32), "tl.topk(x, 8)", lambda x: x.topk(8)[0], shape=(64,))
fold("histogram", (I32, I64), "tl.histogram(x, 16)", lambda x: torch.bincount(x.long(), minlength=16), out=I32,
     make=lambda d: (values(d, 256).abs() % 16).to(d))  # fmt: skip
fold("histogram_masked", (I32,), "tl.histogram(x, 16, mask=x > 4)",
     lambda x: torch.bincount(x[x > 4].long(), minlength=16), out=I32,
     make=lambda d: (values(d, 256).abs() % 16).to(d))  # fmt: skip


@case(FAMILY, "masked_rows", F32, F16, I32)
def masked(dtype):
    x, out = values(dtype, 9, 77), torch.zeros(9, 2).to(dtype)
    low = "float('-inf')" if dtype.is_floating_point else "-1000"
    body = (
        "r, c = tl.program_id(0), tl.arange(0, 128)\nm = c < n\n"
        f"a = tl.load(x + r * n + c, mask=m, other={low})\nb = tl.load(x + r * n + c, mask=m, other=0)\n"
        "tl.store(o + r * 2, tl.max(a, 0))\ntl.store(o + r * 2 + 1, tl.sum(b.to(tl.float32), 0).to(x.dtype.element_ty))"
    )
    kernel("x, o, n", body)[(9,)](x, out, 77)
    same(out, torch.stack([x.amax(1).double(), x.double().sum(1)], 1), scale=16)


@case(FAMILY, "bool_loop_carried", BOOL)
def carried(dtype):
    x, out = values(BOOL, 8, 32), torch.zeros(32, dtype=I8)
    body = (
        "i = tl.arange(0, 32)\ns = tl.load(x + i).to(tl.int1)\nfor k in range(1, 8):\n"
        "    s = s ^ tl.load(x + k * 32 + i).to(tl.int1)\ntl.store(o + i, s.to(tl.int8))"
    )
    kernel("x, o", body)[(1,)](x, out)
    assert torch.equal(out, (x.sum(0) % 2).to(I8))
