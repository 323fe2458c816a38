"""Control flow: for, while, if, early return, functions, tuples, ranges."""

from __future__ import annotations

import torch

from tests.conformance.harness import BF16, F16, F32, F64, I32, I64, case, kernel, same, values

FAMILY = "control"
SOME = (F32, F64, F16, BF16, I32, I64)


def run(body, x, wanted, *scalars, parameters="", before="", scale=8.0):
    """Run a body that makes y of x (64 elements, index i) and compare."""
    out = torch.zeros(wanted.shape, dtype=x.dtype)
    text = f"i = tl.arange(0, {x.numel()})\nx = tl.load(xp + i)\n{body}\ntl.store(op + i, y)"
    kernel("xp, op" + parameters, text, before)[(1,)](x, out, *scalars)
    same(out, wanted, scale=scale)


@case(FAMILY, "for_tensor", *SOME)
def for_tensor(dtype):
    x = values(dtype, 64)
    for n in (0, 1, 5):
        run("y = x\nfor k in range(n):\n    y = y + x", x, x * (n + 1), n, parameters=", n")


@case(FAMILY, "for_scalar", F32, F64, I32, I64)
def for_scalar(dtype):
    x = values(dtype, 64)
    run("s = tl.sum(x * 0)\nfor k in range(n):\n    s += k\ny = x + s.to(x.dtype)", x, x + 10, 5, parameters=", n")


@case(FAMILY, "for_step_and_bounds", I32)
def bounds(dtype):
    x = values(dtype, 64)
    run("y = x\nfor k in range(a, b, s):\n    y = y + k", x, x + 3 + 7 + 11, 3, 12, 4, parameters=", a, b, s")


@case(FAMILY, "for_negative_step", I32)
def negative(dtype):
    x = values(dtype, 64)
    run("y = x\nfor k in range(10, 0, -3):\n    y = y * 2 + k", x, (((x * 2 + 10) * 2 + 7) * 2 + 4) * 2 + 1)


@case(FAMILY, "for_nested", F32, I32)
def nested(dtype):
    x = values(dtype, 64)
    body = "y = x\nfor k in range(n):\n    z = x\n    for l in range(k):\n        z = z + y\n    y = z"
    wanted = x
    for k in range(4):
        z = x
        for _ in range(k):
            z = z + wanted
        wanted = z
    run(body, x, wanted, 4, parameters=", n")


@case(FAMILY, "for_swap", *SOME)
def swapped(dtype):
    x = values(dtype, 64)
    run("y = x\nz = x * 2\nfor k in range(n):\n    y, z = z, y", x, x * 2, 5, parameters=", n")


@case(FAMILY, "for_shifted", F32, I32)
def shifted(dtype):
    x = values(dtype, 64)
    run(
        "y = x\nfor k in range(3):\n    y = tl.gather(y, (i + 1) % 64, 0) + x",
        x,
        ((x.roll(-1) + x).roll(-1) + x).roll(-1) + x,
    )


@case(FAMILY, "for_fibonacci", I64)
def fibonacci(dtype):
    x = values(dtype, 64)
    run("a = 0\nb = 1\nfor k in range(n):\n    a, b = b, a + b\ny = x + a", x, x + 832040, 30, parameters=", n")


@case(FAMILY, "for_bool_carried", I32)
def boolean(dtype):
    x = values(dtype, 64)
    body = (
        "f = x > 0\ng = n > 100\nfor k in range(n):\n    f = f != (x > k)\n    g = g != (k > 1)\n"
        "y = f.to(tl.int32) + g.to(tl.int32) * 2"
    )
    f, g = x > 0, False
    for k in range(4):
        f, g = f != (x > k), g != (k > 1)
    run(body, x, f.int() + int(g) * 2, 4, parameters=", n")


@case(FAMILY, "static_range", F32, I32)
def static(dtype):
    x = values(dtype, 64)
    run("y = x\nfor k in tl.static_range(4):\n    y = y + k * x", x, x * 7)


@case(FAMILY, "static_range_bounds", I32)
def static_bounds(dtype):
    x = values(dtype, 64)
    run("y = x\nfor k in tl.static_range(8, 2, -3):\n    y = y * 2 + k", x, (x * 2 + 8) * 2 + 5)


