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


def _divided(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """A division that aten refuses for an integer zero, which in a kernel is a lane that nobody looks at."""

    def divide(a: Any, b: Any) -> torch.Tensor:
        a, b = _t(a), _t(b)
        if not (a.is_floating_point() or b.is_floating_point()):
            b = torch.where(b == 0, 1, b)
        return function(a, b)

    return divide


def _special(name: str) -> Callable[..., torch.Tensor]:
    return _wrapping(getattr(torch.special, name))


_SAME_NAME = """
    abs exp exp2 expm1 sqrt relu minimum maximum cos sin lgamma erf cosh sinh acos acosh asin asinh atan2 atan atanh
    copysign erfc erfinv hypot log10 log2 nextafter logical_and logical_not logical_or logical_xor bitwise_and
    bitwise_not bitwise_or bitwise_xor bitwise_left_shift bitwise_right_shift rsqrt log1p tan tanh sigmoid signbit fmod
    log isinf isnan round floor sign trunc ceil neg reciprocal eq ne lt gt le ge add sub mul pow where square digamma
    igamma igammac ldexp
"""
_SPECIAL = """
    airy_ai bessel_j0 bessel_j1 bessel_y0 bessel_y1 erfcx gammainc gammaincc i0 i0e i1 i1e log_ndtr modified_bessel_i0
    modified_bessel_i1 modified_bessel_k0 modified_bessel_k1 ndtr ndtri scaled_modified_bessel_k0
    scaled_modified_bessel_k1 spherical_bessel_j0 zeta chebyshev_polynomial_t chebyshev_polynomial_u
    chebyshev_polynomial_v chebyshev_polynomial_w hermite_polynomial_h hermite_polynomial_he laguerre_polynomial_l
    legendre_polynomial_p shifted_chebyshev_polynomial_t shifted_chebyshev_polynomial_u shifted_chebyshev_polynomial_v
    shifted_chebyshev_polynomial_w
"""

OPS: dict[str, Callable[..., Any]] = {
    **{name: _wrapping(getattr(torch, name)) for name in _SAME_NAME.split()},
    **{name: _special(name) for name in _SPECIAL.split()},
    "and_": _wrapping(torch.bitwise_and),
    "or_": _wrapping(torch.bitwise_or),
    "xor": _wrapping(torch.bitwise_xor),
    "lshift": _wrapping(torch.bitwise_left_shift),
    "rshift": _wrapping(torch.bitwise_right_shift),
    "constant": _constant,
    "to_dtype": _to_dtype,
    "to_dtype_bitcast": _bitcast,
    "identity": lambda x: x,
    "truediv": _wrapping(torch.true_divide),
    "div_rn": _wrapping(torch.true_divide),
    "int_truediv": _wrapping(torch.true_divide),
    "mul_rn": _wrapping(torch.mul),
    "dot": _wrapping(torch.mul),
    "truncdiv": _divided(lambda a, b: torch.div(a, b, rounding_mode="trunc")),
    "floordiv": _divided(lambda a, b: torch.div(a, b, rounding_mode="floor")),
    "mod": _divided(torch.fmod),
    "remainder": _divided(torch.remainder),
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


def _online_softmax(value: torch.Tensor, weight: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
    """The largest value, and the sum of exp(value - it). weight: that sum of each value, for partial results."""
    most = value.amax(-1)
    shift = torch.where(most == -torch.inf, torch.zeros_like(most), most)
    terms = torch.exp(value - shift.unsqueeze(-1))
    return most, (terms if weight is None else terms * weight).sum(-1)


def _extreme(pick: Callable[..., torch.Tensor], *wanted: int) -> Callable[..., Any]:
    """The extreme value (0) and the least of the indices that have it (1); NaN is more extreme than any number."""

    def reduce(value: torch.Tensor, index: torch.Tensor) -> Any:
        most = pick(value, -1, keepdim=True)
        equal = (value == most) | ((value != value) & (most != most))
        first = torch.where(equal, index, torch.iinfo(index.dtype).max).amin(-1)
        found = (most.squeeze(-1), first)
        return found[wanted[0]] if len(wanted) == 1 else found

    return reduce


# Each folds the last axis away.
REDUCTIONS: dict[str, Callable[..., Any]] = {
    "sum": lambda v: v.sum(-1),
    "prod": lambda v: v.prod(-1),
    "max": lambda v: v.amax(-1),
    "min": lambda v: v.amin(-1),
    "any": lambda v: v.any(-1),
    "argmax": _extreme(torch.amax, 1),
    "argmin": _extreme(torch.amin, 1),
    "argmax_value": _extreme(torch.amax, 0),
    "argmin_value": _extreme(torch.amin, 0),
    "argmax_with_value": _extreme(torch.amax, 0, 1),
    "argmin_with_value": _extreme(torch.amin, 0, 1),
    "xor_sum": _xor_sum,
    "welford_reduce": _welford,
    "welford_combine": _welford_combine,
    "online_softmax_reduce": _online_softmax,
    "dot": lambda v, *rest: v.sum(-1),
}
