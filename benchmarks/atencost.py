"""What the calls of aten in a model cost as OpenBLAS does them: each measured on its true shapes, once a run.

A call may have several ways; the cheapest counts. What has none is not counted, and the reason says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch_rvv.benchmarks.atencalls import AtenCall, Like
from torch_rvv.benchmarks.cycles import MODEL_VLEN, cycles_of_each
from torch_rvv.benchmarks.emulate import Profile, run_job
from torch_rvv.benchmarks.jobs import Job
from torch_rvv.benchmarks.measure import same
from torch_rvv.benchmarks.peers import Unavailable, blas, openblas, plain_c

from torch_rvv.errors import InstallError, TorchRvvError
from torch_rvv.knobs import knobs

TIMEOUT = 1800.0  # seconds, for all calls of a model


@dataclass(frozen=True)
class Cost:
    """Of one call. Cycles as in measure.Result."""

    instructions: int
    cycles: float | None
    cycles_bound: float | None


@dataclass(frozen=True)
class Way:
    """A call of a function of a library, and whether the result is written with channels last."""

    library: Callable[[], Path]
    call: blas.Call
    channels_last: bool = False


@cache
def _clang() -> plain_c.PlainC:
    return plain_c.PlainC("c_clang", plain_c.clang())


def _product(a: torch.Tensor, b: torch.Tensor) -> list[Way]:
    return [Way(openblas.built, blas.product(a, b))]


def _biased(bias: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> list[Way]:
    return [Way(openblas.built, blas.product(a, b, bias))]


def _convolution(
    x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor | None, stride: Any, padding: Any, dilation: Any,
    transposed: bool, output_padding: Any, groups: int,
) -> list[Way]:  # fmt: skip
    """By OpenBLAS; with a filter a channel also by compiled C, which is what it is without a product."""
    if transposed or any(d != 1 for d in dilation):
        raise Unavailable("a convolution that is transposed or dilated")
    call = blas.convolution(x, w, bias, stride, padding, groups)
    last = call.symbol.endswith("_last")
    ways = [Way(openblas.built, call, last)]
    if groups == x.shape[1] == w.shape[0]:
        ways.append(Way(_clang().library, blas.Call("depthwise_last" if last else "case_conv", call.arguments), last))
    return ways


def _attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, dropout: float = 0.0, causal: bool = False, *,
    attn_mask: torch.Tensor | None = None, scale: float | None = None,
) -> list[Way]:  # fmt: skip
    if dropout:
        raise Unavailable("attention with dropout")
    return [Way(openblas.built, blas.attention(q, k, v, attn_mask, causal, scale))]


# operation: (what it is called in the report, its ways)
OPERATIONS: dict[str, tuple[str, Callable[..., list[Way]]]] = {
    "aten.mm": ("products", _product),
    "aten.bmm": ("products", _product),
    "aten.addmm": ("products", _biased),
    "aten.baddbmm": ("products", _biased),
    "aten.convolution": ("convolutions", _convolution),
    "aten._scaled_dot_product_flash_attention_for_cpu": ("attentions", _attention),
}
_measured: dict[tuple[AtenCall, int], Cost | Unavailable] = {}  # by call and VLEN


def measured(calls: Iterable[AtenCall]) -> dict[AtenCall, Cost | Unavailable]:
    """The cost of one of each call, or why it has none."""
    wanted = list(dict.fromkeys(calls))
    new = [call for call in wanted if (call, knobs.vlen) not in _measured]
    _measured.update(((call, knobs.vlen), cost) for call, cost in zip(new, _measure(new), strict=True))
    return {call: _measured[call, knobs.vlen] for call in wanted}


def _measure(calls: list[AtenCall]) -> list[Cost | Unavailable]:
    """All ways of all calls in one job, each step with the result it must have."""
    job = Job(environment=dict(openblas.ENVIRONMENT))
    out: list[Cost | Unavailable] = []
    waiting: list[tuple[int, torch.Tensor]] = []  # of each step: its call's number, and its result
    for number, call in enumerate(calls):
        out.append(Unavailable("no way to do it"))
        try:
            for way, right in _ways(call):
                buffer = job.add(bytes(right.untyped_storage().nbytes()))
                step = way.call.step(job, buffer, way.library())
                job.steps.append(step)
                job.outputs.append(buffer.buffer)
                waiting.append((number, right))
        except Unavailable as error:
            out[number] = error
    if not waiting:
        return out
    try:
        profile, found = run_job(job, knobs.vlen, TIMEOUT)
    except TorchRvvError as error:
        failed = Unavailable(str(error).splitlines()[0])
        for number, _ in waiting:
            out[number] = failed
        return out
    costs = _costs(profile.regions)
    for (number, right), cost, contents in zip(waiting, costs, found, strict=True):
        held = out[number]
        if not same(contents, right):
            out[number] = Unavailable("wrong results")
        elif not isinstance(held, Cost) or _weight(cost) < _weight(held):
            out[number] = cost
    return out


def _ways(call: AtenCall) -> list[tuple[Way, torch.Tensor]]:
    """Each way with what PyTorch computes, in the order in which the way writes it."""
    if call.operation not in OPERATIONS:
        raise Unavailable("no product, convolution or attention")
    generator = torch.Generator().manual_seed(0)
    made = [a.make(generator) if isinstance(a, Like) else a for a in call.arguments]
    named = {name: a.make(generator) if isinstance(a, Like) else a for name, a in call.keywords}
    make = OPERATIONS[call.operation][1]
    unknown = named.keys() - signature(make).parameters.keys()
    if unknown:
        raise Unavailable(f"arguments that are not known: {', '.join(sorted(unknown))}")
    ways = make(*made, **named)
    result = getattr(torch.ops.aten, call.operation.removeprefix("aten."))(*made, **named)
    right = result[0] if isinstance(result, tuple) else result
    last = torch.channels_last
    return [(way, right.contiguous(memory_format=last) if way.channels_last else right.contiguous()) for way in ways]


def _costs(regions: list[Profile]) -> list[Cost]:
    if knobs.vlen == MODEL_VLEN:
        try:
            cycles = cycles_of_each([region.blocks() for region in regions])
        except (InstallError, ValueError):  # As in measure.fill, whose row says so.
            pass
        else:
            return [
                Cost(r.instructions, round(c.estimate, 1), round(c.bound, 1))
                for r, c in zip(regions, cycles, strict=True)
            ]
    return [Cost(region.instructions, None, None) for region in regions]


def _weight(cost: Cost) -> float:
    return cost.cycles or cost.instructions


def total(calls: Counter[AtenCall]) -> tuple[Cost, str]:
    """(What all calls cost together, in words what they are and what of them is not counted)."""
    costs = measured(calls)
    nouns: Counter[str] = Counter()
    left: dict[str, str] = {}
    instructions, cycles, bound = 0, 0.0, 0.0
    known = True
    for call, count in calls.items():
        cost = costs[call]
        if isinstance(cost, Unavailable):
            left[call.operation] = str(cost)
            continue
        nouns[OPERATIONS[call.operation][0]] += count
        instructions += count * cost.instructions
        known = known and cost.cycles is not None
        cycles += count * (cost.cycles or 0.0)
        bound += count * (cost.cycles_bound or 0.0)
    parts = []
    if nouns:
        parts.append("in aten, added as OpenBLAS does it: " + ", ".join(f"{n} {noun}" for noun, n in nouns.items()))
    if left:
        parts.append("not counted: " + ", ".join(f"{name} ({why})" for name, why in left.items()))
    cost = Cost(instructions, round(cycles, 1) if known else None, round(bound, 1) if known else None)
    return cost, "; ".join(parts)
