"""TTIR → the graph of `nodes.py`: walks the function once and applies the rule of each operation.

    %1 = tt.splat %p            Node(splat)
    %2 = arith.addf %a, %b      Node(map, "arith.addf")       nothing is computed yet
    tt.store %q, %2, %m    →    Store(pointer, value, domain)

`RULES` maps an operation's name to its rule: a function of the graph and the operation that returns
the result nodes, or None to decline. The convert_*.py files fill it, one family each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch_rvv.lowering.linear import Poly
from torch_rvv.lowering.nodes import (
    BYTES,
    Node,
    Region,
    ScalarLoad,
    ScalarOp,
    Statement,
    atom_of,
    is_pointer,
    parse_type,
)
from torch_rvv.lowering.ttir import source_line

from torch_rvv.errors import Declined

Rule = Callable[["Graph", Any], "Sequence[Node] | None"]
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a function as the rule of the operations of these names."""

    def register(function: Rule) -> Rule:
        for name in names:
            if name in RULES:
                raise ValueError(f"two rules for {name}")
            RULES[name] = function
        return function

    return register


class Graph:
    """The graph under construction: values by MLIR value, the current region, the module's functions.

    settle: what becomes of each new value, given how often it is used (deep.py). folds: its memory.
    """

    def __init__(self, settle: Callable[[Graph, Node, int], Node]) -> None:
        self.settle = settle
        self.folds: dict[Node, frozenset[Node]] = {}
        self.values: dict[Any, Node] = {}
        self.region = Region()
        self.position = 0
        self.names = 0
        self.arguments: list[Node] = []
        self.functions: dict[str, str] = {}
        self.callees: dict[str, Any] = {}
        self.asserts: list[str] = []
        self.checked: list[Any] = []  # proposals of checked_index.py
        self.prints: list[dict[str, Any]] = []
        self.lanes: tuple[int, ...] | None = None
        self.saturate = True
        # The target's matrix unit, and whether it multiplies f16 into f32.
        self.matrix: str | None = None
        self.half = False
        self.addresses = False
        self.name = ""
        self._constants: dict[tuple[str, str], Node] = {}
        self._null: Node | None = None

    # -- bookkeeping

    def fresh(self, prefix: str = "s") -> str:
        self.names += 1
        return f"%{prefix}{self.names}"

    def append(self, statement: Statement) -> Statement:
        self.position += 1
        statement.position = self.position
        self.region.statements.append(statement)
        return statement

    @contextmanager
    def inside(self, region: Region) -> Iterator[Region]:
        """Statements go to another region meanwhile."""
        outer, self.region = self.region, region
        constants, self._constants = self._constants, dict(self._constants)
        null = self._null
        try:
            yield region
        finally:
            self.region, self._constants, self._null = outer, constants, null

    def __getitem__(self, value: Any) -> Node:
        return self.values[value]

    def operands(self, op: Any) -> list[Node]:
        """The values of an operation's operands; among `lanes`, scalars as tensors of copies."""
        nodes = [self.values[v] for v in op.operands]
        if self.lanes is None:
            return nodes
        return [self.splat(n, self.lanes) if n.shape is None else n for n in nodes]

    # -- scalars

    def scalar(self, elem: str, poly: Poly | None = None, nonnegative: bool = False) -> Node:
        """A new scalar with a name of its own."""
        node = Node("scalar", None, elem, name=self.fresh(), nonnegative=nonnegative)
        node.poly = atom_of(node) if poly is None else poly
        return node

    def scalar_op(
        self,
        op: str,
        args: Sequence[Node],
        elem: str,
        attr: str = "",
        poly: Poly | None = None,
        nonnegative: bool = False,
    ) -> Node:
        """Compute a scalar here."""
        result = self.scalar(elem, poly, nonnegative)
        self.append(ScalarOp(results=[result], op=op, args=list(args), attr=attr))
        return result

    def constant(self, text: str, elem: str) -> Node:
        """A scalar constant, text as MLIR prints it ("3", "1.0e+00", "0x7FC00000")."""
        key = (text, elem)
        if key not in self._constants:
            value = {"true": 1, "false": 0}.get(text)
            if value is None and not elem.startswith(("f", "bf")):
                value = int(text, 0)
            self._constants[key] = self.scalar_op(
                "arith.constant",
                [],
                elem,
                f"value = {text}" if elem == "i1" else f"value = {text} : {elem}",
                poly=None if value is None else Poly(value),
            )
            self._constants[key].attr = text
        return self._constants[key]

    def null(self) -> Node:
        """The base of pointers whose offsets are addresses in bytes."""
        if self._null is None:
            self._null = self.scalar_op("llvm.mlir.zero", [], "!tt.ptr<i8>")
            self._null.attr = "absolute"
        return self._null

    def as_width(self, value: Node, elem: str, signed: bool = True) -> Node:
        """An integer, or a tensor of them, in another width."""
        if value.elem == elem:
            return value
        wider = int(elem[1:]) > int(value.elem[1:])
        op = ("arith.extsi" if signed else "arith.extui") if wider else "arith.trunci"
        if value.shape is None:
            nonnegative = value.nonnegative
            return self.scalar_op(op, [value], elem, poly=value.poly if signed else None, nonnegative=nonnegative)
        return self.map(op, [value], elem)

    # -- tensors

    def splat(self, scalar: Node, shape: tuple[int, ...]) -> Node:
        return Node("splat", shape, scalar.elem, (scalar,))

    def map(self, op: str, args: Sequence[Node], elem: str, attr: str = "", result: int = 0, results: int = 1) -> Node:
        """An elementwise operation; over scalars, or over values whose elements are all alike, a scalar."""
        if all(a.shape is None for a in args):
            return self._scalar_result(op, args, elem, attr, result, results)
        if all(a.kind == "splat" for a in args):
            scalar = self._scalar_result(op, [a.args[0] for a in args], elem, attr, result, results)
            assert args[0].shape is not None
            return self.splat(scalar, args[0].shape)
        node = Node("map", args[0].shape, elem, tuple(args), op=op, attr=(attr, result, results))
        node.most = _most(op, args, elem)
        node.nonnegative = (
            node.most is not None
            or op in _NONNEGATIVE_RESULT
            or (op in _KEEPS_SIGN and all(a.nonnegative for a in args))
        )
        return node

    def _scalar_result(self, op: str, args: Sequence[Node], elem: str, attr: str, result: int, results: int) -> Node:
        if results > 1:
            nodes = [self.scalar(elem) for _ in range(results)]
            self.append(ScalarOp(results=nodes, op=op, args=list(args), attr=attr))
            return nodes[result]
        poly = _POLY[op](*(a.poly for a in args)) if op in _POLY else None
        nonnegative = op in _KEEPS_SIGN and all(_known_nonnegative(a) for a in args)
        return self.scalar_op(op, args, elem, attr, poly, nonnegative)

    def load_scalar(self, base: Node, offset: Poly, elem: str, mask: Node | None, other: Node | None) -> Node:
        """A load of one element, here and now."""
        result = self.scalar(elem)
        self.append(ScalarLoad(result=result, base=base, offset=offset, mask=mask, other=other))
        return result

    def buffer(self, shape: tuple[int, ...], elem: str) -> Node:
        """Scratch memory for a tensor of this shape."""
        return Node("buffer", shape, elem, name=self.fresh("b"))

    # -- the walk

    def apply(self, op: Any) -> None:
        found = RULES.get(op.name)
        nodes = found(self, op) if found else None
        if nodes is None:
            why = "no rule for" if found is None else "this form is not supported:"
            raise Declined(f"{why} {op.name}", where=source_line(op))
        for value, node in zip(op.results, nodes, strict=True):
            self.values[value] = self.settle(self, node, sum(1 for _ in value.uses))


