"""A product's beginning and end in registers: accumulators are not read from memory, and what is done with the sums is
done before they leave.

    generic { %c = bias }; generic { %c += %a * %b }; generic { %y = relu(%c) }
    →  each register tile: accumulators = bias; products; %y = relu(accumulators)

Scratch memory that only these three touch is then never written. Beginning and end are one elementwise generic each,
over the rows and columns of the product (or all its elements in order), with vectors along the columns; the end also
inside an scf.if that has nothing else, which then is around the product.
Declines: sums that others read as well, or that go on in another round of a loop; an end that needs more registers than
the accumulators leave; what is written before it is read. What is declined is done as it stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from torch_rvv.lowering.lmul import LIVE_LIMIT, pressure
from torch_rvv.lowering.loops import NestWriter
from torch_rvv.lowering.matmul import Kernel
from torch_rvv.lowering.mlir import number_of_inputs, producer
from torch_rvv.lowering.nest import Nest, Operand, walk_body
from torch_rvv.lowering.operations import bits_of
from torch_rvv.lowering.values import Value
from torch_rvv.lowering.writer import Writer

# What may be done earlier than it stands: views and addresses, beside arithmetic that does not trap.
_CASTS = ("memref.reinterpret_cast", "builtin.unrealized_conversion_cast", "llvm.bitcast", "llvm.getelementptr")
_TRAPS = ("div", "rem")


# -- what belongs together


@dataclass(eq=False)
class End:
    """A generic that finishes a product: what must be done before it, and the conditions around it."""

    generic: Any
    before: list[Any]
    guards: list[Any]


def root(value: Any) -> Any:
    """The buffer or the argument that a memref is a view of."""
    owner = producer(value)
    while owner is not None and owner.name in _CASTS:
        value = owner.operands[0]
        owner = producer(value)
    return value


def _is_scratch(value: Any) -> bool:
    owner = producer(value)
    return owner is not None and owner.name == "memref.alloca"


def _is_argument(value: Any) -> bool:
    return producer(value) is None and value.owner.owner.operation.name == "func.func"


def users(buffer: Any) -> list[Any]:
    """The operations that touch a buffer, through views or not."""
    found = []
    for use in buffer.uses:
        op = use.owner.operation
        found += users(op.results[0]) if op.name == "memref.reinterpret_cast" else [op]
    return list(dict.fromkeys(found))


def _inputs(generic: Any) -> list[Any]:
    return list(generic.operands)[: number_of_inputs(generic)]


def _outputs(generic: Any) -> list[Any]:
    return list(generic.operands)[number_of_inputs(generic) :]


def elementwise(op: Any) -> bool:
    return op.name == "linalg.generic" and "reduction" not in str(op.attributes["iterator_types"])


def reads(generic: Any) -> list[Any]:
    """What a generic reads, but for its outputs."""
    loads = [op.operands[0] for op in walk_body(generic.regions[0].blocks[0]) if op.name == "memref.load"]
    return [root(v) for v in [*_inputs(generic), *loads]]


def writes(generic: Any) -> list[Any]:
    stores = [op.operands[1] for op in walk_body(generic.regions[0].blocks[0]) if op.name == "memref.store"]
    return [root(v) for v in [*_outputs(generic), *stores]]


def following(op: Any) -> list[Any]:
    """The operations behind one, in its block."""
    operations = [o.operation for o in op.block.operations]
    return operations[operations.index(op) + 1 :]


def _holds(op: Any, inner: Any) -> bool:
    """Whether an operation is another one or has it in its regions."""
    while inner is not None and inner != op:
        inner = getattr(inner.parent, "operation", inner.parent)
    return inner is not None


def movable(op: Any) -> bool:
    return op.name.startswith("arith.") or op.name in _CASTS


def is_beginning(op: Any) -> bool:
    """Whether an operation does nothing but to give a scratch buffer its elements, whatever they were."""
    if not elementwise(op) or len(_outputs(op)) != 1:
        return False
    (buffer,) = [root(v) for v in _outputs(op)]
    block = op.regions[0].blocks[0]
    unread = not any(True for _ in list(block.arguments)[-1].uses)
    return _is_scratch(buffer) and unread and writes(op) == [buffer] and buffer not in reads(op)


def product_of(beginning: Any) -> Any | None:
    """The product that goes on from what an operation gives a buffer, if all of that may wait until then."""
    (buffer,) = [root(v) for v in _outputs(beginning)]
    touching, read = users(buffer), reads(beginning)
    for op in following(beginning):
        if any(_holds(op, user) for user in touching):
            sums = op.name == "linalg.generic" and not elementwise(op) and writes(op) == [buffer]
            return op if sums else None
        if read and not movable(op):
            return None
    return None


def end_of(product: Any, begins: bool, noalias: bool) -> End | None:
    """The generic that is all that reads a product's sums; None if there is no such one that can be done with it.
    begins: all of the sums begin anew whenever the product is done."""
    buffer = root(_outputs(product)[0])
    readers = [op for op in users(buffer) if op != product and not is_beginning(op)]
    if not _is_scratch(buffer) or len(readers) != 1 or not elementwise(readers[0]):
        return None
    if not begins and _is_repeated(product):
        return None  # The next round goes on from these sums.
    found = before(following(product), readers[0])
    return found if found is not None and apart(product, readers[0], noalias) else None


def _is_repeated(op: Any) -> bool:
    """Whether an operation is in a loop."""
    while op.name != "func.func":
        if op.name in ("scf.for", "scf.while"):
            return True
        op = getattr(op.parent, "operation", op.parent)
    return False


def before(operations: list[Any], generic: Any) -> End | None:
    """What stands between a product and its end, if all of it may be done earlier."""
    earlier: list[Any] = []
    for op in operations:
        if op == generic:
            return End(generic, earlier, [])
        if op.name == "scf.if" and not op.results and _holds(op, generic):
            then, *others = [[o.operation for o in b.operations] for r in op.regions for b in r.blocks]
            alone = len(then) > 1 and then[-2] == generic and all(len(other) == 1 for other in others)
            if not alone or any(word in o.name for o in then[:-2] for word in _TRAPS):
                return None
            deeper = before(then, generic)
            return None if deeper is None else End(generic, earlier + deeper.before, [op.operands[0], *deeper.guards])
        if not movable(op):
            return None
        earlier.append(op)
    return None


def apart(reader: Any, writer: Any, noalias: bool) -> bool:
    """Whether nothing that one generic reads is what another one writes."""

    def different(a: Any, b: Any) -> bool:
        known = all(_is_scratch(v) or _is_argument(v) for v in (a, b))
        return known and a != b and (noalias or _is_scratch(a) or _is_scratch(b))

    return all(different(a, b) for a in reads(reader) for b in writes(writer))


# -- a row of accumulators


class Row(NestWriter):
    """An elementwise nest, written for one row of a register tile. sums: its operand that is the accumulators."""

    def __init__(self, nest: Nest, sums: Operand, kernel: Kernel, *names: Any):
        others = [o for o in nest.operands if o is not sums]
        super().__init__(Nest(others, nest.sizes, nest.reductions, nest.block, nest.most, nest.rests), *names)
        self.sums, self.kernel = sums, kernel
        self.flat = len(nest.sizes) == 1
        self.lanes, self.head = kernel.lanes, None
        self.reads = {}  # One row at a time, each read on its own.

    def fits(self) -> bool:
        """Whether it finds registers while the other rows wait in theirs."""
        trial = Writer()
        self.mask, self.evl = "%mask", "%evl"
        self._evaluate(trial, "%sum", "%row", "%column")
        live, widest = pressure(trial.lines)
        kernel = self.kernel
        return widest <= bits_of(kernel.of.elem) and kernel.rows + live <= LIVE_LIMIT[kernel.lmul]

    def begin(self, row: str, column: str) -> str:
        """A row's accumulator. row, column: of its first element."""
        return self._write("", row, column)

    @property
    def rows(self) -> str | int:
        """How many rows there are."""
        return self.kernel.of.sizes[self.kernel.of.row] if self.flat else self.nest.sizes[self.dim(0)]  # type: ignore[index]

    @property
    def rests(self) -> frozenset[int] | None:
        """What their number leaves, as nest.Nest has it."""
        return self.kernel.of.rests[self.kernel.of.row] if self.flat else self.nest.rests[self.dim(0)]  # type: ignore[index]

    def end(self, sums: str, row: str, column: str) -> None:
        """What becomes of a row's accumulator."""
        self._write(sums, row, column)

    def _write(self, sums: str, row: str, column: str) -> str:
        w, inner = self.kernel.w, Writer(self.kernel.w.counter)
        self.mask, self.evl, self.lanes = self.kernel.mask, self.kernel.evl, self.kernel.lanes
        name = self._evaluate(inner, sums, row, column)
        w.lines += ["  " * (w.depth - 1) + line for line in inner.lines]
        return name

    def _evaluate(self, w: Writer, sums: str, row: str, column: str) -> str:
        """The body at a row; what it gives the accumulator."""
        of = self.kernel.of
        at = column
        if self.flat:
            assert of.row is not None
            width = w.constant(int(of.c.strides[of.row]))
            at = w.op(f"arith.addi {w.op(f'arith.muli {row}, {width} : index')}, {column} : index")
        self.vector = self.dim(1)
        self.order, self.ivs = [self.vector], {self.vector: column}
        strip = self._strip([w])
        strip.level = 0
        self.positions = {self.vector: Value(at, "index", 0, "linear", 1)}
        if not self.flat:
            self.positions[self.dim(0)] = Value(row, "index")
        strip.values[self.sums.argument] = Value(sums, of.elem, 0, "vector")
        self._bind(strip, [], 0)
        values = strip.block(list(self.nest.block.operations))
        if self.sums.output:
            return strip.vector(values[0]).name
        for output, value in zip(self.nest.outputs, values, strict=True):
            strip.store(*self._place(strip, output), value, None)
        return ""

    def dim(self, number: int) -> int:
        """The loop over rows (0) or columns (1)."""
        if self.flat:
            return 0
        along = next(d for d in self.sums.dims if self.sums.stride(d) == 1)
        return along if number else 1 - along


