"""Matrix products in Inductor: which become kernels of ours, and in blocks of what size.

Inductor can write mm, addmm and bmm as reductions over `ops.dot`, fused with whatever surrounds them like any other
reduction: one tl.dot over all of K, which lowering/matmul.py tiles for the registers. Without that, PyTorch's own
kernels do the product (`aten`).

    choose(...)         rvv or aten, with the reason that `explain` shows
    block_sizes(...)    rows and columns of a program: B's block must stay in the L2 cache while rows pass by
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch._inductor.kernel import bmm, mm, mm_common
from torch._inductor.runtime.runtime_utils import next_power_of_2
from torch._inductor.virtualized import V

from torch_rvv import dot, stored
from torch_rvv.runtime import record
from torch_rvv.runtime.context import current_placement, placed
from torch_rvv.stored import is_computed

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
PAIRS = {*((dtype, dtype) for dtype in DTYPES), (torch.int8, torch.int8)}
# Up to here all of k is one block; beyond, and where it is dynamic, k is cut into blocks of this size.
LONGEST_DEPTH = 1024
DEPTH_BLOCK = 512
MOST_ROWS = 256
# Up to here lanes along the depth serve several rows at once (decompositions.py), and no operand is copied.
FEW_ROWS = 4
FEW_COLUMNS = 64
COLUMNS = 128
B_BYTES = 1 << 18
TRITON_LIMIT = 1 << 20  # elements of a tensor


@dataclass(frozen=True)
class Problem:
    """C[m, n] = A[m, k] @ B[k, n]; sizes are None where they are dynamic."""

    m: int | None
    n: int | None
    k: int | None
    dtype: torch.dtype
    other: torch.dtype


def choose(problem: Problem, wanted: str) -> tuple[bool, str]:
    """(whether our kernel does it, why). wanted: the option "gemm", "rvv", "aten" or "auto"."""
    if wanted == "aten":
        return False, 'options={"gemm": "aten"}'
    for applies, reason in _OBSTACLES:
        if applies(problem):
            return False, reason
    return True, "all of K in registers, epilogue fused"


_OBSTACLES: tuple[tuple[Callable[[Problem], bool], str], ...] = (
    (lambda p: (p.dtype, p.other) not in PAIRS, "a type that has no kernel"),
    (lambda p: 1 in (p.m, p.n, p.k) or 0 in (p.m, p.n, p.k), "a matrix of one row or column"),
)


def block_sizes(m: int, n: int, k: int | None) -> dict[str, int]:
    """YBLOCK (rows) and XBLOCK (columns) of a program, and R0_BLOCK where it does not go over all of k at once."""
    if k is None or k > LONGEST_DEPTH:
        return {**block_sizes(m, n, DEPTH_BLOCK), "R0_BLOCK": DEPTH_BLOCK}
    depth = next_power_of_2(k)
    columns = min(next_power_of_2(n), max(32, min(COLUMNS, B_BYTES // (4 * depth))), TRITON_LIMIT // depth)
    rows = min(next_power_of_2(m), MOST_ROWS, TRITON_LIMIT // depth)
    return {"YBLOCK": rows, "XBLOCK": columns}


def is_product(features: Any) -> bool:
    """Whether a kernel's schedule has a product in it."""
    return any(
        getattr(getattr(node, "node", None), "get_reduction_type", lambda: None)() == "dot"
        for node in features.node_schedule
    )


def one_kernel(*nodes: Any) -> bool:
    """Whether products among what is to be one kernel can be: all of the same rows, columns and depth, and no other
    reduction beside them. Inductor's own check takes 64 x 128 for 128 x 64, whose loops cannot be shared, and a sum
    over the depth for a product."""
    reductions = [n for node in nodes for n in node.get_nodes() if n.is_reduction()]
    products = [n for n in reductions if n.is_native_matmul()]
    return not products or (
        len(products) == len(reductions) and len({tuple(map(tuple, n.get_ranges())) for n in products}) == 1
    )


def shares_rows(features: Any) -> bool:
    """Whether a kernel reduces rows of something against one row that they share: a matrix times a vector."""
    for node in features.reduction_nodes():
        _, (rows, length) = node.group
        if rows != 1 and any(hasattr(dep, "index") and dep.get_numel() == length for dep in node.read_writes.reads):
            return True
    return False


def few_rows(features: Any, tiling: dict[str, Any]) -> int | None:
    """The rows y of a kernel that multiplies them by all x columns of a matrix, both along memory; None of others."""
    if set(tiling) != {"x", "y", "r0_"}:
        return None
    rows, columns, length = (V.graph.sizevars.optimization_hint(tiling[p], fallback=0) for p in ("y", "x", "r0_"))
    reads = {
        dep.get_numel()
        for node in features.reduction_nodes()
        for dep in node.read_writes.reads
        if hasattr(dep, "index") and dep.var_names and dep.index.coeff(dep.var_names[-1]) == 1
    }
    return rows if 1 < rows <= FEW_ROWS and {rows * length, columns * length} <= reads else None


def _size(value: Any) -> int | None:
    return int(value) if V.graph.sizevars.statically_known_true(value >= 0) and _is_number(value) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int) or bool(getattr(value, "is_number", False))


def _chosen(a: Any, b: Any) -> bool:
    m, k = a.get_size()[-2:]
    n = b.get_size()[-1]
    problem = Problem(_size(m), _size(n), _size(k), a.get_dtype(), b.get_dtype())
    ours, why = choose(problem, current_placement().gemm)
    if not ours:
        record.decide(f"the product {m}x{k} @ {k}x{n}", f"{record.LEFT}: {why}")
    if ours and (problem.n is None or problem.n > COLUMNS) and is_computed(a):
        # Each block of columns is a program, and all of them read these rows.
        a.realize()
    return ours


@cache
def register() -> None:
    """Let our choice stand in for Inductor's own, which knows GPUs only, while a compile of ours is under way."""
    dot.register(_chosen)
    stored.register()
    theirs = mm_common.use_native_matmul

    def use_native_matmul(a: Any, b: Any) -> bool:
        return _chosen(a, b) if placed() else theirs(a, b)

    for module in (mm, bmm, mm_common):
        module.use_native_matmul = use_native_matmul  # type: ignore[attr-defined]
