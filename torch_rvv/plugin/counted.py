"""Executed instructions of Triton launches on the virtual board: they are recorded, and played again under the plug-in
that counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch

from torch_rvv.benchmarks.capture import RecordingDevice
from torch_rvv.benchmarks.emulate import run_job
from torch_rvv.benchmarks.jobs import KernelStep
from torch_rvv.benchmarks.recorder import Recorder
from torch_rvv.errors import DeviceError
from torch_rvv.runtime.device import Device, LoadedKernel, Printed, using


class NotCounted(DeviceError):
    """A launch that can run but not be played again in another process."""


class _Recording(RecordingDevice):
    def launch(
        self,
        kernel: LoadedKernel,
        grid: Sequence[int],
        args: Sequence[torch.Tensor | int],
        *,
        written: Collection[int] | None = None,
        timeout: float | None = None,
        printed: Printed | None = None,
        addresses: bool = False,
    ) -> int:
        if addresses:
            raise NotCounted(f"kernel {kernel.name} makes addresses of integers, its launches cannot be played again")
        return super().launch(kernel, grid, args, written=written, timeout=timeout, printed=printed)


def instructions(call: Callable[[], Any], device: Device) -> list[float]:
    """[millions of instructions that the launches of a call execute], or [] if no program runs.

    Raises NotCounted, InstallError if the emulator has no plug-ins, and what the call raises.
    """
    recording = _Recording(device)
    with using(recording):
        call()
    job = recording.recorder.job
    recording.recorder = Recorder()  # A launcher keeps the device for as long as it lives: not the memory, too.
    if not any(isinstance(step, KernelStep) and math.prod(step.grid) for step in job.steps):
        return []
    profile, _ = run_job(job, device.vlen)
    return [profile.instructions / 1e6]
