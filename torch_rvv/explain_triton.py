"""What explain knows of a `@triton.jit` kernel: `kernel[grid]` taken apart, compiled, and made a record."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from torch_rvv.errors import TorchRvvError
from torch_rvv.runtime.record import KernelRecord


def triton_launch(function: Any) -> tuple[Any, Any] | None:
    """(kernel, grid) of Triton's `kernel[grid]`; None for anything else."""
    from triton.runtime.jit import KernelInterface

    if isinstance(function, KernelInterface):
        raise TorchRvvError(
            "explain needs the launch of a Triton kernel, not the kernel", hint="Write explain(kernel[grid], ...)."
        )
    if not inspect.isfunction(function) or function.__module__ != KernelInterface.__module__:
        return None
    held = inspect.getclosurevars(function).nonlocals
    kernel = held.get("self")
    return (kernel, held["grid"]) if isinstance(kernel, KernelInterface) and "grid" in held else None


def compiled_kernels(kernel: Any, grid: Any, args: Sequence[Any], keywords: Mapping[str, Any]) -> list[KernelRecord]:
    """The kernel as it would be launched on these arguments: compiled, one record a configuration."""
    made = kernel.warmup(*args, grid=grid, **keywords)
    return [_record(compiled) for compiled in (made if isinstance(made, list) else [made])]


def _record(compiled: Any) -> KernelRecord:
    metadata = compiled.metadata._asdict()
    reason, where = metadata["declined"] or (None, None)
    return KernelRecord(
        name=metadata["name"],
        compiled=reason is None,
        reason=reason,
        where=where,
        metadata=metadata,
        binary=compiled.asm["so"],
        seconds=sum(metadata["seconds"].values()),
        origins=["triton.jit"],
    )
