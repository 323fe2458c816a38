"""Inductor's operations as torch functions: one row each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def _t(x: Any) -> torch.Tensor:
    return torch.as_tensor(x)


def _constant(value: Any, dtype: torch.dtype) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype)


def _to_dtype(x: Any, dtype: torch.dtype, src_dtype: Any = None, use_compute_types: bool = True) -> torch.Tensor:
    x = _t(x)
    if dtype in (torch.float16, torch.bfloat16):
        return x.to(dtype).float() if not use_compute_types else x.to(torch.float32)
    return x.to(dtype)


def _bitcast(x: Any, dtype: torch.dtype, src_dtype: torch.dtype) -> torch.Tensor:
    out = _t(x).to(src_dtype).contiguous().view(dtype)
    return out.float() if dtype in (torch.float16, torch.bfloat16) else out


def _wrapping(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    return lambda *args: function(*(_t(a) for a in args))


def _shift_right(a: Any, b: Any) -> torch.Tensor:
    return torch.bitwise_right_shift(_t(a), _t(b))


def _special(name: str) -> Callable[..., torch.Tensor]:
    return _wrapping(getattr(torch.special, name))


_SAME_NAME = """abs exp exp2 expm1 sqrt relu minimum maximum cos sin lgamma erf cosh sinh acos acosh asin asinh atan2 atan
 atanh copysign erfc erfinv hypot log10 log2 nextafter logical_and logical_not logical_or logical_xor bitwise_and
 bitwise_not bitwise_or bitwise_xor bitwise_left_shift bitwise_right_shift rsqrt log1p tan tanh sigmoid signbit fmod log
 isinf isnan round floor sign trunc ceil neg reciprocal eq ne lt gt le ge add sub mul pow where square remainder digamma
 igamma igammac ldexp""".split()
_SPECIAL = """airy_ai bessel_j0 bessel_j1 bessel_y0 bessel_y1 erfcx gammainc gammaincc i0 i0e i1 i1e log_ndtr
 modified_bessel_i0 modified_bessel_i1 modified_bessel_k0 modified_bessel_k1 ndtr ndtri scaled_modified_bessel_k0
 scaled_modified_bessel_k1 spherical_bessel_j0 zeta""".split()

OPS: dict[str, Callable[..., Any]] = {
    **{name: _wrapping(getattr(torch, name)) for name in _SAME_NAME},
    **{name: _special(name) for name in _SPECIAL},
    "and_": _wrapping(torch.bitwise_and),
    "or_": _wrapping(torch.bitwise_or),
    "xor": _wrapping(torch.bitwise_xor),
    "lshift": _wrapping(torch.bitwise_left_shift),
    "rshift": _shift_right,
    "constant": _constant,
    "to_dtype": _to_dtype,
    "to_dtype_bitcast": _bitcast,
    "identity": lambda x: x,
    "truediv": _wrapping(torch.true_divide),
    "div_rn": _wrapping(torch.true_divide),
    "int_truediv": _wrapping(torch.true_divide),
    "mul_rn": _wrapping(torch.mul),
    "truncdiv": lambda a, b: torch.div(_t(a), _t(b), rounding_mode="trunc"),
    "floordiv": lambda a, b: torch.div(_t(a), _t(b), rounding_mode="floor"),
    "mod": _wrapping(torch.fmod),
    "fma": lambda a, b, c: torch.addcmul(_t(c), _t(a), _t(b)),
    "frexp": lambda x: tuple(torch.frexp(_t(x))),
    "polygamma": lambda n, x: torch.polygamma(int(n), _t(x)),
    "trunc_to_int": lambda x, dtype: torch.trunc(_t(x)).to(dtype),
    "ceil_to_int": lambda x, dtype: torch.ceil(_t(x)).to(dtype),
    "floor_to_int": lambda x, dtype: torch.floor(_t(x)).to(dtype),
    "round_to_int": lambda x, dtype: torch.round(_t(x)).to(dtype),
    "output": lambda *args: args,
}


def _welford(value: torch.Tensor) -> tuple[torch.Tensor, ...]:
    count = torch.full(value.shape[:-1], float(value.shape[-1]), dtype=value.dtype)
    mean = value.mean(-1)
    return mean, (value - mean.unsqueeze(-1)).square().sum(-1), count


def _welford_combine(mean: torch.Tensor, m2: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, ...]:
    total = weight.sum(-1)
    joined = (mean * weight).sum(-1) / torch.where(total == 0, 1.0, total)
    return joined, (m2 + weight * (mean - joined.unsqueeze(-1)).square()).sum(-1), total


def _xor_sum(value: torch.Tensor) -> torch.Tensor:
    total = torch.zeros_like(value[..., 0])
    for k in range(value.shape[-1]):
        total = total ^ value[..., k]
    return total


def _online_softmax(value: torch.Tensor) -> tuple[torch.Tensor, ...]:
    most = value.amax(-1)
    shift = torch.where(torch.isinf(most), torch.zeros_like(most), most)
    return most, torch.exp(value - shift.unsqueeze(-1)).sum(-1)


# Each folds the last axis away.
REDUCTIONS: dict[str, Callable[..., Any]] = {
    "sum": lambda v: v.sum(-1),
    "prod": lambda v: v.prod(-1),
    "max": lambda v: v.amax(-1),
    "min": lambda v: v.amin(-1),
    "any": lambda v: v.any(-1),
    "argmax": lambda v, *rest: v.argmax(-1),
    "argmin": lambda v, *rest: v.argmin(-1),
    "xor_sum": _xor_sum,
    "welford_reduce": _welford,
    "welford_combine": _welford_combine,
    "online_softmax_reduce": _online_softmax,
    "dot": lambda v, *rest: v.sum(-1),
}
