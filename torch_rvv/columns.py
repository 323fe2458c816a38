"""Linear layers of few rows: the input is written column by column, so that the weight is read where it stands.

    mm(a, wᵀ)   →   mm(permute(columns(a), [1, 0]), wᵀ)

A linear layer keeps its weight (n, k), and as the right operand of a product that lies by column: it would be turned
round at each run, which takes as long as ten rows of products. With the input by column the lowering multiplies with
lanes along the rows instead (lowering/turned.py), and what is turned round is the input and the result. Frozen weights
are packed instead (packing.py).
"""

from __future__ import annotations

from functools import cache
from typing import Any, cast

import torch
from torch import Tensor
from torch._inductor import ir
from torch._inductor.lowering import permute, register_lowering
from torch.fx import Node

from torch_rvv import gemm
from torch_rvv.runtime import record
from torch_rvv.runtime.context import current_placement

aten = torch.ops.aten
# Product → which argument is the left operand.
PRODUCTS: dict[Any, int] = {aten.mm.default: 0, aten.addmm.default: 1, aten._int_mm.default: 0}
# What a weight may have gone through.
VIEWS = {aten.permute.default, aten.t.default, torch.ops.prims.convert_element_type.default}
# Beyond it the rows lie so far apart in memory that few lines of a cache hold them.
MOST_ROWS, LEAST_COLUMNS = 128, 16
# Modelled cycles at VLEN 256: of an element that is turned round, of a lane's product; and what an element of a weight
# saves, the less where it is converted first, and so copied, all the same.
TURN, PRODUCT = 1.25, 0.13
SAVED = {torch.float32: 1.25, torch.float16: 1.2, torch.int8: 1.0, torch.bfloat16: 0.6}
# Lanes of a whole strip, and how many of them a narrower one is worth.
WHOLE = 32
STRIPS = {0: 0.0, 8: 10.5, 16: 17.2}


@torch.library.custom_op("torch_rvv::columns", mutates_args=())
def columns(x: Tensor) -> Tensor:
    """The transpose of a matrix, contiguous in memory."""
    return x.t().clone(memory_format=torch.contiguous_format)


@columns.register_fake
def _(x: Tensor) -> Tensor:
    return x.new_empty((x.shape[1], x.shape[0]))


COLUMNS = torch.ops.torch_rvv.columns.default


def by_column(node: Node) -> Node | None:
    """A product with its left operand by column, where that pays."""
    place = PRODUCTS[node.target]
    a, b = node.args[place : place + 2]
    if not isinstance(a, Node) or not isinstance(b, Node) or not _is_weight(b):
        return None
    if not pays(a.meta["val"], b.meta["val"]):
        return None
    with node.graph.inserting_before(node):
        # Products of the same rows share them: this one is the first of them, or finds them.
        turned = next((user for user in a.users if user.target == COLUMNS), None) or _call(node, COLUMNS, a)
        again = _call(node, aten.permute.default, turned, [1, 0])
        args = [*node.args]
        args[place] = again
        product = node.graph.call_function(cast(Any, node.target), tuple(args), node.kwargs)
    product.meta.update(node.meta)
    (m, k), n = a.meta["val"].shape, b.meta["val"].shape[1]
    record.decide(f"the product {m}x{k} @ {k}x{n}", "lanes along its rows: the weight is read where it stands")
    return product


def _call(node: Node, operator: Any, *args: Any) -> Node:
    made = node.graph.call_function(operator, args)
    made.meta["val"] = operator(*(arg.meta["val"] if isinstance(arg, Node) else arg for arg in args))
    return made


def _is_weight(node: Node) -> bool:
    """Whether a matrix is an input of the graph, or a view or conversion of one."""
    while node.target in VIEWS and isinstance(node.args[0], Node):
        node = node.args[0]
    return node.op in ("placeholder", "get_attr")


def pays(a: Tensor, b: Tensor) -> bool:
    """Whether a (m, k) @ b (k, n) takes less with a by column than with a copy of b by row."""
    placement = current_placement()
    (m, k), n = a.shape, b.shape[1]
    known = all(isinstance(size, int) for size in (m, k, n)) and a.dtype == b.dtype and a.dtype in SAVED
    if not known or placement.gemm == "aten" or placement.frozen or b.stride(0) != 1 or b.stride(1) == 1:
        return False
    if not gemm.FEW_ROWS < m <= MOST_ROWS or n < LEAST_COLUMNS:
        return False
    idle = lanes(m) - m
    return PRODUCT * idle * k * n + TURN * m * (k + n) < SAVED[a.dtype] * k * n


def lanes(rows: int) -> float:
    """How many lanes so many rows are worth."""
    whole, rest = divmod(rows, WHOLE)
    return WHOLE * whole + next((cost for most, cost in STRIPS.items() if rest <= most), WHOLE)


@cache
def register() -> None:
    """Tell Inductor what the operator is."""

    @register_lowering(COLUMNS, type_promotion_kind=None)
    def lower(x: Any) -> Any:
        return ir.ExternKernel.require_contiguous(permute(x, [1, 0]))
