"""linalg.generic that contracts one dimension → a register-tiled kernel in scalable vectors.

    linalg.generic {parallel m, parallel n, reduction k} ins(%a : [m, k], %b : [k, n]) outs(%c : [m, n]) { fma }
    →
    for strips of n (vl lanes)                       B and C are vectors along n
      for blocks of rows of m                        one accumulator a row, in registers
        c0..c5 = load C
        for k                                        loads of step k + 1 stand before the products of step k
          b' = load B[k+1]; a0'..a5' = load A[.., k+1]
          c0 += a0*b ... c5 += a5*b
        store C

Rows × LMUL is the largest tile that leaves room for two B vectors: 6 × 4 in 32 registers, the best of those
measured on the X60 model (depthloop.py); narrow matrices take smaller LMUL and more rows, as do the columns
that are left over from whole strips, if those are known or turn out to be few. Taken only where C and B are
unit-stride along n and the body is one multiply-add; anything else is an ordinary nest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from torch_rvv.lowering import depthloop
from torch_rvv.lowering.bounds import MODULUS
from torch_rvv.lowering.operations import Operations, bits_of
from torch_rvv.lowering.writer import Writer

# Registers hold rows*LMUL of accumulators and 2*LMUL of B.
ROWS = {4: 6, 2: 8, 1: 8}
# What a column costs at an LMUL, the fewer products a loaded element has the more.
COST = {4: 1.0, 2: 1.08, 1: 1.31}
BITS = 256


@dataclass(frozen=True)
class Access:
    """One operand: base pointer, offset, and stride along each loop dimension (names or numbers of elements)."""

    base: str
    offset: str | int
    strides: dict[int, str | int]


@dataclass(frozen=True)
class Contraction:
    """A nest that this file can write. elem: the type of C, narrow: of A and B, the same or half as wide. most: how
    large each size can be; rests: what it leaves, as nest.Nest has it. outer: batch dimensions. row: None for a single
    one."""

    a: Access
    b: Access
    c: Access
    elem: str
    narrow: str
    sizes: list[str | int]
    most: list[int | None]
    rests: list[frozenset[int] | None]
    outer: list[int]
    row: int | None
    column: int
    depth: int


def _multiply_add(block: Any) -> tuple[Any, Any, Any] | None:
    """(a, b, acc): the arguments of a body that is acc + a*b, of a and b or of both widened, and nothing else."""
    *ops, last = [o.operation for o in block.operations]
    if len(ops) > 2 and ops[0].name == ops[1].name and ops[0].name in ("arith.extsi", "arith.extf"):
        narrow = {op.results[0]: op.operands[0] for op in ops[:2]}
        found = _product_sum(ops[2:], last)
        if found is None or not all(v in narrow for v in found[:2]):
            return None
        return narrow[found[0]], narrow[found[1]], found[2]
    return _product_sum(ops, last)


def _product_sum(ops: list[Any], last: Any) -> tuple[Any, Any, Any] | None:
    if [op.name for op in ops] == ["math.fma"] and last.operands[0] == ops[0].results[0]:
        a, b, acc = ops[0].operands
        return a, b, acc
    if [op.name for op in ops] in _PRODUCT_SUMS and last.operands[0] == ops[1].results[0]:
        acc, product = ops[1].operands
        return (*ops[0].operands, acc) if product == ops[0].results[0] else None
    return None


_PRODUCT_SUMS = (["arith.muli", "arith.addi"], ["arith.mulf", "arith.addf"])


def match(nest: Any, soft: Callable[[str], bool]) -> Contraction | None:
    """The contraction that a nest (nest.Nest) is, if it is one of ours. soft: types without arithmetic."""
    found = _multiply_add(nest.block)
    if found is None or len(nest.outputs) != 1 or len(nest.reductions) != 1:
        return None
    by_argument = {o.argument: o for o in nest.operands}
    a, b, c = (by_argument.get(v) for v in found)
    if a is None or b is None or c is not nest.outputs[0]:
        return None
    elem, narrow = c.view.elem, a.view.elem
    if b.view.elem != narrow or bits_of(elem) not in (bits_of(narrow), 2 * bits_of(narrow)):
        return None
    if soft(elem) or soft(narrow) or any(o.view.addressed for o in (a, b, c)):
        return None
    return _roles(nest, a, b, c) or _roles(nest, b, a, c)


def _roles(nest: Any, a: Any, b: Any, c: Any) -> Contraction | None:
    """The contraction with a as the left operand, of scalars, and b as the right one, of vectors."""
    (depth,) = nest.reductions
    column = next((d for d in c.dims if c.stride(d) == 1 and b.stride(d) == 1 and a.stride(d) == 0), None)
    if column is None or c.stride(depth) != 0 or nest.sizes[depth] == 0:
        return None
    others = [d for d in range(len(nest.sizes)) if d not in (column, depth)]
    row = next((d for d in others if a.stride(d) != 0 and b.stride(d) == 0 and c.stride(d) != 0), None)
    outer = [d for d in others if d != row]
    dims = range(len(nest.sizes))
    accesses = [Access(o.view.base, o.view.offset, {d: o.stride(d) for d in dims}) for o in (a, b, c)]
    return Contraction(
        *accesses, c.view.elem, a.view.elem, nest.sizes, nest.most, nest.rests, outer, row, column, depth
    )


class Kernel:
    """Writes one contraction. The counts that explain shows: `lmul`, `rows`.

    begin(row, column): a row of accumulators, instead of a load from C; end(accumulator, row, column): what becomes of
    it, instead of a store to C; first, last: the conditions for that, if there are any. source: what B is a copy of,
    made by each strip's first block of rows.
    """

    def __init__(self, contraction: Contraction, operations: Operations, writer: Writer, lmul: int | None):
        self.of, self.operations, self.w = contraction, operations, writer
        self._widen(self._lmul(lmul))
        self.leftover = leftover(contraction, self.lmul)
        self.begin: Callable[[str, str], str] | None = None
        self.end: Callable[[str, str, str], None] | None = None
        self.first, self.last = "", ""
        self.source: Access | None = None

    def _widen(self, lmul: int) -> None:
        """Strips of an LMUL from now on."""
        of, self.lmul = self.of, lmul
        self.rows = 1 if of.row is None else ROWS[lmul]
        self.lanes = max(2, lmul * 64 // bits_of(of.elem))
        self.vector = f"vector<[{self.lanes}]x{of.elem}>"
        self.narrow = f"vector<[{self.lanes}]x{of.narrow}>"
        self.masks = f"vector<[{self.lanes}]xi1>"

    def limit(self, rows: str | int, rests: frozenset[int] | None) -> None:
        """Write only so many rows; rests: what their number leaves."""

        def instead(values: list[Any], value: Any) -> list[Any]:
            return [value if dim == self.of.row else one for dim, one in enumerate(values)]

        self.of = replace(self.of, sizes=instead(self.of.sizes, rows), rests=instead(self.of.rests, rests))

    def _lmul(self, wanted: int | None) -> int:
        return min(wanted, 4) if wanted is not None else self._filled((1, 2), 4)

    def _filled(self, smaller: tuple[int, ...], most: int) -> int:
        """The smallest LMUL that a row of columns fills."""
        size = self.of.most[self.of.column]
        if size is None:
            return most
        needed = size * bits_of(self.of.elem) / BITS
        return next((m for m in smaller if needed <= m), most)

    # -- small pieces

    def index(self, value: str | int) -> str:
        return self.w.constant(value) if isinstance(value, int) else value

    def add(self, a: str | int, b: str | int) -> str | int:
        if a == 0 or b == 0:
            return b if a == 0 else a
        if isinstance(a, int) and isinstance(b, int):
            return a + b
        return self.w.op(f"arith.addi {self.index(a)}, {self.index(b)} : index")

    def mul(self, a: str | int, b: str | int) -> str | int:
        if a == 0 or b == 0:
            return 0
        if a == 1 or b == 1:
            return b if a == 1 else a
        if isinstance(a, int) and isinstance(b, int):
            return a * b
        return self.w.op(f"arith.muli {self.index(a)}, {self.index(b)} : index")

    def _offset(self, access: Access, at: dict[int, str | int]) -> str | int:
        total = access.offset
        for dim, position in at.items():
            total = self.add(total, self.mul(access.strides[dim], position))
        return total

    def ahead(self, pointer: str, offset: str | int, elem: str) -> str:
        """A pointer so many elements on."""
        if offset == 0:
            return pointer
        where = self.w.op(f"arith.index_cast {self.index(offset)} : index to i64")
        return self.w.op(f"llvm.getelementptr {pointer}[{where}] : (!llvm.ptr, i64) -> !llvm.ptr, {elem}")

    def load(self, pointer: str, kind: str) -> str:
        """A vector of the strip."""
        return self.w.op(
            f'llvm.call_intrinsic "llvm.vp.load"({pointer}, {self.mask}, {self.evl})'
            f" : (!llvm.ptr, {self.masks}, i32) -> {kind}"
        )

    def store(self, value: str, pointer: str, kind: str = "") -> None:
        """A vector of the strip, of the accumulators' type if nothing else is said."""
        self.w.line(
            f'llvm.call_intrinsic "llvm.vp.store"({value}, {pointer}, {self.mask}, {self.evl})'
            f" : ({kind or self.vector}, !llvm.ptr, {self.masks}, i32) -> ()"
        )

    def scalar(self, pointer: str, volatile: str = "") -> str:
        return self.w.op(f"llvm.load {volatile}{pointer} : !llvm.ptr -> {self.of.narrow}")

    def fma(self, a: str, b: str, acc: str) -> str:
        if self.narrow != self.vector:
            return self._widening_fma(a, b, acc)
        splat = self.w.op(f"vector.broadcast {a} : {self.of.elem} to {self.vector}")
        if self.of.elem[0] == "i":
            product = self.w.op(f"arith.muli {splat}, {b} : {self.vector}")
            return self.w.op(f"arith.addi {acc}, {product} : {self.vector}")
        return self.w.op(f"math.fma {splat}, {b}, {acc} : {self.vector}")

    def _widening_fma(self, a: str, b: str, acc: str) -> str:
        """acc + a*b of operands half as wide, by name: LLVM folds a widening that several products share for integers
        only."""
        name, mode = ("vwmacc", []) if self.of.elem[0] == "i" else ("vfwmacc", [self.mode])
        values = [acc, a, b, *mode, self.length, self.policy]
        types = [self.vector, self.of.narrow, self.narrow, *["i64"] * (len(values) - 3)]
        return self.w.op(
            f'llvm.call_intrinsic "llvm.riscv.{name}"({", ".join(values)}) : ({", ".join(types)}) -> {self.vector}'
        )

    def kept(self, pointer: str) -> str:
        """A pointer that LLVM's loop passes take as it is: one addition, where it stands here."""
        return self.w.op(f"llvm.intr.launder.invariant.group {pointer} : !llvm.ptr")

    def bytes_of(self, elements: str | int) -> str:
        """So many elements of A or B in bytes, a number that LLVM knows nothing of: what is added to a pointer stays an
        addition, and offsets are from where the pointer is."""
        known = self.index(self.mul(elements, bits_of(self.of.narrow) // 8))
        number = self.w.op(f"arith.index_cast {known} : index to i64")
        return self.w.op(f'llvm.inline_asm "", "=r,0" {number} : (i64) -> i64')

    def moved(self, pointer: str, distance: str) -> str:
        """A pointer so many bytes on, where it stands here."""
        return self.kept(self.w.op(f"llvm.getelementptr {pointer}[{distance}] : (!llvm.ptr, i64) -> !llvm.ptr, i8"))

    # -- loops

    def write(self) -> None:
        """The whole nest."""
        w = self.w
        self.true = w.op("arith.constant true")
        # Rounding as the machine is set to; what lies behind the length may be anything.
        self.mode, self.policy = (w.op(f"arith.constant {n} : i64") for n in (7, 3))
        steps = self.of.sizes[self.of.depth]
        distances = [self.bytes_of(n) for n in depthloop.distances(self)]
        self.step_of_b, self.round_of_a, self.step_of_source, self.row_of_a = distances
        if isinstance(steps, int):
            self._outer(list(self.of.outer), {})
            return
        with w.block(f"scf.if {w.op(f'arith.cmpi sgt, {steps}, {w.constant(0)} : index')} {{"):
            self._outer(list(self.of.outer), {})

    def _outer(self, dims: list[int], at: dict[int, str | int]) -> None:
        if not dims:
            self._strips(at)
            return
        dim, *rest = dims
        iv, w = self.w.fresh("i"), self.w
        with w.block(f"scf.for {iv} = {w.constant(0)} to {self.index(self.of.sizes[dim])} step {w.constant(1)} {{"):
            self._outer(rest, {**at, dim: iv})

    def _strips(self, at: dict[int, str | int]) -> None:
        w, size, wide = self.w, self.index(self.of.sizes[self.of.column]), self.lmul
        if self.leftover is None:
            with self._strip_loop() as j:
                self._rows({**at, self.of.column: j})
            return
        strip = w.op(f"arith.muli {w.op('vector.vscale')}, {w.constant(self.lanes)} : index")
        left = w.op(f"arith.remui {size}, {strip} : index")
        whole = w.op(f"arith.subi {size}, {left} : index")
        if not self.leftover.known:
            half = w.op(f"arith.divui {strip}, {w.constant(2)} : index")
            few = w.op(f"arith.cmpi ule, {left}, {half} : index")
            whole = w.op(f"arith.select {few}, {whole}, {size} : index")
        for lmul, start, end in ((wide, w.constant(0), whole), (self.leftover.lmul, whole, size)):
            self._widen(lmul)
            with self._strip_loop(start, end) as j:
                self._rows({**at, self.of.column: j})
        self._widen(wide)

    @contextmanager
    def _strip_loop(self, begin: str | None = None, end: str | None = None) -> Iterator[str]:
        """A loop over strips of columns, all of them if nothing else is said: the first column of each."""
        w = self.w
        begin, end = begin or w.constant(0), end or self.index(self.of.sizes[self.of.column])
        self.mask = w.op(f"arith.constant dense<true> : {self.masks}")
        factor = w.op(f"arith.constant {self.lanes} : i32")
        start, j = w.fresh("at"), w.fresh("j")
        with w.block(f"{w.fresh('loop')} = scf.while ({start} = {begin}) : (index) -> index {{", "} do {"):
            w.line(f"scf.condition({w.op(f'arith.cmpi slt, {start}, {end} : index')}) {start} : index")
        with w.block(f"^bb0({j}: index):"):
            left = w.op(f"arith.index_cast {w.op(f'arith.subi {end}, {j} : index')} : index to i64")
            self.evl = w.op(
                f'llvm.call_intrinsic "llvm.experimental.get.vector.length"({left}, {factor}, {self.true})'
                " : (i64, i32, i1) -> i32"
            )
            self.length = w.op(f"arith.extui {self.evl} : i32 to i64")
            yield j
            done = w.op(f"arith.index_castui {self.evl} : i32 to index")
            w.line(f"scf.yield {w.op(f'arith.addi {j}, {done} : index')} : index")

    def _rows(self, at: dict[int, str | int]) -> None:
        row = self.of.row
        if row is None:
            self._tile(1, at)
            return
        size = self.of.sizes[row]
        if isinstance(size, int):
            blocks = -(-size // self.rows)
            small, larger = divmod(size, max(blocks, 1))
            first = 0
            if self.source is not None:
                first = small + (larger > 0)
                self._tile(first, {**at, row: 0}, copies=True)
            end = max(first, larger * (small + 1))
            self._row_loop(small + 1, first, end, at)
            self._row_loop(small, end, size, at)
            return
        start: str | int = 0
        for rows in (self.rows, 2, 1):
            count = self.w.op(f"arith.subi {size}, {self.index(start)} : index")
            whole = self.w.op(f"arith.divui {count}, {self.w.constant(rows)} : index")
            end = self.add(start, self.mul(whole, rows))
            self._row_loop(rows, start, end, at)
            if self._divides(rows, row):
                return
            start = end

    def _divides(self, count: int, dim: int) -> bool:
        """Whether a size is known to be a multiple of a number."""
        rests = self.of.rests[dim]
        return rests is not None and MODULUS % count == 0 and all(rest % count == 0 for rest in rests)

    def _row_loop(self, rows: int, start: str | int, end: str | int, at: dict[int, str | int]) -> None:
        """Blocks of so many rows from start to end."""
        if start == end or rows == 0:
            return
        row, w = self.of.row, self.w
        assert row is not None
        i = w.fresh("i")
        with w.block(f"scf.for {i} = {self.index(start)} to {self.index(end)} step {w.constant(rows)} {{"):
            self._tile(rows, {**at, row: i})

    def _tile(self, rows: int, at: dict[int, str | int], copies: bool = False) -> None:
        """One block of rows: all of the depth with its accumulators in registers. copies: B is made on the way."""
        of, row = self.of, self.of.row
        a0, b0, c0 = (self._offset(x, at) for x in (of.a, of.b, of.c))
        places = [0 if row is None else self.mul(of.a.strides[row], r) for r in range(rows)]
        b, a = (self.ahead(x.base, offset, of.narrow) for x, offset in ((of.b, b0), (of.a, a0)))
        offsets = [self.add(c0, 0 if row is None else self.mul(of.c.strides[row], r)) for r in range(rows)]
        targets = [self.ahead(of.c.base, offset, of.elem) for offset in offsets]
        state = self._beginning(targets, at)
        copy = b if copies else ""
        if copies and self.source is not None:
            b = self.ahead(self.source.base, self._offset(self.source, at), of.narrow)
        depth = depthloop.DepthLoop(self, rows, copies)
        depth.write(state, b, a, places, copy)
        self._ending(depth.last, targets, at)

    def _beginning(self, targets: list[str], at: dict[int, str | int]) -> list[str]:
        """The accumulators of a tile, whose rows stand at the targets or begin anew."""
        w, begin = self.w, self.begin

        def loaded() -> list[str]:
            return [self.load(target, self.vector) for target in targets]

        def begun() -> list[str]:
            return [begin(*self._element(r, at)) for r in range(len(targets))] if begin is not None else loaded()

        if begin is None or not self.first:
            return begun()
        name, types = w.fresh("sums"), ", ".join([self.vector] * len(targets))
        with w.block(f"{name}:{len(targets)} = scf.if {self.first} -> ({types}) {{", "} else {"):
            w.line(f"scf.yield {', '.join(begun())} : {types}")
        w.depth += 1
        w.line(f"scf.yield {', '.join(loaded())} : {types}")
        w.depth -= 1
        w.line("}")
        return [f"{name}#{r}" for r in range(len(targets))]

    def _ending(self, sums: Callable[[bool], list[str]], targets: list[str], at: dict[int, str | int]) -> None:
        """What becomes of a tile's accumulators, whose last step is written where they are needed."""
        w, end = self.w, self.end

        def stored() -> None:
            for acc, target in zip(sums(False), targets, strict=True):
                self.store(acc, target)

        def ended(side: bool) -> None:
            for r, acc in enumerate(sums(side)):
                if end is not None:
                    end(acc, *self._element(r, at))

        if end is None or not self.last:
            stored() if end is None else ended(False)
            return
        with w.block(f"scf.if {self.last} {{", "} else {"):
            ended(True)
        w.depth += 1
        stored()
        w.depth -= 1
        w.line("}")

    def _element(self, r: int, at: dict[int, str | int]) -> tuple[str, str]:
        """(row, column) of the first element of a tile's row."""
        assert self.of.row is not None
        return self.index(self.add(at[self.of.row], r)), self.index(at[self.of.column])

    def described(self) -> dict[str, Any]:
        """What explain tells of it."""
        fused = {"begins": self.begin is not None, "ends": self.end is not None, "copies": self.source is not None}
        found = {"lmul": self.lmul, "live": self.rows + 2, "gathers": 0, "rows": self.rows, **fused}
        return found if self.leftover is None else {**found, "leftover": self.leftover.lmul}


@dataclass(frozen=True)
class Leftover:
    """The LMUL for columns that are left over from whole strips. known: they are few; else if at most half a strip."""

    lmul: int
    known: bool = True


def leftover(of: Contraction, lmul: int) -> Leftover | None:
    """How columns are done that are left over from whole strips, where a smaller LMUL does them sooner; None where it
    does not."""
    lanes, size = lmul * BITS // bits_of(of.elem), of.sizes[of.column]
    if lmul != 4 or MODULUS % lanes:
        return None
    smaller = [m for m in (2, 1) if m * 64 >= 2 * bits_of(of.elem)]  # A vector has two lanes at least.
    rests = of.rests[of.column]
    if rests is None:
        return Leftover(smaller[-1], known=False) if isinstance(size, str) else None
    left = {rest % lanes for rest in rests} - {0}

    def cost(lmul: int) -> float:
        return sum(-(-n // (lanes * lmul // 4)) * lmul * COST[lmul] for n in left)

    best = min(smaller, key=cost)
    return Leftover(best) if left and cost(best) < cost(4) else None
