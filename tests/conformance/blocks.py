"""Block pointers and tensor descriptors."""

from __future__ import annotations

import torch

from tests.conformance.harness import BF16, F16, F32, F64, I8, I32, I64, NUMBERS, case, kernel, same, values

FAMILY = "blocks"


def padded(x: torch.Tensor, i: int, j: int, m: int, n: int, fill: float) -> torch.Tensor:
    """x[i:i+m, j:j+n], `fill` beyond x."""
    whole = torch.full((x.shape[0] + 2 * m + 40, x.shape[1] + 2 * n + 40), fill).to(x.dtype)
    whole[m + 20 : m + 20 + x.shape[0], n + 20 : n + 20 + x.shape[1]] = x
    return whole[m + 20 + i : 2 * m + 20 + i, n + 20 + j : 2 * n + 20 + j]


for kind in ("zero", "nan"):

    @case(FAMILY, f"padding_{kind}", *((F32, F64, F16, BF16) if kind == "nan" else NUMBERS))
    def padding(dtype, kind=kind):
        x = values(dtype, 10, 13)
        for i, j in ((0, 0), (3, 5), (-2, 4), (9, -3)):
            out = torch.ones(16, 16, dtype=dtype)
            body = (
                "p = tl.make_block_ptr(x, (10, 13), (13, 1), (i, j), (16, 16), (1, 0))\n"
                f"v = tl.load(p, boundary_check=(0, 1), padding_option='{kind}')\n"
                "tl.store(tl.make_block_ptr(o, (16, 16), (16, 1), (0, 0), (16, 16), (1, 0)), v)"
            )
            kernel("x, o, i, j", body)[(1,)](x, out, i, j)
            same(out, padded(x, i, j, 16, 16, 0 if kind == "zero" else float("nan")), exact=True)


@case(FAMILY, "one_dimension", *NUMBERS)
def one(dtype):
    x, out = values(dtype, 100), torch.zeros(100, dtype=dtype)
    body = (
        "p = tl.make_block_ptr(x, (n,), (1,), (tl.program_id(0) * 32,), (32,), (0,))\n"
        "q = tl.make_block_ptr(o, (n,), (1,), (tl.program_id(0) * 32,), (32,), (0,))\n"
        "tl.store(q, tl.load(p, boundary_check=(0,)), boundary_check=(0,))"
    )
    kernel("x, o, n", body)[(4,)](x, out, 100)
    assert torch.equal(out, x)


@case(FAMILY, "three_dimensions", F32, I64)
def three(dtype):
    x, out = values(dtype, 3, 5, 7), torch.zeros(4, 8, 8, dtype=dtype)
    body = (
        "p = tl.make_block_ptr(x, (3, 5, 7), (35, 7, 1), (0, 0, 0), (4, 8, 8), (2, 1, 0))\n"
        "q = tl.make_block_ptr(o, (4, 8, 8), (64, 8, 1), (0, 0, 0), (4, 8, 8), (2, 1, 0))\n"
        "tl.store(q, tl.load(p, boundary_check=(0, 1, 2)))"
    )
    kernel("x, o", body)[(1,)](x, out)
    wanted = torch.zeros(4, 8, 8, dtype=dtype)
    wanted[:3, :5, :7] = x
    assert torch.equal(out, wanted)


@case(FAMILY, "column_order", F32, F16, I8)
def order(dtype):
    x, out = values(dtype, 32, 16).t(), torch.zeros(16, 32, dtype=dtype)
    body = (
        "p = tl.make_block_ptr(x, (16, 32), (1, 16), (0, 0), (16, 32), (0, 1))\n"
        "q = tl.make_block_ptr(o, (16, 32), (32, 1), (0, 0), (16, 32), (1, 0))\ntl.store(q, tl.load(p))"
    )
    kernel("x, o", body)[(1,)](x, out)
    assert torch.equal(out, x)


@case(FAMILY, "advance_in_loop", F32, I32, F16)
def advanced(dtype):
    x, out = values(dtype, 16, 100), torch.zeros(16, 16, dtype=dtype)
    body = (
        "p = tl.make_block_ptr(x, (16, n), (n, 1), (0, 0), (16, 16), (1, 0))\n"
        "s = tl.zeros((16, 16), x.dtype.element_ty)\n"
        "for k in range(0, n, 16):\n    s += tl.load(p, boundary_check=(1,))\n    p = tl.advance(p, (0, 16))\n"
        "tl.store(tl.make_block_ptr(o, (16, 16), (16, 1), (0, 0), (16, 16), (1, 0)), s)"
    )
    kernel("x, o, n", body)[(1,)](x, out, 100)
    wide = torch.zeros(16, 112, dtype=dtype)
    wide[:, :100] = x
    same(out, wide.double().view(16, 7, 16).sum(1), scale=8)


