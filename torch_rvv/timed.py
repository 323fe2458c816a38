"""Kernels chosen by time, on a board: mode="max-autotune".

    a kernel, its configurations, and what it is launched on
    →  each configuration; the fastest at each LMUL; then with its blocks halved, while that helps
    →  the fastest one only

Each is run on tensors of the graph's shapes and strides. Blocks only get smaller: Inductor leaves out masks where its
own block divides a size. Nothing is timed on an emulated board, where the cost models decide (inductor.py, lowering).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch._inductor.virtualized import V

from torch_rvv.errors import TorchRvvError
from torch_rvv.knobs import LMULS, knobs
from torch_rvv.plugin import tuning
from torch_rvv.plugin.compiler import compiling, current_codegen
from torch_rvv.runtime import record
from torch_rvv.runtime.context import current_placement
from torch_rvv.runtime.device import Device, get_device
from torch_rvv.runtime.program import Kernel

POINTS = ("XBLOCK", "YBLOCK", "ZBLOCK")
# A candidate must be so much faster to be taken: what is less may be chance.
MARGIN = 0.97
# Runs of a candidate, or fewer if they take so many milliseconds together.
REPEATS, ENOUGH = 10, 500.0


@dataclass(frozen=True)
class Candidate:
    """A configuration of a kernel's blocks at an LMUL, None if the lowering chooses one for each loop. configuration:
    the number of the one that it is made from."""

    configuration: int
    blocks: tuple[tuple[str, int], ...]
    lmul: int | None

    def halved(self, name: str) -> Candidate | None:
        blocks = dict(self.blocks)
        if blocks.get(name, 1) < 2:
            return None
        return replace(self, blocks=tuple((n, size // 2 if n == name else size) for n, size in self.blocks))

    def __str__(self) -> str:
        lmul = "LMUL by loop" if self.lmul is None else f"LMUL {self.lmul}"
        return ", ".join([*(f"{name} {size}" for name, size in self.blocks), lmul])


class Trials:
    """The candidates of one kernel, each compiled and timed once. tuner: Inductor's CachingAutotuner, compiled; args:
    as it is called."""

    def __init__(self, tuner: Any, args: Sequence[Any], device: Device):
        self.tuner, self.args, self.device = tuner, args, device
        self.results = list(tuner.compile_results)
        self.seconds: dict[Candidate, float] = {}
        self.made: dict[Candidate, Any] = {}

    def given(self) -> list[Candidate]:
        """The configurations that the kernel comes with."""
        lmul = current_codegen().lmul
        found = []
        for number, result in enumerate(self.results):
            blocks = {n: size for n, size in result.config.kwargs.items() if n in POINTS}
            found.append(Candidate(number, tuple(blocks.items()), lmul))
            self.made[found[-1]] = result
        return found

    def best(self) -> Candidate:
        """The fastest one, by a descent from the best one that was given."""
        first, *others = self.given()
        best = first
        for candidate in others:
            best = self.better(best, candidate)
        if first.lmul is None:
            for lmul in LMULS:
                best = self.better(best, replace(best, lmul=lmul))
        for name in POINTS:
            while (half := best.halved(name)) is not None and self.better(best, half) is half:
                best = half
        return best

    def better(self, held: Candidate, other: Candidate) -> Candidate:
        return other if self.time(other) < MARGIN * self.time(held) else held

    def time(self, candidate: Candidate) -> float:
        """Seconds of a launch; infinity if it cannot be compiled or fails."""
        if candidate not in self.seconds:
            try:
                self.seconds[candidate] = self._time(self.result(candidate))
            except TorchRvvError:
                self.seconds[candidate] = float("inf")
        return self.seconds[candidate]

    def result(self, candidate: Candidate) -> Any:
        """What Inductor's autotuner makes of a candidate."""
        if candidate not in self.made:
            config = copy.deepcopy(self.results[candidate.configuration].config)
            config.kwargs.update(candidate.blocks)
            with compiling(replace(current_codegen(), lmul=candidate.lmul)):
                self.made[candidate] = self.tuner._precompile_config(config)
        return self.made[candidate]

    def _time(self, result: Any) -> float:
        from torch_rvv.fxgraph import launch_of

        if result.kernel.metadata.declined is not None:
            return float("inf")
        kernel = Kernel("timed", result.kernel, None, record.KernelRecord("timed"))
        launch = launch_of(self.tuner, result.config, self.args, kernel.names)
        return min(tuning.times(lambda: kernel.launch(*launch, self.device), REPEATS, ENOUGH)) * 1e-3


def board() -> str | None:
    """The board by whose time kernels of the compile under way (in this thread) are chosen; None where they are not."""
    placement = current_placement()
    if not placement.timed or knobs.force_fallback:
        return None
    device = get_device(placement.device)
    return None if device.emulated else device.name


def tell() -> None:
    """Have explain say that nothing is timed in the graph that is compiled next, where that was asked for in vain."""
    placement = current_placement()
    if placement.timed and (device := get_device(placement.device)).emulated:
        record.decide("max-autotune", f"times nothing on {device.name}: cost models choose")


def choose(tuner: Any, name: str, args: Sequence[Any]) -> None:
    """Leave a compiled kernel its fastest form. args: of its call in Inductor's FX conversion, nodes and sizes."""
    if tuner.compile_results[0].kernel.metadata.declined is not None:
        return
    if not hasattr(tuner, "rvv_chosen"):  # Inductor keeps a kernel for its next compile in this process.
        tuner.rvv_chosen = _chosen(tuner, args)
    best, told = tuner.rvv_chosen
    record.decide(f"kernel {name} ({best})", told)


def _chosen(tuner: Any, args: Sequence[Any]) -> tuple[Candidate, str]:
    """The form that is left, and what is told of it."""
    device = get_device(current_placement().device)
    trials = Trials(tuner, [_example(argument, device) for argument in args], device)
    best = trials.best()
    first = trials.given()[0]
    tuner.compile_results = [trials.result(best)]
    millis = {candidate: f"{seconds * 1e3:.3f} ms" for candidate, seconds in trials.seconds.items()}
    rest = f"of {len(millis)} forms tried on {device.name}"
    told = (
        f"is the fastest {rest}" if best == first else f"takes {millis[best]}, {millis[first]} before: the best {rest}"
    )
    return best, told


def _example(argument: Any, device: Device) -> Any:
    """A value for an argument: a tensor of random numbers, or of zeros where they may be indices."""
    if not isinstance(argument, torch.fx.Node):
        return argument if isinstance(argument, int | float) else _hint(argument)
    fake = argument.meta["val"]
    made = device.empty_strided([_hint(n) for n in fake.shape], [_hint(n) for n in fake.stride()], fake.dtype)
    return made.normal_() if fake.dtype.is_floating_point and fake.dtype.itemsize > 1 else made.zero_()


def _hint(size: Any) -> int:
    expression = size.node.expr if isinstance(size, torch.SymInt) else size
    return int(V.graph.sizevars.optimization_hint(expression))
