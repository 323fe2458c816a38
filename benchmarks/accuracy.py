"""Model accuracy: a compiled model against eager, both against eager in float64.

A model passes when the compiled outputs (in training, gradients too) agree with the float64 run no worse than
twice what eager itself does, by the rules of torch._dynamo.testing.same.
"""

from __future__ import annotations

import copy
import statistics
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch._dynamo.testing import same
from torch_rvv.benchmarks.models import build
from torch_rvv.runtime import record
from torch_rvv.runtime.record import GraphRecord, KernelRecord


@dataclass
class Result:
    """One model's outcome; the JSON form is these fields. seconds: of compiling and the first run."""

    model: str
    dtype: str
    status: str = "error"
    max_abs_err: float | None = None
    kernels: int = 0
    compiled: int = 0
    fell_back: int = 0
    reasons: list[str] = field(default_factory=list)
    unstructured_share: float = 0.0
    seconds: float = 0.0
    compile_ms: list[float] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {k: v for k, v in asdict(self).items() if k != "compile_ms"}


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


def _outputs(network: torch.nn.Module, call: Any, inputs: dict[str, Any], training: bool) -> list[torch.Tensor]:
    """What is compared: every tensor output, in training the gradients of all parameters too."""
    if not training:
        with torch.no_grad():
            return [v for v in call(**inputs).values() if isinstance(v, torch.Tensor)]
    network.zero_grad(set_to_none=True)
    outputs = [v for v in call(**inputs).values() if isinstance(v, torch.Tensor) and v.is_floating_point()]
    sum((v.double().square().mean() for v in outputs), torch.zeros((), dtype=torch.float64)).backward()
    return [v.detach() for v in outputs] + [p.grad for p in network.parameters() if p.grad is not None]


def _scaled(
    eager: list[torch.Tensor], ours: list[torch.Tensor], reference: list[torch.Tensor], dtype: torch.dtype
) -> tuple[list[torch.Tensor], ...]:
    """The three runs with each tensor brought to size 1: a tolerance means as much for small gradients as for large.

    What is a rounding error of the whole (a gradient that should be zero) is not made larger than that.
    """
    sizes = [float(r.abs().max()) if r.numel() else 0.0 for r in reference]
    least = max(sizes, default=0.0) * min(1.0, 1000 * torch.finfo(dtype).eps) or 1.0
    scales = [1 / max(size, least) for size in sizes]
    return tuple([t * scale for t, scale in zip(run, scales, strict=True)] for run in (eager, ours, reference))


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


def _longer(inputs: dict[str, Any]) -> dict[str, Any]:
    """The same inputs with another sequence length, or batch size for images."""
    out = {}
    for name, value in inputs.items():
        out[name] = value[:, :-5].contiguous() if value.dim() == 2 else torch.cat([value, value.flip(0)])
    return out


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
    for sample in [inputs, _longer(inputs)] if dynamic else [inputs]:
        state = copy.deepcopy(network.state_dict())
        reference = _outputs(exact, exact, {k: _cast(v, torch.float64) for k, v in sample.items()}, training)
        sample = {k: _cast(v, dtype) for k, v in sample.items()}
        eager = [t.clone() for t in _outputs(network, network, sample, training)]
        network.load_state_dict(state)
        ours = _outputs(network, compiled, sample, training)
        worst = max(
            [worst, *(float((a.double() - b).abs().max()) for a, b in zip(ours, reference, strict=True) if a.numel())]
        )
        tolerance = 1e-3 if dtype != torch.bfloat16 else 1e-2
        good = good and same(*_scaled(eager, ours, reference, dtype), tol=tolerance)
    result.max_abs_err = worst
    result.status = "pass" if good else "fail"


def _summarise(result: Result, graphs: list[GraphRecord]) -> None:
    kernels = [k for g in graphs for k in g.kernels]
    result.kernels = len(kernels)
    result.compiled = sum(k.compiled for k in kernels)
    result.fell_back = result.kernels - result.compiled
    result.reasons += sorted({f"{k.name}: {k.reason}" for k in kernels if k.reason})
    result.unstructured_share, _ = unstructured_share(kernels)
    result.compile_ms = [k.seconds * 1e3 for k in kernels if k.compiled]


def table(results: list[Result]) -> str:
    """The results as plain text, with the median time of lowering a kernel."""
    lines = [
        f"{'model':14} {'dtype':9} {'status':6} {'max err':>9} {'kernels':>7} {'fell back':>9} {'gathers':>7} {'s':>6}"
    ]
    for r in results:
        error = "-" if r.max_abs_err is None else f"{r.max_abs_err:.2e}"
        lines.append(
            f"{r.model:14} {r.dtype:9} {r.status:6} {error:>9} {r.kernels:7} {r.fell_back:9}"
            f" {r.unstructured_share:7.1%} {r.seconds:6.1f}"
        )
        lines += [f"    {reason}" for reason in r.reasons]
    times = [t for r in results for t in r.compile_ms]
    if times:
        lines.append(f"median lowering time of a kernel: {statistics.median(times):.0f} ms")
    return "\n".join(lines)
