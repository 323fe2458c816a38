"""Combine functions that carry an index along: which element of a pair is kept, told from all cases there are.

    (a, i), (b, j) → select(a > b or (a == b and i < j), a, b), the same of i, j      →   Order(largest, first)

A function of comparisons of a with b and of i with j, joined by and, or, xor and select, depends on nothing but how the
two pairs are ordered: it is tried on each way that they can be. Numbers that are no NaN must be kept as by one of the
four orders; a function that has NaN win must have it win always, and one that knows nothing of NaN keeps any.
Declines: functions with any other operation, or a constant that is no boolean.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch_rvv.lowering.mlir import integer, producer

_NAN = math.nan
_FLOATS = [(1.0, 2.0), (2.0, 1.0), (1.0, 1.0), (_NAN, 1.0), (1.0, _NAN), (_NAN, _NAN)]
_INTEGERS = [(1, 2), (2, 1), (1, 1)]
_SIGNED, _UNSIGNED = range(2, 6), range(6, 10)


@dataclass(frozen=True)
class Order:
    """largest: the larger value is kept, else the smaller; last: of equal ones that with the larger index."""

    largest: bool
    last: bool
    unsigned: bool


class _NotKnown(Exception):
    """The function is more than comparisons."""


def order_of(block: Any) -> Order | None:
    """What a combine function of a value and an index keeps; None if that is no order."""
    if len(block.arguments) != 4:
        return None
    a, i = (str(argument.type) for argument in list(block.arguments)[:2])
    if i not in ("i32", "i64") or a == "i1" or not a.startswith(("f", "bf", "i")):
        return None
    values = _INTEGERS if a.startswith("i") else _FLOATS
    cases = list(itertools.product(values, _INTEGERS))
    try:
        kept = [_kept(block, pair, places) for pair, places in cases]
    except _NotKnown:
        return None
    unsigned = any(integer(op, "predicate") in _UNSIGNED for op in _comparisons(block, 0))
    if any(integer(op, "predicate") in _UNSIGNED for op in _comparisons(block, 1)) or (
        unsigned and any(integer(op, "predicate") in _SIGNED for op in _comparisons(block, 0))
    ):
        return None
    for largest, last in itertools.product((True, False), repeat=2):
        wanted = [_wanted(pair, places, largest, last) for pair, places in cases]
        numbers = [k for k, (pair, _) in enumerate(cases) if not any(map(math.isnan, pair))]
        same = [kept[k] in wanted[k] for k in range(len(cases))]
        if all(same) or (all(same[k] for k in numbers) and not _asks_for_nan(block)):
            return Order(largest, last, unsigned)
    return None


def _wanted(pair: tuple[float, float], places: tuple[int, int], largest: bool, last: bool) -> tuple[int, ...]:
    """Which side an order keeps: 0, 1, or either where the two are the same. NaN comes before all numbers."""
    ranks = [math.inf if math.isnan(x) else x if largest else -x for x in pair]
    if ranks[0] != ranks[1]:
        return (0,) if ranks[0] > ranks[1] else (1,)
    if places[0] == places[1]:
        return 0, 1
    return (0,) if (places[0] > places[1]) == last else (1,)


def _comparisons(block: Any, argument: int) -> list[Any]:
    """The comparisons of a value (0) or an index (1)."""
    both = [list(block.arguments)[argument], list(block.arguments)[argument + 2]]
    operations = [op.operation for op in block.operations]
    return [op for op in operations if op.name.startswith("arith.cmp") and op.operands[0] in both]


def _asks_for_nan(block: Any) -> bool:
    return any(op.operands[0] == op.operands[1] for op in _comparisons(block, 0))


def _kept(block: Any, pair: tuple[float, float], places: tuple[int, int]) -> int:
    """Which side the function keeps of two pairs: 0 or 1."""
    arguments = list(block.arguments)
    numbers = dict(zip(arguments, (pair[0], places[0], pair[1], places[1]), strict=True))
    known: dict[Any, Any] = {}  # A boolean, or the argument that an operation's result is.

    def value(operand: Any) -> Any:
        return operand if operand in numbers else known[operand] if operand in known else _boolean(operand)

    *operations, end = [op.operation for op in block.operations]
    for op in operations:
        rule = _RULES.get(op.name)
        if rule is None:
            raise _NotKnown
        known[op.results[0]] = rule(op, [value(operand) for operand in op.operands], numbers)
    kept = [value(operand) for operand in end.operands]
    sides = [n for n, side in enumerate((arguments[:2], arguments[2:])) if kept == side]
    if len(sides) != 1:
        raise _NotKnown
    return sides[0]


def _boolean(operand: Any) -> bool:
    """A constant from outside of the function."""
    op = producer(operand)
    if op is None or op.name != "arith.constant" or str(operand.type) != "i1":
        raise _NotKnown
    return str(op.attributes["value"]) in ("true", "1 : i1", "-1 : i1")


def _compare(op: Any, operands: list[Any], numbers: dict[Any, Any]) -> bool:
    if not all(operand in numbers for operand in operands) or operands[0].type != operands[1].type:
        raise _NotKnown
    a, b = (numbers[operand] for operand in operands)
    predicate = integer(op, "predicate")
    if op.name == "arith.cmpi":
        return (a == b, a != b, a < b, a <= b, a > b, a >= b)[predicate if predicate < 6 else predicate - 4]
    # false, oeq, ogt, oge, olt, ole, one, ord; then those that NaN makes true: ueq, ugt, uge, ult, ule, une, uno, true
    if math.isnan(a) or math.isnan(b):
        return predicate >= 8
    ordered = (False, a == b, a > b, a >= b, a < b, a <= b, a != b)
    return (*ordered, True, *ordered[1:], False, True)[predicate]


def _logic(function: Callable[[bool, bool], bool]) -> Callable[..., bool]:
    def rule(op: Any, operands: list[Any], numbers: dict[Any, Any]) -> bool:
        if not all(isinstance(operand, bool) for operand in operands):
            raise _NotKnown
        return function(*operands)

    return rule


def _select(op: Any, operands: list[Any], numbers: dict[Any, Any]) -> Any:
    if not isinstance(operands[0], bool):
        raise _NotKnown
    return operands[1] if operands[0] else operands[2]


_RULES: dict[str, Callable[..., Any]] = {
    "arith.cmpf": _compare,
    "arith.cmpi": _compare,
    "arith.andi": _logic(lambda a, b: a and b),
    "arith.ori": _logic(lambda a, b: a or b),
    "arith.xori": _logic(lambda a, b: a != b),
    "arith.select": _select,
    "arith.constant": lambda op, operands, numbers: _boolean(op.results[0]),
}
