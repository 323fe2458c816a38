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
    # Most are a symbol alone; then those with one unknown left, over and over.
    left = sorted(equations, key=lambda equation: not isinstance(equation[0], sympy.Symbol))
    while True:
        later = []
        for expression, value in left:
            unknown = expression.free_symbols - known.keys()
            if not unknown:
                if evaluate(expression, known) != value:
                    raise Inconsistent(f"{expression} is not {value} where {known}")
            elif len(unknown) == 1:
                known[next(iter(unknown))] = _root(expression, value, next(iter(unknown)), known)
            else:
                later.append((expression, value))
        if len(later) == len(left):
            return known
        left = later


def _root(expression: Any, value: Any, symbol: sympy.Symbol, known: dict[sympy.Symbol, Any]) -> Any:
    """The symbol's value for which an expression has a value: the one whole number not below zero, or None."""
    if expression == symbol:
        return value
    zero, one = (evaluate(expression, {**known, symbol: n}) for n in (0, 1))
    slope = one - zero
    guess = round((value - zero) / slope) if slope else 0
    if evaluate(expression, {**known, symbol: guess}) != value:
        raise Inconsistent(f"no size {symbol} makes {expression} {value}")
    return guess
