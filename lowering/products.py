"""Products among a kernel's nests: what is done with them rather than before or behind them.

held      what gives the sums their beginning, and waits for the product (epilogue.py)
copies    what makes the right operand, and waits for it likewise (copied.py)
rounds    loop or product → what begins in the first round and ends in the last (rounds.py)
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from math import prod
from typing import TYPE_CHECKING, Any

from torch_rvv.lowering import copied, epilogue, matmul, rowproduct
from torch_rvv.lowering.nest import Nest
from torch_rvv.lowering.rounds import Rounds, rounds_of

if TYPE_CHECKING:
    from torch_rvv.lowering.linalg_to_vector import ToVector


class Products:
    """Writes the products of one kernel. to: the writer of all the rest."""

    def __init__(self, to: ToVector):
        self.to = to
        self.held: dict[Any, Any] = {}
        self.copies: dict[Any, Any] = {}
        self.rounds: dict[Any, Rounds] = {}

    def waits(self, op: Any) -> bool:
        """Whether an operation is for a product, which will see to it."""
        if not epilogue.is_beginning(op):
            return False
        rounds = rounds_of(op, self.to.options.noalias)
        if rounds is not None:
            self.rounds[rounds.loop] = self.rounds[rounds.product] = rounds
            return True
        for held, found in ((self.held, epilogue.product_of), (self.copies, copied.product_of)):
            product = found(op)
            if product is not None and product not in held:
                held[product] = op
                return True
        return False

    def write_plain(self, op: Any, nest: Nest) -> None:
        """A nest that is no contraction of ours: what waits for it, and itself."""
        rounds = self.rounds.pop(op, None)
        self._settle(op)
        if rounds is not None:
            self._in_rounds(rounds, lambda: self.to.plain(nest))
        else:
            self.to.plain(nest)

    def write(self, op: Any, contraction: matmul.Contraction) -> None:
        """A contraction, with its beginning and its end where they can be had in registers."""
        to, row_alone = self.to, rowproduct.applies(contraction)
        kind = rowproduct.RowProduct if row_alone else matmul.Kernel
        kernel = kind(contraction, to.operations, to.writer, to.options.lmul)
        steps, rounds = contraction.sizes[contraction.depth], self.rounds.pop(op, None)
        tiled = not row_alone and contraction.row is not None and not contraction.outer
        fused = None
        if tiled and (isinstance(steps, int) or rounds is not None):
            fused = self._ends(op, kernel, rounds)
        if not row_alone:
            self._copy(op, kernel, fused)
        self._settle(op)
        if rounds is not None:
            self._in_rounds(rounds, kernel.write, kernel)
        else:
            with ExitStack() as around:
                # Sums that are for nothing are not worked out either.
                for guard in fused.guards if fused is not None else []:
                    around.enter_context(to.writer.block(f"scf.if {to.name(guard)} {{"))
                kernel.write()
        to.nests.append(kernel.described())

    def without_rounds(self, rounds: Rounds, lower: Any, upper: Any) -> None:
        """Beginning and end where a loop has no rounds, behind it."""
        to = self.to
        empty = to.emit(f"arith.cmpi sle, {upper.name}, {lower.name} : {lower.elem}")
        with to.writer.block(f"scf.if {empty} {{"):
            to.plain(to.nest_of(rounds.beginning), shown=False)
            to.plain(to.nest_of(rounds.end.generic), shown=False)

    def _settle(self, product: Any) -> None:
        """The copy of a product's operand, and the beginning of its sums, if they wait for it still."""
        for held in (self.copies, self.held):
            waiting = held.pop(product, None)
            if waiting is not None:
                self.to.plain(self.to.nest_of(waiting))

    def _in_rounds(self, rounds: Rounds, write: Callable[[], None], kernel: matmul.Kernel | None = None) -> None:
        """A product whose sums begin in the first round of a loop and are done with in the last: in registers as far as
        the kernel has them."""
        to, (lower, upper, step, *_) = self.to, (self.to.value(v) for v in rounds.loop.operands)
        iv = to.name(rounds.loop.regions[0].blocks[0].arguments[0])
        left = to.emit(f"arith.subi {upper.name}, {iv} : {lower.elem}")
        first = to.emit(f"arith.cmpi eq, {iv}, {lower.name} : {lower.elem}")
        last = to.emit(f"arith.cmpi sle, {left}, {step.name} : {lower.elem}")
        begins = kernel is not None and kernel.begin is not None
        ends = kernel is not None and kernel.end is not None

        def plain(generic: Any, condition: str, shown: bool) -> None:
            with to.writer.block(f"scf.if {condition} {{"):
                to.plain(to.nest_of(generic), shown)

        if not begins:
            plain(rounds.beginning, first, True)
        if kernel is not None:
            kernel.first, kernel.last = first, last
        write()
        steps = kernel.of.sizes[kernel.of.depth] if kernel is not None else 0
        if isinstance(steps, str) and (begins or ends):
            # A round of no depth has no tiles.
            empty = to.emit(f"arith.cmpi sle, {steps}, {to.writer.constant(0)} : index")
            with to.writer.block(f"scf.if {empty} {{"):
                if begins:
                    plain(rounds.beginning, first, False)
                if ends:
                    plain(rounds.end.generic, last, False)
        if not ends:
            plain(rounds.end.generic, last, True)

    def _copy(self, op: Any, kernel: matmul.Kernel, end: epilogue.End | None) -> None:
        """Have the copy of the right operand made by the product, if it can."""
        copy = self.copies.get(op)
        if copy is not None and (end is None or epilogue.apart(copy, end.generic, self.to.options.noalias)):
            kernel.source = copied.source(kernel.of, self.to.nest_of(copy), kernel.rows)
            if kernel.source is not None:
                del self.copies[op]

    def _ends(self, op: Any, kernel: matmul.Kernel, rounds: Rounds | None) -> epilogue.End | None:
        """Give a kernel the beginning and the end of its product, as far as that can be; the end, if it has it."""
        to, fused, end = self.to, None, rounds.end if rounds is not None else None
        begins = rounds.beginning if rounds is not None else self.held.get(op)
        if rounds is None:
            anew = begins is not None and epilogue.count(to.nest_of(begins)) == self._whole(op)
            end = epilogue.end_of(op, anew, to.options.noalias)
            if end is not None:
                to.block(end.before)
                to.done.update(end.before)
        if end is not None and (row := self._row(op, end.generic, kernel)) is not None:
            kernel.end = row.end
            kernel.limit(row.rows, row.rests)
            to.done.add(end.generic)
            fused = end
        waits = begins is not None and (fused is None or epilogue.apart(begins, fused.generic, to.options.noalias))
        if waits and (row := self._row(op, begins, kernel)) is not None:
            kernel.begin = row.begin
            self.held.pop(op, None)
        return fused

    def _row(self, op: Any, generic: Any, kernel: matmul.Kernel) -> epilogue.Row | None:
        """A generic that gives or takes a product's sums, by rows of them."""
        to = self.to
        nest, buffer = to.nest_of(generic), epilogue.root(list(op.operands)[-1])
        sums = [o for o, v in zip(nest.operands, generic.operands, strict=True) if epilogue.root(v) == buffer]
        names = (to.operations, to.functions, to.value, to.view, to.writer)
        return epilogue.row_of(kernel, nest, sums[0], self._whole(op), *names) if len(sums) == 1 else None

    def _whole(self, product: Any) -> int:
        """How many elements the buffer of a product's sums has."""
        return prod(self.to.views[epilogue.root(list(product.operands)[-1])].sizes)  # type: ignore[arg-type]
