"""How `@triton.autotune` ranks configurations: by time on a board, by executed instructions on an emulated one.

Time under emulation says nothing of a board. There a configuration is run once on the virtual board, and its launches
again under the profiling plug-in, which counts; all programs, on one thread (counted.py). Tried on
tiles of matrix products (f32, f16), attention, row sums and silu, it picked what modelled X60 cycles pick.

A configuration that fails, or whose launch runs no program, is named in a warning, counts as infinitely slow, and the
others go on; if all fail, one error names them all.
"""

from __future__ import annotations

import inspect
import time
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from math import inf
from typing import Any
from weakref import WeakKeyDictionary

from torch_rvv.errors import InstallError, TorchRvvError


class TuningWarning(UserWarning):
    """A configuration that cannot be tried, or a ranking that is worth little."""


class TuningError(TorchRvvError, RuntimeError):
    """None of a kernel's configurations can be tried; the message has the reason for each."""


# Of each autotuner, the configurations that failed when they were last tried, and why.
_failed: WeakKeyDictionary[Any, dict[Any, str]] = WeakKeyDictionary()


def benchmark(call: Callable[[], Any], quantiles: Sequence[float] = (0.5,), repeats: int = 3, **_: Any) -> list[float]:
    """The cost of a call, once for each quantile: milliseconds on a board, millions of instructions without one.

    An autotuner's call that fails costs infinity; what any other call raises is raised. Raises TuningError if it was
    the last one of a round in which all failed.
    """
    # Here and below: Triton loads this module while it loads itself, and the runtime is needed only to tune.
    from triton.compiler.errors import CompilationError
    from triton.runtime.errors import OutOfResources

    trial = _Trial.of(call)
    try:
        costs = sorted(_costs(call, repeats))
    except (TorchRvvError, CompilationError, OutOfResources) as error:
        if trial is None:
            raise
        trial.failed(" ".join(line.strip() for line in str(error).split("\n") if line.strip(" ^"))[-600:])
        return [float("inf")] * len(quantiles)
    if trial is not None and not costs:
        trial.lost("its launch runs no program")
    elif trial is not None:
        trial.passed()
    return [costs[round(q * (len(costs) - 1))] if costs else float("inf") for q in quantiles]


class _Trial:
    """A configuration that an autotuner wants to try."""

    def __init__(self, tuner: Any, config: Any, keywords: dict[str, Any]):
        self.tuner, self.config, self.keywords = tuner, config, keywords

    @staticmethod
    def of(call: Callable[[], Any]) -> _Trial | None:
        """What Triton's autotuner hands over is a closure; None for a call of someone else's."""
        from triton.runtime.autotuner import Autotuner

        held = inspect.getclosurevars(call).nonlocals if inspect.isfunction(call) else {}
        tuner, config = held.get("self"), held.get("config")
        if not isinstance(tuner, Autotuner) or config is None:
            return None
        mine = config.all_kwargs()
        return _Trial(tuner, config, {k: v for k, v in held.get("current", {}).items() if k not in mine})

    @property
    def name(self) -> str:
        return str(self.tuner.base_fn.__name__)

    def passed(self) -> None:
        _failed.get(self.tuner, {}).pop(self.config, None)

    def lost(self, reason: str) -> None:
        """It is not an error, but there is nothing to compare."""
        self.passed()
        warnings.warn(f"autotuning {self.name}: the configuration {self.config} is out: {reason}", TuningWarning, 3)

    def failed(self, reason: str) -> None:
        warnings.warn(f"autotuning {self.name}: the configuration {self.config} is out: {reason}", TuningWarning, 3)
        failed = _failed.setdefault(self.tuner, {})
        failed[self.config] = reason
        tried = self.tuner.prune_configs(self.keywords)
        # In each round all are tried in this order, so what is noted of those before the last one is of this round.
        if self.config == tried[-1] and all(config in failed for config in tried):
            reasons = "".join(f"\n  {config}: {failed[config]}" for config in tried)
            raise TuningError(f"autotuning {self.name}: all {len(tried)} configurations fail:{reasons}")


def _costs(call: Callable[[], Any], repeats: int) -> list[float]:
    """What some runs of a call cost; nothing if it launches no program."""
    from torch_rvv.runtime.device import get_device

    device = get_device()
    if not device.emulated:
        return times(call, repeats)
    from torch_rvv.plugin.counted import NotCounted, instructions

    try:
        return instructions(call, device)
    except (InstallError, NotCounted) as error:  # Better a poor ranking, told, than none.
        warnings.warn(f"autotuning by the emulator's time: {error}", TuningWarning, stacklevel=4)
        return times(call, repeats)


def times(call: Callable[[], Any], repeats: int, enough: float = inf) -> list[float]:
    """Milliseconds of some calls, after one that is not counted; of fewer once they have taken enough together."""
    call()
    found: list[float] = []
    while len(found) < repeats and sum(found) < enough:
        start = time.perf_counter()
        call()
        found.append((time.perf_counter() - start) * 1e3)
    return found


class Event:
    """A moment, for `triton.testing.do_bench`: launches have ended when they return, so the host's clock will do.

    On an emulated board the times between are the emulator's, which the first event says.
    """

    def __init__(self, enable_timing: bool = False):
        self.at = 0.0
        _say_whose_time()

    def record(self) -> None:
        self.at = time.perf_counter()

    def elapsed_time(self, end: Event) -> float:
        """Milliseconds until another event."""
        return (end.at - self.at) * 1e3


class DeviceInterface:
    """What Triton's testing module asks of a device: it can be timed."""

    Event = Event

    @staticmethod
    def current_device() -> int:
        """There is one device."""
        return 0

    @staticmethod
    def synchronize() -> None:
        """A launch returns when it has ended."""


@cache
def _say_whose_time() -> None:
    from torch_rvv.runtime.device import get_device

    if get_device().emulated:
        warnings.warn("do_bench times the emulator, which says nothing of a board's speed", TuningWarning, stacklevel=4)
