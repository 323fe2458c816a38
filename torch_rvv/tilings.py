"""Inductor's search for tilings, which asks the same of every kernel: answered once.

How a variable of an index falls into blocks is matched by sympy, and what makes an index coalesced is solved by it, up
to a tenth of a second a time; a model of like layers asks for the same twenty expressions hundreds of times.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

import sympy
from torch._inductor import tiling_utils
from torch._inductor.codegen.block_analysis import BlockPatternMatcher

_match = BlockPatternMatcher.match_mod_div_block_expr
_kept = lru_cache(maxsize=1 << 14)(_match)


def _matched(index: sympy.Expr, index_var: sympy.Symbol, numel: sympy.Expr, num_dims: int) -> Any:
    """As Inductor's own; what depends on nothing but the question, for it has no dynamic sizes, is kept."""
    index, numel = sympy.sympify(index), sympy.sympify(numel)
    if numel.free_symbols or not index.free_symbols <= {index_var}:
        return _match(index, index_var, numel, num_dims)
    found = _kept(index, index_var, numel, num_dims)
    return None if found is None else tuple(list(part) for part in found)


@cache
def register() -> None:
    """Let ours stand in for Inductor's own."""
    # It depends on the expression alone.
    tiling_utils.solve_for_tiling = lru_cache(maxsize=1 << 14)(tiling_utils.solve_for_tiling)
    BlockPatternMatcher.match_mod_div_block_expr = staticmethod(_matched)  # type: ignore[method-assign]