def inside_loop(op: Any) -> bool:
    """Whether an operation stands in a loop of its function."""
    parent = op.parent
    while parent is not None and parent.name != "func.func":
        if parent.name in ("scf.for", "scf.while"):
            return True
        parent = parent.parent
    return False


def type_of(value: Any) -> tuple[tuple[int, ...] | None, str]:
    return parse_type(str(value.type))


def attributes(op: Any) -> str:
    """An operation's attributes as text for its generic form."""
    texts = {name: str(op.attributes[name]) for name in op.attributes}
    return ", ".join(f"{name} = {text}" for name, text in texts.items() if not text.endswith("<none>"))


def _known_nonnegative(node: Node) -> bool:
    return node.nonnegative or (node.poly is not None and node.poly.nonnegative)


def _most(op: str, args: Sequence[Node], elem: str) -> int | None:
    """The largest value of an integer operation's result, where it is known never to be negative."""
    if op == "arith.andi" and elem != "i1":  # Of which 1 is -1, sign-extended.
        known = [a.most for a in args if a.most is not None]
        for a in args:
            constant = a.args[0].poly.constant if a.kind == "splat" and a.args[0].poly is not None else None
            if constant is not None and constant >= 0:
                known.append(constant)
        return min(known, default=None)
    if op in ("arith.extsi", "arith.extui"):
        return args[0].most
    if op == "arith.trunci" and args[0].most is not None and args[0].most < 1 << int(elem[1:]) - 1:
        return args[0].most
    return None


_NONNEGATIVE_RESULT = {"arith.extui"}
_KEEPS_SIGN = {
    "arith.addi", "arith.muli", "arith.divsi", "arith.remsi", "arith.divui", "arith.remui", "arith.extsi",
    "arith.extui", "arith.minsi", "arith.maxsi", "arith.andi", "arith.ceildivsi", "arith.index_cast",
    "arith.shrsi", "arith.shrui",
}  # fmt: skip
_POLY: dict[str, Callable[..., Poly | None]] = {
    "arith.addi": lambda a, b: a + b,
    "arith.subi": lambda a, b: a - b,
    "arith.muli": lambda a, b: a * b,
    "arith.extsi": lambda a: a,
    "arith.index_cast": lambda a: a,
}


def check_elements(op: Any, *nodes: Node) -> None:
    """Decline element types that have no home in memory or registers yet."""
    for node in nodes:
        if not is_pointer(node.elem) and node.elem not in BYTES and node.elem != "index":
            raise Declined(f"no lowering for elements of type {node.elem}", where=source_line(op))
