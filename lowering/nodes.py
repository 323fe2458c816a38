"""What a kernel is between TTIR and linalg: lazy tensor values, and statements in program order.

A tensor value is a `Node` that nobody computes until a statement needs it: a store, a reduction, a
loop-carried value. The statement then becomes one loop nest whose body evaluates the whole tree of
nodes below it. A node whose elements are all alike is a `splat` of a scalar; scalars are computed
where they stand in the program.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from torch_rvv.lowering.linear import Atom, Poly

ids = itertools.count()


@dataclass(eq=False)
class Node:
    """A value. kind:

    scalar       name: SSA name; poly: its value as a polynomial (integers)
    splat        args[0]: the scalar
    range        attr: first value
    map          op, attr (MLIR attribute text): elementwise over args; result: which result of op
    expand_dims, broadcast, trans (attr: order), reshape, split (attr: which element of the last axis)
    gather       args: (source buffer, index); attr: the axis along which the index counts
    pointer      args: (base scalar pointer, offset in elements); shape and element of the pointers.
                 With the base `Graph.null` the offset is the address itself, in bytes
    block        a block pointer or tensor descriptor: attr is its `blocks.Block`
    load         args: (pointer, mask?, other?) as None-padded in attr
    buffer       name: a memref in scratch memory; turned: column after column

    most: the largest value of an integer that is never negative, where it is known.
    """

    kind: str
    shape: tuple[int, ...] | None
    elem: str
    args: tuple[Node, ...] = ()
    op: str = ""
    attr: Any = None
    name: str = ""
    poly: Poly | None = None
    where: str | None = None
    position: int = 0
    nonnegative: bool = False
    most: int | None = None
    turned: bool = False
    id: int = field(default_factory=lambda: next(ids))

    @property
    def uniform(self) -> bool:
        return self.kind == "splat"

    def __hash__(self) -> int:
        return self.id

    def __eq__(self, other: object) -> bool:
        return self is other

    def __repr__(self) -> str:
        return f"{self.kind}:{self.op or self.name or self.attr}#{self.id}{self.shape}"


def walk(roots: tuple[Node, ...] | list[Node]) -> Iterator[Node]:
    """Every node below the given ones, once each."""
    seen: set[Node] = set()
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        yield node
        stack.extend(node.args)


@dataclass(eq=False)
class Statement:
    """Something that happens at a place in the program. where: Triton source line."""

    where: str | None = None
    position: int = 0

    def inputs(self) -> list[Node]:
        """The tensor values that it evaluates."""
        return []


@dataclass(eq=False)
class ScalarOp(Statement):
    """One scalar operation, in MLIR's generic form. text has {0}, {1} ... for operand names."""

    results: list[Node] = field(default_factory=list)
    op: str = ""
    args: list[Node] = field(default_factory=list)
    attr: str = ""


@dataclass(eq=False)
class ScalarLoad(Statement):
    """A load of one element: result = mask ? *(base + offset) : other."""

    result: Node | None = None
    base: Node | None = None
    offset: Poly = field(default_factory=Poly)
    mask: Node | None = None
    other: Node | None = None


@dataclass(eq=False)
class Root(Statement):
    """A statement that becomes a loop nest over `shape`. domain: where its mask is false nothing happens."""

    shape: tuple[int, ...] = ()
    domain: Node | None = None


@dataclass(eq=False)
class Store(Root):
    pointer: Node | None = None
    value: Node | None = None

    def inputs(self) -> list[Node]:
        assert self.pointer is not None and self.value is not None
        return [self.pointer, self.value, *([self.domain] if self.domain else [])]


@dataclass(eq=False)
class Fill(Root):
    """Materialise a value in a buffer (whole, or where the domain holds).

    at: from an element's index to its index in the buffer, if that is another.
    """

    buffer: Node | None = None
    value: Node | None = None
    at: Callable[[Any], Any] | None = None

    def inputs(self) -> list[Node]:
        assert self.value is not None
        return [self.value, *([self.domain] if self.domain else [])]


@dataclass(eq=False)
class Combine:
    """How a reduction or scan joins two values: a known kind with an identity, or a function.

    kind: name in convert_reduce.KINDS, or "" with `function` the symbol of a func in the module.
    """

    kind: str = ""
    function: str = ""
    text: str = ""
    identity: str | None = None


@dataclass(eq=False)
class Reduce(Root):
    axis: int = 0
    values: list[Node] = field(default_factory=list)
    buffers: list[Node] = field(default_factory=list)
    combine: Combine = field(default_factory=Combine)

    def inputs(self) -> list[Node]:
        return [*self.values, *([self.domain] if self.domain else [])]


@dataclass(eq=False)
class Scan(Root):
    """Fold each element of the values into the next along an axis. store: where the result goes, if nowhere else."""

    axis: int = 0
    reverse: bool = False
    values: list[Node] = field(default_factory=list)
    buffers: list[Node] = field(default_factory=list)
    combine: Combine = field(default_factory=Combine)
    store: Store | None = None

    def inputs(self) -> list[Node]:
        return [*self.values, *(self.store.inputs() if self.store else [])]


@dataclass(eq=False)
class Dot(Root):
    """buffer += a @ b. shape: (batches..., rows, columns, depth); elsewhere than in the domain a and b count as 0."""

    a: Node | None = None
    b: Node | None = None
    buffer: Node | None = None

    def inputs(self) -> list[Node]:
        assert self.a is not None and self.b is not None
        return [self.a, self.b, *([self.domain] if self.domain else [])]


