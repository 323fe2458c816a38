"""What an operator reads several times is computed once, and written to memory.

    avg_pool2d(silu(x), 3, 1)      silu(x) of each element, not of each of the nine windows that hold it
    silu(x)[..., i // 2]           of each element, not of each of its copies
    q * cos(place)                 of each place, not once a head

Inductor asks for that where an operand reads two buffers and more, for it counts on caches and threads of a GPU, or
where one of a few functions is repeated along a dimension.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache, partial, wraps
from typing import Any, cast

import torch
from torch._inductor import ir
from torch._inductor.lowering import lowerings
from torch._inductor.virtualized import V
from torch.fx import Node

from torch_rvv.runtime.context import placed
from torch_rvv.stored import is_computed, pointwise

aten = torch.ops.aten


def _overlap(x: Any, kernel: Sequence[int], stride: Sequence[int] | None = None, *_: Any, **__: Any) -> bool:
    """Whether windows of a pooling share elements."""
    steps = list(stride or kernel)
    return any(k > s for k, s in zip(kernel, steps * len(kernel) if len(steps) == 1 else steps, strict=False))


def _grows(x: Any, indices: Sequence[Any], *_: Any, **__: Any) -> bool:
    """Whether indices, and those of other users of the operand, choose more elements than there are."""
    hint = partial(V.graph.sizevars.optimization_hint, fallback=1)
    found = [index for index in indices if index is not None]
    chosen = math.prod(hint(size) for size in torch.broadcast_shapes(*(tuple(map(hint, i.get_size())) for i in found)))
    users = len(cast(Node, V.graph.current_node.args[0]).users)
    return users * chosen > math.prod(
        hint(size) for size, i in zip(x.get_size(), indices, strict=False) if i is not None
    )


# Functions that are as long as many operations; Inductor knows a few of them to be.
FUNCTIONS = frozenset(
    "acos acosh asin asinh atan atan2 atanh cos cosh erf erfc erfinv exp exp2 expm1 lgamma log log10 log1p log2 pow"
    " sigmoid sin sinh tan tanh".split()
)
# Operator → whether it reads elements of its first operand more than once.
SEVERAL: dict[Any, Callable[..., bool]] = {
    aten.avg_pool2d.default: _overlap,
    aten.avg_pool3d.default: _overlap,
    torch.ops.prims._low_memory_max_pool_with_offsets.default: _overlap,
    aten._unsafe_index.Tensor: _grows,
    aten.index.Tensor: _grows,
}


def _is_function(operand: Any) -> bool:
    """Whether a function has to be worked out for each element."""
    data = pointwise(operand)
    return data is not None and not FUNCTIONS.isdisjoint(data.inner_fn_opcount().used_ops)


@cache
def register() -> None:
    """Put ourselves before Inductor's lowerings of these operators, in compiles of ours."""
    for operator, several in SEVERAL.items():
        lowerings[operator] = _before(lowerings[operator], several)
    theirs = ir.StorageBox.should_realize_on_reuse

    def should_realize_on_reuse(self: Any, users: int, **kwargs: Any) -> bool:
        return (placed() and users > 1 and _is_function(self)) or theirs(self, users, **kwargs)

    ir.StorageBox.should_realize_on_reuse = should_realize_on_reuse  # type: ignore[method-assign]


def _before(theirs: Callable[..., Any], several: Callable[..., bool]) -> Callable[..., Any]:
    @wraps(theirs)
    def lower(x: Any, *args: Any, **kwargs: Any) -> Any:
        if placed():
            if is_computed(x) and several(x, *args, **kwargs):
                x.realize()
            for index in args[0] if args else ():  # Of elements that are chosen: each may choose a row.
                if isinstance(index, ir.TensorBox) and _is_function(index):
                    index.realize()
        return theirs(x, *args, **kwargs)

    return lower
