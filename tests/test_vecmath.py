"""Vector math on the host, through the numpy twin: error in ulps, and every special value."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest
from numpy_emit import NumpyEmit
from torch_rvv.lowering import halffloat
from torch_rvv.lowering.vecmath import FUNCTIONS, expand

pytestmark = pytest.mark.ir
mp.mp.dps = 40

# name → (reference, interval, ulps allowed in f32 and in f64)
CASES = {
    "exp": (mp.exp, (-87, 88), 1.0, 1.0),
    "exp2": (lambda x: mp.power(2, x), (-126, 127), 1.0, 1.0),
    "expm1": (mp.expm1, (-15, 88), 1.5, 1.5),
    "log": (mp.log, (1e-30, 1e30), 1.0, 1.0),
    "log2": (lambda x: mp.log(x, 2), (1e-30, 1e30), 1.5, 1.5),
    "log10": (mp.log10, (1e-30, 1e30), 1.5, 1.5),
    "log1p": (mp.log1p, (-0.99, 100), 1.5, 1.5),
    "tanh": (mp.tanh, (-9, 9), 2.0, 2.0),
    "sinh": (mp.sinh, (-80, 80), 1.0, 2.0),
    "cosh": (mp.cosh, (-80, 80), 1.0, 3.0),
    "asinh": (mp.asinh, (-1e3, 1e3), 1.0, 2.0),
    "acosh": (mp.acosh, (1.001, 1e3), 1.0, 2.0),
    "atanh": (mp.atanh, (-0.999, 0.999), 1.0, 2.0),
    "sin": (mp.sin, (-300, 300), 1.5, 1.5),
    "cos": (mp.cos, (-300, 300), 1.5, 1.5),
    "tan": (mp.tan, (-300, 300), 1.0, 2.5),
    "asin": (mp.asin, (-1, 1), 1.0, 2.5),
    "acos": (mp.acos, (-1, 1), 1.0, 2.0),
    "atan": (mp.atan, (-50, 50), 1.0, 2.5),
    "erf": (mp.erf, (-4, 4), 2.5, 2.5),
    "erfc": (mp.erfc, (-4, 8), 4.0, 4.0),
    "erfinv": (mp.erfinv, (-0.99, 0.99), 1.0, 4.0),
    "rsqrt": (lambda x: 1 / mp.sqrt(x), (1e-20, 1e20), 1.5, 1.5),
    "sigmoid": (lambda x: 1 / (1 + mp.exp(-x)), (-80, 80), 2.5, 2.5),
    "cbrt": (lambda x: mp.sign(x) * mp.cbrt(abs(x)), (-1e3, 1e3), 1.0, 3.0),
    "lgamma": (lambda x: mp.log(abs(mp.gamma(x))), (2.5, 100), 1.0, 16.0),
}
DTYPES = {"f32": np.float32, "f64": np.float64}


def evaluate(name: str, elem: str, *values):
    emit = NumpyEmit(**{f"x{i}": np.asarray(v, dtype=DTYPES[elem]) for i, v in enumerate(values)})
    return emit.values[expand(name, [f"%x{i}" for i in range(len(values))], elem, None, emit)]


def points(name: str, elem: str, count: int):
    low, high = CASES[name][1]
    rng = np.random.default_rng(3)
    x = np.exp(rng.uniform(np.log(low), np.log(high), count)) if low > 0 else rng.uniform(low, high, count)
    near = np.clip(rng.normal(size=count // 2) * 0.3 + (1 if low > 0.5 else 0), low, high)
    return np.concatenate([x, near[near != 0]]).astype(DTYPES[elem])


def worst_ulps(name: str, elem: str, count: int) -> tuple[float, float]:
    """(largest error in ulps, where)."""
    x, worst, at = points(name, elem, count), 0.0, 0.0
    for xi, yi in zip(x, evaluate(name, elem, x), strict=True):
        exact = CASES[name][0](mp.mpf(float(xi)))
        ulp = mp.mpf(float(np.spacing(DTYPES[elem](abs(float(exact))))))
        error = float(abs(mp.mpf(float(yi)) - exact) / ulp)
        if error > worst:
            worst, at = error, float(xi)
    return worst, at


@pytest.mark.parametrize("elem", ["f32", "f64"])
@pytest.mark.parametrize("name", CASES)
def test_error_in_ulps(name, elem):
    worst, at = worst_ulps(name, elem, 30 if name == "erfinv" else 150)
    assert worst <= CASES[name][2 if elem == "f32" else 3], f"{worst:.2f} ulp at {at!r}"


@pytest.mark.long
@pytest.mark.parametrize("name", [n for n in CASES if n != "erfinv"])
def test_error_in_ulps_over_many_points(name):
    worst, at = worst_ulps(name, "f32", 20000)
    assert worst <= CASES[name][2] + 0.5, f"{worst:.2f} ulp at {at!r}"


NUMPY = [
    "exp",
    "exp2",
    "expm1",
    "log",
    "log2",
    "log10",
    "log1p",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "tanh",
    "asinh",
    "acosh",
    "atanh",
    "cbrt",
    "trunc",
]


@pytest.mark.parametrize("elem", ["f32", "f64"])
@pytest.mark.parametrize("name", NUMPY)
def test_special_values_are_those_of_ieee(name, elem):
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0], dtype=DTYPES[elem])
    function = {"asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "asinh": np.arcsinh, "acosh": np.arccosh,
                "atanh": np.arctanh}.get(name) or getattr(np, name)  # fmt: skip
    with np.errstate(all="ignore"):
        expected = function(x)
    ours = evaluate(name, elem, x)
    np.testing.assert_allclose(ours, expected, rtol=1e-6, equal_nan=True)
    zeros = ~np.isnan(expected) & (expected == 0)
    assert np.array_equal(np.signbit(ours[zeros]), np.signbit(expected[zeros]))


@pytest.mark.parametrize("elem", ["f32", "f64"])
def test_pow_agrees_with_c_on_all_pairs_of_special_values(elem):
    edges = np.array(
        [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 3.0, -3.0, 0.5, -0.5, 2.5], dtype=DTYPES[elem]
    )
    x, y = (a.reshape(-1) for a in np.meshgrid(edges, edges))
    with np.errstate(all="ignore"):
        expected = np.power(x, y)
    np.testing.assert_allclose(evaluate("pow", elem, x, y), expected, rtol=1e-6, equal_nan=True)


@pytest.mark.parametrize("elem", ["f32", "f64"])
def test_fmod_is_exact(elem):
    rng = np.random.default_rng(5)
    x = (rng.normal(size=2000) * 10.0 ** rng.integers(-30, 30, 2000)).astype(DTYPES[elem])
    y = (rng.normal(size=2000) * 10.0 ** rng.integers(-30, 30, 2000)).astype(DTYPES[elem])
    np.testing.assert_array_equal(evaluate("fmod", elem, x, y), np.fmod(x, y))


def test_every_function_can_be_written_for_vectors_without_a_call():
    for name, function in FUNCTIONS.items():
        for elem in ("f32", "f64"):
            lines: list[str] = []

            def emit(rhs, lines=lines):
                lines.append(rhs)
                return f"%{len(lines)}"

            expand(name, ["%a", "%b"][: function.arity], elem, 4, emit)
            assert lines and not any("func.call" in line for line in lines)


def test_narrow_floats_round_to_nearest_even():
    bits = np.arange(1 << 16, dtype=np.uint16)
    emit = NumpyEmit(x=bits.view(np.int16))
    wide = emit.values[halffloat.f16_to_f32("%x", None, emit)]
    np.testing.assert_array_equal(wide, bits.view(np.float16).astype(np.float32))
    rng = np.random.default_rng(1)
    x = np.concatenate(
        [rng.normal(size=20000) * 10.0 ** rng.integers(-9, 6, 20000), [np.inf, -np.inf, np.nan, 65519.9, 65520.0]]
    )
    x = x.astype(np.float32)
    emit = NumpyEmit(x=x)
    with np.errstate(over="ignore"):
        expected = x.astype(np.float16)
    np.testing.assert_array_equal(emit.values[halffloat.f32_to_f16("%x", None, emit)].view(np.float16), expected)
