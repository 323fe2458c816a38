"""A linalg.generic as loops see it: operands by loop dimension, and which dimension becomes lanes.

The vectorised dimension is the one along which most accesses are unit-stride. Loops over other parallel dimensions
stand outside, loops over reductions inside. A body with an atomic, and a nest with no dimension, stay scalar.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from torch_rvv.lowering import bodyreads
from torch_rvv.lowering.lmul import VLEN
from torch_rvv.lowering.mlir import integer
from torch_rvv.lowering.operations import NATIVE_MATH, bits_of
from torch_rvv.lowering.values import View
from torch_rvv.lowering.vector_body import SCALAR_ONLY


@dataclass(eq=False)
class Operand:
    """One operand of the generic: its view, and for each of the view's dimensions the loop it follows."""

    view: View
    dims: tuple[int, ...]
    argument: Any
    output: bool = False

    def stride(self, dim: int | None) -> str | int:
        """Stride along a loop dimension, 0 if it does not move."""
        total: str | int = 0
        for d, s in zip(self.dims, self.view.strides, strict=True):
            if d == dim:
                total = s
        return total


@dataclass(eq=False)
class Nest:
    """A generic, read from MLIR. most: the largest that each size can be, where that is known; rests: what it can leave
    when divided by bounds.MODULUS."""

    operands: list[Operand]
    sizes: list[str | int]
    reductions: set[int]
    block: Any
    most: list[int | None]
    rests: list[frozenset[int] | None] = field(default_factory=list)

    @property
    def outputs(self) -> list[Operand]:
        return [o for o in self.operands if o.output]

    def accumulates(self, output: Operand) -> bool:
        return bool(self.reductions) and not self.reductions & set(output.dims)

    def contracts(self) -> bool:
        """Whether it accumulates by a fused multiply-add, which lanes along the reduction could not sum up."""
        outputs = [o.argument for o in self.outputs]
        return any(op.name == "math.fma" and op.operands[2] in outputs for op in walk_body(self.block))

    def scalar_only(self) -> bool:
        return any(op.name in SCALAR_ONLY for op in walk_body(self.block))


def walk_body(block: Any) -> Iterator[Any]:
    for op in block.operations:
        yield op.operation
        for region in op.operation.regions:
            for inner in region.blocks:
                yield from walk_body(inner)


def outside(block: Any) -> set[Any]:
    """The values that a body takes from outside of it."""
    operations = list(walk_body(block))
    inside = {*block.arguments, *(result for op in operations for result in op.results)}
    inside |= {a for op in operations for region in op.regions for inner in region.blocks for a in inner.arguments}
    return {value for op in operations for value in op.operands} - inside


MOST_LMUL = 8
# Operations that take as long as many others.
COSTLY = frozenset({"arith.divf", "arith.remf", "math.sqrt", "math.rsqrt", "func.call"})
# What a strip costs besides its elements, in loads of an element of many side by side.
STRIP = 40
# An element's cost by how it moves from lane to lane: not at all, to the next one, farther, or anywhere.
STILL, NEXT, STRIDED, GATHERED = 0.1, 1.0, 6.0, 8.0


def choose_dim(nest: Nest) -> int | None:
    """The loop dimension to vectorise: fewest strided accesses, not too short, inner ones first."""
    if not nest.sizes or nest.scalar_only():
        return None
    best, best_cost = None, float("inf")
    body = list(walk_body(nest.block))
    for dim, size in enumerate(nest.most):
        if dim in nest.reductions and nest.contracts():
            continue
        moves = [operand.stride(dim) for operand in nest.operands]
        cost = sum(_cost(stride) for stride in [*moves, *bodyreads.steps(nest, dim, body)])
        if size is not None:
            cost += STRIP / max(size, 1)
        if dim in nest.reductions and any(d not in nest.reductions for d in range(len(nest.sizes))):
            cost += 0.5
        if cost <= best_cost:
            best, best_cost = dim, cost
    return best


def _cost(stride: str | int | None) -> float:
    if stride is None:
        return GATHERED
    return STILL if stride == 0 else NEXT if stride == 1 else STRIDED


def loop_order(nest: Nest, vector: int | None) -> list[int]:
    """Loop dimensions, outermost first. Lanes of short rows stand outside of everything: what depends on them alone,
    as their number and masks do, is then worked out once. So do lanes outside of rows that all work out the same."""
    dims = range(len(nest.sizes))
    outer = [d for d in dims if d not in nest.reductions and d != vector]
    inner = [d for d in dims if d in nest.reductions and d != vector]
    if vector is None:
        return outer + inner
    if vector in nest.reductions:
        return outer + inner + [vector]
    if _one_strip(nest, vector):
        return [vector, *outer, *inner]
    alike = _alike(nest, vector)
    return [*(d for d in outer if d not in alike), vector, *(d for d in outer if d in alike), *inner]


def _alike(nest: Nest, vector: int) -> set[int]:
    """Dimensions along which a function of lanes is the same: cos(x[j]) * y[i, j] along i."""
    depends: dict[Any, frozenset[int]] = {
        o.argument: frozenset(d for d in o.dims if o.stride(d) != 0) for o in nest.operands
    }
    found: set[int] = set()
    for op in walk_body(nest.block):
        on = frozenset().union(*(depends.get(v, frozenset()) for v in op.operands))
        if op.name == "linalg.index":
            on = frozenset({integer(op, "dim")})
        if op.regions or op.name == "memref.store":
            return set()  # What a branch depends on is not followed here, and stores keep their order.
        depends.update(dict.fromkeys(op.results, on))
        if vector in on and (op.name in COSTLY or (op.name.startswith("math.") and op.name not in NATIVE_MATH)):
            found |= {d for d, size in enumerate(nest.most) if d not in on and size != 1}
    return found - nest.reductions


def _one_strip(nest: Nest, dim: int) -> bool:
    """Whether rows along a dimension are no longer than a strip where VLEN is 256."""
    size = nest.most[dim]
    widest = max((bits_of(o.view.elem) for o in nest.operands), default=32)
    return size is not None and size * widest <= MOST_LMUL * VLEN
