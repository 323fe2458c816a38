"""Sorts and what is a part of one: which are kernels of ours, and so what Inductor is told.

    sort, argsort                     of a size that is a number: plugin/sorting.py has what its kernels call
    topk, kthvalue, median, mode      of short rows: in words of a sort

Longer rows are selected from by aten, which does not sort what nobody asks for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, wraps
from typing import Any

import sympy
import torch
from torch._inductor import config, lowering

from torch_rvv.runtime.context import placed

aten = torch.ops.aten
# Keys of a row: of which scratch memory holds two copies; of one that is sorted for a few of them only.
LONGEST, SELECTED = 1 << 18, 1 << 10
SELECTIONS = (aten.topk.default, aten.kthvalue.default, aten.median.dim, aten.median.default, aten.mode.default)


def _ours(most: int, of_all: bool, x: Any, dim: int) -> bool:
    """Whether the rows along a dimension, or all elements as one row, are of a known size and short enough."""
    size = x.get_size()
    dims = range(len(size)) if of_all else [dim % len(size)] if size else []
    lengths = [size[d] for d in dims]
    if not all(isinstance(n, int | sympy.Integer) for n in lengths):
        return False
    return 0 < math.prod(int(n) for n in lengths) <= most


def _sorting(operator: Any, most: int) -> Callable[..., Any]:
    """Inductor's lowering of an operator, in words of its sort where that is ours."""
    theirs = lowering.lowerings[operator]
    names = [argument.name for argument in operator._schema.arguments]

    @wraps(theirs)
    def lower(*args: Any, **kwargs: Any) -> Any:
        if not placed():
            return theirs(*args, **kwargs)
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        ours = _ours(most, operator == aten.median.default, args[0], given.get("dim", -1))
        with config.patch({"triton.decompose_sort_ops": ours}):
            return theirs(*args, **kwargs)

    return lower


@cache
def register() -> None:
    """Put our choice around Inductor's lowerings."""
    for operator in (aten.sort.stable, aten.sort.default):
        lowering.lowerings[operator] = _sorting(operator, LONGEST)
    for operator in SELECTIONS:
        lowering.lowerings[operator] = _sorting(operator, SELECTED)
