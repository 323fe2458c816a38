"""A launch's arguments in a board's memory: which tensors stand there already, and copies of those that do not.

One copy serves all tensors that share bytes, so that those which overlap still do. It keeps the address modulo
64, so that what is misaligned stays so.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch

from torch_rvv.errors import DeviceError

Argument = torch.Tensor | int


class Memory(Protocol):
    """The memory of a board, as an Allocator that can be written and read from addresses of this process."""

    def reserve(self, nbytes: int, alignment: int = ...) -> int: ...

    def release(self, start: int, nbytes: int) -> None: ...

    def offset(self, address: int) -> int | None: ...

    def write(self, at: int, address: int, nbytes: int) -> None: ...

    def read(self, at: int, address: int, nbytes: int) -> None: ...


@dataclass
class Span:
    """A range of this process's memory that arguments lie in, and the offset of its copy.

    item: the largest element size in bytes. tensors: the arguments, by position.
    """

    start: int
    end: int
    written: bool
    item: int
    tensors: dict[int, torch.Tensor] = field(default_factory=dict)
    at: int = 0

    @property
    def nbytes(self) -> int:
        return self.end - self.start

    @property
    def what(self) -> str:
        """The arguments, for messages."""
        names = [f"{p} ({str(t.dtype).removeprefix('torch.')} {list(t.shape)})" for p, t in self.tensors.items()]
        return ("argument " if len(names) == 1 else "arguments ") + ", ".join(names)


class Placing(Protocol):
    """Where a span's copy goes; `Copies` is the plain way."""

    def place(self, span: Span) -> None: ...

    def finish(self) -> None: ...

    def release(self) -> None: ...


class Copies:
    """Each span at a place of its own for the time of a launch."""

    def __init__(self, memory: Memory):
        self.memory = memory
        self._held: list[tuple[int, int]] = []
        self._back: list[Span] = []

    def place(self, span: Span) -> None:
        """Copy a span in."""
        skew = span.start % 64
        at = self.memory.reserve(span.nbytes + skew)
        self._held.append((at, span.nbytes + skew))
        span.at = at + skew
        self.memory.write(span.at, span.start, span.nbytes)
        if span.written:
            self._back.append(span)

    def finish(self) -> None:
        """After the kernel: copy back what it may have written."""
        for span in self._back:
            self.memory.read(span.at, span.start, span.nbytes)

    def release(self) -> None:
        """Give the places back."""
        for at, nbytes in self._held:
            self.memory.release(at, nbytes)
        self._held.clear()


def slots(
    args: Sequence[Argument],
    written: Collection[int] | None,
    memory: Memory | None,
    placing: Placing,
    *,
    exact: bool = False,
) -> list[int]:
    """The 64-bit slot of each argument: bits, or an offset in the board's memory.

    Tensors in `memory` (None: none of them) are taken as they stand, the others placed. A span is the whole of
    a tensor's storage, for kernels may be given a pointer into a larger buffer; with `exact`, what the
    tensor's elements reach. Raises DeviceError for what is no argument.
    """
    out: list[int] = []
    spans: list[Span] = []
    for position, argument in enumerate(args):
        if isinstance(argument, int):
            out.append(argument & (1 << 64) - 1)
            continue
        _check(position, argument)
        address = argument.data_ptr()
        offset = memory.offset(address) if memory is not None else None
        out.append(offset or 0)
        if offset is None and argument.numel():
            start, end = reach(argument) if exact else _storage(argument)
            item = argument.element_size()
            spans.append(Span(start, end, written is None or position in written, item, {position: argument}))
    for span in _merged(spans):
        placing.place(span)
        for position, tensor in span.tensors.items():
            out[position] = span.at + tensor.data_ptr() - span.start
    return out


def _check(position: int, argument: object) -> None:
    if not isinstance(argument, torch.Tensor):
        raise DeviceError(
            f"argument {position} is a {type(argument).__name__}", hint="Pass tensors, and scalars as an int of bits."
        )
    if argument.device.type != "cpu" or argument.layout != torch.strided:
        raise DeviceError(
            f"argument {position} is a {argument.layout} tensor on {argument.device}", hint="Pass dense CPU tensors."
        )


def _merged(spans: list[Span]) -> list[Span]:
    """Spans that overlap, joined."""
    out: list[Span] = []
    for span in sorted(spans, key=lambda s: s.start):
        if out and span.start < out[-1].end:
            last = out[-1]
            last.end, last.item = max(last.end, span.end), max(last.item, span.item)
            last.written |= span.written
            last.tensors.update(span.tensors)
        else:
            out.append(span)
    return out


def _storage(tensor: torch.Tensor) -> tuple[int, int]:
    storage = tensor.untyped_storage()
    start = storage.data_ptr()
    return start, start + storage.nbytes()


def reach(tensor: torch.Tensor) -> tuple[int, int]:
    """First and past-the-last address of a tensor's elements."""
    elements = 1 + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr(), tensor.data_ptr() + elements * tensor.element_size()