@case(FAMILY, "advance_by_loaded_steps", F32)
def stepped(dtype):
    x, steps, out = values(dtype, 8, 64), torch.tensor([8, 16, 4, 0], dtype=I32), torch.zeros(8, 8)
    body = (
        "p = tl.make_block_ptr(x, (8, 64), (64, 1), (0, 0), (8, 8), (1, 0))\ns = tl.zeros((8, 8), tl.float32)\n"
        "for k in range(4):\n    s += tl.load(p)\n    p = tl.advance(p, (0, tl.load(steps + k)))\n"
        "tl.store(tl.make_block_ptr(o, (8, 8), (8, 1), (0, 0), (8, 8), (1, 0)), s)"
    )
    kernel("x, steps, o", body)[(1,)](x, steps, out)
    same(out, sum(x[:, a : a + 8] for a in (0, 8, 24, 28)), scale=4)


@case(FAMILY, "chosen_by_if", F32)
def chosen(dtype):
    for n in (0, 7):
        x, y, out = values(dtype, 8, 8), values(dtype, 8, 8, seed=1), torch.zeros(8, 8)
        body = (
            "p = tl.make_block_ptr(x, (8, 8), (8, 1), (0, 0), (8, 8), (1, 0))\n"
            "if n > 3:\n    p = tl.make_block_ptr(y, (8, 8), (1, 8), (0, 0), (8, 8), (1, 0))\n"
            "tl.store(tl.make_block_ptr(o, (8, 8), (8, 1), (0, 0), (8, 8), (1, 0)), tl.load(p))"
        )
        kernel("x, y, o, n", body)[(1,)](x, y, out, n)
        assert torch.equal(out, y.t() if n > 3 else x)


@case(FAMILY, "in_while", F32, I32)
def in_while(dtype):
    x, out = values(dtype, 4, 64), torch.zeros(4, 16, dtype=dtype)
    body = (
        "p = tl.make_block_ptr(x, (4, 64), (64, 1), (0, 0), (4, 16), (1, 0))\n"
        "s = tl.zeros((4, 16), x.dtype.element_ty)\nk = 0\n"
        "while k < n:\n    s += tl.load(p)\n    p = tl.advance(p, (0, 16))\n    k += 1\n"
        "tl.store(tl.make_block_ptr(o, (4, 16), (16, 1), (0, 0), (4, 16), (1, 0)), s)"
    )
    kernel("x, o, n", body)[(1,)](x, out, 4)
    same(out, x.double().view(4, 4, 16).sum(1), scale=8)


# -- descriptors

DESCRIBED = (F32, F64, F16, BF16, I8, I32, I64)


@case(FAMILY, "descriptor_load_store", *DESCRIBED)
def described(dtype):
    x = values(dtype, 30, 64)
    for i, j in ((0, 0), (20, 56), (3, 16)):
        out = torch.zeros(64, 64, dtype=dtype)
        body = (
            "d = tl.make_tensor_descriptor(x, [30, 64], [64, 1], [16, 32])\n"
            "e = tl.make_tensor_descriptor(o, [64, 64], [64, 1], [16, 32])\ne.store([16, 32], d.load([i, j]))"
        )
        kernel("x, o, i, j", body)[(1,)](x, out, i, j)
        wanted = torch.zeros(64, 64, dtype=dtype)
        wanted[16:32, 32:64] = padded(x, i, j, 16, 32, 0)
        assert torch.equal(out, wanted)


@case(FAMILY, "descriptor_store_boundary", F32, I8)
def boundary(dtype):
    x, out = values(dtype, 16, 32), torch.zeros(20, 64, dtype=dtype)
    body = (
        "i, j = tl.arange(0, 16)[:, None], tl.arange(0, 32)[None, :]\n"
        "e = tl.make_tensor_descriptor(o, [20, 40], [64, 1], [16, 32])\ne.store([10, 20], tl.load(x + i * 32 + j))"
    )
    kernel("x, o", body)[(1,)](x, out)
    wanted = torch.zeros(20, 64, dtype=dtype)
    wanted[10:20, 20:40] = x[:10, :20]
    assert torch.equal(out, wanted)


