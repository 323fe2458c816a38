"""How the loads and stores that a loop body does itself move along a loop dimension.

    %i = linalg.index 0; %q = divsi(%i, 2); %at = addi(muli(%q, 44), linalg.index 1); memref.load %m[%at]
    →   along dim 0: None, a gather;  along dim 1: 1, unit stride

Operands of a linalg.generic say it by their maps. What is computed in the body is followed through sums, products with
constants and changes of width; anything else that moves is taken for a gather.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from torch_rvv.lowering.mlir import integer, ir, producer

if TYPE_CHECKING:
    from torch_rvv.lowering.nest import Nest

# A stride by a factor that is not known here.
FAR = 1 << 40
Step = int | None


def steps(nest: Nest, dim: int, operations: list[Any]) -> Iterator[Step]:
    """For each load and store of a body: elements from one iteration along a dimension to the next, None for a gather.

    operations: of the body, those inside of others behind them.
    """
    known: dict[Any, Step] = {o.argument: 0 if o.stride(dim) == 0 else None for o in nest.operands}
    for op in operations:
        moved = [known.get(operand, 0) for operand in op.operands]  # Others are from outside of the body.
        if op.name in ("memref.load", "memref.store"):
            yield moved[-1]
        for result in op.results:
            known[result] = _step(op, moved, dim)


def _step(op: Any, moved: list[Step], dim: int) -> Step:
    if op.name == "linalg.index":
        return int(integer(op, "dim") == dim)
    if op.regions:
        return None
    if not any(step != 0 for step in moved):
        return 0
    rule = _RULES.get(op.name)
    return None if rule is None or None in moved else rule(op, moved)


def _times(op: Any, moved: list[Any]) -> Step:
    still = [n for n, step in enumerate(moved) if step == 0]
    if len(still) != 1:
        return None
    factor = producer(op.operands[still[0]])
    if factor is None or factor.name != "arith.constant":
        return FAR
    return moved[1 - still[0]] * int(ir.IntegerAttr(factor.attributes["value"]).value)


_RULES: dict[str, Callable[[Any, list[Any]], Step]] = {
    "arith.addi": lambda op, moved: moved[0] + moved[1],
    "arith.subi": lambda op, moved: moved[0] - moved[1],
    "arith.muli": _times,
    **dict.fromkeys(
        ("arith.index_cast", "arith.index_castui", "arith.extsi", "arith.extui", "arith.trunci"),
        lambda op, moved: moved[0],
    ),
}
