"""Loads, stores, masks, strides, pointers of every origin, program ids."""

from __future__ import annotations

import torch

from tests.conformance.harness import BOOL, E4M3, E5M2, EVERY, F32, F64, I32, I64, NUMBERS, case, kernel, same, values

FAMILY = "memory"
STORED = (*EVERY, E4M3, E5M2)


@case(FAMILY, "copy", *STORED)
def copy(dtype):
    x, out = values(F32, 200).to(dtype), torch.zeros(208).to(dtype)
    body = "i = tl.program_id(0) * 64 + tl.arange(0, 64)\ntl.store(o + i, tl.load(x + i, mask=i < n), mask=i < n)"
    kernel("x, o, n", body)[(4,)](x, out, 200)
    same(out[:200], x, exact=True)
    assert bool((out[200:].float() == 0).all()), "wrote beyond the mask"


@case(FAMILY, "bool", BOOL)
def booleans(dtype):
    x, out = values(BOOL, 64), torch.zeros(64, dtype=BOOL)
    kernel("x, o", "i = tl.arange(0, 64)\nv = tl.load(x + i)\ntl.store(o + i, v == 0)")[(1,)](x, out)
    assert torch.equal(out, ~x)


@case(FAMILY, "other", *NUMBERS)
def other(dtype):
    x, out = values(dtype, 64), torch.zeros(64, dtype=dtype)
    body = "i = tl.arange(0, 64)\ntl.store(o + i, tl.load(x + i, mask=(i % 3 == 0) | (i > 50), other=7))"
    kernel("x, o", body)[(1,)](x, out)
    i = torch.arange(64)
    assert torch.equal(out, torch.where((i % 3 == 0) | (i > 50), x, torch.tensor(7, dtype=dtype)))


@case(FAMILY, "other_from_memory", F32, I32)
def other_from_memory(dtype):
    x, y, out = values(dtype, 64), values(dtype, 64, seed=1), torch.zeros(64, dtype=dtype)
    body = "i = tl.arange(0, 64)\ntl.store(o + i, tl.load(x + i, mask=i < n, other=tl.load(y + i)))"
    kernel("x, y, o, n", body)[(1,)](x, y, out, 23)
    assert torch.equal(out, torch.cat([x[:23], y[23:]]))


@case(FAMILY, "mask_all_false", *NUMBERS)
def nothing(dtype):
    x, out = values(dtype, 64), torch.ones(64, dtype=dtype)
    body = "i = tl.arange(0, 64)\ntl.store(o + i, tl.load(x + i, mask=i < n, other=0), mask=i < n)"
    kernel("x, o, n", body)[(1,)](x, out, 0)
    assert bool((out == 1).all())


@case(FAMILY, "strided", *NUMBERS)
def strided(dtype):
    x, out = values(dtype, 64, 7).t(), torch.zeros(7, 64, dtype=dtype)
    body = (
        "r, c = tl.arange(0, 8), tl.arange(0, 64)\nm = (r[:, None] < R) & (c[None, :] < C)\n"
        "v = tl.load(x + r[:, None] * a + c[None, :] * b, mask=m)\ntl.store(o + r[:, None] * C + c[None, :], v, mask=m)"
    )
    kernel("x, o, R, C, a, b", body)[(1,)](x, out, 7, 64, *x.stride())
    assert torch.equal(out, x)


@case(FAMILY, "overlapping_rows", F32, I64)
def overlapping(dtype):
    x, out = values(dtype, 40), torch.zeros(8, 16, dtype=dtype)
    body = (
        "r, c = tl.arange(0, 8)[:, None], tl.arange(0, 16)[None, :]\ntl.store(o + r * 16 + c, tl.load(x + r * 3 + c))"
    )
    kernel("x, o", body)[(1,)](x, out)
    assert torch.equal(out, x.as_strided((8, 16), (3, 1)))


@case(FAMILY, "negative_stride", F32)
def negative(dtype):
    x, out = values(dtype, 64), torch.zeros(64, dtype=dtype)
    kernel("x, o, n", "i = tl.arange(0, 64)\ntl.store(o + i, tl.load(x + (n - 1 - i)))")[(1,)](x, out, 64)
    assert torch.equal(out, x.flip(0))


@case(FAMILY, "gather_scatter", *NUMBERS)
def gathered(dtype):
    x, out = values(dtype, 128), torch.zeros(128, dtype=dtype)
    order = torch.randperm(128, generator=torch.Generator().manual_seed(3))
    body = "i = tl.arange(0, 128)\np = tl.load(order + i)\ntl.store(o + p, tl.load(x + 127 - p))"
    kernel("x, order, o", body)[(1,)](x, order, out)
    assert torch.equal(out, x.flip(0))


