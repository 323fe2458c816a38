"""Our kernels as a job: a device that notes every launch of a compiled function, with its arguments as they were."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch_rvv.benchmarks.jobs import Argument, Job, KernelStep, Pointer, storage_bytes
from torch_rvv.runtime import record
from torch_rvv.runtime.device import Device, LoadedKernel, get_device
from torch_rvv.runtime.record import GraphRecord

from torch_rvv.errors import TorchRvvError


class RecordingDevice(Device):
    """Runs kernels on another device and keeps each launch, and the memory it saw, as a step of a job."""

    def __init__(self, inner: Device):
        super().__init__()
        self.inner = inner
        self.name, self.vlen, self.num_threads, self.isa = inner.name, inner.vlen, inner.num_threads, inner.isa
        self.clear()

    def clear(self) -> None:
        """Forget what was noted."""
        self.job = Job()
        self._held: dict[int, tuple[int, torch.Tensor]] = {}  # storage → its buffer, and what keeps it alive

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
    ) -> int:
        x, y, z = [*grid, 1, 1][:3]
        self.job.steps.append(KernelStep(kernel.binary, (x, y, z), tuple(self._argument(a) for a in args)))
        return self.inner.launch(kernel, grid, args, written=written, timeout=timeout)

    def _argument(self, argument: torch.Tensor | int) -> Argument:
        if isinstance(argument, int):
            return argument
        storage = argument.untyped_storage().data_ptr()
        if storage not in self._held:
            self._held[storage] = (self.job.add(argument).buffer, argument)
        return Pointer(self._held[storage][0], argument.data_ptr() - storage)

    def outputs(self) -> list[bytes]:
        """What stands in each buffer now."""
        return [storage_bytes(tensor) for _, tensor in self._held.values()]

    def empty_strided(self, size: Sequence[int], stride: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        return self.inner.empty_strided(size, stride, dtype)

    def close(self) -> None:
        self.inner.close()


def capture(function: Callable[..., Any], inputs: Sequence[Any]) -> tuple[Job, list[bytes], Any, list[GraphRecord]]:
    """Compile a function for RVV and run it: (its launches as a job, the memory after them, its result, its kernels).

    Raises what compiling raises, and TorchRvvError when part of the work is not in a kernel of ours.
    """
    torch._dynamo.reset()
    device = RecordingDevice(get_device())
    with record.collecting() as graphs, torch.no_grad():
        compiled = torch.compile(function, backend="rvv", options={"device": device})
        result = compiled(*inputs)
        device.clear()
        result = compiled(*inputs)
    reasons = [f"{k.name}: {k.reason}" for g in graphs for k in g.kernels if not k.compiled]
    extern = [name for g in graphs for name in g.extern]
    if reasons or extern:
        raise TorchRvvError("not in kernels: " + "; ".join(reasons + extern))
    job = device.job
    job.outputs = list(range(len(job.buffers)))
    return job, device.outputs(), result, graphs
