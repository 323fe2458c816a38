"""Builds a job while its work is being done elsewhere: tensors become buffers, with what they hold when first seen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch_rvv.benchmarks.jobs import FillStep, Job, Pointer, storage_bytes


class Recorder:
    """The job so far. Call `pointer` for each tensor before a step, and `ran` with all of them after it."""

    def __init__(self) -> None:
        self.job = Job()
        self._held: dict[int, tuple[int, torch.Tensor]] = {}  # storage → its buffer, and what keeps it alive
        self._known: dict[int, bytes] = {}  # buffer → what the job has in it

    def pointer(self, tensor: torch.Tensor) -> Pointer:
        """Where a tensor's first element stands in the job. What something else wrote there since becomes a step."""
        storage, contents = tensor.untyped_storage().data_ptr(), storage_bytes(tensor)
        if storage not in self._held:
            self._held[storage] = (self.job.add(contents).buffer, tensor)
        buffer = self._held[storage][0]
        if self._known.setdefault(buffer, contents) != contents:
            self.job.steps.append(FillStep(buffer, contents))
        return Pointer(buffer, tensor.data_ptr() - storage)

    def ran(self, arguments: Iterable[Any]) -> None:
        """A step is done: note what its tensors hold now."""
        for tensor in arguments:
            if isinstance(tensor, torch.Tensor):
                self._known[self._held[tensor.untyped_storage().data_ptr()][0]] = storage_bytes(tensor)

    def buffer(self, tensor: torch.Tensor) -> int | None:
        """The number of a tensor's buffer, None if no step had it."""
        held = self._held.get(tensor.untyped_storage().data_ptr())
        return held and held[0]

    def contents(self) -> list[tuple[bytes, torch.dtype]]:
        """What each buffer holds after the last step that had it, and the type of its elements."""
        return [(self._known[buffer], tensor.dtype) for buffer, tensor in self._held.values()]
