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
from torch_rvv.calls import LEFT, call
from torch_rvv.runtime import record
from torch_rvv.runtime.context import current_placement

aten = torch.ops.aten
PRODUCTS = (aten.mm.default, aten.addmm.default, aten._int_mm.default)
# What a weight may have gone through.
VIEWS = {aten.permute.default, aten.t.default, torch.ops.prims.convert_element_type.default}
# Beyond it a copy of the weight serves so many rows that it costs little.
MOST_ROWS, LEAST_COLUMNS = 128, 16
# Bytes of a cache's line.
LINE = 64
# Modelled cycles at VLEN 256: of an element that is turned round, of a lane's product; and what an element of a weight
# saves, the less where it is converted first, and so copied, all the same.
TURN, PRODUCT = 1.25, 0.13
SAVED_CONVERTED = 0.6
SAVED = {torch.float32: 1.25, torch.float16: 1.2, torch.int8: 1.0, torch.bfloat16: SAVED_CONVERTED}
# Lanes of a whole strip, and how many of them a narrower one is worth.
WHOLE = 32
STRIPS = {0: 0.0, 8: 10.5, 16: 17.2}


@torch.library.custom_op("torch_rvv::columns", mutates_args=())
def columns(x: Tensor) -> Tensor:
    """The transpose of a matrix, row after row in memory, with a line between them where they would share few sets of a
    cache."""
    return _like(x).copy_(x.t())


@columns.register_fake
def _like(x: Tensor) -> Tensor:
    m, k = x.shape
    return x.new_empty_strided((k, m), (apart(m, x.dtype), 1))


def apart(rows: int, dtype: torch.dtype) -> int:
    """Elements from a row of a transpose to the next."""
    line = LINE // dtype.itemsize
    return rows if rows % (2 * line) else rows + line


COLUMNS = torch.ops.torch_rvv.columns.default


def by_column(node: Node) -> Node | None:
    """A product with its left operand by column, where that pays."""
    place = LEFT[node.target]
    a, b = node.args[place : place + 2]
    weight = _weight(b)
    if not isinstance(a, Node) or not isinstance(b, Node) or weight is None:
        return None
    if not pays(a.meta["val"], b.meta["val"], weight.meta["val"].dtype != b.meta["val"].dtype):
        return None
    graph = node.graph
    with graph.inserting_before(node):
        # Products of the same rows share them: this one is the first of them, or finds them.
        turned = next((user for user in a.users if user.target == COLUMNS), None) or call(graph, COLUMNS, a)
        again = call(graph, aten.permute.default, turned, [1, 0])
        args = [*node.args]
        args[place] = again
        product = graph.call_function(cast(Any, node.target), tuple(args), node.kwargs)
    product.meta.update(node.meta)
    (m, k), n = a.meta["val"].shape, b.meta["val"].shape[1]
    record.decide(f"the product {m}x{k} @ {k}x{n}", "lanes along its rows: the weight is read where it stands")
    return product


def _weight(node: Any) -> Node | None:
    """The input of the graph that a matrix is a view or conversion of; None if it is something else."""
    while isinstance(node, Node) and node.target in VIEWS:
        node = node.args[0]
    return node if isinstance(node, Node) and node.op in ("placeholder", "get_attr") else None


def pays(a: Tensor, b: Tensor, converted: bool = False) -> bool:
    """Whether a (m, k) @ b (k, n) takes less with a by column than with a copy of b by row. converted: b from another
    type, which takes a copy in any case."""
    placement = current_placement()
    (m, k), n = a.shape, b.shape[1]
    known = all(isinstance(size, int) for size in (m, k, n)) and a.dtype == b.dtype and a.dtype in SAVED
    if not known or placement.gemm == "aten" or placement.frozen or b.stride(0) != 1 or b.stride(1) == 1:
        return False
    if not gemm.FEW_ROWS < m <= MOST_ROWS or n < LEAST_COLUMNS:
        return False
    idle, saved = lanes(m) - m, SAVED_CONVERTED if converted else SAVED[a.dtype]
    return PRODUCT * idle * k * n + TURN * m * (k + n) < saved * k * n


def lanes(rows: int) -> float:
    """How many lanes so many rows are worth."""
    whole, rest = divmod(rows, WHOLE)
    return WHOLE * whole + next((cost for most, cost in STRIPS.items() if rest <= most), WHOLE)


@cache
def register() -> None:
    """Tell Inductor what the operator is."""

    @register_lowering(COLUMNS, type_promotion_kind=None)
    def lower(x: Any) -> Any:
        rows = int(x.get_size()[0])
        return ir.ExternKernel.require_exact_strides(permute(x, [1, 0]), [apart(rows, x.get_dtype()), 1])
