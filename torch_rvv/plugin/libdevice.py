"""triton.language.extra.libdevice for this backend.

A function of floats becomes an extern_elementwise "rvv.<name>" on f32 or f64 (f16 and bf16 are computed in
f32): lowering/vecmath has the code behind the names, and declines a name that it does not know. What is a few
Triton operations is in libdevice_jit.py. Directed rounding exists only by name, for that decline's clear message.
"""

from __future__ import annotations

from typing import Any

from triton.language import core

from torch_rvv.plugin import libdevice_jit

_F32, _F64, _I32, _I64 = core.float32, core.float64, core.int32, core.int64

UNARY = [
    "abs",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atanh",
    "cbrt",
    "ceil",
    "cos",
    "cosh",
    "cospi",
    "cyl_bessel_i0",
    "cyl_bessel_i1",
    "erf",
    "erfc",
    "erfcinv",
    "erfcx",
    "erfinv",
    "exp",
    "exp2",
    "expm1",
    "fabs",
    "floor",
    "j0",
    "j1",
    "lgamma",
    "log",
    "log10",
    "log1p",
    "log2",
    "nearbyint",
    "normcdf",
    "normcdfinv",
    "rint",
    "round",
    "rsqrt",
    "sin",
    "sinh",
    "sinpi",
    "sqrt",
    "sqrt_rd",
    "sqrt_rn",
    "sqrt_ru",
    "sqrt_rz",
    "rcp64h",
    "rcp_rd",
    "rcp_rn",
    "rcp_ru",
    "rcp_rz",
    "tan",
    "tanh",
    "tgamma",
    "trunc",
    "y0",
    "y1",
]
BINARY = [
    "add_rd",
    "add_ru",
    "add_rz",
    "atan2",
    "copysign",
    "div_rd",
    "div_rn",
    "div_ru",
    "div_rz",
    "fdim",
    "fmax",
    "fmin",
    "fmod",
    "hypot",
    "mul_rd",
    "mul_ru",
    "mul_rz",
    "nextafter",
    "pow",
    "remainder",
    "sub_rd",
    "sub_ru",
    "sub_rz",
]
TERNARY = ["fma", "fma_rd", "fma_ru", "fma_rz"]
PREDICATES = ["isinf", "isnan", "finitef", "isfinited", "finite", "signbit"]
INTEGER = ["clz", "popc"]
BESSEL = ["jn", "yn"]

# Another name of a function that is already exact, or that this target has no faster form of.
ALIASES = {
    "finitef": "finite", "isfinited": "finite", "rcp_rn": "rcp", "rsqrt_rn": "rsqrt", "fma_rn": "fma",
    "fast_cosf": "cos", "fast_sinf": "sin", "fast_tanf": "tan", "fast_tanhf": "tanh", "fast_expf": "exp",
    "fast_exp10f": "exp10", "fast_logf": "log", "fast_log2f": "log2", "fast_log10f": "log10", "fast_powf": "pow",
    "scalbn": "ldexp",
}  # fmt: skip


@core.builtin
def _promoted(value: Any, _semantic: Any = None) -> Any:
    value = _semantic.to_tensor(value)
    if value.dtype.scalar.is_floating() and value.dtype.scalar.primitive_bitwidth < 32:
        return _semantic.cast(value, _F32)
    return value


def _build(symbol: str, types: dict[tuple, Any], args: list[Any], semantic: Any) -> Any:
    """The call; a narrow float argument makes a narrow float result."""
    tensors = [semantic.to_tensor(a) for a in args]
    floats = [t.dtype.scalar for t in tensors if t.dtype.scalar.is_floating()]
    narrow = max(floats, key=lambda t: t.primitive_bitwidth, default=None)
    table = {key: (symbol, result) for key, result in types.items()}
    wide = [_promoted(t, _semantic=semantic) for t in tensors]
    out = core.extern_elementwise("", "", wide, table, is_pure=True, _semantic=semantic)
    if narrow is not None and narrow.primitive_bitwidth < 32 and out.dtype.scalar.is_floating():
        return semantic.cast(out, narrow)
    return out


def _one(symbol: str, types: dict[tuple, Any]) -> Any:
    @core.extern
    def function(arg0, _semantic=None):
        return _build(symbol, types, [arg0], _semantic)

    return function