@case(FAMILY, "descriptor_nan_padding", F32, F16)
def nan_padding(dtype):
    x, out = values(dtype, 10, 16), torch.zeros(16, 16, dtype=dtype)
    body = (
        "d = tl.make_tensor_descriptor(x, [10, 16], [16, 1], [16, 16], padding_option='nan')\n"
        "e = tl.make_tensor_descriptor(o, [16, 16], [16, 1], [16, 16])\ne.store([0, 0], d.load([2, 8]))"
    )
    kernel("x, o", body)[(1,)](x, out)
    same(out, padded(x, 2, 8, 16, 16, float("nan")), exact=True)


@case(FAMILY, "descriptor_in_loop", F32)
def looped(dtype):
    x, out = values(dtype, 16, 128), torch.zeros(16, 32)
    body = (
        "d = tl.make_tensor_descriptor(x, [16, 128], [128, 1], [16, 32])\ns = tl.zeros((16, 32), tl.float32)\n"
        "for k in range(4):\n    s += d.load([0, k * 32])\n"
        "tl.make_tensor_descriptor(o, [16, 32], [32, 1], [16, 32]).store([0, 0], s)"
    )
    kernel("x, o", body)[(1,)](x, out)
    same(out, x.view(16, 4, 32).sum(1), scale=4)


@case(FAMILY, "descriptor_gather", F32, F16, I32)
def gathered(dtype):
    x, rows, out = (
        values(dtype, 40, 64),
        torch.tensor([3, 0, 39, 7, 7, 45, 12, 1], dtype=I32),
        torch.zeros(8, 32, dtype=dtype),
    )
    body = (
        "d = tl.make_tensor_descriptor(x, [40, 64], [64, 1], [1, 32])\n"
        "v = d.gather(tl.load(rows + tl.arange(0, 8)), 16)\n"
        "tl.store(o + tl.arange(0, 8)[:, None] * 32 + tl.arange(0, 32)[None, :], v)"
    )
    kernel("x, rows, o", body)[(1,)](x, rows, out)
    wanted = x[rows.clamp(max=39).long(), 16:48].clone()
    wanted[5] = 0
    assert torch.equal(out, wanted)


@case(FAMILY, "descriptor_scatter", F32, F16, I32)
def scattered(dtype):
    x, rows, out = (
        values(dtype, 8, 32),
        torch.tensor([3, 0, 39, 7, 8, 45, 12, 1], dtype=I32),
        torch.zeros(40, 64, dtype=dtype),
    )
    body = (
        "v = tl.load(x + tl.arange(0, 8)[:, None] * 32 + tl.arange(0, 32)[None, :])\n"
        "tl.make_tensor_descriptor(o, [40, 64], [64, 1], [1, 32]).scatter(v, tl.load(rows + tl.arange(0, 8)), 16)"
    )
    kernel("x, rows, o", body)[(1,)](x, rows, out)
    wanted = torch.zeros(40, 64, dtype=dtype)
    keep = rows < 40
    wanted[rows[keep].long(), 16:48] = x[keep]
    assert torch.equal(out, wanted)


REDUCED = {
    "add": torch.add,
    "min": torch.minimum,
    "max": torch.maximum,
    "and": torch.bitwise_and,
    "or": torch.bitwise_or,
    "xor": torch.bitwise_xor,
}
for name, function in REDUCED.items():

    @case(FAMILY, f"descriptor_atomic_{name}", *((F32, I32) if name == "add" else (I32, I64)))
    def reduced(dtype, name=name, function=function):
        x, out = values(dtype, 16, 32), values(dtype, 16, 32, seed=1)
        wanted = function(out, x)
        body = (
            "v = tl.load(x + tl.arange(0, 16)[:, None] * 32 + tl.arange(0, 32)[None, :])\n"
            f"tl.make_tensor_descriptor(o, [16, 32], [32, 1], [16, 32]).atomic_{name}([0, 0], v)"
        )
        kernel("x, o", body)[(1,)](x, out)
        same(out, wanted)


@case(FAMILY, "descriptor_from_host", F32, F16, I32)
def from_host(dtype):
    from triton.tools.tensor_descriptor import TensorDescriptor

    x, out = values(dtype, 30, 64), torch.zeros(64, 64, dtype=dtype)
    args = [TensorDescriptor(t, list(t.shape), list(t.stride()), [16, 32]) for t in (x, out)]
    kernel("d, e, i", "e.store([32, 16], d.load([i, 32]))")[(1,)](*args, 20)
    wanted = torch.zeros(64, 64, dtype=dtype)
    wanted[32:48, 16:48] = padded(x, 20, 32, 16, 32, 0)
    assert torch.equal(out, wanted)
