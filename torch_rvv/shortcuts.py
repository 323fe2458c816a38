"""Questions that Inductor asks of every kernel anew, answered once or at sight.

How a variable of an index falls into blocks is matched by sympy, what makes an index coalesced is solved by it, and
what an index becomes within its ranges is asked with axioms about each of them: up to a tenth of a second a time, for
indices most of which are sums of strides that nothing can be found in. A model of like layers asks for the same twenty
expressions hundreds of times. Each answer is the one that Inductor's own function gives.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

import sympy
from torch._inductor import dtype_propagation, tiling_utils
from torch._inductor.codegen.block_analysis import BlockPatternMatcher
from torch._inductor.codegen.common import pointwise_overrides_data
from torch._inductor.sizevars import SizeVarAllocator
from torch._inductor.utils import op_dtype_propagation_rules
from torch.utils._sympy.functions import FloorDiv, ModularIndexing

_match = BlockPatternMatcher.match_mod_div_block_expr
_kept = lru_cache(maxsize=1 << 14)(_match)
_simplify = SizeVarAllocator._simplify_with_ranges
_solve = lru_cache(maxsize=1 << 14)(tiling_utils.solve_for_tiling)  # It depends on the expression alone.
_know_dtypes = dtype_propagation.DtypePropagationOpsHandler.__init__


def _is_linear(index: sympy.Expr) -> bool:
    return not index.has(FloorDiv, ModularIndexing)


def _matched(index: sympy.Expr, index_var: sympy.Symbol, numel: sympy.Expr, num_dims: int) -> Any:
    """As Inductor's own; what depends on nothing but the question, for it has no dynamic sizes, is kept."""
    index, numel = sympy.sympify(index), sympy.sympify(numel)
    if index_var in index.free_symbols and _is_linear(index):
        return None  # A block's index is a quotient or a remainder.
    if numel.free_symbols or not index.free_symbols <= {index_var}:
        return _match(index, index_var, numel, num_dims)
    found = _kept(index, index_var, numel, num_dims)
    return None if found is None else tuple(list(part) for part in found)


def _solved(index: sympy.Expr) -> Any:
    """As Inductor's own: what the index's variable is where the index is one."""
    stride, variable = index.as_coeff_Mul()
    return None if variable.is_Symbol and abs(stride) > 1 else _solve(index)


def _simplified(sizes: SizeVarAllocator, index: sympy.Expr, ranges: Any) -> sympy.Expr:
    """As Inductor's own, which knows only what to make of quotients and remainders."""
    plain = sizes.simplify(index)
    return plain if _is_linear(plain) else _simplify(sizes, plain, ranges)


def _knowing_dtypes(handler: Any) -> None:
    """Inductor fills its one handler of dtypes with each operation that it writes; here, when rules have changed."""
    rules = [*op_dtype_propagation_rules.values(), *pointwise_overrides_data]
    if handler.__dict__.get("filled_with") != rules:
        _know_dtypes(handler)
        handler.filled_with = rules


@cache
def register() -> None:
    """Let ours stand in for Inductor's own."""
    tiling_utils.solve_for_tiling = _solved  # type: ignore[assignment]
    BlockPatternMatcher.match_mod_div_block_expr = staticmethod(_matched)  # type: ignore[method-assign]
    SizeVarAllocator._simplify_with_ranges = _simplified  # type: ignore[assignment,method-assign]
    dtype_propagation.DtypePropagationOpsHandler.__init__ = _knowing_dtypes  # type: ignore[assignment,method-assign]
