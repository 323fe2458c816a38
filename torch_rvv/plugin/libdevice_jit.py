"""Functions of libdevice that are a few Triton operations: bit patterns, exponents, conversions.

They are ordinary @triton.jit functions; libdevice.py exports them. Arguments are as CUDA's libdevice has them.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra import libdevice


@triton.jit
def power_of_two(n, like):
    """2**n in the type of `like` (f32 or f64), for n in the range of normal numbers."""
    if like.dtype == tl.float64:
        return ((n.to(tl.int64) + 1023) << 52).to(tl.float64, bitcast=True)
    else:
        return ((n.to(tl.int32) + 127) << 23).to(tl.float32, bitcast=True)


@triton.jit
def ldexp(x, n):
    """x * 2**n, rounded once: large steps first, of which only the last can leave the normal numbers."""
    x = x if x.dtype == tl.float64 else x.to(tl.float32)
    high: tl.constexpr = 1023 if x.dtype == tl.float64 else 127
    # Stepping down keeps all digits: smallest exponent plus the width of the significand.
    low: tl.constexpr = -1022 if x.dtype == tl.float64 else -126
    down: tl.constexpr = -969 if x.dtype == tl.float64 else -102
    n = n.to(tl.int32)
    for _ in tl.static_range(2):
        by = tl.where(n > high, high, tl.where(n < low, down, 0))
        x = x * power_of_two(by, x)
        n = n - by
    n = tl.minimum(tl.maximum(n, low), high)
    return x * power_of_two(n, x)


@triton.jit
def ilogb(x):
    """The exponent of x as i32; the least i32 for 0 and NaN, the greatest for infinities."""
    x = tl.abs(x if x.dtype == tl.float64 else x.to(tl.float32))
    if x.dtype == tl.float64:
        tiny = x < 2.2250738585072014e-308
        bits = tl.where(tiny, x * 18014398509481984.0, x).to(tl.int64, bitcast=True)
        exponent = ((bits >> 52) - 1023 - tl.where(tiny, 54, 0)).to(tl.int32)
    else:
        tiny = x < 1.1754943508222875e-38
        bits = tl.where(tiny, x * 16777216.0, x).to(tl.int32, bitcast=True)
        exponent = (bits >> 23) - 127 - tl.where(tiny, 24, 0)
    exponent = tl.where(x == float("inf"), 2147483647, exponent)
    return tl.where((x == 0.0) | (x != x), -2147483648, exponent)


@triton.jit
def logb(x):
    """The exponent of x as a float: -inf for 0, inf for infinities."""
    e = ilogb(x).to(x.dtype)
    e = tl.where(x == 0.0, float("-inf"), e)
    return tl.where((x != x) | (tl.abs(x) == float("inf")), x * x, e).to(x.dtype)


@triton.jit
def llrint(x):
    """x rounded to the nearest integer, ties to even, as i64."""
    return libdevice.rint(x).to(tl.int64)


@triton.jit
def llround(x):
    """x rounded to the nearest integer, ties away from zero, as i64."""
    return libdevice.round(x).to(tl.int64)


@triton.jit
def exp10(x):
    """10**x."""
    # log2(10) in two parts; what the product loses is put back as a factor near one.
    y = x.to(tl.float64)
    whole = y * 3.321928094887362
    # A bare literal would reach fma as an f32.
    rest = tl.fma(y, tl.full(y.shape, 3.321928094887362, tl.float64), -whole) + y * 1.661617516973592e-16
    finite = tl.abs(whole) < 2000.0
    out = tl.where(finite, libdevice.exp2(whole) * (1.0 + rest * 0.6931471805599453), libdevice.exp2(whole))
    return out.to(x.dtype)


@triton.jit
def rcbrt(x):
    """1 / cbrt(x)."""
    return 1.0 / libdevice.cbrt(x)


@triton.jit
def norm3d(x, y, z):
    """sqrt(x*x + y*y + z*z), without overflow on the way."""
    return libdevice.hypot(libdevice.hypot(x, y), z)


@triton.jit
def norm4d(x, y, z, w):
    """sqrt(x*x + y*y + z*z + w*w), without overflow on the way."""
    return libdevice.hypot(libdevice.hypot(x, y), libdevice.hypot(z, w))


@triton.jit
def rhypot(x, y):
    """1 / hypot(x, y)."""
    return 1.0 / libdevice.hypot(x, y)


@triton.jit
def rnorm3d(x, y, z):
    """1 / norm3d(x, y, z)."""
    return 1.0 / norm3d(x, y, z)


@triton.jit
def rnorm4d(x, y, z, w):
    """1 / norm4d(x, y, z, w)."""
    return 1.0 / norm4d(x, y, z, w)


@triton.jit
def saturatef(x):
    """x limited to [0, 1]; 0 for NaN."""
    return tl.where(x > 0.0, tl.where(x < 1.0, x, 1.0), 0.0)


@triton.jit
def fast_dividef(x, y):
    """x / y."""
    return x / y


# -- integers


@triton.jit
def ffs(x):
    """Position of the lowest set bit, from 1; 0 for 0. i32 or i64 in, i32 out."""
    return tl.where(x == 0, 0, libdevice.popc(~x & (x - 1)) + 1).to(tl.int32)


@triton.jit
def brev(x):
    """The bits of an i32 or i64 in reverse order."""
    if x.dtype.primitive_bitwidth == 64:
        high = brev((x >> 32).to(tl.int32)).to(tl.int64) & 0xFFFFFFFF
        return (brev(x.to(tl.int32)).to(tl.int64) << 32) | high
    else:
        u = x.to(tl.uint32, bitcast=True)
        u = ((u >> 1) & 0x55555555) | ((u & 0x55555555) << 1)
        u = ((u >> 2) & 0x33333333) | ((u & 0x33333333) << 2)
        u = ((u >> 4) & 0x0F0F0F0F) | ((u & 0x0F0F0F0F) << 4)
        u = ((u >> 8) & 0x00FF00FF) | ((u & 0x00FF00FF) << 8)
        return ((u >> 16) | (u << 16)).to(x.dtype, bitcast=True)


@triton.jit
def mul24(x, y):
    """The product of the low 24 bits, signed, as i32."""
    return ((x << 8) >> 8) * ((y << 8) >> 8)


@triton.jit
def mulhi(x, y):
    """The upper half of a product of two 32-bit or unsigned 64-bit integers."""
    if x.dtype.primitive_bitwidth == 32:
        return ((x.to(tl.int64) * y.to(tl.int64)) >> 32).to(x.dtype)
    else:
        high = tl.umulhi(x.to(tl.uint64, bitcast=True), y.to(tl.uint64, bitcast=True)).to(x.dtype, bitcast=True)
        if x.dtype == tl.int64:
            return high - tl.where(x < 0, y, 0) - tl.where(y < 0, x, 0)
        else:
            return high


@triton.jit
def sad(x, y, z):
    """|x - y| + z."""
    return tl.where(x > y, x - y, y - x) + z


@triton.jit
def hadd(x, y):
    """(x + y) / 2, rounded down, without overflow."""
    return (x & y) + ((x ^ y) >> 1)


@triton.jit
def rhadd(x, y):
    """(x + y) / 2, rounded up, without overflow."""
    return (x | y) - ((x ^ y) >> 1)


@triton.jit
def hiloint2double(high, low):
    """The f64 whose bits are two i32."""
    return ((high.to(tl.int64) << 32) | (low.to(tl.int64) & 0xFFFFFFFF)).to(tl.float64, bitcast=True)


@triton.jit
def double2hiint(x):
    """The upper 32 bits of an f64."""
    return (x.to(tl.int64, bitcast=True) >> 32).to(tl.int32)


@triton.jit
def double2loint(x):
    """The lower 32 bits of an f64."""
    return x.to(tl.int64, bitcast=True).to(tl.int32)


@triton.jit
def byte_perm(x, y, selector):
    """Four bytes of the eight in (y, x), chosen by the low three bits of the selector's four nibbles."""
    bytes8 = (y.to(tl.int64) << 32) | (x.to(tl.int64) & 0xFFFFFFFF)
    out = tl.zeros_like(x)
    for i in tl.static_range(4):
        byte = (bytes8 >> (((selector >> (4 * i)) & 7) * 8).to(tl.int64)) & 255
        out |= byte.to(tl.int32) << (8 * i)
    return out
