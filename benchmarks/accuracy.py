"""Model accuracy: a compiled model against eager, both against eager in float64.

A model passes when the compiled outputs (in training, gradients too) agree with the float64 run no worse than
twice what eager itself does, by the rules of torch._dynamo.testing.same.
"""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch._dynamo.testing import same
from torch.utils._pytree import tree_leaves
from torch_rvv.benchmarks.models import build
from torch_rvv.runtime import record
from torch_rvv.runtime.record import GraphRecord, KernelRecord


@dataclass
class Result:
    """One model's outcome; the JSON form is these fields but for the last and extern, the calls left to aten. seconds:
    of compiling and the first run."""

    model: str
    dtype: str
    status: str = "error"
    max_abs_err: float | None = None
    kernels: int = 0
    compiled: int = 0
    fell_back: int = 0
    reasons: list[str] = field(default_factory=list)
    extern: dict[str, int] = field(default_factory=dict)
    unstructured_share: float = 0.0
    seconds: float = 0.0
    compile_ms: list[float] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {k: v for k, v in asdict(self).items() if k not in ("compile_ms", "extern")}


def unstructured_share(kernels: list[KernelRecord]) -> tuple[float, list[str]]:
    """Share of loads and stores, by elements touched, that are gathers; and why they are."""
    total = loose = 0
    why: list[str] = []
    for kernel in kernels:
        for access in kernel.metadata.get("accesses") or []:
            weight = (access["elements_per_program"] or 1) * max(kernel.programs, 1)
            total += weight
            if access["kind"] == "gather":
                loose += weight
                why.append(f"{kernel.name}: {access['op']} of argument {access['arg']}: {access['why']}")
    return (loose / total if total else 0.0), why


def _cast(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return value.to(dtype)
    return value


def _run(network: torch.nn.Module, call: Any, inputs: dict[str, Any], training: bool) -> list[list[torch.Tensor]]:
    """What is compared: the tensors of the result, and in training the gradients of all parameters."""
    if not training:
        with torch.no_grad():
            return [_tensors(call(**inputs))]
    network.zero_grad(set_to_none=True)
    outputs = [t for t in _tensors(call(**inputs)) if t.is_floating_point()]
    sum((t.double().square().mean() for t in outputs), torch.zeros((), dtype=torch.float64)).backward()
    return [[t.detach() for t in outputs], [p.grad for p in network.parameters() if p.grad is not None]]


def _tensors(result: Any) -> list[torch.Tensor]:
    """The tensors in a model's result: a tensor, or tuples, lists and mappings of them."""
    leaves = tree_leaves(dict(result) if isinstance(result, Mapping) else result)
    return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]


def _scales(reference: list[torch.Tensor], dtype: torch.dtype) -> list[float]:
    """Factors that bring each tensor to size 1, so that a tolerance means as much for small gradients as for large.

    What is a rounding error of the group (a gradient that should be zero) is not made larger than that. Powers of
    two, so that scaling rounds nothing.
    """
    sizes = [float(r.abs().max()) if r.numel() and r.is_floating_point() else 0.0 for r in reference]
    least = max(sizes, default=0.0) * min(1.0, 1000 * torch.finfo(dtype).eps) or 1.0
    return [2.0 ** -math.frexp(max(size, least))[1] for size in sizes]


def _agree(
    eager: list[torch.Tensor], ours: list[torch.Tensor], reference: list[torch.Tensor], dtype: torch.dtype
) -> bool:
    """Whether ours is as near to the float64 reference as eager is, or nearly so."""
    scales = _scales(reference, dtype)

    def scaled(run: list[torch.Tensor]) -> list[torch.Tensor]:
        return [t * scale if t.is_floating_point() else t for t, scale in zip(run, scales, strict=True)]

    tolerance = 1e-3 if dtype != torch.bfloat16 else 1e-2
    return bool(same(scaled(eager), scaled(ours), scaled(reference), tol=tolerance))


def _no_dropout(network: torch.nn.Module) -> None:
    """Training mode with every dropout at probability zero: the runs must be comparable."""
    network.train()
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    for module in network.modules():
        for name in ("dropout_prob", "attention_dropout", "dropout", "attention_probs_dropout_prob"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)


