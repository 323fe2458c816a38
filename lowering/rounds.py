"""Sums that go on from one round of a loop to the next: begun in the first, done with in the last.

    generic { %c = 0 }; scf.for { generic { %c += %a * %b } }; generic { %y = relu(%c) }
    →  scf.for { if first { generic { %c = 0 } }; generic { %c += %a * %b }; if last { generic { %y = relu(%c) } } }
       if no rounds { generic { %c = 0 }; generic { %y = relu(%c) } }

The conditions then stand around what a register tile begins and ends with (epilogue.py), where it can be had there.
Declines: sums that anything else sees; a beginning that reads; an end that may write what the product reads, or that
needs what the loop gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch_rvv.lowering import epilogue
from torch_rvv.lowering.epilogue import End


@dataclass(eq=False)
class Rounds:
    """A loop around a product, what gives the sums their beginning before it, and their end behind it."""

    loop: Any
    beginning: Any
    product: Any
    end: End


def rounds_of(beginning: Any, noalias: bool) -> Rounds | None:
    """The rounds that go on from what an operation (epilogue.is_beginning) gives a buffer."""
    buffer = epilogue.root(list(beginning.operands)[-1])
    users = [op for op in epilogue.users(buffer) if op != beginning]
    products = [op for op in users if op.name == "linalg.generic" and not epilogue.elementwise(op)]
    ends = [op for op in users if op not in products]
    if len(products) != 1 or len(ends) != 1 or epilogue.reads(beginning):
        return None
    product, end = products[0], ends[0]
    loop = getattr(product.parent, "operation", product.parent)
    if loop.name != "scf.for" or loop not in epilogue.following(beginning) or not epilogue.elementwise(end):
        return None
    *others, last = epilogue.following(product)
    if last.name != "scf.yield" or epilogue.writes(product) != [buffer] or not all(map(epilogue.movable, others)):
        return None
    found = epilogue.before(epilogue.following(loop), end)
    if found is None or found.guards or not epilogue.apart(product, end, noalias):
        return None
    given = set(loop.results)
    if any(operand in given for op in found.before for operand in op.operands):
        return None
    return Rounds(loop, beginning, product, found)
