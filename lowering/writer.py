"""Writing MLIR text: fresh names, indentation, and the index arithmetic of `linear.py`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

from torch_rvv.lowering.access import Quotient
from torch_rvv.lowering.linear import Atom, Poly
from torch_rvv.lowering.nodes import Node, is_pointer


def mlir_type(elem: str) -> str:
    """The MLIR type of a scalar: every pointer is an !llvm.ptr."""
    return "!llvm.ptr" if is_pointer(elem) else elem


def storage(elem: str) -> str:
    """The type that elements have in memory, as far as addresses go."""
    return "i8" if elem in ("i1",) or elem.startswith("f8") else elem


# A call that becomes a label, across which LLVM moves no instructions.
HERE = "torch_rvv.here"


class Writer:
    """Lines of MLIR text. Names are unique among the writers that share a counter."""

    def __init__(self, counter: Iterator[int] | None = None) -> None:
        self.lines: list[str] = []
        self.depth = 1
        self.counter = counter or itertools.count(1)
        self._indices: list[dict[object, str]] = [{}]

    def fresh(self, prefix: str = "t") -> str:
        return f"%{prefix}{next(self.counter)}"

    def line(self, text: str) -> None:
        self.lines.append("  " * self.depth + text)

    def here(self) -> None:
        """No instruction moves across this place."""
        self.line(f"func.call @{HERE}() : () -> ()")

    def op(self, text: str, prefix: str = "t") -> str:
        """One operation with one result; returns its name."""
        name = self.fresh(prefix)
        self.line(f"{name} = {text}")
        return name

    @contextmanager
    def block(self, head: str, tail: str = "}") -> Iterator[None]:
        """`head` ... `tail`, indented; index values computed inside are not known after."""
        self.line(head)
        self.depth += 1
        self._indices.append({})
        try:
            yield
        finally:
            self._indices.pop()
            self.depth -= 1
            self.line(tail)

    def _memo(self, key: object) -> str | None:
        for scope in reversed(self._indices):
            if key in scope:
                return scope[key]
        return None

    def remember(self, key: object, name: str) -> str:
        """Let later uses in this scope find a value by what it is."""
        self._indices[-1][key] = name
        return name

    def constant(self, value: int) -> str:
        """An index constant."""
        return self._memo(value) or self.remember(value, self.op(f"arith.constant {value} : index", "c"))

    def atom(self, atom: Atom) -> str:
        """An atom's value as an index. Varying atoms are the business of a loop body."""
        return self._memo(atom) or self.remember(atom, self._atom(atom))

    def _atom(self, atom: Atom) -> str:
        value = atom.value
        if isinstance(value, str):
            return value
        if isinstance(value, Quotient):
            op = ("arith.divui", "arith.remui")[value.what]
            return self.op(f"{op} {self.poly(value.form.const)}, {self.constant(value.divisor)} : index")
        assert isinstance(value, Node) and value.kind == "scalar", value
        if value.elem == "index":
            return value.name
        return self.op(f"arith.index_cast {value.name} : {value.elem} to index", "i")

    def poly(self, poly: Poly) -> str:
        """A polynomial's value as an index."""
        found = self._memo(poly)
        if found is not None:
            return found
        total: str | None = None
        for monomial, coefficient in poly.terms.items():
            term = self.product([self.atom(a) for a in monomial], coefficient)
            total = term if total is None else self.op(f"arith.addi {total}, {term} : index")
        return self.remember(poly, total or self.constant(0))

    def product(self, factors: list[str], coefficient: int) -> str:
        """coefficient * product of index values."""
        if not factors:
            return self.constant(coefficient)
        value = factors[0]
        for factor in factors[1:]:
            value = self.op(f"arith.muli {value}, {factor} : index")
        return value if coefficient == 1 else self.op(f"arith.muli {value}, {self.constant(coefficient)} : index")

    def at_most(self, polys: list[Poly], size: int) -> str:
        """max(0, min(size, *polys)) as an index."""
        numbers = [number for poly in polys if (number := poly.constant) is not None]
        dynamic = [poly for poly in polys if poly.constant is None]
        value = self.constant(max(0, min([size, *numbers])))
        if not dynamic:
            return value
        key = ("at most", value, *dynamic)
        found = self._memo(key)
        if found is not None:
            return found
        for poly in dynamic:
            value = self.op(f"arith.minsi {value}, {self.poly(poly)} : index")
        return self.remember(key, self.op(f"arith.maxsi {value}, {self.constant(0)} : index"))
