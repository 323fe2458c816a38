"""How `@triton.autotune` ranks configurations: by time on a board, by executed instructions on an emulated one.

Time under emulation says nothing of a board. There a configuration is run once on the virtual board, and its launches
again under the profiling plug-in, which counts; all programs, on one thread. A configuration that fails is named
in a warning, counts as infinitely slow, and the others go on.
"""

from __future__ import annotations

import inspect
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from torch_rvv.errors import InstallError, TorchRvvError


class TuningWarning(UserWarning):
    """A configuration that cannot be tried."""


def benchmark(call: Callable[[], Any], quantiles: Sequence[float] = (0.5,), repeats: int = 3, **_: Any) -> list[float]:
    """The cost of a call, once for each quantile: milliseconds on a board, millions of instructions without one."""
    # Here and below: Triton loads this module while it loads itself, and the runtime is needed only to tune.
    from triton.compiler.errors import CompilationError

    try:
        costs = _costs(call, repeats)
    except (TorchRvvError, CompilationError) as error:
        reason = " ".join(line.strip() for line in str(error).split("\n") if line.strip(" ^"))
        warnings.warn(f"{_who(call)} is out: {reason[-600:]}", TuningWarning, stacklevel=3)
        return [float("inf")] * len(quantiles)
    costs.sort()
    return [costs[round(q * (len(costs) - 1))] for q in quantiles]


def _who(call: Callable[[], Any]) -> str:
    """The kernel and the configuration that Triton's autotuner wants to try."""
    held = inspect.getclosurevars(call).nonlocals
    tuner, config = held.get("self"), held.get("config")
    kernel = getattr(getattr(tuner, "base_fn", None), "__name__", "a kernel")
    return f"autotuning {kernel}: the configuration {config}" if config is not None else f"autotuning {kernel}: a run"


def _costs(call: Callable[[], Any], repeats: int) -> list[float]:
    from torch_rvv.runtime.device import get_device
    from torch_rvv.runtime.virtual import VirtualBoard

    device = get_device()
    if not isinstance(device, VirtualBoard):
        return _times(call, repeats)
    try:
        return [_instructions(call, device)]
    except InstallError as error:  # An emulator without plug-ins: better a poor ranking, told, than none.
        warnings.warn(f"autotuning by the emulator's time: {error}", TuningWarning, stacklevel=5)
        return _times(call, repeats)


def _times(call: Callable[[], Any], repeats: int) -> list[float]:
    """Milliseconds of some calls, after one that is not counted."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1e3)
    return times


def _instructions(call: Callable[[], Any], device: Any) -> float:
    """Millions of instructions that the launches of a call execute."""
    from torch_rvv.benchmarks.capture import RecordingDevice
    from torch_rvv.benchmarks.emulate import run_job
    from torch_rvv.runtime.device import using

    recording = RecordingDevice(device)
    with using(recording):
        call()
    profile, _ = run_job(recording.recorder.job, device.vlen)
    return profile.instructions / 1e6
