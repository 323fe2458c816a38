"""Our kernels as a job: a device that notes every launch of a compiled function, with its arguments as they were."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, cast

import torch
from torch_rvv.benchmarks.jobs import Job, KernelStep
from torch_rvv.benchmarks.recorder import Recorder
from torch_rvv.runtime import record
from torch_rvv.runtime.device import Device, LoadedKernel, Printed, get_device
from torch_rvv.runtime.record import GraphRecord

from torch_rvv.errors import DeviceError, TorchRvvError


class RecordingDevice(Device):
    """Runs kernels on another device and keeps each launch, and the memory it saw, as a step of a job."""

    def __init__(self, inner: Device):
        super().__init__()
        self.inner = inner
        self.name, self.vlen, self.num_threads, self.isa = inner.name, inner.vlen, inner.num_threads, inner.isa
        self.recorder = Recorder()

    def load(self, binary: bytes, name: str) -> LoadedKernel:
        return self.inner.load(binary, name)

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
            raise DeviceError(f"kernel {kernel.name} makes addresses of integers, which another process cannot replay")
        x, y, z = [*grid, 1, 1][:3]
        arguments = tuple(a if isinstance(a, int) else self.recorder.pointer(a) for a in args)
        self.recorder.job.steps.append(KernelStep(kernel.binary, (x, y, z), arguments, kernel.name))
        status = self.inner.launch(kernel, grid, args, written=written, timeout=timeout, printed=printed)
        self.recorder.ran(args)
        return status

    def empty_strided(self, size: Sequence[int], stride: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        return self.inner.empty_strided(size, stride, dtype)

    def close(self) -> None:
        self.inner.close()


def capture(
    function: Callable[..., Any],
    inputs: Sequence[Any] = (),
    keywords: Mapping[str, Any] | None = None,
    whole: bool = True,
) -> tuple[Job, list[bytes], Any, list[GraphRecord]]:
    """Compile a function for RVV and run it: (its launches as a job, the memory after them, its result, its kernels).

    What aten computes between two launches is in the job as data. Raises what compiling raises and, if the work
    should be whole, TorchRvvError when part of it is not in a kernel of ours.
    """
    torch._dynamo.reset()
    device, named = RecordingDevice(get_device()), dict(keywords or {})
    with record.collecting() as graphs, torch.no_grad():
        compiled = torch.compile(function, backend="rvv", options=cast(Any, {"device": device}))
        compiled(*inputs, **named)
        device.recorder = Recorder()
        result = compiled(*inputs, **named)
    reasons = [f"{k.name}: {k.reason}" for g in graphs for k in g.kernels if not k.compiled]
    extern = [name for g in graphs for name in g.extern]
    if whole and (reasons or extern):
        raise TorchRvvError("not in kernels: " + "; ".join(reasons + extern))
    job = device.recorder.job
    job.outputs = list(range(len(job.buffers)))
    return job, [contents for contents, _ in device.recorder.contents()], result, graphs
