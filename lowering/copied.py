"""A product's right operand, copied on the way: by the first block of rows of each strip, which reads it anyway.

    generic { %b = load(source) }; generic { %c += %a * %b }
    →  strips of columns: the first register tile reads the source, and stores that to %b; the others read %b

The copy's loads are then those of the tile, and its stores stand between products, where memory has nothing to do.
Declines: copies that compute or convert anything, of more or less than the product reads, or that something else reads;
products of one block of rows, or of a number of them that is not known; an end of the product that may write what is
copied.
"""

from __future__ import annotations

from typing import Any

from torch_rvv.lowering import epilogue
from torch_rvv.lowering.matmul import Access, Contraction
from torch_rvv.lowering.nest import Nest


def product_of(copy: Any) -> Any | None:
    """The product that is all that reads what an operation (epilogue.is_beginning) copies, if that may wait for it."""
    block = copy.regions[0].blocks[0]
    plain = len(list(block.operations)) == 1 and list(block.operations)[0].operation.operands[0] == block.arguments[0]
    if not plain:
        return None
    buffer = epilogue.root(list(copy.operands)[-1])
    for op in epilogue.following(copy):
        if op.name == "linalg.generic" and not epilogue.elementwise(op):
            readers = [user for user in epilogue.users(buffer) if user != copy]
            return op if readers == [op] and buffer not in epilogue.writes(op) else None
        if not epilogue.movable(op) and not epilogue.is_beginning(op):
            return None
    return None


def source(of: Contraction, copy: Nest, rows: int) -> Access | None:
    """What the right operand of a contraction is a copy of; None if it cannot be made on the way. rows: of a tile."""
    if of.row is None or of.outer or len(copy.sizes) != 2 or len(copy.operands) != 2:
        return None
    size, (read, written) = of.sizes[of.row], copy.operands
    if not isinstance(size, int) or size <= rows or read.view.elem != of.narrow or read.view.addressed:
        return None
    if (written.view.base, written.view.offset) != (of.b.base, of.b.offset):
        return None
    column = next((d for d in (0, 1) if written.stride(d) == 1 and read.stride(d) == 1), None)
    if column is None or written.stride(1 - column) != of.b.strides[of.depth]:
        return None
    if [copy.sizes[column], copy.sizes[1 - column]] != [of.sizes[of.column], of.sizes[of.depth]]:
        return None
    strides = {of.row: 0, of.column: 1, of.depth: read.stride(1 - column)}
    return Access(read.view.base, read.view.offset, strides)
