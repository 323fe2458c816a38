"""Everything that steers Inductor: its config under our backend, block sizes, and the form of its output.

Nothing here changes a compile that is not ours: config patches are thread-local, and our scheduling and
wrappers stand in only while a compile of ours is under way in the same thread.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import sympy
from torch._inductor import ir
from torch._inductor.choices import InductorChoices
from torch._inductor.codegen import common
from torch._inductor.codegen.triton import FixedTritonConfig, TritonKernel, TritonScheduling
from torch._inductor.graph import GraphLowering
from torch._inductor.runtime.hints import ReductionHint
from torch._inductor.runtime.runtime_utils import next_power_of_2
from torch._inductor.virtualized import V

from torch_rvv import batchnorm, columns, gemm, once, quotient, resize, sorts, taps
from torch_rvv.fxgraph import RvvPythonWrapper, RvvWrapper
from torch_rvv.graphcache import KeyPass
from torch_rvv.kernel import RvvKernel
from torch_rvv.runtime import record
from torch_rvv.runtime.context import placed

# Elements of a block: many vectors, so that a program's prologue costs little; small enough for the L1 cache.
POINTWISE_BLOCK = 8192
REDUCTION_BLOCK = 8192
# The longest row that is reduced in one program without a loop of its own.
PERSISTENT_LIMIT = 1 << 17
INNER_BLOCK = 2048
# Rows of a reduction that share a row of something else, at least: as many as run side by side.
SHARING_ROWS = 16
# Rows that are scanned side by side, at least.
SCANNED_ROWS = 8
# Rows that are sorted side by side, at least, and of at most so many elements.
SORTED_ROWS, SORTED_LENGTH = 16, 512
# Columns of a row times a matrix: a program reads whole cache lines, and more than one vector of them at a time.
SHARING_COLUMNS = 512
# What a dynamic size is taken to be at least.
UNKNOWN_SIZE = 1024

PATCHES: dict[str, Any] = {
    "cpu_backend": "triton",
    "fx_wrapper": True,
    "compile_threads": 1,
    "triton.prefer_nd_tiling": True,
    "triton.max_tiles": 3,
    "triton.tile_reductions": True,
    "triton.cooperative_reductions": False,
    "triton.mix_order_reduction": False,
    "triton.multi_kernel": 0,
    "triton.unique_kernel_names": True,
    "triton.descriptive_names": "original_aten",
    "combo_kernels": False,
    "graph_partition": False,
    "benchmark_kernel": False,
    "split_reductions": False,
    "cpp.fallback_scatter_reduce_sum": False,
    "triton.native_matmul": True,
    "triton.autotune_pointwise": False,
    "coordinate_descent_tuning": False,
    "assume_aligned_inputs": False,
    "alignment_asserts": False,
    "size_asserts": False,
}


def _hint(expression: Any) -> int:
    """A size as a number: itself, or for a dynamic one Inductor's guess, but not a small one.

    The next size may be much larger, and what a block has too many is masked away at no cost.
    """
    known = _static(expression)
    if known is not None:
        return max(1, known)
    return max(UNKNOWN_SIZE, int(V.graph.sizevars.optimization_hint(expression, fallback=UNKNOWN_SIZE)))


def _static(expression: Any) -> int | None:
    return int(expression) if isinstance(expression, int | sympy.Integer) else None


def block_sizes(tiling: dict[str, Any], persistent: bool, inner: bool, least: int = 1) -> dict[str, int]:
    """The block sizes of a kernel: {"XBLOCK": ..., ...} by tile prefix, x innermost.

    tiling: Inductor's iteration sizes by prefix ("z", "y", "x", "r0_", "r1_"). inner: the reduction runs
    along contiguous memory. least: rows of a reduction that are to be in a block, if there are as many.
    """
    blocks: dict[str, int] = {}
    reductions = [p for p in tiling if p.startswith("r")]
    points: list[str] = [p for p in ("x", "y", "z") if p in tiling]
    if not reductions or all(tiling[r] == 1 for r in reductions):
        left = POINTWISE_BLOCK
        for prefix in points:
            cap = INNER_BLOCK if len(points) > 1 and prefix == "x" else left
            blocks[f"{prefix.upper()}BLOCK"] = size = min(next_power_of_2(_hint(tiling[prefix])), cap, left)
            left = max(1, left // size)
        return blocks
    left = REDUCTION_BLOCK
    for prefix in reductions:
        size = next_power_of_2(_hint(tiling[prefix]))
        if not persistent:
            size = min(size, INNER_BLOCK if inner else 64, left)
            blocks[f"{prefix.upper()}BLOCK"] = size
        left = max(1, left // size)
    for prefix in points:
        rows = next_power_of_2(_hint(tiling[prefix]))
        # A floor of 64 for one dimension only: for each of several, the block would pass what Triton allows.
        cap = (
            max(least if prefix == points[0] else 1, left // 2)
            if inner
            else max(left, max(64, least) if prefix == points[0] else 1)
        )
        blocks[f"{prefix.upper()}BLOCK"] = size = min(rows, cap)
        left = max(1, left // size)
    if points:  # With two dimensions of a reduction, its floor may come together with theirs.
        first = f"{points[0].upper()}BLOCK"
        blocks[first] = max(1, blocks[first] // -(-math.prod(blocks.values()) // gemm.TRITON_LIMIT))
    return blocks


class RvvChoices(InductorChoices):
    """Inductor's heuristics for RVV: large fixed blocks, rows reduced in one go where their size is known."""

    def uuid(self) -> str:
        return f"torch_rvv {POINTWISE_BLOCK} {REDUCTION_BLOCK} {PERSISTENT_LIMIT}"

    @staticmethod
    def should_use_persistent_reduction(features: Any, cooperative_reduction: bool) -> bool:
        length = _static(features.reduction_numel)
        if features.contains_op("sort"):  # There is no other form of it.
            return True
        if length is None or length > PERSISTENT_LIMIT:
            return False
        return features.get_reduction_hint() == ReductionHint.INNER or length <= 4096

    def triton_kernel_kwargs(
        self, kernel_cls: type[TritonKernel], features: Any, groups: Sequence[Any], kernel_kwargs: dict[str, Any]
    ) -> dict[str, Any]:
        if kernel_cls is not RvvKernel or not groups or not isinstance(groups[0], dict):
            return kernel_kwargs
        tiling = groups[0]
        if gemm.is_product(features):
            rows, columns = (_hint(tiling.get(prefix, 1)) for prefix in ("y", "x"))
            blocks = gemm.block_sizes(rows, columns, _static(tiling["r0_"]))
            config = {**({"ZBLOCK": 1} if "z" in tiling else {}), **blocks, "num_warps": 1, "num_stages": 1}
            whole = "R0_BLOCK" not in blocks
            return {
                **kernel_kwargs, "override_persistent_reduction": whole, "fixed_config": FixedTritonConfig(config)
            }  # fmt: skip
        reduces = any(p.startswith("r") and size != 1 for p, size in tiling.items())
        persistent = kernel_kwargs.get("override_persistent_reduction")
        if persistent is None:
            persistent = reduces and self.should_use_persistent_reduction(features, False)
        inner = not reduces or features.get_reduction_hint() == ReductionHint.INNER
        least = 1
        if reduces and gemm.shares_rows(features):
            depth = next_power_of_2(_hint(tiling.get("r0_", 1)))
            least = SHARING_ROWS if inner else max(1, min(SHARING_COLUMNS, gemm.TRITON_LIMIT // depth))
        elif reduces and inner and features.contains_op("scan"):
            least = SCANNED_ROWS
        elif reduces and features.contains_op("sort"):
            inner, least = True, SORTED_ROWS if _hint(tiling["r0_"]) <= SORTED_LENGTH else 1
        blocks = block_sizes(tiling, bool(persistent), inner, least)
        few = gemm.few_rows(features, tiling) if reduces and persistent else None
        if few:
            size = next_power_of_2(few) * next_power_of_2(_hint(tiling["r0_"]))
            columns = min(next_power_of_2(_hint(tiling["x"])), gemm.FEW_COLUMNS)
            blocks |= {"YBLOCK": next_power_of_2(few), "XBLOCK": max(1, min(columns, gemm.TRITON_LIMIT // size))}
        return {**kernel_kwargs, "fixed_config": FixedTritonConfig({**blocks, "num_warps": 1, "num_stages": 1})}


class RvvScheduling(TritonScheduling):
    """TritonScheduling that notes what each kernel computes, for the aten fallback."""

    kernel_type = RvvKernel

    def define_kernel(self, src_code: str, node_schedule: Any, kernel: Any) -> str:
        name = super().define_kernel(src_code, node_schedule, kernel)
        record.note(name, kernel, node_schedule)
        return name

    def can_fuse_vertical(self, node1: Any, node2: Any) -> bool:
        return bool(gemm.one_kernel(node1, node2) and super().can_fuse_vertical(node1, node2))

    def can_fuse_horizontal(self, node1: Any, node2: Any) -> bool:
        return bool(gemm.one_kernel(node1, node2) and super().can_fuse_horizontal(node1, node2))

    @classmethod
    def create_tiling(cls, pw_tiling: Sequence[Any], reduction_tiling: Sequence[Any]) -> Any:
        """As Inductor's, which has names for two dimensions of a reduction only: of more, the first become one."""
        *outer, inner = reduction_tiling or [sympy.S.One]
        if len(outer) > 1:
            reduction_tiling = [sympy.Mul(*outer), inner]
        return super().create_tiling(pw_tiling, reduction_tiling)


@cache
def register() -> None:
    """Put our scheduling and wrapper beside Inductor's own for CPU, chosen by config at each compile."""
    common.init_backend_registration()
    gemm.register()
    columns.register()
    sorts.register()
    once.register()
    resize.register()
    taps.register()
    batchnorm.register()
    quotient.register()
    held = common.device_codegens["cpu"]
    theirs, splits = GraphLowering.is_unspec_arg, ir.Scan.num_splits

    def is_unspec_arg(self: GraphLowering, name: str) -> bool:
        # A tensor of no dimensions is read by its address, as any other: Inductor passes it as a number, for it takes
        # kernels to run elsewhere, and then reuses its memory all the same.
        return not placed() and theirs(self, name)

    GraphLowering.is_unspec_arg = is_unspec_arg  # type: ignore[method-assign]

    def num_splits(**of: Any) -> tuple[ReductionHint, Any]:
        # A row that is scanned by several programs has each wait for the one before, as GPUs run them.
        hint, count = splits(**of)
        return hint, 1 if placed() else count

    ir.Scan.num_splits = num_splits  # type: ignore[method-assign,assignment]

    def scheduling(scheduler: Any) -> Any:
        return RvvScheduling(scheduler) if placed() else held.scheduling(scheduler)

    common.register_backend_for_device(
        "cpu", scheduling, RvvPythonWrapper, held.cpp_wrapper_codegen, RvvWrapper, KeyPass()
    )


def patches(extra: dict[str, Any]) -> dict[str, Any]:
    """The config patch of one compile: ours, then the user's Inductor options."""
    return {**PATCHES, "inductor_choices_class": RvvChoices, **extra}
