"""libdevice functions that the plug-in composes of Triton operations, and the narrow types of all others."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
import torch
import triton
import triton.language as tl

from torch_rvv.plugin import libdevice as ours
from torch_rvv.plugin import libdevice_jit

pytestmark = [pytest.mark.board, pytest.mark.filterwarnings("ignore:overflow encountered")]
INTS = torch.tensor(
    [0, 1, 2, 3, 255, 256, -1, -2, 12345678, 1 << 30, -(1 << 31), (1 << 31) - 1, 0x12345678], dtype=torch.int32
)
EDGES = [0.0, -0.0, 1.0, -1.5, 0.75, 3e38, 1e-42, -1e-42, 1e-38, math.inf, -math.inf, math.nan, 6.5, -7.5, 2.5, 37.0]
FLOATS = torch.tensor(EDGES, dtype=torch.float32)
DOUBLES = torch.tensor([*EDGES[:5], 1e308, 5e-324, -3e-310, 2e-308, *EDGES[9:]], dtype=torch.float64)
LONGS = torch.tensor([0, 1, -1, 7, -(1 << 63), (1 << 63) - 1, 0x123456789ABCDEF], dtype=torch.int64)


def run(name: str, *arguments: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
    """libdevice.<name> of one to four tensors of one length, as a hand-launched kernel."""
    function = ours.FUNCTIONS[name]

    @triton.jit
    def kernel(a, b, c, d, out, n, F: tl.constexpr, K: tl.constexpr, B: tl.constexpr):
        i = tl.arange(0, B)
        m = i < n
        if K == 1:
            r = F(tl.load(a + i, m))
        elif K == 2:
            r = F(tl.load(a + i, m), tl.load(b + i, m))
        elif K == 3:
            r = F(tl.load(a + i, m), tl.load(b + i, m), tl.load(c + i, m))
        else:
            r = F(tl.load(a + i, m), tl.load(b + i, m), tl.load(c + i, m), tl.load(d + i, m))
        tl.store(out + i, r, m)

    n = arguments[0].numel()
    out = torch.zeros(n, dtype=dtype or arguments[0].dtype)
    slots = [*arguments, *arguments[:1] * (4 - len(arguments))]
    kernel[(1,)](*slots, out, n, F=function, K=len(arguments), B=triton.next_power_of_2(n))
    return out


def same(ours: torch.Tensor, expected: torch.Tensor, **tolerance: float) -> None:
    torch.testing.assert_close(ours, expected, equal_nan=True, **{"rtol": 0, "atol": 0, **tolerance})


@pytest.mark.parametrize("x", [FLOATS, DOUBLES], ids=["f32", "f64"])
def test_ldexp_rounds_once(x):
    steps = torch.tensor([0, 1, -1, 20, -20, 127, -126, -149, 200, -200, 2000, -2000, 900, -1074], dtype=torch.int32)
    a, n = x.repeat_interleave(len(steps)), steps.repeat(len(x))
    expected = torch.from_numpy(np.ldexp(a.numpy(), n.numpy()))
    same(run("ldexp", a, n), expected)
    same(run("scalbn", a, n), expected)


@pytest.mark.parametrize("x", [FLOATS, DOUBLES], ids=["f32", "f64"])
def test_exponents(x):
    finite = x[torch.isfinite(x) & (x != 0)]
    expected = torch.from_numpy(np.frexp(finite.numpy())[1] - 1).int()
    same(run("ilogb", finite, dtype=torch.int32), expected)
    same(run("logb", finite), expected.to(x.dtype))
    rest = torch.tensor([0.0, math.inf, -math.inf, math.nan], dtype=x.dtype)
    assert run("ilogb", rest, dtype=torch.int32).tolist() == [-(2**31), 2**31 - 1, 2**31 - 1, -(2**31)]
    same(run("logb", rest), torch.tensor([-math.inf, math.inf, math.inf, math.nan], dtype=x.dtype))


def test_rounding_to_integers():
    x = torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 0.49999997, 8388609.0, -3.7])
    assert run("llrint", x, dtype=torch.int64).tolist() == [0, 2, 2, 0, -2, -2, 0, 8388609, -4]
    assert run("llround", x, dtype=torch.int64).tolist() == [1, 2, 3, -1, -2, -3, 0, 8388609, -4]
    for suffix, function in {"rn": torch.round, "rd": torch.floor, "ru": torch.ceil, "rz": torch.trunc}.items():
        same(run(f"float2int_{suffix}", x, dtype=torch.int32), function(x).int())
        same(run(f"double2ll_{suffix}", x.double(), dtype=torch.int64), function(x).long())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_exp10(dtype):
    x = torch.tensor([0.0, 1.0, 2.0, 3.0, -1.0, 0.3, -7.25, 30.5, 400.0, -400.0, math.inf, -math.inf, math.nan]).to(
        dtype
    )
    expected = torch.from_numpy(np.power(10.0, x.double().numpy())).to(dtype)
    same(run("exp10", x), expected, rtol=2 * torch.finfo(dtype).eps)


def test_norms_do_not_overflow():
    x, y, z, w = (torch.tensor(v) for v in ([3e38, 1.0, 0.0], [1e38, 2.0, 0.0], [1e20, 2.0, 0.0], [1.0, 4.0, 5.0]))
    stack = torch.stack([x, y, z, w]).double()
    tolerance = {"rtol": 3e-7}
    same(run("norm3d", x, y, z), stack[:3].norm(dim=0).float(), **tolerance)
    same(run("norm4d", x, y, z, w), stack.norm(dim=0).float(), **tolerance)
    same(run("rnorm4d", x, y, z, w), (1 / stack.norm(dim=0)).float(), **tolerance)


def test_bits_of_integers():
    x, y = INTS, INTS.flip(0)
    wide = [int(v) & 0xFFFFFFFF for v in x]
    assert run("ffs", x).tolist() == [(v & -v).bit_length() for v in wide]
    assert run("popc", x).tolist() == [v.bit_count() for v in wide]
    assert run("clz", x).tolist() == [32 - v.bit_length() for v in wide]
    assert [int(v) & 0xFFFFFFFF for v in run("brev", x)] == [int(f"{v:032b}"[::-1], 2) for v in wide]
    assert run("mulhi", x, y).tolist() == [int(a) * int(b) >> 32 for a, b in zip(x, y, strict=True)]
    assert run("hadd", x, y).tolist() == [(int(a) + int(b)) >> 1 for a, b in zip(x, y, strict=True)]
    assert run("rhadd", x, y).tolist() == [(int(a) + int(b) + 1) >> 1 for a, b in zip(x, y, strict=True)]
    assert run("byte_perm", x, y, torch.full_like(x, 0x6240)).tolist() == [
        struct.unpack("<i", bytes([(int(b) << 32 | int(a) & 0xFFFFFFFF) >> 8 * k & 255 for k in (0, 4, 2, 6)]))[0]
        for a, b in zip(x, y, strict=True)
    ]


def test_bits_of_long_integers():
    x, y = LONGS, LONGS.flip(0)
    assert run("mulhi", x, y).tolist() == [int(a) * int(b) >> 64 for a, b in zip(x, y, strict=True)]
    assert run("popc", x).tolist() == [(int(v) & (1 << 64) - 1).bit_count() for v in x]
    reverse = [int(f"{int(v) & (1 << 64) - 1:064b}"[::-1], 2) for v in x]
    assert [int(v) & (1 << 64) - 1 for v in run("brev", x)] == reverse


def test_bit_patterns_of_floats():
    same(run("float_as_int", FLOATS, dtype=torch.int32), FLOATS.view(torch.int32))
    same(run("int_as_float", FLOATS.view(torch.int32), dtype=torch.float32).view(torch.int32), FLOATS.view(torch.int32))
    same(run("double_as_longlong", DOUBLES, dtype=torch.int64), DOUBLES.view(torch.int64))
    halves = DOUBLES.view(torch.int32).reshape(-1, 2)
    same(run("double2loint", DOUBLES, dtype=torch.int32), halves[:, 0])
    same(run("double2hiint", DOUBLES, dtype=torch.int32), halves[:, 1])
    back = run("hiloint2double", halves[:, 1].contiguous(), halves[:, 0].contiguous(), dtype=torch.float64)
    same(back.view(torch.int64), DOUBLES.view(torch.int64))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_types_are_computed_in_f32(dtype):
    x = torch.linspace(-3, 3, 50).to(dtype)
    same(run("erf", x), torch.erf(x.float()).to(dtype), rtol=torch.finfo(dtype).eps)
    same(run("pow", x.abs(), x), x.float().abs().pow(x.float()).to(dtype), rtol=torch.finfo(dtype).eps)
    assert run("isnan", x / 0 * 0, dtype=torch.int8).bool().all()


def test_every_name_of_the_reference_module_is_there():
    import ast
    import inspect

    from triton.language.extra.cuda import libdevice as reference

    names = {n.name for n in ast.parse(inspect.getsource(reference)).body if isinstance(n, ast.FunctionDef)}
    assert len(names) > 150 and not names - set(ours.FUNCTIONS)
    assert ours.FUNCTIONS["ldexp"] is libdevice_jit.ldexp
