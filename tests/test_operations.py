"""Every elementwise operation that Inductor can emit, on every dtype, against aten on the virtual board."""

from __future__ import annotations

import pytest
import torch
from conftest import FLOATS, INTEGERS, assert_same, sample

pytestmark = pytest.mark.board

# name → (function, inputs, dtypes, allowed ulps)
F, N, B = FLOATS, INTEGERS, [torch.bool]
UNARY = {
    "abs": (torch.abs, F + [torch.int8, torch.int16, torch.int32, torch.int64]),
    "neg": (torch.neg, F + N),
    "sqrt": (torch.sqrt, F),
    "rsqrt": (torch.rsqrt, F),
    "reciprocal": (torch.reciprocal, F),
    "square": (torch.square, F + N),
    "exp": (torch.exp, F),
    "exp2": (torch.exp2, F),
    "expm1": (torch.expm1, F),
    "log": (torch.log, F),
    "log2": (torch.log2, F),
    "log10": (torch.log10, F),
    "log1p": (torch.log1p, F),
    "sin": (torch.sin, F),
    "cos": (torch.cos, F),
    "tan": (torch.tan, F),
    "asin": (torch.asin, F),
    "acos": (torch.acos, F),
    "atan": (torch.atan, F),
    "sinh": (torch.sinh, F),
    "cosh": (torch.cosh, F),
    "tanh": (torch.tanh, F),
    "asinh": (torch.asinh, F),
    "acosh": (torch.acosh, F),
    "atanh": (torch.atanh, F),
    "erf": (torch.erf, F),
    "erfc": (torch.erfc, F),
    "sigmoid": (torch.sigmoid, F),
    "relu": (torch.relu, F + N),
    "gelu": (torch.nn.functional.gelu, F),
    "silu": (torch.nn.functional.silu, F),
    "floor": (torch.floor, F),
    "ceil": (torch.ceil, F),
    "trunc": (torch.trunc, F),
    "round": (torch.round, F),
    "sign": (torch.sign, F + N),
    # Inductor itself writes signbit of f64 as x < 0, which is wrong for -0.
    "signbit": (torch.signbit, [torch.float32, torch.float16, torch.bfloat16]),
    "isnan": (torch.isnan, F),
    "isinf": (torch.isinf, F),
    "logical_not": (torch.logical_not, F + N + B),
    "bitwise_not": (torch.bitwise_not, N + B),
    "to_float32": (lambda x: x.to(torch.float32), F + N + B),
    "to_bool": (lambda x: x.to(torch.bool), F + N + B),
    "to_int64": (lambda x: x.to(torch.int64), N + B),
    "float_to_int64": (lambda x: x.nan_to_num(0, 9, -9).clamp(-100, 100).to(torch.int64), F),
    "float_to_int32": (lambda x: x.nan_to_num(0, 9, -9).clamp(-100, 100).to(torch.int32), F),
    "float_to_int8": (lambda x: x.nan_to_num(0, 9, -9).clamp(-100, 100).to(torch.int8), F),
    "to_bfloat16": (lambda x: x.to(torch.bfloat16), F + N + B),
    "to_float16": (lambda x: x.to(torch.float16), [torch.float32, torch.bfloat16] + N + B),
}
BINARY = {
    "add": (torch.add, F + N),
    "sub": (torch.sub, F + N),
    "mul": (torch.mul, F + N),
    "div": (torch.div, F),
    "maximum": (torch.maximum, F + N),
    "minimum": (torch.minimum, F + N),
    "fmod": (torch.fmod, [torch.float32, torch.float64]),
    "remainder": (torch.remainder, [torch.float32, torch.float64]),
    "atan2": (torch.atan2, [torch.float32, torch.float64]),
    "pow": (torch.pow, [torch.float32]),
    "hypot": (torch.hypot, [torch.float32]),
    "copysign": (torch.copysign, F),
    "nextafter": (torch.nextafter, [torch.float32, torch.float64]),
    "eq": (torch.eq, F + N + B),
    "ne": (torch.ne, F + N + B),
    "lt": (torch.lt, F + N),
    "le": (torch.le, F + N),
    "gt": (torch.gt, F + N),
    "ge": (torch.ge, F + N),
    "logical_and": (torch.logical_and, F + N + B),
    "logical_or": (torch.logical_or, F + N + B),
    "logical_xor": (torch.logical_xor, F + N + B),
    "bitwise_and": (torch.bitwise_and, N + B),
    "bitwise_or": (torch.bitwise_or, N + B),
    "bitwise_xor": (torch.bitwise_xor, N + B),
}
# gelu: 1 + erf(x) cancels where erf is near -1, in aten as here.
ULPS = {"gelu": 40000, "pow": 8, "fmod": 0, "tan": 8, "erfc": 8, "acosh": 8, "sinh": 8, "exp2": 8, "div": 4}


