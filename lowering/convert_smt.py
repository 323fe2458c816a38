"""What `triton.language.extra.smt` needs beyond Triton's own operations.

%a = tt.extern_elementwise %bytes {symbol = "smt.alloc"}     i64: the address of a scratch buffer
%v = tt.bitcast %b : <tensor<64x32xf16>> -> <tensor<8x32xf16>>   a block pointer to a part of a block
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch_rvv.lowering.graph import Graph, inside_loop
from torch_rvv.lowering.nodes import Allocate, Node
from torch_rvv.lowering.ttir import source_line

from torch_rvv.errors import Declined


def allocate(graph: Graph, op: Any) -> Sequence[Node] | None:
    """Scratch memory of a program's own, by its address."""
    (size,) = graph.operands(op)
    if inside_loop(op):
        raise Declined("smt.alloc inside a loop: allocate before it", where=source_line(op))
    if size.poly is None or size.poly.constant is None:
        return None
    buffer = graph.buffer((size.poly.constant,), "i8")
    address = graph.scalar("i64")
    address.attr = "scratch"
    graph.append(Allocate(source_line(op), buffer=buffer, result=address))
    return [address]


# symbol of an extern_elementwise → its rule
FUNCTIONS: dict[str, Callable[[Graph, Any], Sequence[Node] | None]] = {"smt.alloc": allocate}
