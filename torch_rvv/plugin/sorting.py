"""Sorting for the kernels that Inductor writes: torch.sort's order as 64-bit keys, which `rvv.sort` puts in order.

    values, places = sort_with_index(x, indices, n, 1, stable=True, descending=False)

A key is a value's rank in the order of its type (32 bits) above its place in the row, so that no two are alike and any
way to sort them is stable. 64-bit values are sorted twice, by their low half and then by their high one.
lowering/sort.py is the sorting itself.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl
from triton.language import core


@core.extern
def sorted_keys(keys: Any, length: Any, _semantic: Any = None) -> Any:
    """The keys (i64) of each row, in the order that they have as unsigned numbers. length: how many count."""
    types = {(core.int64, core.int32): ("rvv.sort", core.int64)}
    return core.extern_elementwise("", "", [keys, length], types, is_pure=True, _semantic=_semantic)


@triton.jit
def rank(x, descending: tl.constexpr):
    """Where each value stands in the order of its type, as an unsigned number of its width: NaN last, -0 beside 0."""
    width: tl.constexpr = x.dtype.primitive_bitwidth
    signed: tl.constexpr = tl.core.get_int_dtype(width, True)
    sign = tl.full(x.shape, -(1 << (width - 1)), signed)
    if x.dtype.is_floating():
        bits = (x + 0.0).to(signed, bitcast=True)
        place = tl.where(x != x, ~sign, bits ^ ((bits >> (width - 1)) & ~sign)) ^ sign
    elif x.dtype.is_int_signed():
        place = x ^ sign
    else:
        place = x
    place = place.to(tl.core.get_int_dtype(width, False), bitcast=True)
    return ~place if descending else place


@triton.jit
def _in_order(high, low, inside, n):
    """The low halves of the keys (high, low), sorted."""
    key = (high.to(tl.uint64) << 32) | low.to(tl.uint64)
    if inside is not None:
        key = tl.where(inside, key, (0xFFFFFFFF << 32) | low.to(tl.uint64))
    # The mask says to the compiler that what it gathers by this is there.
    size: tl.constexpr = key.shape[len(key.shape) - 1]
    return (sorted_keys(key.to(tl.int64, bitcast=True), n) & (size - 1)).to(tl.int32)


@triton.jit
def sort_with_index(x, idxs, rnumel, dim: tl.constexpr = None, stable: tl.constexpr = False,
                    descending: tl.constexpr = False):  # fmt: skip
    """x sorted along its last axis, and where each value was, in the type of idxs, which are the places 0, 1, 2 ...

    rnumel: how many of a row there are, None for all. Always stable. Stands in for triton_helpers.sort_with_index.
    """
    size: tl.constexpr = x.shape[len(x.shape) - 1]
    last: tl.constexpr = len(x.shape) - 1
    place, _ = tl.broadcast(tl.arange(0, size), x)
    if rnumel is None:
        inside = None
        n = size
    else:
        inside = place < rnumel
        n = rnumel
    v = x.to(tl.uint8) if x.dtype == tl.int1 else x
    ranks = rank(v, descending)
    if v.dtype.primitive_bitwidth == 64:
        by_low = _in_order(ranks & 0xFFFFFFFF, place, inside, n)
        at = _in_order(tl.gather(ranks >> 32, by_low, last), place, inside, n)
        order = tl.gather(by_low, at, last)
    else:
        order = _in_order(ranks, place, inside, n)
    found = tl.gather(v, order, last)
    return (found != 0 if x.dtype == tl.int1 else found), order.to(idxs.dtype)
