"""Tensors that a board keeps a copy of between launches, because somebody promised how they change."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch_rvv.runtime.arguments import Copies, Memory, Span

from torch_rvv.errors import DeviceError


@dataclass
class _Pin:
    storage: StorageWeakRef
    nbytes: int
    at: int
    held: tuple[int, int]
    version: int | None = None
    epoch: int = -1


class Pins:
    """Copies of whole storages, each renewed when its tensors' version has changed.

    A storage has no version of its own, and changes through numpy or `.data` do not count as one: so only
    what was pinned is kept.
    """

    def __init__(self, memory: Memory):
        self.memory = memory
        self._pins: dict[int, _Pin] = {}

    def add(self, tensor: torch.Tensor) -> None:
        """Keep a tensor's storage. Raises DeviceError for an inference tensor (it counts no versions)."""
        if tensor.is_inference():
            raise DeviceError("an inference tensor cannot be pinned: it keeps no record of its changes")
        self.sweep()
        storage = tensor.untyped_storage()
        start, nbytes = storage.data_ptr(), storage.nbytes()
        if nbytes and self._valid(start, nbytes) is None and self.memory.offset(start) is None:
            skew = start % 64
            at = self.memory.reserve(nbytes + skew)
            self._pins[start] = _Pin(StorageWeakRef(storage), nbytes, at + skew, (at, nbytes + skew))

    def sweep(self) -> None:
        """Give back the memory of storages that have died."""
        for start in [s for s, pin in self._pins.items() if pin.storage.expired()]:
            self._drop(start)

    def take(self, span: Span, epoch: int) -> bool:
        """Use a pinned copy for a span, if there is one. epoch: changes when the board's memory was lost."""
        pin = self._valid(span.start, span.nbytes)
        if pin is None:
            if span.written:
                self.changed(span)
            return False
        span.at = pin.at
        versions = {None if t.is_inference() else t._version for t in span.tensors.values()}
        version = versions.pop() if len(versions) == 1 else None
        if version is None or (version, epoch) != (pin.version, pin.epoch):
            pin.version = None
            self.memory.write(pin.at, span.start, span.nbytes)
            pin.version, pin.epoch = version, epoch
        if span.written:
            pin.version = None  # unless the launch ends well: see Pinned.finish
        return True

    def changed(self, span: Span) -> None:
        """A span is written to by a launch that does not use pinned copies: those in it are out of date."""
        for start in [s for s, p in self._pins.items() if s < span.end and span.start < s + p.nbytes]:
            self._pins[start].version = None

    def kept(self, span: Span) -> None:
        """A launch that wrote to a pinned span has ended and was copied back: both are the same again."""
        pin = self._valid(span.start, span.nbytes)
        versions = {t._version for t in span.tensors.values() if not t.is_inference()}
        if pin is not None and len(versions) == 1:
            pin.version = versions.pop()

    def _valid(self, start: int, nbytes: int) -> _Pin | None:
        pin = self._pins.get(start)
        if pin is None:
            return None
        if pin.nbytes == nbytes and not pin.storage.expired():
            return pin
        self._drop(start)
        return None

    def _drop(self, start: int) -> None:
        self.memory.release(*self._pins.pop(start).held)

    def __len__(self) -> int:
        return len(self._pins)


class Pinned(Copies):
    """Copies, but for the spans that are pinned."""

    def __init__(self, memory: Memory, pins: Pins, epoch: int):
        super().__init__(memory)
        self.pins, self.epoch = pins, epoch
        self._changed: list[Span] = []

    def place(self, span: Span) -> None:
        if not len(self.pins) or not self.pins.take(span, self.epoch):
            super().place(span)
        elif span.written:
            self._changed.append(span)

    def finish(self) -> None:
        super().finish()
        for span in self._changed:
            self.memory.read(span.at, span.start, span.nbytes)
            self.pins.kept(span)