@pytest.mark.parametrize("name", UNARY)
def test_unary_operation_agrees_with_aten(name, rvv):
    function, dtypes = UNARY[name]
    inputs = [sample(d) for d in dtypes]

    def run(*xs):
        return tuple(function(x) for x in xs)

    exact = [function(x.double()) if x.is_floating_point() else None for x in inputs]
    for ours, theirs, precise in zip(rvv(run)(*inputs), run(*inputs), exact, strict=True):
        assert_same(ours, theirs, ULPS.get(name, 4), precise)


@pytest.mark.parametrize("name", BINARY)
def test_binary_operation_agrees_with_aten(name, rvv):
    function, dtypes = BINARY[name]
    inputs = [(sample(d), sample(d, seed=3)) for d in dtypes]

    def run(pairs):
        return tuple(function(x, y) for x, y in pairs)

    exact = [function(x.double(), y.double()) if x.is_floating_point() else None for x, y in inputs]
    for ours, theirs, precise in zip(rvv(run)(inputs), run(inputs), exact, strict=True):
        assert_same(ours, theirs, ULPS.get(name, 4), precise)


@pytest.mark.parametrize("rounding", ["floor", "trunc"])
def test_integer_division_rounds_as_aten_does(rounding, rvv):
    inputs = [(sample(d), sample(d, seed=1)) for d in (torch.int32, torch.int64, torch.int16)]
    inputs = [(x, torch.where(y == 0, 7, y)) for x, y in inputs]
    inputs = [(torch.where(x == torch.iinfo(x.dtype).min, 5, x), y) for x, y in inputs]

    def run(pairs):
        return tuple(torch.div(x, y, rounding_mode=rounding) for x, y in pairs)

    for ours, theirs in zip(rvv(run)(inputs), run(inputs), strict=True):
        assert_same(ours, theirs)


@pytest.mark.parametrize("shift", ["bitwise_left_shift", "bitwise_right_shift"])
def test_shifts_agree_with_aten(shift, rvv):
    function = getattr(torch, shift)
    inputs = [(sample(d), sample(d).abs() % 7) for d in (torch.int32, torch.int64, torch.int16)]
    inputs = [(x, y.clamp(0, 6)) for x, y in inputs]

    def run(pairs):
        return tuple(function(x, y) for x, y in pairs)

    for ours, theirs in zip(rvv(run)(inputs), run(inputs), strict=True):
        assert_same(ours, theirs)


@pytest.mark.parametrize("n", [0, 1, 2, 7, 8, 63, 64, 65, 8191, 8192, 8193])
def test_every_length_is_computed_and_nothing_beyond_it(n, rvv):
    def run(x, out):
        out.copy_(torch.sin(x) + 2)

    x = sample(torch.float32, n, low=-1, high=1) if n else torch.empty(0)
    memory = torch.full((n + 64,), 7.0)
    rvv(run)(x, memory[32 : 32 + n])
    assert_same(memory[32 : 32 + n], torch.sin(x) + 2)
    assert bool((memory[:32] == 7).all()) and bool((memory[32 + n :] == 7).all())