def _two(symbol: str, types: dict[tuple, Any]) -> Any:
    @core.extern
    def function(arg0, arg1, _semantic=None):
        return _build(symbol, types, [arg0, arg1], _semantic)

    return function


def _three(symbol: str, types: dict[tuple, Any]) -> Any:
    @core.extern
    def function(arg0, arg1, arg2, _semantic=None):
        return _build(symbol, types, [arg0, arg1, arg2], _semantic)

    return function


def _floats(arity: int, result: Any = None) -> dict[tuple, Any]:
    return {(t,) * arity: result or t for t in (_F32, _F64)}


# Names, how many arguments, and the argument types that are accepted with the result type of each.
_FAMILIES = [
    (UNARY, _one, _floats(1)),
    (BINARY, _two, _floats(2)),
    (TERNARY, _three, _floats(3)),
    (PREDICATES, _one, _floats(1, core.int1)),
    (INTEGER, _one, {(t,): t for t in (_I32, _I64)}),
    (BESSEL, _two, {(_I32, t): t for t in (_F32, _F64)}),
]


def _cast(to: Any, rounding: str | None, bitcast: bool = False) -> Any:
    """A conversion to a type, after rounding by the named function if there is one."""

    @core.extern
    def function(arg0, _semantic=None):
        value = _semantic.to_tensor(arg0)
        if rounding is not None:
            value = globals()[rounding](value, _semantic=_semantic)
        return _semantic.bitcast(value, to) if bitcast else _semantic.cast(value, to)

    return function


_ROUNDING = {"rd": "floor", "ru": "ceil", "rn": "rint", "rz": None}
_INTEGERS = {"int": _I32, "uint": core.uint32, "ll": _I64, "ull": core.uint64}
_BITCASTS = {
    "float_as_int": _I32, "float_as_uint": core.uint32, "int_as_float": _F32, "uint_as_float": _F32,
    "double_as_longlong": _I64, "longlong_as_double": _F64,
}  # fmt: skip
# Arithmetic that rounds to nearest is the plain operation.
_PLAIN = {"add_rn": "add", "sub_rn": "sub", "mul_rn": "mul"}


def _plain(operation: str) -> Any:
    @core.extern
    def function(arg0, arg1, _semantic=None):
        return (
            getattr(_semantic, operation)(arg0, arg1, True) if operation != "mul" else _semantic.mul(arg0, arg1, True)
        )

    return function


def _conversions() -> dict[str, Any]:
    found = {name: _cast(to, None, bitcast=True) for name, to in _BITCASTS.items()}
    for source in ("float", "double"):
        for kind, to in _INTEGERS.items():
            for suffix, rounding in _ROUNDING.items():
                found[f"{source}2{kind}_{suffix}"] = _cast(to, rounding)
    for kind in _INTEGERS:
        found[f"{kind}2float_rn"] = _cast(_F32, None)
        found[f"{kind}2double_rn"] = _cast(_F64, None)
        for suffix in ("rd", "ru", "rz"):
            for to, result in (("float", _F32), ("double", _F64)):
                name = f"{kind}2{to}_{suffix}"
                found[name] = _one(f"rvv.{name}", {(t,): result for t in (_I32, _I64)})
    found["double2float_rn"] = _cast(_F32, None)
    for suffix in ("rd", "ru", "rz"):
        found[f"double2float_{suffix}"] = _one(f"rvv.double2float_{suffix}", {(_F64,): _F32})
    return found


def _functions() -> dict[str, Any]:
    found = _conversions()
    for names, make, types in _FAMILIES:
        for name in names:
            found[name] = make(f"rvv.{ALIASES.get(name, name)}", types)
    found |= {name: _plain(operation) for name, operation in _PLAIN.items()}
    # The compiler looks functions up by where they say they are from, so they must say it is here.
    for name, function in found.items():
        function.__name__ = function.__qualname__ = name
    jit = {n: f for n, f in vars(libdevice_jit).items() if type(f).__name__ == "JITFunction"}
    found |= {n: f for n, f in jit.items() if n != "power_of_two"}
    return found | {alias: found[name] for alias, name in ALIASES.items() if alias not in found}


FUNCTIONS = _functions()
globals().update(FUNCTIONS)
