"""How large an index of the linalg level can get, and what it leaves when divided: by the constants it is made of.

    %n = arith.minsi %block, %left      at most the smaller bound of the two; leaves what one of them does
    33 + %pid * -64                     at most 33, program ids and loop indices being no negative numbers; leaves 1

Limits: of what `ttir_to_linalg` writes; None where it does not know. Bounds are an estimate for choosing loops; what is
left is exact, and decides which loops there are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch_rvv.lowering.mlir import integer, producer

_CASTS = ("arith.index_cast", "arith.index_castui", "arith.extsi", "arith.extui")


def upper_bound(value: Any) -> int | None:
    """The largest that an integer or index of MLIR can be, or None."""
    op = producer(value)
    rule = _RULES.get(op.name) if op is not None else None
    return rule(op) if rule else None


def constant(op: Any) -> int:
    """The number of an arith.constant."""
    return integer(op, "value")


def _smaller(op: Any) -> int | None:
    return min((n for n in map(upper_bound, op.operands) if n is not None), default=None)


def _larger(op: Any) -> int | None:
    a, b = map(upper_bound, op.operands)
    return None if a is None or b is None else max(a, b)


def _sum(op: Any) -> int | None:
    a, b = map(upper_bound, op.operands)
    return None if a is None or b is None else a + b


def _product(op: Any) -> int | None:
    """At most 0 for a program id times a negative constant."""
    moving, factor = op.operands
    number = upper_bound(factor)
    return 0 if number is not None and number < 0 and _is_argument(moving) else None


def _is_argument(value: Any) -> bool:
    while (op := producer(value)) is not None and op.name in _CASTS:
        value = op.operands[0]
    return op is None


_RULES: dict[str, Callable[[Any], int | None]] = {
    "arith.constant": constant,
    "arith.minsi": _smaller,
    "arith.maxsi": _larger,
    "arith.addi": _sum,
    "arith.muli": _product,
}

# A multiple of the lanes of a strip, at the VLEN for which code is to be fast; of two, for integers wrap around.
MODULUS = 32
Remainders = frozenset[int]


def remainders(value: Any) -> Remainders | None:
    """What an integer or index of MLIR can leave when it is divided by MODULUS, or None."""
    op = producer(value)
    if op is not None and op.name == "arith.constant":
        return frozenset({constant(op) % MODULUS})
    if op is None or op.name not in _REMAINDERS:
        return None
    return _REMAINDERS[op.name](*map(remainders, op.operands))


def _either(a: Remainders | None, b: Remainders | None) -> Remainders | None:
    return None if a is None or b is None else a | b


def _of_sum(a: Remainders | None, b: Remainders | None) -> Remainders | None:
    return None if a is None or b is None else frozenset((x + y) % MODULUS for x in a for y in b)


def _of_product(a: Remainders | None, b: Remainders | None) -> Remainders | None:
    """A multiple of the modulus leaves nothing, whatever it is multiplied by."""
    if frozenset({0}) in (a, b):
        return frozenset({0})
    return None if a is None or b is None else frozenset(x * y % MODULUS for x in a for y in b)


_REMAINDERS: dict[str, Callable[..., Remainders | None]] = {
    "arith.minsi": _either,
    "arith.maxsi": _either,
    "arith.addi": _of_sum,
    "arith.muli": _of_product,
}