def _resized(inputs: dict[str, Any]) -> dict[str, Any]:
    """The same inputs at another size: shorter sequences of tokens, twice the batch of anything else."""

    def resized(value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or not value.dim():
            return value
        tokens = value.dim() == 2 and not value.is_floating_point()
        return value[:, :-5].contiguous() if tokens else torch.cat([value, value.flip(0)])

    return {name: resized(value) for name, value in inputs.items()}


def measure(
    name: str, dtype: torch.dtype = torch.float32, training: bool = False, dynamic: bool = False, options: Any = None
) -> Result:
    """Run one model and judge it. Never raises for a failing model: the result says what happened."""
    result = Result(name, str(dtype).removeprefix("torch."))
    start = time.perf_counter()
    try:
        with record.collecting() as graphs:
            _judge(result, name, dtype, training, dynamic, options)
    except Exception as error:  # The sweep goes on; the reason is in the report.
        result.status = "error"
        result.reasons.append(f"{type(error).__name__}: {str(error)[:400]}")
    result.seconds = time.perf_counter() - start
    _summarise(result, graphs)
    return result


def _judge(result: Result, name: str, dtype: torch.dtype, training: bool, dynamic: bool, options: Any) -> None:
    network, inputs = build(name)
    if training:
        _no_dropout(network)
    exact = copy.deepcopy(network).double()
    network = network.to(dtype)
    torch._dynamo.reset()
    compiled = torch.compile(network, backend="rvv", dynamic=True if dynamic else None, options=options)
    worst, good = 0.0, True
    for sample in [inputs, _resized(inputs)] if dynamic else [inputs]:
        state = copy.deepcopy(network.state_dict())
        reference = _run(exact, exact, {k: _cast(v, torch.float64) for k, v in sample.items()}, training)
        sample = {k: _cast(v, dtype) for k, v in sample.items()}
        eager = [[t.clone() for t in group] for group in _run(network, network, sample, training)]
        network.load_state_dict(state)
        ours = _run(network, compiled, sample, training)
        for theirs, group, precise in zip(eager, ours, reference, strict=True):
            errors = [
                float((a.double() - b.double()).abs().max()) for a, b in zip(group, precise, strict=True) if a.numel()
            ]
            worst = max([worst, *errors])
            good = good and _agree(theirs, group, precise, dtype)
    result.max_abs_err = worst
    result.status = "pass" if good else "fail"


def _summarise(result: Result, graphs: list[GraphRecord]) -> None:
    kernels = [k for g in graphs for k in g.kernels]
    result.kernels = len(kernels)
    result.compiled = sum(k.compiled for k in kernels)
    result.fell_back = result.kernels - result.compiled
    result.reasons += sorted({f"{k.name}: {k.reason}" for k in kernels if k.reason})
    result.extern = dict(sum((Counter(g.extern) for g in graphs), Counter()))
    result.reasons += sorted(
        {f"{what} {how}" for g in graphs for what, how in g.decisions.items() if how.startswith(record.LEFT)}
    )
    result.unstructured_share, _ = unstructured_share(kernels)
    result.compile_ms = [k.seconds * 1e3 for k in kernels if k.compiled]


def table(results: list[Result]) -> str:
    """The results as plain text, with the median time of lowering a kernel."""
    lines = [
        f"{'model':14} {'dtype':9} {'status':6} {'max err':>9} {'kernels':>7} {'fell back':>9} {'aten':>5}"
        f" {'gathers':>7} {'s':>6}"
    ]
    for r in results:
        error = "-" if r.max_abs_err is None else f"{r.max_abs_err:.2e}"
        lines.append(
            f"{r.model:14} {r.dtype:9} {r.status:6} {error:>9} {r.kernels:7} {r.fell_back:9}"
            f" {sum(r.extern.values()):5} {r.unstructured_share:7.1%} {r.seconds:6.1f}"
        )
        lines += [f"    {count} x {name}" for name, count in sorted(r.extern.items())]
        lines += [f"    {reason}" for reason in r.reasons]
    times = [t for r in results for t in r.compile_ms]
    if times:
        lines.append(f"median lowering time of a kernel: {statistics.median(times):.0f} ms")
    return "\n".join(lines)
