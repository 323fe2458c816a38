"""Inductor's writer of Triton kernels, mended where what it writes is wrong, refused by Triton, or slow for us.

Each method says of what, and does nothing else; RvvScheduling (inductor.py) has Inductor use it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import sympy
import torch
from torch._inductor.codegen.common import TensorArg
from torch._inductor.codegen.simd import CantSplit
from torch._inductor.codegen.triton import (
    IndexingOptions,
    TritonCSEVariable,
    TritonKernel,
    is_sympy_integer_like,
)
from torch._inductor.dependencies import MemoryDep
from torch._inductor.virtualized import V
from torch.utils._ordered_set import OrderedSet
from torch.utils._sympy.functions import FloorDiv

from torch_rvv.errors import LoweringError

# What Inductor calls to sort, and where ours is.
SORT = "triton_helpers.sort_with_index"
OUR_SORT = "from torch_rvv.plugin.sorting import sort_with_index"
# What moves elements and looks at none of them.
MOVES = frozenset(
    "load store output masked constant index_expr get_index lt le gt ge eq ne and_ or_ logical_and".split()
)


def _divided(size: Any) -> Any:
    """A size in which quotients are products again that leave no rest, whatever their sizes are."""

    def quotient(total: Any, by: Any) -> Any:
        exact = total / by
        return exact if sympy.denom(sympy.together(exact)) == 1 else FloorDiv(total, by)

    return size.replace(FloorDiv, quotient) if isinstance(size, sympy.Expr) else size


@contextmanager
def _divisible(sizes: Any) -> Iterator[None]:
    """Sizes are divided where they can be, and compared by their hints."""
    simplify, greater, hint = sizes.simplify, sizes.statically_known_gt, sizes.optimization_hint
    multiple, equals = sizes.statically_known_multiple_of, sizes.statically_known_equals
    sizes.simplify = lambda size: _divided(simplify(size))
    sizes.statically_known_gt = lambda a, b: greater(a, b) or hint(a) > hint(b)
    sizes.statically_known_multiple_of = lambda a, b: multiple(_divided(a), _divided(b))
    sizes.statically_known_equals = lambda a, b: equals(_divided(a), _divided(b))
    try:
        yield
    finally:
        del sizes.simplify, sizes.statically_known_gt, sizes.statically_known_multiple_of, sizes.statically_known_equals


class RvvKernel(TritonKernel):
    """TritonKernel with what it lacks here."""

    def _has_constant_mask(self, tree: Any) -> bool:
        # A block of one is never past the end; Inductor masks sizes below 16 of products, even where no tl.dot is.
        held = self.fixed_config
        one = held is not None and "ZBLOCK" in held and held["ZBLOCK"] == 1
        return (self.is_native_matmul and tree.prefix == "z" and one) or super()._has_constant_mask(tree)

    @staticmethod
    def _split_iteration_ranges(groups: Any, lengths: Any) -> Any:
        # (n // 2) ** 2 over n // 2, as a dynamic length has it that was halved, is no whole number to Inductor; and it
        # splits only what is longer than a group at any size, where a split of all that divides is as right.
        try:
            return TritonKernel._split_iteration_ranges(groups, lengths)
        except CantSplit:
            with _divisible(V.graph.sizevars):
                return TritonKernel._split_iteration_ranges(groups, lengths)

    def indexing(self, index: Any, **keywords: Any) -> Any:
        # One element, which Inductor spreads over the whole block: an operand of a product has no columns, or no rows.
        found = super().indexing(index, **keywords)
        single = is_sympy_integer_like(index) and isinstance(found, IndexingOptions) and found.expand_shape
        if self.is_native_matmul and self.inside_reduction and single:
            ones = ("1",) * len(found.expand_shape)
            masks = OrderedSet([self._load_mask] if self._load_mask else [])
            return replace(found, expand_str=f"[{', '.join(ones)}]", expand_shape=ones, mask_vars=masks)
        return found

    def load(self, name: str, index: Any) -> Any:
        # What stands for what is masked off is a float where the result is one; an index on the way to it is not.
        held, dtype = self._load_other, V.graph.get_dtype(name)
        if isinstance(held, float) and not dtype.is_floating_point:
            whole = int(held) if math.isfinite(held) else 0
            self._load_other = bool(whole) if dtype == torch.bool else whole
        try:
            return super().load(name, index)
        finally:
            self._load_other = held

    def store(self, name: str, index: Any, value: Any, mode: Any = None) -> None:
        # The one result of a row that is a program of its own: Inductor takes it for as many as the row has elements,
        # which adds it up as often.
        if mode == "atomic_add" and self.no_x_dim and not self.inside_reduction:
            value.shape = ("1",)
        super().store(name, index, value, mode)

    def codegen_kernel(self, name: str | None = None) -> str:
        # Inductor's own sort is a network of steps that each move a whole block.
        with self._complex_as_integers():
            code = str(super().codegen_kernel(name))
        return f"{OUR_SORT}\n{code.replace(SORT, SORT.split('.')[-1])}" if SORT in code else code

    @contextmanager
    def _complex_as_integers(self) -> Iterator[None]:
        """Triton has no complex numbers, but copies of them are copies of integers as wide."""
        theirs = self.args.python_argdefs

        def python_argdefs() -> Any:
            found = theirs()
            for argument in found[2]:
                if isinstance(argument, TensorArg) and argument.dtype == torch.complex64:
                    argument.dtype = torch.int64
            return found

        for node in self.features.scheduler_nodes():
            reads_and_writes = node.read_writes.reads_and_writes()
            touched = {V.graph.get_dtype(dep.name) for dep in reads_and_writes if isinstance(dep, MemoryDep)}
            if not any(dtype.is_complex for dtype in touched):
                continue
            if (others := set(node._body.op_counts) - MOVES) or torch.complex128 in touched:
                what = ", ".join(sorted(others)) or "a copy"
                raise LoweringError(f"complex numbers in a kernel ({what} of {sorted(map(str, touched))})")
        self.args.python_argdefs = python_argdefs  # type: ignore[method-assign]
        try:
            yield
        finally:
            del self.args.python_argdefs

    def reduction(self, *args: Any, **kwargs: Any) -> Any:
        # Which rows there are: an index that is computed from the result is checked for those only, and not for what a
        # block has too many.
        result = super().reduction(*args, **kwargs)
        rows = [tree.mask_name() for tree in self.range_trees if not tree.prefix.startswith("r")]
        for variable in result if isinstance(result, tuple) else (result,):
            cast(TritonCSEVariable, variable).mask_vars.update(rows)
        return result
