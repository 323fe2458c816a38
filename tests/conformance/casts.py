"""Casts between all types, rounding modes, saturation, bitcasts."""

from __future__ import annotations

import torch

from tests.conformance.harness import (
    BF16,
    BOOL,
    E4M3,
    E5M2,
    EVERY,
    F16,
    F32,
    F64,
    FLOATS,
    I8,
    I16,
    I32,
    I64,
    NAMES,
    TRITON,
    U8,
    add,
    case,
    elementwise,
    kernel,
    same,
    values,
)

FAMILY = "casts"
LIMIT = {E4M3: 448.0, E5M2: 57344.0}


def converted(x: torch.Tensor, to: torch.dtype) -> torch.Tensor:
    if to in LIMIT:
        return x.to(F32).clamp(-LIMIT[to], LIMIT[to]).to(to)
    if x.dtype == F64 and to in (F16, BF16):
        return x.to(F32).to(to)
    if to == BOOL:
        return x != 0
    return x.to(to)


def cast(source: torch.dtype, to: torch.dtype) -> None:
    floating = source.is_floating_point
    x = values(F32 if source in LIMIT else source, 128, edges=floating and to.is_floating_point, low=-90, high=90)
    if to == U8 and source not in (U8, BOOL):
        x = x.abs()
    x = converted(x, source) if source in LIMIT else x
    out = torch.zeros(128, dtype=to)
    body = f"i = tl.arange(0, 128)\ntl.store(o + i, tl.load(x + i).to({TRITON[to]}))"
    kernel("x, o", body)[(1,)](x, out)
    same(out, converted(x.to(F32) if source in LIMIT else x, to), exact=True)


for source in (*EVERY, E4M3, E5M2, BOOL):
    for to in (*EVERY, E4M3, E5M2, BOOL):
        if (
            source != to
            and not (source in LIMIT and not to.is_floating_point)
            and not (to in LIMIT and not source.is_floating_point)
        ):
            add(FAMILY, f"to_{NAMES[to]}", source, lambda source=source, to=to: cast(source, to))


def towards_zero(source: torch.dtype, to: torch.dtype) -> None:
    x = values(source, 128, edges=True, low=-300, high=300)
    out = torch.zeros(128, dtype=to)
    body = f'i = tl.arange(0, 128)\ntl.store(o + i, tl.load(x + i).to({TRITON[to]}, fp_downcast_rounding="rtz"))'
    kernel("x, o", body)[(1,)](x, out)
    got, exact = out.to(F64), x.to(F64)
    nan = torch.isnan(exact)
    assert bool((torch.isnan(got) == nan).all()), "NaN lost or made"
    assert bool((got.abs() <= exact.abs())[~nan].all()), "rounded away from zero"
    bits = out.view(torch.uint8 if to in LIMIT else I16)
    finite = ~nan & torch.isfinite(exact) & (got.abs() < (LIMIT.get(to) or torch.finfo(to).max))
    above = (bits + 1).view(to).to(F64)
    assert bool((above.abs() > exact.abs())[finite].all()), "a nearer number towards zero exists"


for source, to in [(F32, F16), (F32, BF16), (F32, E4M3), (F32, E5M2), (F64, F16), (F64, BF16)]:
    add(FAMILY, f"rtz_to_{NAMES[to]}", source, lambda source=source, to=to: towards_zero(source, to))


def bitcast(source: torch.dtype, to: torch.dtype) -> None:
    x = values(source, 128, edges=True)
    out, back = torch.zeros(128, dtype=to), torch.zeros(128, dtype=source)
    body = (
        f"i = tl.arange(0, 128)\ny = tl.load(x + i).to({TRITON[to]}, bitcast=True)\ntl.store(o + i, y)\n"
        f"tl.store(b + i, y.to({TRITON[source]}, bitcast=True))"
    )
    kernel("x, o, b", body)[(1,)](x, out, back)
    assert torch.equal(out, x.view(to)) and torch.equal(back.view(to), out), "bits changed"


for source, to in [(F32, I32), (F64, I64), (F16, I16), (BF16, I16)]:
    add(FAMILY, f"bitcast_{NAMES[to]}", source, lambda source=source, to=to: bitcast(source, to))
elementwise(FAMILY, "sum_of_mixed", FLOATS, "x + i.to(tl.int8)", lambda x: x + torch.arange(len(x)).to(I8), edges=False)
elementwise(FAMILY, "bool_to_number", (F32, I32, I64), "(x > 0).to(x.dtype)", lambda x: x > 0)


for kind in ("float8e4b8", "float8e5b16", "float8e4b15"):

    @case(FAMILY, f"to_{kind}", F32, F16)
    def rare(dtype, kind=kind):
        x, out = values(dtype, 64), torch.zeros(64, dtype=F32)
        body = f"i = tl.arange(0, 64)\ntl.store(o + i, tl.load(x + i).to(tl.float32).to(tl.{kind}).to(tl.float32))"
        kernel("x, o", body)[(1,)](x, out)
        same(out, x.to(F32), scale=1e5)
