"""bf16 in registers: roundings that need no care of NaN, and that every float rounds as it does in aten."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl
from torch_rvv.lowering.canonical_nan import MARK, mark_canonical_nans
from torch_rvv.lowering.mlir import context, ir

BODY = """
func.func @f(%x: f32, %y: f32, %i: i32, %h: bf16, %g: f16, %d: f64, %c: i1) -> bf16 {{
  {lines}
  %r = arith.truncf %v : f32 to bf16
  return %r : bf16
}}
func.func private @rvv.erf.f32(f32) -> f32
func.func private @mine(f32) -> f32
"""


def marked(lines: str) -> bool:
    with context():
        module = ir.Module.parse(BODY.format(lines=lines))
        mark_canonical_nans(module)
        return MARK in str(module)


@pytest.mark.ir
@pytest.mark.parametrize(
    "lines",
    [
        "%v = arith.addf %x, %y : f32",
        "%v = math.fma %x, %y, %x : f32",
        "%v = arith.extf %h : bf16 to f32",
        "%v = arith.truncf %d : f64 to f32",
        "%v = arith.sitofp %i : i32 to f32",
        "%w = arith.extf %h : bf16 to f32\n %n = arith.negf %w : f32\n %v = arith.select %c, %n, %w : f32",
        "%w = arith.extf %h : bf16 to f32\n %k = arith.constant 0.0 : f32\n %v = arith.addf %w, %k : f32",
        "%w = arith.mulf %x, %x : f32\n %e = math.exp %w : f32\n %v = func.call @rvv.erf.f32(%e) : (f32) -> f32",
        "%k = arith.constant 0.5 : f32\n %v = arith.mulf %x, %k : f32",
    ],
    ids=[
        "a sum", "fma", "what was narrow", "what was wide", "an integer", "one of two", "0 added", "functions", "a half"
    ],
)  # fmt: skip
def test_what_arithmetic_made_is_rounded_without_a_look_at_it(lines):
    assert marked(lines)


@pytest.mark.ir
@pytest.mark.parametrize(
    "lines",
    [
        "%v = arith.negf %x : f32",
        "%s = arith.addf %x, %y : f32\n %v = arith.select %c, %s, %x : f32",
        "%v = arith.bitcast %i : i32 to f32",
        "%v = arith.extf %g : f16 to f32",
        "%k = arith.constant 1.0 : f32\n %v = arith.mulf %x, %k : f32",
        "%k = arith.constant -0.0 : f32\n %v = arith.addf %x, %k : f32",
        "%k = arith.constant 1.0 : f32\n %w = arith.extf %h : bf16 to f32\n %v = math.fma %x, %k, %w : f32",
        "%v = math.floor %x : f32",
        "%w = arith.extf %h : bf16 to f32\n %v = func.call @mine(%w) : (f32) -> f32",
    ],
    ids=[
        "a sign",
        "one of two",
        "bits",
        "a half",
        "times 1",
        "and -0",
        "fma with 1",
        "a whole number",
        "another function",
    ],
)
def test_what_may_be_any_nan_is_looked_at(lines):
    assert not marked(lines)


@triton.jit
def rounded(x, y, out, n, MODE: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    a = tl.load(x + i, mask=i < n)
    if MODE == "sum":
        a += tl.load(y + i, mask=i < n)
    if MODE == "times 1":
        a *= 1.0
    if MODE == "larger":
        a = tl.maximum(a, tl.load(y + i, mask=i < n), tl.PropagateNan.ALL)
    tl.store(out + i, a.to(tl.bfloat16), mask=i < n)


LOW = [0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF]
ALONE = {"copy": lambda x, y: x, "times 1": lambda x, y: x, "sum": torch.add, "larger": torch.maximum}


@pytest.mark.board
@pytest.mark.parametrize("mode", ALONE)
def test_every_upper_half_with_lower_halves_at_the_edges_rounds_as_in_aten(mode, monkeypatch):
    monkeypatch.setenv("TORCH_RVV_FALLBACK", "error")
    upper = torch.arange(1 << 16, dtype=torch.int64) << 16
    x = torch.cat([upper | low for low in LOW]).to(torch.int32).view(torch.float32)
    y = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))]
    out = torch.empty(len(x), dtype=torch.bfloat16)
    rounded[(triton.cdiv(len(x), 1024),)](x, y, out, len(x), MODE=mode, BLOCK=1024)
    wanted = ALONE[mode](x, y).bfloat16()
    # assert_close would take 0 for -0.
    same = (out.view(torch.int16) == wanted.view(torch.int16)) | (out.isnan() & wanted.isnan())
    zeros = (out == 0) & (wanted == 0) & (mode == "larger")
    assert bool((same | zeros).all()), x[~(same | zeros)].view(torch.int32)[:8]


FUNCTIONS = [
    torch.exp, torch.log, torch.log1p, torch.expm1, torch.sin, torch.tan, torch.asin, torch.acosh, torch.atanh,
    torch.tanh, torch.erf, torch.erfinv, torch.lgamma, torch.digamma, torch.sqrt, torch.rsqrt, torch.reciprocal,
    torch.sigmoid, torch.floor, torch.round, torch.trunc, torch.relu, torch.neg, torch.sign,
]  # fmt: skip


@pytest.mark.board
def test_functions_of_every_bf16_are_nan_where_those_of_float64_are(monkeypatch):
    monkeypatch.setenv("TORCH_RVV_FALLBACK", "error")
    x = torch.arange(1 << 16).to(torch.int16).view(torch.bfloat16)

    def functions(x):
        return [function(x) for function in FUNCTIONS]

    for function, out, wanted in zip(FUNCTIONS, torch.compile(functions, backend="rvv")(x), functions(x), strict=True):
        assert torch.equal(out.isnan(), wanted.isnan()), function