def row_of(kernel: Kernel, nest: Nest, sums: Operand, whole: int, *names: Any) -> Row | None:
    """A nest by rows of a kernel's accumulators; None if it does not run over just the same elements, with what it
    stores side by side. An end may be one of fewer rows, and a beginning, where the end is in registers, may run over
    all of the buffer. whole: how many elements the buffer has."""
    of = kernel.of
    assert of.row is not None
    stride = of.c.strides[of.row]
    if nest.scalar_only() or nest.reductions or sums.view.offset != of.c.offset or not isinstance(stride, int):
        return None
    if len(nest.sizes) == 1 and sums.view.strides != (1,):
        return None
    if len(nest.sizes) > 1 and (sorted(sums.dims) != [0, 1] or sorted(sums.view.strides) != [1, stride]):
        return None
    found = Row(nest, sums, kernel, *names)
    rows, columns = of.sizes[of.row], of.sizes[of.column]
    more = sums.output and kernel.end is not None and count(nest) == whole
    # No row of the buffer is beyond those of a product that has all of them.
    fewer = not sums.output and not found.flat and nest.sizes[found.dim(1)] == columns and rows == whole // stride
    if not (_same(found, rows, columns, stride) or more or fewer):
        return None
    if any(o.stride(found.dim(1)) != 1 or (not found.flat and o.stride(found.dim(0)) == 0) for o in found.nest.outputs):
        return None
    return found if found.fits() else None


def _same(row: Row, rows: str | int, columns: str | int, stride: int) -> bool:
    """Whether a nest runs over so many rows and columns, the rows so far apart."""
    sizes = row.nest.sizes
    if not row.flat:
        return [sizes[row.dim(0)], sizes[row.dim(1)]] == [rows, columns]
    return columns == stride and isinstance(rows, int) and sizes == [rows * stride]


def count(nest: Nest) -> int | None:
    """How many elements a nest runs over, if that is known."""
    numbers = [n for n in nest.sizes if isinstance(n, int)]
    return prod(numbers) if len(numbers) == len(nest.sizes) else None