for name, options in [
    ("num_stages", "num_stages=3"), ("unroll", "loop_unroll_factor=4"), ("flatten", "flatten=True"),
    ("no_multi_buffer", "disallow_acc_multi_buffer=True"), ("no_licm", "disable_licm=True"),
    ("warp_specialize", "warp_specialize=True"),
]:  # fmt: skip

    @case(FAMILY, f"range_{name}", F32)
    def ranged(dtype, options=options):
        x = values(dtype, 64)
        run(f"y = x\nfor k in tl.range(0, n, {options}):\n    y = y + x * k", x, x * 22, 7, parameters=", n")


@case(FAMILY, "while_tensor", *SOME)
def while_tensor(dtype):
    x = values(dtype, 64)
    run("y = x\nk = 0\nwhile k < n:\n    y = y + x\n    k += 1", x, x * 4, 3, parameters=", n")


@case(FAMILY, "while_on_data", F32, F64)
def while_data(dtype):
    x = values(dtype, 64).abs() + 0.1
    wanted = x.clone()
    while wanted.max() < 1000:
        wanted = wanted * 2
    run("y = x\nwhile tl.max(y) < 1000:\n    y = y * 2", x, wanted)


@case(FAMILY, "while_never", F32)
def never(dtype):
    x = values(dtype, 64)
    run("y = x\nwhile n > 10:\n    y = y * 2\n    n -= 1", x, x, 3, parameters=", n")


@case(FAMILY, "while_nested_in_for", I32)
def while_in_for(dtype):
    x = values(dtype, 64)
    body = "y = x\nfor k in range(n):\n    m = k\n    while m > 0:\n        y = y + m\n        m = m // 2"
    wanted = x
    for k in range(6):
        while k > 0:
            wanted, k = wanted + k, k // 2
    run(body, x, wanted, 6, parameters=", n")


@case(FAMILY, "if_tensor", *SOME)
def if_tensor(dtype):
    x = values(dtype, 64)
    for n in (1, 5):
        run("y = x\nif n > 3:\n    y = x + x\nelse:\n    y = x * 3", x, x + x if n > 3 else x * 3, n, parameters=", n")


@case(FAMILY, "if_elif", I32)
def if_elif(dtype):
    x = values(dtype, 64)
    for n in range(4):
        body = "if n == 0:\n    y = x\nelif n == 1:\n    y = x + 1\nelif n == 2:\n    y = x + 2\nelse:\n    y = x - 1"
        run(body, x, x + (n if n < 3 else -1), n, parameters=", n")


@case(FAMILY, "if_on_data", F32, I32)
def if_data(dtype):
    for seed in (0, 1, 2):
        x = values(dtype, 64, seed=seed)
        run("y = x\nif tl.sum(x) > 0:\n    y = -x", x, -x if x.sum() > 0 else x)


@case(FAMILY, "if_stores", F32)
def if_stores(dtype):
    x = values(dtype, 64)
    run("y = x\nif n > 3:\n    tl.store(op + i, x * 5)\n    y = tl.load(op + i) + x", x, x * 6, 5, parameters=", n")


@case(FAMILY, "conditional_expression", I32)
def ternary(dtype):
    x = values(dtype, 64)
    run("y = (x + 1) if n > 3 else (x - 1)", x, x - 1, 2, parameters=", n")


@case(FAMILY, "boolean_operators", I32)
def operators(dtype):
    x = values(dtype, 64)
    run("y = x\nif (n > 3 and n < 9) or not n > 1:\n    y = x + 1", x, x + 1, 5, parameters=", n")


@case(FAMILY, "early_return", F32, I32)
def early(dtype):
    for n, wanted in ((1, 2), (5, 7)):
        x = torch.ones(64).to(dtype)
        body = "i = tl.arange(0, 64)\nif n > 3:\n    tl.store(x + i, 7)\n    return\ntl.store(x + i, 2)"
        kernel("x, n", body)[(1,)](x, n)
        assert bool((x == wanted).all())


