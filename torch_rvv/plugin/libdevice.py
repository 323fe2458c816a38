"""triton.language.extra.libdevice for this backend: each function an extern_elementwise "rvv.<name>".

Arguments are f32 or f64; f16 and bf16 are computed in f32. lowering/vecmath has the code behind the names.
"""

from __future__ import annotations

from triton.language import core

_F32, _F64, _I32, _I64 = core.dtype("fp32"), core.dtype("fp64"), core.dtype("int32"), core.dtype("int64")
UNARY = """abs acos acosh asin asinh atan atanh cbrt ceil cos cosh cospi erf erfc erfinv exp exp2 expm1 fabs floor lgamma
 log log10 log1p log2 nearbyint normcdf rcp_rn rint round rsqrt rsqrt_rn sin sinh sinpi sqrt sqrt_rn tan tanh tgamma trunc
 cyl_bessel_i0 cyl_bessel_i1 j0 j1 y0 y1 exp10 erfcx erfcinv normcdfinv digamma""".split()
BINARY = "atan2 copysign div_rn fdim fmax fmin fmod hypot nextafter pow remainder".split()
PREDICATES = "isinf isnan finitef isfinited finite signbit".split()


def _table(name: str, arity: int, result: object = None) -> dict:
    return {(t,) * arity: (f"rvv.{name}", result or t) for t in (_F32, _F64)}


@core.builtin
def _promoted(value, _semantic=None):
    value = _semantic.to_tensor(value)
    if value.dtype.scalar.is_floating() and value.dtype.scalar.primitive_bitwidth < 32:
        return _semantic.cast(value, core.float32)
    return value


def _function(name: str, arity: int, result: object = None):
    """A libdevice function of `arity` float arguments."""
    table = _table({"finitef": "finite", "isfinited": "finite"}.get(name, name), arity, result)

    def build(args, _semantic):
        narrow = next((a.dtype.scalar for a in args if hasattr(a, "dtype") and a.dtype.scalar.primitive_bitwidth < 32), None)
        wide = [_promoted(a, _semantic=_semantic) for a in args]
        out = core.extern_elementwise("", "", wide, table, is_pure=True, _semantic=_semantic)
        return _semantic.cast(out, narrow) if narrow is not None and result is None else out

    if arity == 1:

        @core.extern
        def function(arg0, _semantic=None):
            return build([arg0], _semantic)
    else:

        @core.extern
        def function(arg0, arg1, _semantic=None):
            return build([arg0, arg1], _semantic)

    function.__name__ = name
    return function


for _name in UNARY:
    globals()[_name] = _function(_name, 1)
for _name in BINARY:
    globals()[_name] = _function(_name, 2)
for _name in PREDICATES:
    globals()[_name] = _function(_name, 1, core.dtype("int1"))


@core.extern
def fma(arg0, arg1, arg2, _semantic=None):
    table = {(t,) * 3: ("rvv.fma", t) for t in (_F32, _F64)}
    return core.extern_elementwise("", "", [arg0, arg1, arg2], table, is_pure=True, _semantic=_semantic)


@core.extern
def ldexp(arg0, arg1, _semantic=None):
    table = {(_F32, _I32): ("rvv.ldexp", _F32), (_F64, _I32): ("rvv.ldexp", _F64)}
    return core.extern_elementwise("", "", [arg0, arg1], table, is_pure=True, _semantic=_semantic)


@core.extern
def llrint(arg0, _semantic=None):
    table = {(_F32,): ("rvv.llrint", _I64), (_F64,): ("rvv.llrint", _I64)}
    return core.extern_elementwise("", "", [arg0], table, is_pure=True, _semantic=_semantic)
