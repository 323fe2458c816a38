"""Expressions over scalars or scalable vectors, written as MLIR operations: the language of vecmath.

    b = Builder(emit, "f32", lanes)
    y = b.fma(x, x, 1.0)        →   %y = math.fma %x, %x, %one : vector<[8]xf32>

length: the number of lanes in use, an i32, where that is known. Python numbers are constants. A `Term` knows its
element type: the float type, the integer of the same width, or i1.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Union

Number = Union["Term", float, int]


@dataclass(frozen=True)
class Term:
    """A value: an SSA name with its element type."""

    b: Builder
    name: str
    elem: str

    def __add__(self, o: Number) -> Term:
        return self.b.binary("add", self, o)

    def __radd__(self, o: Number) -> Term:
        return self.b.binary("add", o, self)

    def __sub__(self, o: Number) -> Term:
        return self.b.binary("sub", self, o)

    def __rsub__(self, o: Number) -> Term:
        return self.b.binary("sub", o, self)

    def __mul__(self, o: Number) -> Term:
        return self.b.binary("mul", self, o)

    def __rmul__(self, o: Number) -> Term:
        return self.b.binary("mul", o, self)

    def __truediv__(self, o: Number) -> Term:
        return self.b.op("arith.divf", self, o)

    def __rtruediv__(self, o: Number) -> Term:
        return self.b.op("arith.divf", o, self)

    def __neg__(self) -> Term:
        return self.b.op("arith.negf", self) if self.elem[0] == "f" else 0 - self

    def __and__(self, o: Number) -> Term:
        return self.b.op("arith.andi", self, o)

    def __or__(self, o: Number) -> Term:
        return self.b.op("arith.ori", self, o)

    def __xor__(self, o: Number) -> Term:
        return self.b.op("arith.xori", self, o)

    def __lshift__(self, o: Number) -> Term:
        return self.b.op("arith.shli", self, o)

    def __rshift__(self, o: Number) -> Term:
        """Arithmetic shift."""
        return self.b.op("arith.shrsi", self, o)

    def __lt__(self, o: Number) -> Term:
        return self.b.compare("olt", "slt", self, o)

    def __le__(self, o: Number) -> Term:
        return self.b.compare("ole", "sle", self, o)

    def __gt__(self, o: Number) -> Term:
        return self.b.compare("ogt", "sgt", self, o)

    def __ge__(self, o: Number) -> Term:
        return self.b.compare("oge", "sge", self, o)

    def equals(self, o: Number) -> Term:
        return self.b.compare("oeq", "eq", self, o)

    def differs(self, o: Number) -> Term:
        """Ordered: false when either is NaN."""
        return self.b.compare("one", "ne", self, o)

    def logical_shift(self, o: Number) -> Term:
        """To the right, zeros shifted in."""
        return self.b.op("arith.shrui", self, o)

    def __invert__(self) -> Term:
        return self ^ (1 if self.elem == "i1" else -1)

    def is_nan(self) -> Term:
        return self.b.compare("une", "ne", self, self)


def floor_to_int(value: str, elem: str, lanes: int, emit: Callable[..., str], intrinsic: str) -> str:
    """A vector of floats as integers of the same width, by a vfcvt intrinsic rounding down (mode 2).

    Rounding towards zero would be vfcvt.rtz, on which qemu 7 aborts when it comes first in a block of translation:
    after a vsetvli, but also at the start of any page.
    """
    floats, integers = f"vector<[{lanes}]x{elem}>", f"vector<[{lanes}]xi{elem[1:]}>"
    poison, mode = emit(f"llvm.mlir.poison : {integers}"), emit("llvm.mlir.constant(2 : i64) : i64")
    length = emit("llvm.mlir.constant(-1 : i64) : i64")
    return emit(
        f'llvm.call_intrinsic "{intrinsic}"({poison}, {value}, {mode}, {length})'
        f" : ({integers}, {floats}, i64, i64) -> {integers}"
    )


def truncate_to_int(value: str, elem: str, lanes: int, emit: Callable[..., str]) -> str:
    """A vector of floats rounded towards zero, as integers of the same width: down, and up (mode 3) the negative."""
    b = Builder(emit, elem, lanes)
    floor = floor_to_int(value, elem, lanes, emit, "llvm.riscv.vfcvt.x.f.v")
    negative = (b.wrap(value) < 0.0).name
    floats, integers = b.type(elem), b.type(b.int)
    mode, length, policy = (emit(f"llvm.mlir.constant({n} : i64) : i64") for n in (3, -1, 1))
    return emit(
        f'llvm.call_intrinsic "llvm.riscv.vfcvt.x.f.v.mask"({floor}, {value}, {negative}, {mode}, {length}, {policy})'
        f" : ({integers}, {floats}, {b.type('i1')}, i64, i64, i64) -> {integers}"
    )


class Builder:
    """Writes terms of one float type (f32 or f64) through emit(rhs) → name."""

    def __init__(self, emit: Callable[..., str], elem: str, lanes: int | None, length: str | None = None):
        self.emit, self.elem, self.lanes, self.length = emit, elem, lanes, length
        self.wide = elem == "f64"
        self.narrowest = elem  # the type that the arguments had before they were widened
        self.int = "i64" if self.wide else "i32"
        self.mantissa = 52 if self.wide else 23
        self.bias = 1023 if self.wide else 127
        self._constants: dict[tuple[str, str], Term] = {}
        self._squares: dict[str, Term] = {}

    def type(self, elem: str) -> str:
        return elem if self.lanes is None else f"vector<[{self.lanes}]x{elem}>"

    def wrap(self, name: str, elem: str | None = None) -> Term:
        return Term(self, name, elem or self.elem)

    def const(self, value: float | int, elem: str | None = None) -> Term:
        """A constant, a float by its exact bits."""
        elem = elem or self.elem
        if elem == "f32":
            text = f"0x{struct.unpack('<I', struct.pack('<f', value))[0]:08X}"
        elif elem == "f64":
            text = f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"
        elif elem == "i1":
            text = str(bool(value)).lower()
        else:
            width = int(elem[1:])
            text = str((int(value) + (1 << (width - 1))) % (1 << width) - (1 << (width - 1)))
        key = (text, elem)
        if key not in self._constants:
            if self.lanes is None:
                rhs = f"arith.constant {text} : {elem}" if elem != "i1" else f"arith.constant {text}"
            else:
                rhs = f"arith.constant dense<{text}> : {self.type(elem)}"
            self._constants[key] = Term(self, self.emit(rhs), elem)
        return self._constants[key]

    def term(self, value: Number, elem: str) -> Term:
        return value if isinstance(value, Term) else self.const(value, elem)

    def _like(self, values: Sequence[Number]) -> list[Term]:
        elem = next((v.elem for v in values if isinstance(v, Term)), self.elem)
        return [self.term(v, elem) for v in values]

    def op(self, name: str, *values: Number) -> Term:
        """An operation whose operands and result have one type."""
        terms = self._like(values)
        kind = self.type(terms[0].elem)
        return Term(self, self.emit(f"{name} {', '.join(t.name for t in terms)} : {kind}"), terms[0].elem)

    def binary(self, name: str, a: Number, b: Number) -> Term:
        left, right = self._like([a, b])
        return self.op(f"arith.{name}{'f' if left.elem[0] == 'f' else 'i'}", left, right)

    def fma(self, a: Number, b: Number, c: Number) -> Term:
        """a*b + c, rounded once."""
        return self.op("math.fma", a, b, c)

    def compare(self, float_predicate: str, int_predicate: str, a: Number, b: Number) -> Term:
        left, right = self._like([a, b])
        kind = self.type(left.elem)
        text = f"arith.cmpf {float_predicate}," if left.elem[0] == "f" else f"arith.cmpi {int_predicate},"
        return Term(self, self.emit(f"{text} {left.name}, {right.name} : {kind}"), "i1")

    def select(self, condition: Term, yes: Number, no: Number) -> Term:
        left, right = self._like([yes, no])
        kinds = self.type(left.elem) if self.lanes is None else f"{self.type('i1')}, {self.type(left.elem)}"
        text = f"arith.select {condition.name}, {left.name}, {right.name} : {kinds}"
        return Term(self, self.emit(text), left.elem)

    def cast(self, op: str, value: Term, elem: str) -> Term:
        text = f"{op} {value.name} : {self.type(value.elem)} to {self.type(elem)}"
        return Term(self, self.emit(text), elem)

    def bits(self, value: Term) -> Term:
        """A float's bits."""
        return self.cast("arith.bitcast", value, self.int)

    def float(self, value: Term) -> Term:
        """The float of some bits."""
        return self.cast("arith.bitcast", value, self.elem)

    def abs(self, value: Term) -> Term:
        return self.op("math.absf", value)

    def sqrt(self, value: Term) -> Term:
        return self.op("math.sqrt", value)

    def copysign(self, value: Term, sign: Term) -> Term:
        return self.op("math.copysign", value, sign)

    def minimum(self, a: Number, b: Number) -> Term:
        """The smaller; of a NaN and a number, the number."""
        return self.op("arith.minnumf", a, b)

    def maximum(self, a: Number, b: Number) -> Term:
        return self.op("arith.maxnumf", a, b)

    def floor(self, value: Term) -> Term:
        return self.op("math.floor", value)

    def rint(self, value: Term) -> Term:
        """The nearest integer, ties to even, as a float."""
        return self.op("math.roundeven", value)

    def to_int(self, value: Term) -> Term:
        """A float that is an integer, as an integer of the same width."""
        if self.lanes is None:
            return self.cast("arith.fptosi", value, self.int)
        kinds = f"({self.type(value.elem)}) -> {self.type(self.int)}"
        return Term(self, self.emit(f'llvm.call_intrinsic "llvm.lrint"({value.name}) : {kinds}'), self.int)

    def round(self, value: Term) -> tuple[Term, Term]:
        """The nearest integer, ties to even, as an integer and as a float; undefined where it does not fit."""
        if self.lanes is None:
            value = self.rint(value)
        whole = self.to_int(value)
        return whole, self.to_float(whole)

    def trunc(self, value: Term) -> Term:
        """Rounded towards zero, as a float; -0 and NaN stay."""
        if self.lanes is None:
            return self.op("math.trunc", value)
        size = self.abs(value)
        whole = floor_to_int(size.name, self.elem, self.lanes, self.emit, "llvm.riscv.vfcvt.x.f.v")
        rounded = self.copysign(self.to_float(Term(self, whole, self.int)), value)
        return self.select(size < float(2**self.mantissa), rounded, value)

    def to_float(self, value: Term) -> Term:
        return self.cast("arith.sitofp", value, self.elem)

    def pick(self, module: object, name: str) -> tuple[float, ...]:
        """Coefficients for this type: NAME_F32, NAME_F64, or NAME_MID for f64 that will be rounded to f32."""
        suffix = "MID" if self.narrowest != self.elem else self.elem.upper()
        return getattr(module, f"{name}_{suffix}")

    @property
    def sign_mask(self) -> int:
        return 1 << (int(self.elem[1:]) - 1)

    @property
    def least(self) -> float:
        """The least positive number of this type."""
        return 5e-324 if self.wide else 2.0**-149

    def nearest(self, value: float) -> float:
        """A number rounded to this type."""
        return value if self.wide else struct.unpack("<f", struct.pack("<f", value))[0]

    def any(self, *conditions: Term) -> Term:
        """In which lanes one of the conditions holds."""
        total = conditions[0]
        for condition in conditions[1:]:
            total = total | condition
        return total

    def where_any(self, condition: Term, usual: Term, rare: Callable[[], Term]) -> Term:
        """`usual` where the condition is false and rare() where it is true, computed only if a lane needs it."""
        some = condition.name if self.lanes is None else self._some(condition)
        with self._region(some) as lines:
            result = self.select(condition, rare(), usual)
        kind = self.type(result.elem)
        body = "\n".join([*lines, f"  scf.yield {result.name} : {kind}"])
        text = f"scf.if {some} -> ({kind}) {{\n{body}\n}} else {{\n  scf.yield {usual.name} : {kind}\n}}"
        return Term(self, self.emit(text), result.elem)

    def _some(self, condition: Term) -> str:
        """Whether a condition holds in a lane before the strip's end. Those past it may be undefined."""
        kind = self.type("i1")
        if self.length is None:
            frozen = self.emit(f"llvm.freeze {condition.name} : {kind}")
            return self.emit(f"vector.reduction <or>, {frozen} : {kind} into i1")
        length = self.emit(f"arith.extui {self.length} : i32 to i64")
        count = self.emit(f'llvm.call_intrinsic "llvm.riscv.vcpop"({condition.name}, {length}) : ({kind}, i64) -> i64')
        return self.emit(f"arith.cmpi ne, {count}, {self.emit('arith.constant 0 : i64')} : i64")

    def repeat(self, count: int, start: Term, step: Callable[[Term], Term]) -> Term:
        """start after `count` rounds of step, in a loop."""
        bounds = [self.emit(f"arith.constant {n} : index") for n in (0, count, 1)]
        with self._region(bounds[0]) as lines:
            inside = f"%loop.{bounds[0][1:]}"
            result = step(Term(self, inside, start.elem))
        kind = self.type(start.elem)
        head = f"scf.for {inside}.i = {bounds[0]} to {bounds[1]} step {bounds[2]}"
        body = "\n".join([*lines, f"  scf.yield {result.name} : {kind}"])
        text = f"{head} iter_args({inside} = {start.name}) -> ({kind}) {{\n{body}\n}}"
        return Term(self, self.emit(text), start.elem)

    @contextmanager
    def _region(self, name: str) -> Iterator[list[str]]:
        """What is emitted inside goes to the list, as lines of a region; nothing made there is remembered after.
        The lines' names are made from `name`."""
        lines: list[str] = []
        before = self.emit, self._constants, self._squares

        def inner(rhs: str) -> str:
            lines.append(f"  %in.{name[1:]}.{len(lines)} = {rhs}")
            return f"%in.{name[1:]}.{len(lines) - 1}"

        self.emit, self._constants, self._squares = inner, dict(self._constants), dict(self._squares)
        try:
            yield lines
        finally:
            self.emit, self._constants, self._squares = before

    def two_sum(self, a: Term, b: Number) -> tuple[Term, Term]:
        """a + b as a sum and what it rounds away."""
        b = self.term(b, a.elem)
        total = a + b
        back = total - a
        return total, (a - (total - back)) + (b - back)

    def fast_two_sum(self, a: Number, b: Number) -> tuple[Term, Term]:
        """two_sum where |a| >= |b|, or a is 0."""
        a, b = self._like([a, b])
        total = a + b
        return total, b - (total - a)

    def two_product(self, a: Term, b: Number) -> tuple[Term, Term]:
        """a * b as a product and what it rounds away."""
        product = a * b
        return product, self.fma(a, b, -product)

    def square(self, x: Term) -> Term:
        """x * x, once."""
        if x.name not in self._squares:
            self._squares[x.name] = x * x
        return self._squares[x.name]

    def poly(self, x: Term, coefficients: Sequence[float]) -> Term:
        """A polynomial, lowest degree first, as c0 + (c1 x + c2 x² + x³ (the rest likewise)).

        Products with a constant and sums with a constant take it from a scalar register. Horner's scheme would
        need each constant in a vector register of its own, and there are few of them at large LMUL.
        """
        step = 2 if len(coefficients) < 7 else 3
        powers = [x, self.square(x)]
        if step == 3:
            powers.append(powers[1] * x)
        first = max(0, (len(coefficients) - 2) // step * step)
        total = self._group(powers, coefficients[first:], None)
        for start in range(first - step, -1, -step):
            total = self._group(powers, coefficients[start : start + step], total)
        return total

    def _group(self, powers: list[Term], coefficients: Sequence[float], rest: Term | None) -> Term:
        """c0 + c1 x + c2 x² + ... + the highest power times the rest."""
        total: Term | None = None
        for power, c in zip(powers, coefficients[1:], strict=False):
            total = power * c if total is None else self.fma(power, c, total)
        if rest is not None:
            highest = powers[len(coefficients) - 1]
            total = highest * rest if total is None else self.fma(highest, rest, total)
        return self.const(coefficients[0]) if total is None else total + coefficients[0]

    def power_of_two(self, exponent: Term) -> Term:
        """2**exponent for an integer in the normal range."""
        return self.float((exponent + self.bias) << self.mantissa)

    def widened(self) -> Builder:
        """A builder of f64 over the same lanes."""
        wide = Builder(self.emit, "f64", self.lanes, self.length)
        wide.narrowest = self.narrowest
        return wide