@case(FAMILY, "in_place", *NUMBERS)
def in_place(dtype):
    x = values(dtype, 100)
    wanted = x + x
    body = (
        "i = tl.program_id(0) * 32 + tl.arange(0, 32)\nv = tl.load(x + i, mask=i < n)\n"
        "tl.store(x + i, v + v, mask=i < n)"
    )
    kernel("x, n", body)[(4,)](x, 100)
    assert torch.equal(x, wanted)


@case(FAMILY, "load_store_load", F32, I32)
def hazard(dtype):
    x = values(dtype, 64)
    wanted = x.roll(1) + x
    body = (
        "i = tl.arange(0, 64)\na = tl.load(x + (i + 63) % 64)\nb = tl.load(x + i)\n"
        "tl.store(x + i, a * 0)\ntl.store(x + i, a + b)"
    )
    kernel("x", body)[(1,)](x)
    assert torch.equal(x, wanted)


@case(FAMILY, "aliased_arguments", F32)
def aliased(dtype):
    x = values(dtype, 64)
    wanted = x.clone()
    wanted[1:33] = x[:32] + 1
    kernel("x, y", "i = tl.arange(0, 32)\ntl.store(y + i, tl.load(x + i) + 1)")[(1,)](x, x[1:])
    assert torch.equal(x, wanted)


@case(FAMILY, "misaligned", *(F32, F64, I32))
def misaligned(dtype):
    raw = torch.zeros(1000, dtype=torch.uint8)
    x, out = values(dtype, 100), torch.zeros(100, dtype=dtype)
    size = x.element_size()
    raw[1 : 1 + 100 * size] = x.view(torch.uint8)
    body = (
        "i = tl.arange(0, 128)\np = (x + 1).to(tl.pointer_type(o.dtype.element_ty))\n"
        "tl.store(o + i, tl.load(p + i, mask=i < 100), mask=i < 100)"
    )
    kernel("x, o", body)[(1,)](raw, out)
    assert torch.equal(out, x)


@case(FAMILY, "pointer_where", *NUMBERS)
def pointer_where(dtype):
    x, y, out = values(dtype, 64), values(dtype, 64, seed=1), torch.zeros(64, dtype=dtype)
    kernel("x, y, o", "i = tl.arange(0, 64)\ntl.store(o + i, tl.load(tl.where(i % 3 == 0, x + i, y + i)))")[(1,)](
        x, y, out
    )
    assert torch.equal(out, torch.where(torch.arange(64) % 3 == 0, x, y))


@case(FAMILY, "pointer_where_same_base", F32, I64)
def pointer_where_same(dtype):
    x, out = values(dtype, 64), torch.zeros(32, dtype=dtype)
    kernel("x, o", "i = tl.arange(0, 32)\ntl.store(o + i, tl.load(tl.where(i < 9, x + i, x + i + 32)))")[(1,)](x, out)
    assert torch.equal(out, torch.where(torch.arange(32) < 9, x[:32], x[32:]))


@case(FAMILY, "store_to_two_bases", F32, I32)
def store_two(dtype):
    x, a, b = values(dtype, 64), torch.zeros(64, dtype=dtype), torch.zeros(64, dtype=dtype)
    kernel("x, a, b", "i = tl.arange(0, 64)\ntl.store(tl.where(i % 2 == 0, a + i, b + i), tl.load(x + i))")[(1,)](
        x, a, b
    )
    even = torch.arange(64) % 2 == 0
    assert torch.equal(a, torch.where(even, x, 0)) and torch.equal(b, torch.where(even, 0, x))


@case(FAMILY, "pointer_if", F32, I32)
def pointer_if(dtype):
    for n in (1, 5):
        x, y, out = values(dtype, 64), values(dtype, 64, seed=1), torch.zeros(64, dtype=dtype)
        body = (
            "i = tl.arange(0, 64)\np = x\nq = x + i\nif n > 3:\n    p = y\n    q = y + 63 - i\n"
            "tl.store(o + i, tl.load(p + i) + tl.load(q))"
        )
        kernel("x, y, o, n", body)[(1,)](x, y, out, n)
        assert torch.equal(out, y + y.flip(0) if n > 3 else x + x)


@case(FAMILY, "pointer_loop", F32, I32)
def pointer_loop(dtype):
    x, out = values(dtype, 64 * 5), torch.zeros(64, dtype=dtype)
    body = (
        "i = tl.arange(0, 64)\np = x + i\ns = x\nt = tl.load(p) * 0\nfor k in range(n):\n"
        "    t += tl.load(p) + tl.load(s)\n    p += 64\n    s += 1\ntl.store(o + i, t)"
    )
    kernel("x, o, n", body)[(1,)](x, out, 5)
    same(out, x.view(5, 64).sum(0, dtype=dtype) + x[:5].sum(dtype=dtype), scale=4)


