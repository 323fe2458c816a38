"""Interpolation (torch.nn.functional.interpolate) in words that read memory in order.

    nearest, k times as large     each element k times: an index divided by k, where PyTorch's own decomposition
                                  computes it in floats and gathers
    linear, cubic                 one axis after the other: 2 + 2 (4 + 4) reads where all at once are 4 (16)
        2 or 4 times as large     element k * i + p is a sum over neighbours of i with weights that are numbers
        else                      a sum over elements chosen by index, with weights by element

In place of PyTorch's functions in compiles of ours, since its dispatcher calls them before a table of decompositions is
asked. What they leave to those: dynamic sizes, other types than floats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, wraps
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._decomp import decompositions as theirs
from torch._prims_common import suggest_memory_format

from torch_rvv.obstacles import FLOATS
from torch_rvv.runtime.context import placed
from torch_rvv.stored import stored

aten = torch.ops.aten
# Enlargements that are written out, a sum for each of so many neighbours in the result.
PHASES = (2, 4)
# Enlargements by repetition, at most.
REPEATED = 16
CUBIC = -0.75  # As PyTorch's cubic convolution, and OpenCV's.


@dataclass(frozen=True)
class Kernel:
    """Which elements an interpolated one is a sum of, from the one before it on, and the weights of those by how far
    behind that it lies (0 to 1; numbers or tensors). clamped: nothing lies before the first element."""

    offsets: tuple[int, ...]
    weights: Callable[[Any], Sequence[Any]]
    clamped: bool = False


def _cubic(t: Any) -> Sequence[Any]:
    """Keys, Cubic convolution interpolation for digital image processing (1981), with a = CUBIC."""

    def near(d: Any) -> Any:
        return ((CUBIC + 2) * d - (CUBIC + 3)) * d * d + 1

    def far(d: Any) -> Any:
        return ((CUBIC * d - 5 * CUBIC) * d + 8 * CUBIC) * d - 4 * CUBIC

    return far(t + 1), near(t), near(1 - t), far(2 - t)


LINEAR_KERNEL = Kernel((0, 1), lambda t: (1 - t, t), clamped=True)
CUBIC_KERNEL = Kernel((-1, 0, 1, 2), _cubic)


# -- repeated


def nearest(x: Tensor, size: Sequence[int], scales: Sequence[float | None], exact: bool = False) -> Any:
    """x (N, C, pixels...) at so many pixels, each that of x where it lies, or by its middle (exact)."""
    if not _known(x, size, FLOATS + (torch.float64, torch.uint8)):
        return NotImplemented
    times = [_times(n, m, scale, exact) for n, m, scale in zip(x.shape[2:], size, scales, strict=True)]
    if None in times:
        return NotImplemented
    spread, format_ = x, suggest_memory_format(x)
    for axis in reversed(range(2, x.dim())):
        spread = spread.unsqueeze(axis + 1)
    spread = spread.expand(*x.shape[:2], *(n for pair in zip(x.shape[2:], times, strict=True) for n in pair))
    return spread.reshape(*x.shape[:2], *size).clone(memory_format=format_)


def _times(n: int, m: int, scale: float | None, exact: bool) -> int | None:
    """How often each of n elements stands in a result of m, if that is the same for all by PyTorch's reckoning."""
    ratio = n / (n * scale) if scale is not None and scale > 0 else n / m
    places = np.arange(m, dtype=np.float32) + np.float32(0.5 if exact else 0)
    chosen = (places * np.float32(ratio)).astype(np.int64)
    times = m // n
    return times if m == times * n and times <= REPEATED and (chosen == np.arange(m) // times).all() else None


# -- weighed


def linear(x: Tensor, size: Sequence[int], align_corners: bool, scales: Sequence[float | None]) -> Any:
    """x (N, C, pixels...) at so many pixels, between its neighbours in each dimension."""
    return _resized(x, size, align_corners, scales, LINEAR_KERNEL)


def cubic(x: Tensor, size: Sequence[int], align_corners: bool, *scales: float | None) -> Any:
    """x (N, C, rows, columns) likewise, by four neighbours in each dimension."""
    return _resized(x, size, align_corners, [*scales, None, None][:2], CUBIC_KERNEL)


def _known(x: Tensor, size: Sequence[int], dtypes: Sequence[torch.dtype]) -> bool:
    """Whether an image is of these types, and of sizes that are numbers."""
    whole = all(isinstance(n, int) and n > 0 for n in (*x.shape[2:], *size))
    return x.dtype in dtypes and whole and x.device.type == "cpu"


def _resized(x: Tensor, size: Sequence[int], align: bool, scales: Sequence[float | None], kernel: Kernel) -> Any:
    if not _known(x, size, FLOATS + (torch.float64,)):
        return NotImplemented
    found = x.float() if x.dtype in FLOATS else x
    # Axes that shrink come first. Of those that grow the last, where elements are chosen one by one, among few rows.
    axes = range(2, x.dim())
    shrinking = [axis for axis in axes if size[axis - 2] <= x.shape[axis]]
    for axis in [*shrinking, *(axis for axis in reversed(axes) if axis not in shrinking)]:
        found = _along(found, axis, size[axis - 2], align, scales[axis - 2], kernel)
    return found.to(x.dtype).contiguous(memory_format=suggest_memory_format(x))


def _along(x: Tensor, axis: int, m: int, align: bool, scale: float | None, kernel: Kernel) -> Tensor:
    n = x.shape[axis]
    if align:
        ratio = (n - 1) / (m - 1) if m > 1 else 0.0
    else:
        ratio = 1 / scale if scale is not None and scale > 0 else n / m
    if n == m and ratio == 1:
        return x
    if not align and m % n == 0 and m // n in PHASES and ratio == n / m:
        return _by_phases(x, axis, m // n, kernel)
    return _by_index(x, axis, m, align, ratio, kernel)


def _by_phases(x: Tensor, axis: int, times: int, kernel: Kernel) -> Tensor:
    n, reach = x.shape[axis], kernel.offsets[-1]
    first, last = x.narrow(axis, 0, 1), x.narrow(axis, n - 1, 1)
    wide = torch.cat([*[first] * reach, x, *[last] * reach], axis)
    phases = []
    for phase in range(times):
        place = (phase + 0.5) / times - 0.5
        before = math.floor(place)
        seen = (wide.narrow(axis, reach + before + offset, n) for offset in kernel.offsets)
        phases.append(_sum(seen, kernel.weights(place - before)))
    return torch.stack(phases, axis + 1).flatten(axis, axis + 1)


def _by_index(x: Tensor, axis: int, m: int, align: bool, ratio: float, kernel: Kernel) -> Tensor:
    n, behind = x.shape[axis], [1] * (x.dim() - 1 - axis)
    place = torch.arange(m, device=x.device).to(x.dtype)
    place = place * ratio if align else (place + 0.5) * ratio - 0.5
    place = place.clamp(min=0) if kernel.clamped else place
    before = place.floor()
    weights = kernel.weights((place - before).clamp(0, 1))
    seen = []
    for offset in kernel.offsets:
        index = stored((before + offset).clamp(0, n - 1).to(torch.int32))
        seen.append(aten._unsafe_index(x, [*[None] * axis, index]))
    return _sum(seen, [stored(w.reshape(-1, *behind)) for w in weights])


def _sum(parts: Any, weights: Sequence[Any]) -> Tensor:
    total: Any = None
    for part, weight in zip(parts, weights, strict=True):
        total = part * weight if total is None else total + part * weight
    return total


# -- in place of PyTorch's

RULES: dict[str, Callable[..., Any]] = {
    "_upsample_nearest": nearest,
    "_upsample_linear": linear,
    "upsample_bicubic2d_default": cubic,
}


@cache
def register() -> None:
    """Let ours stand in for PyTorch's functions while a compile of ours is under way."""
    for name, rule in RULES.items():
        setattr(theirs, name, _first(rule, getattr(theirs, name)))


def _first(rule: Callable[..., Any], other: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(other)
    def both(*args: Any, **kwargs: Any) -> Any:
        result = rule(*args, **kwargs) if placed() else NotImplemented
        return other(*args, **kwargs) if result is NotImplemented else result

    return both
