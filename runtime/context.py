"""Where the graphs that are being compiled will run: known to the backend, needed by the runtime."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from torch_rvv.knobs import CodegenOptions


@dataclass(frozen=True)
class Placement:
    """A device specification (see get_device) and the options that kernels are compiled with.

    gemm, conv, attention: who does matrix products and the like, "rvv", "aten" or "auto". winograd: whether
    3 x 3 convolutions may go by tiles. frozen: whether parameters are constants. timed: whether kernels are chosen by
    time, on a board.
    """

    device: Any = None
    codegen: CodegenOptions = field(default_factory=CodegenOptions)
    gemm: str = "auto"
    conv: str = "auto"
    attention: str = "auto"
    winograd: bool = True
    frozen: bool = False
    timed: bool = False


_placement: ContextVar[Placement | None] = ContextVar("torch_rvv_placement", default=None)


@contextmanager
def placing(placement: Placement) -> Iterator[None]:
    """Programs made meanwhile (in this thread) run there."""
    token = _placement.set(placement)
    try:
        yield
    finally:
        _placement.reset(token)


def placed() -> bool:
    """Whether a compile of ours is under way (in this thread)."""
    return _placement.get() is not None


def current_placement() -> Placement:
    return _placement.get() or Placement()