@case(FAMILY, "pointer_loop_varying_step", F32, I32)
def pointer_steps(dtype):
    x, out = values(dtype, 200), torch.zeros(16, dtype=dtype)
    body = (
        "i = tl.arange(0, 16)\np = x + i\nt = tl.load(p) * 0\nfor k in range(n):\n    t += tl.load(p)\n"
        "    p += k * 3\ntl.store(o + i, t)"
    )
    kernel("x, o, n", body)[(1,)](x, out, 6)
    same(out, sum(x[s : s + 16] for s in (0, 0, 3, 9, 18, 30)), scale=4)


@case(FAMILY, "pointer_while", F32, I32)
def pointer_while(dtype):
    x, out = values(dtype, 200), torch.zeros(16, dtype=dtype)
    body = (
        "i = tl.arange(0, 16)\np = x + i\nk = 0\nt = tl.load(p) * 0\nwhile k < n:\n"
        "    t += tl.load(p)\n    p += 16\n    k += 1\ntl.store(o + i, t)"
    )
    kernel("x, o, n", body)[(1,)](x, out, 6)
    same(out, x[:96].view(6, 16).sum(0, dtype=dtype), scale=4)


@case(FAMILY, "pointer_to_integer_and_back", F32, I64)
def integers(dtype):
    x, out = values(dtype, 64), torch.zeros(64, dtype=dtype)
    size = x.element_size()
    body = (
        f"i = tl.arange(0, 64)\na = x.to(tl.int64) + i * {size}\nb = (x + i).to(tl.int64)\n"
        f"tl.store(o + i, tl.load(a.to(tl.pointer_type(x.dtype.element_ty))), mask=a == b)"
    )
    kernel("x, o", body)[(1,)](x, out)
    assert torch.equal(out, x)


@case(FAMILY, "pointers_in_memory", F32, I32)
def in_memory(dtype):
    tensors = [values(dtype, 32, seed=s) for s in range(4)]
    table = torch.tensor([t.data_ptr() for t in tensors])
    out = torch.zeros(4, 32, dtype=dtype)
    body = (
        "i = tl.arange(0, 32)\n"
        "p = tl.load(t + tl.program_id(0)).to(tl.pointer_type(o.dtype.element_ty))\n"
        "tl.store(o + tl.program_id(0) * 32 + i, tl.load(p + i))"
    )
    kernel("t, o", body)[(4,)](table, out)
    assert torch.equal(out, torch.stack(tensors))


@case(FAMILY, "program_ids")
def program_ids():
    out = torch.zeros(2, 3, 4, 6, dtype=I32)
    body = (
        "x, y, z = tl.program_id(0), tl.program_id(1), tl.program_id(2)\n"
        "p = o + ((x * tl.num_programs(1) + y) * tl.num_programs(2) + z) * 6\n"
        "tl.store(p, x)\ntl.store(p + 1, y)\ntl.store(p + 2, z)\n"
        "tl.store(p + 3, tl.num_programs(0))\ntl.store(p + 4, tl.num_programs(1))\ntl.store(p + 5, tl.num_programs(2))"
    )
    kernel("o", body)[(2, 3, 4)](out)
    wanted = [[[[x, y, z, 2, 3, 4] for z in range(4)] for y in range(3)] for x in range(2)]
    assert out.tolist() == wanted


@case(FAMILY, "many_programs")
def many():
    out = torch.zeros(3000, dtype=I32)
    kernel("o", "tl.store(o + tl.program_id(0), tl.program_id(0) + 1)")[(3000,)](out)
    assert torch.equal(out, torch.arange(1, 3001, dtype=I32))


@case(FAMILY, "empty_tensor_and_zero_length", F32)
def empty(dtype):
    x, out = torch.zeros(0), torch.ones(4)
    body = "i = tl.arange(0, 4)\ntl.store(o + i, tl.load(x + i, mask=i < n, other=3), mask=i < n)"
    kernel("x, o, n", body)[(2,)](x, out, 0)
    assert bool((out == 1).all())


@case(FAMILY, "scalar_load_store", *NUMBERS)
def scalars(dtype):
    x, out = values(dtype, 4), torch.zeros(4, dtype=dtype)
    kernel("x, o, n", "tl.store(o + 1, tl.load(x + 2) + tl.load(x + n))\ntl.store(o, 1, mask=n > 3)")[(1,)](x, out, 3)
    assert torch.equal(out, torch.stack([x[0] * 0, x[2] + x[3], x[0] * 0, x[0] * 0]))


for modifier in ("'.ca'", "'.cg'", "'.cv'"):

    @case(FAMILY, f"cache_modifier_{modifier[2:-1]}", F32)
    def cached(dtype, modifier=modifier):
        x, out = values(dtype, 64), torch.zeros(64, dtype=dtype)
        body = (
            f"i = tl.arange(0, 64)\n"
            f"tl.store(o + i, tl.load(x + i, cache_modifier={modifier}, eviction_policy='evict_last', volatile=True))"
        )
        kernel("x, o", body)[(1,)](x, out)
        assert torch.equal(out, x)