@dataclass(eq=False)
class Atomic(Root):
    """kind: MLIR's llvm.atomicrmw kind, or "cmpxchg" (compare holds the expected value)."""

    kind: str = ""
    pointer: Node | None = None
    value: Node | None = None
    compare: Node | None = None
    buffer: Node | None = None

    def inputs(self) -> list[Node]:
        return [n for n in (self.pointer, self.value, self.compare, self.domain) if n is not None]


@dataclass(eq=False)
class Check(Statement):
    """Leave the kernel with `code` unless a scalar condition holds."""

    condition: Node | None = None
    code: int = 0


@dataclass(eq=False)
class MatrixUnit(Statement):
    """c += a @ b on tiles in buffers (see matrixunit.py)."""

    a: Node | None = None
    b: Node | None = None
    c: Node | None = None

    def inputs(self) -> list[Node]:
        return [n for n in (self.a, self.b, self.c) if n is not None]


@dataclass(eq=False)
class Sort(Statement):
    """Put the keys of each row of a buffer in order (see sort.py). spare, counts: further memory for it."""

    buffer: Node | None = None
    spare: Node | None = None
    counts: Node | None = None
    rows: int = 0
    length: int = 0


@dataclass(eq=False)
class Allocate(Statement):
    """result = the address of a buffer, for pointers to it."""

    buffer: Node | None = None
    result: Node | None = None


@dataclass(eq=False)
class Print(Statement):
    """Hand the contents of a buffer (or nothing) to the host. number: of the row in the metadata's `prints`."""

    number: int = 0
    buffer: Node | None = None


@dataclass(eq=False)
class Region:
    """Statements in order, with the scalars that name its block arguments and what it yields. facts: numbers that are
    > 0 wherever it is entered."""

    statements: list[Statement] = field(default_factory=list)
    arguments: list[Node] = field(default_factory=list)
    yields: list[Node] = field(default_factory=list)
    facts: list[Poly] = field(default_factory=list)


@dataclass(eq=False)
class For(Statement):
    lower: Node | None = None
    upper: Node | None = None
    step: Node | None = None
    initial: list[Node] = field(default_factory=list)
    results: list[Node] = field(default_factory=list)
    body: Region = field(default_factory=Region)
    last: int = 0


@dataclass(eq=False)
class If(Statement):
    condition: Node | None = None
    results: list[Node] = field(default_factory=list)
    then: Region = field(default_factory=Region)
    other: Region = field(default_factory=Region)
    last: int = 0


@dataclass(eq=False)
class While(Statement):
    initial: list[Node] = field(default_factory=list)
    results: list[Node] = field(default_factory=list)
    before: Region = field(default_factory=Region)
    condition: Node | None = None
    after: Region = field(default_factory=Region)
    last: int = 0


_TENSOR = re.compile(r"^tensor<((?:\d+x)+)(.*)>$")


def parse_type(text: str) -> tuple[tuple[int, ...] | None, str]:
    """(shape, element) of a TTIR type; shape is None for a scalar. Pointers stay "!tt.ptr<f32>"."""
    match = _TENSOR.match(text)
    if match is None:
        return None, text
    return tuple(int(n) for n in match.group(1).rstrip("x").split("x")), match.group(2)


def stored(root: Root) -> list[Node]:
    """What a store, fill or atomic operation evaluates for each element."""
    if isinstance(root, Store | Fill):
        assert root.value is not None
        return [root.value]
    assert isinstance(root, Atomic) and root.value is not None
    return [root.value, *([root.compare] if root.compare is not None else [])]


def buffers_of(root: Statement) -> list[Node]:
    """The buffers that a statement writes."""
    if isinstance(root, Scan | Reduce):
        return root.buffers
    if isinstance(root, Sort):
        return [b for b in (root.buffer, root.spare, root.counts) if b is not None]
    buffer = getattr(root, "buffer", None)
    return [buffer] if buffer is not None else []


def pointee(elem: str) -> str:
    """What "!tt.ptr<f32>" or "!tt.ptr<f32, 1>" points to; i1 lives in memory as i8."""
    inner = elem.removeprefix("!tt.ptr<").removesuffix(">").split(",")[0].strip()
    return "i8" if inner == "i1" else inner


def is_pointer(elem: str) -> bool:
    return elem.startswith("!tt.ptr<")


BYTES = {
    "i1": 1, "i8": 1, "i16": 2, "i32": 4, "i64": 8, "f16": 2, "bf16": 2, "f32": 4, "f64": 8,
    "f8E5M2": 1, "f8E4M3FN": 1, "f8E4M3FNUZ": 1, "f8E5M2FNUZ": 1, "f8E4M3B11FNUZ": 1,
}  # fmt: skip


def absolute(base: Node) -> bool:
    """Whether a base is the null pointer, offsets from it being addresses in bytes."""
    return base.kind == "scalar" and base.attr == "absolute"


def bytes_of(elem: str) -> int:
    """Size in memory; a pointer has 8 bytes."""
    return 8 if is_pointer(elem) else BYTES[elem]


def atom_of(node: Node) -> Poly:
    """The polynomial of a scalar that is nothing but itself."""
    return Poly.of(Atom(node, nonnegative=node.nonnegative))
