"""Unroll and jam: rows of a reduction side by side, so that what they share is loaded once.

    y[i, j] = sum over k of a[i, k] * b[j, k]
    →  for i step 4, for j step 2: 8 accumulators; a strip of 4 rows of a and 2 of b serves 8 multiplications

Without a reduction, rows of the innermost loop (`beside`). Rows that are left over come in loops of their own, one at a
time. Limits: the two parallel loops next to the reduction, vectorised along the reduction, bodies short enough to be
written so many times.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from torch_rvv.lowering import neighbours
from torch_rvv.lowering.lmul import VLEN
from torch_rvv.lowering.nest import Nest, Operand, walk_body
from torch_rvv.lowering.operations import NATIVE_MATH, bits_of
from torch_rvv.lowering.writer import Writer

# Accumulators: what leaves room for operands at LMUL 4 along one dimension, at LMUL 2 along two.
ACCUMULATORS = {1: 4, 2: 8}
SIDE = 4
# Long rows that read the same, side by side: with more, registers run out at LMUL 4.
PAIR = 2
# Operations that are written at most, all copies of the body together.
OPERATIONS, FUNCTION = 160, 32
# A row of so many registers is short.
SHORT = 2


@dataclass(frozen=True)
class Region:
    """A part of a nest: iterations of a dimension side by side, and where its loop begins and ends if not with it."""

    counts: dict[int, int] = field(default_factory=dict)
    begins: dict[int, str] = field(default_factory=dict)
    ends: dict[int, str] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Copies of the body."""
        return math.prod(self.counts.values())

    def places(self) -> Iterator[dict[int, int]]:
        """Of each copy, how far on it is in each dimension."""
        for offsets in itertools.product(*map(range, self.counts.values())):
            yield dict(zip(self.counts, offsets, strict=True))


def counts(nest: Nest, order: Sequence[int], first: int, vector: int | None) -> dict[int, int]:
    """Iterations side by side by dimension, empty where jamming does not pay. first: the first reduction in `order`."""
    if vector not in nest.reductions or nest.scalar_only():
        return {}
    reads = [o for o in nest.operands if not o.output and o.stride(vector) != 0]
    near = [d for d in order[max(0, first - 2) : first] if any(o.stride(d) == 0 for o in reads)]
    if not near:
        return {}
    copies = min(
        ACCUMULATORS[len(near)] // len(nest.outputs),
        OPERATIONS // sum(_length(op.name) for op in walk_body(nest.block)),
    )
    found: dict[int, int] = {}
    for dim in near:  # The inner one gets what the outer one, which may be short, leaves.
        left = copies // math.prod(found.values())
        found[dim] = _count(nest.most[dim], min(SIDE, left))
    return {dim: n for dim, n in found.items() if n > 1}


def beside(
    nest: Nest, order: Sequence[int], vector: int | None, reads: Mapping[Operand, neighbours.Anchored]
) -> dict[int, int]:
    """Iterations side by side of a nest without reductions: of its innermost loop over rows, where they read the same,
    or are so short that one waits for its own results."""
    near = next((d for d in reversed(order) if d != vector), None)
    if vector is None or near is None or not all(_repeats(op.name) for op in walk_body(nest.block)):
        return {}
    length = nest.most[vector]
    widest = max((bits_of(o.view.elem) for o in nest.operands), default=32)
    short = length is not None and length * widest <= SHORT * VLEN
    if not short and not neighbours.shared_along(nest, reads, near):
        return {}
    copies = min(SIDE if short else PAIR, OPERATIONS // sum(_length(op.name) for op in walk_body(nest.block)))
    count = _count(nest.most[near], copies) if copies > 1 else 1
    return {near: count} if count > 1 else {}


def _repeats(operation: str) -> bool:
    """Whether a body may hold several of an operation: all but those that write memory or branch."""
    return operation.startswith(("arith.", "math.", "linalg.")) or operation in ("memref.load", "func.call")


def _length(operation: str) -> int:
    """Instructions, roughly: a function of the math library is many."""
    return FUNCTION if operation.startswith("math.") and operation not in NATIVE_MATH else 1


def _count(size: int | None, most: int) -> int:
    """All of a short dimension, a divisor that is large enough, or a power of two. size: the largest it can be."""
    power = 1 << max(0, most.bit_length() - 1)
    if size is None:
        return power
    if size <= most:
        return size
    return next((n for n in range(most, most // 2, -1) if size % n == 0), power)


def regions(w: Writer, nest: Nest, counts: dict[int, int]) -> list[Region]:
    """The whole nest in parts: jammed, and what is left over of each dimension. Writes where those begin."""
    found = [Region()]
    for dim, count in counts.items():
        size = nest.sizes[dim]
        if isinstance(size, int):
            whole, rest = size >= count, bool(size % count)
            main = w.constant(size - size % count) if rest else None
        else:
            whole = rest = True
            main = w.op(f"arith.subi {size}, {w.op(f'arith.remui {size}, {w.constant(count)} : index')} : index")
        parts = []
        for region in found:
            if whole:
                ends = region.ends if main is None else {**region.ends, dim: main}
                parts.append(Region({**region.counts, dim: count}, region.begins, ends))
            if rest:
                begins = region.begins if main is None else {**region.begins, dim: main}
                parts.append(Region(region.counts, begins, region.ends))
        found = parts
    return found
