"""Inductor's sympy index expressions evaluated on tensors and numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import sympy
import torch

from torch_rvv.errors import TorchRvvError


def _floor_div(a: Any, b: Any) -> Any:
    if isinstance(a, torch.Tensor) or isinstance(b, torch.Tensor):
        return torch.div(torch.as_tensor(a), torch.as_tensor(b), rounding_mode="floor")
    return a // b


def _mod(a: Any, b: Any) -> Any:
    if isinstance(a, torch.Tensor) or isinstance(b, torch.Tensor):
        return torch.remainder(torch.as_tensor(a), torch.as_tensor(b))
    return a % b


def _rounded(function: Callable[..., torch.Tensor], plain: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x: function(x).long() if isinstance(x, torch.Tensor) else int(plain(x))


def _pick(function: Callable[..., Any], plain: Callable[..., Any]) -> Callable[..., Any]:
    def apply(a: Any, b: Any) -> Any:
        if isinstance(a, torch.Tensor) or isinstance(b, torch.Tensor):
            return function(torch.as_tensor(a), torch.as_tensor(b))
        return plain(a, b)

    return lambda *args: reduce(apply, args)


def _where(condition: Any, yes: Any, no: Any) -> Any:
    if isinstance(condition, torch.Tensor):
        return torch.where(condition, torch.as_tensor(yes), torch.as_tensor(no))
    return yes if condition else no


_TABLE: dict[str, Callable[..., Any]] = {
    "Add": lambda *args: reduce(lambda a, b: a + b, args),
    "Mul": lambda *args: reduce(lambda a, b: a * b, args),
    "Pow": lambda a, b: a**b,
    "PowByNatural": lambda a, b: a**b,
    "FloorDiv": _floor_div,
    "CleanDiv": _floor_div,
    "CeilDiv": lambda a, b: -_floor_div(-a, b),
    "ModularIndexing": lambda x, divisor, modulus: _mod(_floor_div(x, divisor), modulus),
    "Mod": _mod,
    "PythonMod": _mod,
    "Min": _pick(torch.minimum, min),
    "Max": _pick(torch.maximum, max),
    "Where": _where,
    "Identity": lambda x: x,
    "Equality": lambda a, b: a == b,
    "Unequality": lambda a, b: a != b,
    "StrictLessThan": lambda a, b: a < b,
    "LessThan": lambda a, b: a <= b,
    "StrictGreaterThan": lambda a, b: a > b,
    "GreaterThan": lambda a, b: a >= b,
    "And": lambda *args: reduce(lambda a, b: a & b, args),
    "Or": lambda *args: reduce(lambda a, b: a | b, args),
    "IntTrueDiv": lambda a, b: a / b,
    "FloatTrueDiv": lambda a, b: a / b,
    "ToFloat": lambda a: a.double() if isinstance(a, torch.Tensor) else float(a),
    "TruncToInt": _rounded(torch.trunc, math.trunc),
    "FloorToInt": _rounded(torch.floor, math.floor),
    "CeilToInt": _rounded(torch.ceil, math.ceil),
    "RoundToInt": _rounded(torch.round, round),
    "Not": lambda a: ~a if isinstance(a, torch.Tensor) else not a,
    "Abs": abs,
    "LShift": lambda a, b: a << b,
    "RShift": lambda a, b: a >> b,
}


def evaluate(expression: Any, values: dict[sympy.Symbol, Any]) -> Any:
    """An expression's value: an int, a float or a tensor. Raises TorchRvvError for an unknown function."""
    if isinstance(expression, int | float):
        return expression
    if isinstance(expression, sympy.Symbol):
        if expression not in values:
            raise TorchRvvError(f"the aten fallback does not know the size {expression}")
        return values[expression]
    if isinstance(expression, sympy.Integer):
        return int(expression)
    if isinstance(expression, sympy.Number):
        return float(expression)
    if expression is sympy.true or expression is sympy.false:
        return bool(expression)
    function = _TABLE.get(type(expression).__name__)
    if function is None:
        raise TorchRvvError(f"the aten fallback cannot evaluate {type(expression).__name__} in an index")
    return function(*(evaluate(a, values) for a in expression.args))


class Inconsistent(TorchRvvError):
    """Equations that no sizes fulfil."""


def solve(equations: Sequence[tuple[Any, Any]]) -> dict[sympy.Symbol, Any]:
    """The sizes that make each expression equal its value, as far as the equations tell. Raises Inconsistent."""
    known: dict[sympy.Symbol, Any] = {}
    # A symbol alone tells most; then what has one unknown left, over and over.
    left = sorted(equations, key=lambda equation: not isinstance(equation[0], sympy.Symbol))
    while left:
        ready: dict[sympy.Symbol, list[tuple[Any, Any]]] = {}
        later = []
        for expression, value in left:
            unknown = expression.free_symbols - known.keys()
            if not unknown:
                if evaluate(expression, known) != value:
                    raise Inconsistent(f"{expression} is not {value} where {known}")
            elif len(unknown) == 1:
                ready.setdefault(unknown.pop(), []).append((expression, value))
            else:
                later.append((expression, value))
        if not ready:
            break
        for symbol, about in ready.items():
            known[symbol] = _root(symbol, about, known)
        left = later
    return known


# How far a size may be, and how many sizes are tried where a rounded quotient leaves several.
_LARGEST, _TRIED = 1 << 40, 4096


def _root(symbol: sympy.Symbol, equations: list[tuple[Any, Any]], known: dict[sympy.Symbol, Any]) -> Any:
    """A whole number that fulfils equations of one unknown, each of which grows with it or stays."""
    expression, value = equations[0]
    if expression == symbol:
        candidates: Sequence[Any] = (value,)
    else:
        first, last = (
            _first(lambda n, past=past: _at(expression, symbol, n, known) >= value + past) for past in (0, 1)
        )
        candidates = range(first, min(last, first + _TRIED))
    for n in candidates:
        if all(_at(e, symbol, n, known) == v for e, v in equations):
            return n
    raise Inconsistent(f"no size {symbol} makes {expression} {value}")


def _at(expression: Any, symbol: sympy.Symbol, n: Any, known: dict[sympy.Symbol, Any]) -> Any:
    try:
        return evaluate(expression, {**known, symbol: n})
    except ZeroDivisionError:  # A size too small for the graph; no expression of sizes has this value.
        return -1


def _first(reached: Callable[[int], bool]) -> int:
    """The least number from 0 on for which a condition that stays true becomes true."""
    low, high = 0, 1
    while high < _LARGEST and not reached(high):
        low, high = high, high * 2
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle + 1, high)
    return low
