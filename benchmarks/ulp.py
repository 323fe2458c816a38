"""Errors of vecmath in units in the last place: `python -m torch_rvv.benchmarks.ulp [NAME ...] [--count N] [--write]`.

The compiled functions run on the device. f16 and bf16: every number there is. f32: N random bit patterns (ten
million unless told) against PyTorch's f64 on the host, then the edges. f64: 1,000 points against mpmath. A NaN or an
infinity where there should be none, or none where there should be, counts as an infinite error. --write puts the
table into docs/vecmath.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import mpmath as mp
import torch
from torch_rvv.lowering.vecmath import FUNCTIONS

special = torch.special
EDGES = (0.0, -0.0, 1.0, -1.0, 0.5, 2.0, float("inf"), float("-inf"), float("nan"))
POINTS = 1000
CHUNK = 1 << 20
SOURCE = """
import triton
import triton.language as tl
from triton.language.extra import libdevice

@triton.jit
def evaluate(x, y, out, n, BLOCK: tl.constexpr, WIDE: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    a = tl.load(x + at, mask=at < n).to(WIDE)
    b = tl.load(y + at, mask=at < n).to(WIDE)
    tl.store(out + at, libdevice.{call}.to(out.dtype.element_ty), mask=at < n)
"""


@dataclass(frozen=True)
class Reference:
    """What a function should give. wide: on f64 tensors; exact: of mpmath. low, high: where f64 is sampled."""

    wide: Callable[..., torch.Tensor]
    exact: Callable[..., Any]
    low: float
    high: float


def _mp_cbrt(x: Any) -> Any:
    return mp.sign(x) * mp.cbrt(abs(x))


# PyTorch's Bessel functions make NaN of infinities.
REFERENCES = {
    "exp": Reference(torch.exp, mp.exp, -700, 700),
    "exp2": Reference(torch.exp2, lambda x: mp.power(2, x), -1000, 1000),
    "expm1": Reference(torch.expm1, mp.expm1, -30, 700),
    "log": Reference(torch.log, mp.log, 1e-3, 1e3),
    "log2": Reference(torch.log2, lambda x: mp.log(x, 2), 1e-3, 1e3),
    "log10": Reference(torch.log10, mp.log10, 1e-3, 1e3),
    "log1p": Reference(torch.log1p, mp.log1p, -0.99, 1e3),
    "tanh": Reference(torch.tanh, mp.tanh, -20, 20),
    "sinh": Reference(torch.sinh, mp.sinh, -700, 700),
    "cosh": Reference(torch.cosh, mp.cosh, -700, 700),
    "asinh": Reference(torch.asinh, mp.asinh, -1e3, 1e3),
    "acosh": Reference(torch.acosh, mp.acosh, 1, 1e3),
    "atanh": Reference(torch.atanh, mp.atanh, -1, 1),
    "sin": Reference(torch.sin, mp.sin, -1e6, 1e6),
    "cos": Reference(torch.cos, mp.cos, -1e6, 1e6),
    "tan": Reference(torch.tan, mp.tan, -1e6, 1e6),
    "asin": Reference(torch.asin, mp.asin, -1, 1),
    "acos": Reference(torch.acos, mp.acos, -1, 1),
    "atan": Reference(torch.atan, mp.atan, -1e3, 1e3),
    "erf": Reference(torch.erf, mp.erf, -6, 6),
    "erfc": Reference(torch.erfc, mp.erfc, -6, 26),
    "erfcx": Reference(special.erfcx, lambda x: mp.exp(x * x) * mp.erfc(x), -26, 1e2),
    "erfinv": Reference(torch.erfinv, mp.erfinv, -0.999, 0.999),
    "lgamma": Reference(torch.lgamma, lambda x: mp.log(abs(mp.gamma(x))), 0.1, 100),
    "cbrt": Reference(lambda x: torch.from_numpy(_numpy().cbrt(x.numpy())), _mp_cbrt, -1e6, 1e6),
    "rsqrt": Reference(torch.rsqrt, lambda x: 1 / mp.sqrt(x), 1e-3, 1e6),
    "sqrt": Reference(torch.sqrt, mp.sqrt, 0, 1e6),
    "cyl_bessel_i0": Reference(
        lambda x: special.i0(x).where(~x.isinf(), x.abs()), lambda x: mp.besseli(0, x), -100, 100
    ),
    "cyl_bessel_i1": Reference(lambda x: special.i1(x).where(~x.isinf(), x), lambda x: mp.besseli(1, x), -100, 100),
    "pow": Reference(torch.pow, mp.power, 0.01, 100),
    "atan2": Reference(torch.atan2, mp.atan2, -1e3, 1e3),
    "hypot": Reference(torch.hypot, mp.hypot, -1e3, 1e3),
    "fmod": Reference(torch.fmod, lambda x, y: mp.sign(x) * mp.fmod(abs(x), abs(y)), -1e3, 1e3),
}
# Where fewer ulps are promised than FUNCTIONS says, or the function is an instruction.
INSTRUCTIONS = {"sqrt": 0.5}


def _numpy() -> Any:
    import numpy

    return numpy


@cache
def _kernel(name: str) -> Any:
    """A Triton kernel that evaluates a function of libdevice."""
    arity = FUNCTIONS[name].arity if name in FUNCTIONS else 1
    folder = Path(tempfile.mkdtemp(prefix="torch_rvv_ulp_"))
    path = folder / f"{name}.py"
    path.write_text(SOURCE.format(call=f"{name}({'a, b' if arity == 2 else 'a'})"))
    spec = importlib.util.spec_from_file_location(f"ulp_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.evaluate


def evaluate(name: str, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The function on the device, by our code; halves are computed in f32."""
    import triton.language as tl

    out = torch.empty_like(x)
    wide = tl.float64 if x.dtype == torch.float64 else tl.float32
    _kernel(name)[(-(-len(x) // 4096),)](x, y, out, len(x), BLOCK=4096, WIDE=wide)
    return out


def errors(ours: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Errors in ulps of ours' type; infinite where only one is finite, or a number. wanted: in f64."""
    dtype, info = ours.dtype, torch.finfo(ours.dtype)
    mantissa = {torch.float32: 23, torch.float16: 10, torch.bfloat16: 7}[dtype]
    exponent = torch.frexp(wanted)[1].clamp(min=torch.frexp(torch.tensor(info.tiny, dtype=torch.float64))[1].item())
    ulp = torch.ldexp(torch.ones_like(wanted), exponent - 1 - mantissa)
    result = (ours.double() - wanted).abs() / ulp
    rounded = wanted.to(dtype)
    same = (ours == rounded) | (ours.isnan() & rounded.isnan())
    # Where the result is on the border of infinity, the largest number is one ulp off.
    odd = ~same & (~ours.isfinite() | ~rounded.isfinite())
    border = odd & ~ours.isnan() & ~rounded.isnan() & (ours.to(torch.float64).clamp(-info.max, info.max)
                                                       == rounded.double().clamp(-info.max, info.max))  # fmt: skip
    result[odd] = float("inf")
    result[border] = 1.0
    result[same & ~rounded.isfinite()] = 0.0
    return result


def _worst(name: str, x: torch.Tensor, y: torch.Tensor) -> float:
    wide = (x.double(), y.double()) if FUNCTIONS.get(name) and FUNCTIONS[name].arity == 2 else (x.double(),)
    worst = errors(evaluate(name, x, y), REFERENCES[name].wide(*wide))
    return float(worst.max())


def half(name: str, dtype: torch.dtype) -> float:
    """The worst over every number of a 16-bit type (of two arguments, the other one at random)."""
    bits = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    x = bits.view(dtype)
    torch.manual_seed(0)
    return _worst(name, x, x[torch.randperm(len(x))])


def single(name: str, count: int) -> float:
    """The worst over `count` random bit patterns of f32, as many near 1, and the edges."""
    torch.manual_seed(0)
    edges = torch.tensor([*EDGES, 1e-45, -1e-45, 1.1754944e-38, 3.4028235e38, -3.4028235e38])
    pairs = torch.cartesian_prod(edges, edges)
    worst = _worst(name, pairs[:, 0].contiguous(), pairs[:, 1].contiguous())
    low, high = REFERENCES[name].low, REFERENCES[name].high
    for start in range(0, count, CHUNK):
        n = min(CHUNK, count - start)
        if start % (2 * CHUNK):
            x, y = (torch.rand(n) * (high - low) + low for _ in range(2))
        else:
            x, y = (torch.randint(-(2**31), 2**31 - 1, (n,), dtype=torch.int64).to(torch.int32).view(torch.float32)
                    for _ in range(2))  # fmt: skip
        worst = max(worst, _worst(name, x, y))
    return worst


def double(name: str) -> float:
    """The worst over POINTS random numbers of f64, half of them small."""
    mp.mp.dps = 40
    torch.manual_seed(0)
    reference = REFERENCES[name]
    x, y = (torch.rand(POINTS, dtype=torch.float64) * (reference.high - reference.low) + reference.low for _ in "xy")
    if reference.low < 0:
        x[::2] = x[::2] / max(abs(reference.low), reference.high)
    ours = evaluate(name, x, y)
    worst = 0.0
    two = name in FUNCTIONS and FUNCTIONS[name].arity == 2
    for a, b, got in zip(x.tolist(), y.tolist(), ours.tolist(), strict=True):
        arguments = (mp.mpf(a), mp.mpf(b)) if two else (mp.mpf(a),)
        exact = reference.exact(*arguments)
        ulp = mp.mpf(2) ** (max(int(mp.frexp(exact)[1]), -1021) - 53) if exact else mp.mpf(2) ** -1074
        worst = max(worst, float(abs(mp.mpf(got) - exact) / ulp))
    return worst


def row(name: str, count: int) -> list[str]:
    """A line of the table: name, promised ulps (f32, f64), measured in f32, f64, f16, bf16."""
    promised = FUNCTIONS[name].max_ulp if name in FUNCTIONS else (INSTRUCTIONS[name],) * 2
    measured = [single(name, count), double(name), half(name, torch.float16), half(name, torch.bfloat16)]
    return [name, f"{promised[0]:g}", f"{promised[1]:g}", *(f"{m:.2f}" for m in measured)]


HEAD = ["function", "promised f32", "promised f64", "f32", "f64", "f16", "bf16"]


def table(rows: list[list[str]]) -> str:
    """The rows as Markdown."""
    lines = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    return "\n".join(lines + ["| " + " | ".join(r) + " |" for r in rows]) + "\n"


INTRODUCTION = """# Accuracy of vector math

Largest errors in units in the last place, measured by `make ulp` on the virtual board: f16 and bf16 (computed in f32)
over every number there is, f32 over {count:,} random numbers and the edges (zeros, infinities, NaN, subnormals), f64
over {points:,} points. References are PyTorch's f64 for the narrower types and mpmath for f64. The sources of the
coefficients are in `benchmarks/minimax.py`.

"""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m torch_rvv.benchmarks.ulp", description=__doc__)
    parser.add_argument("names", nargs="*", help="functions; all by default")
    parser.add_argument("--count", type=int, default=10_000_000, help="numbers of f32 a function")
    parser.add_argument("--write", action="store_true", help="write docs/vecmath.md")
    options = parser.parse_args(arguments)
    rows = []
    for name in options.names or REFERENCES:
        rows.append(row(name, options.count))
        print("  ".join(f"{cell:>13}" for cell in rows[-1]), flush=True)
    if options.write:
        path = Path(__file__).resolve().parent.parent / "docs" / "vecmath.md"
        path.write_text(INTRODUCTION.format(count=options.count, points=POINTS) + table(rows))


if __name__ == "__main__":
    main()