@case(FAMILY, "early_return_nested", F32)
def early_nested(dtype):
    for n, m, wanted in ((1, 0, 12), (5, 1, 1), (5, 3, 13), (9, 9, 13)):
        x = torch.ones(8)
        body = (
            "i = tl.arange(0, 8)\nv = tl.load(x + i)\nif n > 3:\n    if m < 2:\n        return\n    v = v + 1\n"
            "tl.store(x + i, v + 11)"
        )
        kernel("x, n, m", body)[(1,)](x, n, m)
        assert bool((x == wanted).all()), (n, m, x)


@case(FAMILY, "early_return_in_function", I32)
def early_function(dtype):
    before = (
        "@triton.jit\ndef f(x, n):\n    if n > 3:\n        return x + 1\n    if n > 1:\n"
        "        return x * 2\n    return x - 1\n"
    )
    for n in (0, 2, 5):
        x = values(dtype, 64)
        run("y = f(x, n)", x, x + 1 if n > 3 else x * 2 if n > 1 else x - 1, n, parameters=", n", before=before)


@case(FAMILY, "program_id_return", F32)
def by_program(dtype):
    x = torch.zeros(10)
    kernel("x, n", "p = tl.program_id(0)\nif p >= n:\n    return\ntl.store(x + p, p + 1)")[(10,)](x, 6)
    assert x.tolist() == [1, 2, 3, 4, 5, 6, 0, 0, 0, 0]


@case(FAMILY, "noinline", F32, I32)
def noinline(dtype):
    before = (
        "@triton.jit(noinline=True)\ndef f(p, k):\n    i = tl.arange(0, 64)\n    if k > 2:\n        return k * 2\n"
        "    tl.store(p + i, tl.load(p + i) + 1)\n    return k\n\n"
        "@triton.jit(noinline=True)\ndef g(p, k):\n    return f(p, k) + f(p, k + 1)\n"
    )
    x = values(I32, 64).to(dtype)
    wanted = x + 3
    out = torch.zeros(2, dtype=I32)
    kernel("x, o", "tl.store(o, g(x, 1))\ntl.store(o + 1, g(x, 2))", before)[(1,)](x, out)
    assert torch.equal(x, wanted) and out.tolist() == [3, 8]


@case(FAMILY, "nested_functions", F32)
def functions(dtype):
    before = (
        "@triton.jit\ndef f(x, k: tl.constexpr = 2):\n    return x * k\n\n@triton.jit\n"
        "def g(x, h: tl.constexpr):\n    return h(x) + h(x, 3)\n"
    )
    x = values(dtype, 64)
    run("y = g(x, f)", x, x * 5, before=before)


@case(FAMILY, "tuples", I32)
def tuples(dtype):
    before = "@triton.jit\ndef f(t):\n    a, b = t\n    return b, a, (a + b, t[0])\n"
    x = values(dtype, 64)
    run(
        "p, q, r = f((x, x + 1))\ny = p * 2 + q + r[0] + r[1]\nt = (x, y)\ny = t[1] - t[0] + len(t)",
        x,
        (x + 1) * 2 + x + x * 2 + 1 + x - x + 2,
        before=before,
    )


@case(FAMILY, "tuple_arguments", F32)
def tuple_arguments(dtype):
    x, y, out = values(dtype, 64), values(dtype, 64, seed=1), torch.zeros(64)
    kernel("t, o, s", "i = tl.arange(0, 64)\ntl.store(o + i, tl.load(t[0] + i) * s[0] + tl.load(t[1] + i) * s[1])")[
        (1,)
    ]((x, y), out, (2, 3.5))
    same(out, x * 2 + y * 3.5, scale=4)


@case(FAMILY, "tuple_in_loop", F32)
def tuple_loop(dtype):
    x = values(dtype, 64)
    run("t = (x, x * 2)\nfor k in range(3):\n    t = (t[1], t[0] + t[1])\ny = t[0]", x, x * 5)


@case(FAMILY, "empty_grid_axis", F32)
def empty_grid(dtype):
    x = torch.ones(4)
    kernel("x", "tl.store(x + tl.program_id(0), 5.0)")[(0,)](x)
    assert bool((x == 1).all())
