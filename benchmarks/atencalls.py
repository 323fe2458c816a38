"""What a compiled graph leaves to aten: the operations that Inductor's code calls as it runs, and their arguments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch._inductor.output_code import CompiledFxGraph
from torch.utils._python_dispatch import TorchDispatchMode


@dataclass(frozen=True)
class Like:
    """A tensor as far as the cost of a call depends on it. strides: in elements."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype

    def make(self, generator: torch.Generator) -> torch.Tensor:
        """One like it: numbers from -1 to 1, zeros if it holds no floats."""
        size = 1 + sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True)) if self.shape else 1
        flat = torch.zeros(max(size, 1), dtype=self.dtype)
        if self.dtype.is_floating_point:
            flat = (torch.rand(flat.shape, generator=generator) * 2 - 1).to(self.dtype)
        return flat.as_strided(self.shape, self.strides)


@dataclass(frozen=True)
class AtenCall:
    """A call of an operation such as aten.mm. In the arguments each tensor is a Like, each list a tuple."""

    operation: str
    arguments: tuple[Any, ...]
    keywords: tuple[tuple[str, Any], ...] = ()


def described(value: Any) -> Any:
    """An argument as it stands in an AtenCall."""
    if isinstance(value, torch.Tensor):
        return Like(tuple(value.shape), tuple(value.stride()), value.dtype)
    return tuple(map(described, value)) if isinstance(value, (list, tuple)) else value


class _Noting(TorchDispatchMode):
    def __init__(self, into: Counter[AtenCall]):
        super().__init__()
        self.into = into

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        # Where a result goes is no part of what is computed.
        keywords = tuple((name, described(value)) for name, value in named.items() if name != "out")
        self.into[AtenCall(str(function.overloadpacket), described(args), keywords)] += 1
        return function(*args, **named)


@contextmanager
def noting(into: Counter[AtenCall]) -> Iterator[None]:
    """Count the calls of all graphs of Inductor's that run meanwhile. Their own kernels are no calls of aten."""
    held: Callable[..., Any] = CompiledFxGraph.__call__

    def call(self: Any, inputs: Any) -> Any:
        with _Noting(into):
            return held(self, inputs)

    CompiledFxGraph.__call__ = call  # type: ignore[method-assign]
    try:
        yield
    finally:
        CompiledFxGraph.__call__ = held  # type: ignore[method-assign]
