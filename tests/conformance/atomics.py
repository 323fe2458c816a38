"""Atomic operations: every kind, type, order; contention of programs on several threads; masks; old values."""

from __future__ import annotations

import torch

from tests.conformance.harness import BF16, F16, F32, F64, I32, I64, case, kernel, same, values

FAMILY = "atomics"
FUNCTIONS = {
    "add": lambda t: t.sum(0, dtype=t.dtype), "max": lambda t: t.amax(0), "min": lambda t: t.amin(0),
    "and": lambda t: _fold(t, torch.bitwise_and), "or": lambda t: _fold(t, torch.bitwise_or),
    "xor": lambda t: _fold(t, torch.bitwise_xor),
}  # fmt: skip
TYPES = {
    "add": (F32, F64, F16, BF16, I32, I64), "max": (F32, F64, I32, I64), "min": (F32, F64, I32, I64), "and": (I32, I64),
    "or": (I32, I64), "xor": (I32, I64),
}  # fmt: skip


def _fold(t, function):
    result = t[0]
    for row in t[1:]:
        result = function(result, row)
    return result


def whole(dtype, *shape, seed=0):
    return (
        values(I32, *shape, seed=seed).to(dtype) % 2
        if dtype in (F16, BF16)
        else values(I32, *shape, seed=seed).to(dtype)
    )


for kind, dtypes in TYPES.items():

    @case(FAMILY, f"{kind}_contended", *dtypes)
    def contended(dtype, kind=kind):
        x, out = whole(dtype, 100, 16), whole(dtype, 16, seed=1)
        wanted = FUNCTIONS[kind](torch.cat([out[None], x]))
        body = f"i = tl.arange(0, 16)\ntl.atomic_{kind}(o + i, tl.load(x + tl.program_id(0) * 16 + i))"
        kernel("x, o", body)[(100,)](x, out)
        same(out, wanted)

    @case(FAMILY, f"{kind}_masked_scalar", *dtypes)
    def masked(dtype, kind=kind):
        x, out = whole(dtype, 16), whole(dtype, 16, seed=1)
        wanted = out.clone()
        both = FUNCTIONS[kind](torch.stack([out, x]))
        wanted[:5] = both[:5]
        body = (
            f"i = tl.arange(0, 16)\nold = tl.atomic_{kind}(o + i, tl.load(x + i), mask=i < n)\n"
            f"tl.atomic_{kind}(s, tl.load(x), mask=n > 9)"
        )
        kernel("x, o, s, n", body)[(1,)](x, out, torch.zeros(1, dtype=dtype), 5)
        same(out, wanted)


@case(FAMILY, "returns_old", F32, F64, I32, I64, F16)
def old(dtype):
    x, out, seen = whole(dtype, 16), whole(dtype, 16, seed=1), torch.zeros(16, dtype=dtype)
    before = out.clone()
    kernel("x, o, s", "i = tl.arange(0, 16)\ntl.store(s + i, tl.atomic_add(o + i, tl.load(x + i)))")[(1,)](x, out, seen)
    assert torch.equal(seen, before) and torch.equal(out, before + x)


@case(FAMILY, "counter", I32, I64)
def counter(dtype):
    count, seen = torch.zeros(1, dtype=dtype), torch.zeros(500, dtype=dtype)
    kernel("c, s", "tl.store(s + tl.program_id(0), tl.atomic_add(c, 1))")[(500,)](count, seen)
    assert count.item() == 500 and torch.equal(seen.sort()[0], torch.arange(500, dtype=dtype))


@case(FAMILY, "xchg", F32, F64, I32, I64)
def exchanged(dtype):
    x, out, seen = whole(dtype, 16), whole(dtype, 16, seed=1), torch.zeros(16, dtype=dtype)
    before = out.clone()
    kernel("x, o, s", "i = tl.arange(0, 16)\ntl.store(s + i, tl.atomic_xchg(o + i, tl.load(x + i)))")[(1,)](
        x, out, seen
    )
    assert torch.equal(seen, before) and torch.equal(out, x)


@case(FAMILY, "cas", I32, I64, F32)
def compared(dtype):
    x, out, seen = torch.arange(16).to(dtype), torch.arange(16).to(dtype), torch.zeros(16, dtype=dtype)
    out[::3] = 77
    wanted = torch.where(out == x, x + 5, out)
    before = out.clone()
    kernel("x, o, s", "i = tl.arange(0, 16)\nv = tl.load(x + i)\ntl.store(s + i, tl.atomic_cas(o + i, v, v + 5))")[
        (1,)
    ](x, out, seen)
    assert torch.equal(out, wanted) and torch.equal(seen, before)


@case(FAMILY, "lock", F32, F64)
def lock(dtype):
    total, guard = torch.zeros(2, dtype=dtype), torch.zeros(1, dtype=I32)
    body = (
        "while tl.atomic_cas(g, 0, 1) == 1:\n    pass\nv = tl.load(t) + 1\ntl.store(t, v)\ntl.store(t + 1, v * 2)\n"
        "tl.debug_barrier()\ntl.atomic_xchg(g, 0)"
    )
    kernel("t, g", body)[(200,)](total, guard)
    assert total.tolist() == [200, 400] and guard.item() == 0


for sem in ("acquire", "release", "acq_rel", "relaxed"):
    for scope in ("gpu", "cta", "sys"):

        @case(FAMILY, f"order_{sem}_{scope}", I32)
        def ordered(dtype, sem=sem, scope=scope):
            out = torch.zeros(1, dtype=dtype)
            kernel("o", f"tl.atomic_add(o, 2, sem='{sem}', scope='{scope}')")[(50,)](out)
            assert out.item() == 100


@case(FAMILY, "unsigned_max", torch.uint32, torch.uint64)
def unsigned(dtype):
    signed = I32 if dtype == torch.uint32 else I64
    x, out = torch.tensor([5, -1, 7, -9], dtype=signed), torch.tensor([6, 6, -2, 6], dtype=signed)
    kernel("x, o", "i = tl.arange(0, 4)\ntl.atomic_max(o + i, tl.load(x + i))")[(1,)](x.view(dtype), out.view(dtype))
    assert out.tolist() == [6, -1, -2, -9]


@case(FAMILY, "in_loop_and_branch", I32, F32)
def looped(dtype):
    out = torch.zeros(4, dtype=dtype)
    body = (
        "i = tl.arange(0, 4)\nfor k in range(n):\n    if k % 2 == 0:\n"
        "        tl.atomic_add(o + i, (i + k).to(o.dtype.element_ty))"
    )
    kernel("o, n", body)[(3,)](out, 5)
    assert torch.equal(out, (3 * (torch.arange(4) * 3 + 6)).to(dtype))


@case(FAMILY, "same_address", I32, F32)
def collide(dtype):
    x, out = whole(dtype, 64), torch.zeros(4, dtype=dtype)
    kernel("x, o", "i = tl.arange(0, 64)\ntl.atomic_add(o + i % 4, tl.load(x + i))")[(1,)](x, out)
    same(out, x.view(16, 4).sum(0, dtype=dtype))


@case(FAMILY, "small_integers", torch.int8, torch.int16)
def small(dtype):
    out = torch.zeros(4, dtype=dtype)
    kernel("o", "tl.atomic_add(o + tl.arange(0, 4), 1)")[(3,)](out)
    assert out.tolist() == [3, 3, 3, 3]
