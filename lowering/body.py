"""The body of one linalg.generic: evaluates lazy nodes at the index of one iteration.

    ^bb0(%x: f32, %out: f32):            operands that are affine in the iteration space come as
      %t = arith.addf %x, %bias : f32    block arguments; everything else is computed here, reads
      linalg.yield %t : f32              through computed indices being memref.load

Masks that hold everywhere in the space vanish; others become scf.if around their load.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch_rvv.lowering.access import VIEWS, Analysis, Element, Index, Quotient, step
from torch_rvv.lowering.linear import Atom, Dim, Linear, Poly
from torch_rvv.lowering.nodes import Node, absolute, bytes_of, pointee
from torch_rvv.lowering.writer import Writer, mlir_type

from torch_rvv.errors import Declined

DIVISIONS = frozenset({"arith.divsi", "arith.divui", "arith.remsi", "arith.remui"})


@dataclass(eq=False)
class Operand:
    """An affine access: a buffer or pointer, and its offset as a form over the iteration dims."""

    base: Node
    elem: str
    form: Linear
    argument: str
    where: str | None = None


class Body:
    """Writes a body's lines. `writer` is the body's own; `outer` stands before the generic."""

    def __init__(self, analysis: Analysis, dims: list[Dim], writer: Writer, outer: Writer):
        self.analysis, self.dims, self.writer, self.outer = analysis, dims, writer, outer
        self.space = analysis.space
        self.inputs: list[Operand] = []
        self.gathers: list[tuple[str, Node, Linear, str | None]] = []
        self.indices: dict[Dim, str] = {}
        self._values: list[dict[object, str]] = [{}]

    # -- values

    def value(self, node: Node, index: Index) -> str:
        """The SSA name of a node's element."""
        key = (node, index)
        for scope in reversed(self._values):
            if key in scope:
                return scope[key]
        name = self._value(node, index)
        self._values[-1][key] = name
        return name

    def forward(self, buffer: Node, index: Index, name: str) -> None:
        """Later reads of a buffer's element get the value that is being written there."""
        self._values[0][(buffer, index)] = name

    def _value(self, node: Node, index: Index) -> str:
        if node.kind == "splat":
            return node.args[0].name
        if node.kind == "reshape" and node.args[0].kind == "buffer" and not node.args[0].turned:
            # A buffer is dense: the same elements in the same order.
            return self._read(node.args[0], node.elem, row_major(node.shape or (), index), node.where)
        if node.kind in VIEWS:
            return self.value(*step(node, index, self.analysis.divide))
        if node.kind == "map" and node.op in DIVISIONS:
            form = self.final(self.analysis.linear(node, index))
            if form.affine:  # Split dimensions: no division is left.
                return self._cast(self.form(form), node.elem)
        if node.op == "arith.select" and self.space.facts:
            chosen = self._chosen(node, index)
            if chosen is not None:
                return self.value(chosen, index)
        if node.kind == "map":
            return self._map(node, [self.value(a, index) for a in node.args])
        if node.kind == "range":
            return self._cast(self.form(self.analysis.linear(node, index)), node.elem)
        if node.kind == "buffer":
            return self._read(node, node.elem, flat(node, index), node.where)
        if node.kind == "load":
            return self._load(node, index)
        if node.kind == "gather":
            buffer, at, *_ = node.args
            moved = (*index[: node.attr], self.analysis.linear(at, index), *index[node.attr + 1 :])
            form = flat(buffer, moved)
            mask, other = node.args[2:] if len(node.args) > 2 else (None, None)
            return self._masked_read(buffer, node.elem, form, index, mask, other, node.where)
        raise Declined(f"no body for a value of kind {node.kind}", where=node.where)

    def _chosen(self, select: Node, index: Index) -> Node | None:
        """The value that a select has everywhere in the space, where that is known."""
        mask, value, other = select.args
        left = self.analysis.left(mask, index)
        return other if left is None else None if left else value

    def _map(self, node: Node, args: list[str]) -> str:
        attr, result, results = node.attr
        types = ", ".join(mlir_type(a.elem) for a in node.args)
        out = ", ".join([mlir_type(node.elem)] * results)
        text = f'"{node.op}"({", ".join(args)}) {{{attr}}} : ({types}) -> ({out})'
        if results == 1:
            return self.writer.op(text)
        name = self.writer.fresh()
        self.writer.line(f"{name}:{results} = {text}")
        return f"{name}#{result}"

    def _cast(self, index: str, elem: str) -> str:
        return index if elem == "index" else self.writer.op(f"arith.index_cast {index} : index to {elem}")

    # -- memory

    def _load(self, node: Node, index: Index) -> str:
        mask, other = node.attr
        pointer = node.args[0]
        base, offset = pointer.args
        form = self.analysis.linear(offset, index)
        return self._masked_read(base, node.elem, form, index, mask, other, node.where)

    def _masked_read(
        self,
        base: Node,
        elem: str,
        form: Linear,
        index: Index,
        mask: Node | None,
        other: Node | None,
        where: str | None,
    ) -> str:
        """base[form] where the mask holds at an index, `other` (or zero) elsewhere."""
        left = self.analysis.unproven(mask, index) if mask is not None else []
        if left == []:
            return self._read(base, elem, form, where)
        condition = self.condition(left) if left else None
        instead = self.value(other, index) if other is not None else self._zero(elem)
        if condition is None:
            return instead
        return self.guarded(condition, elem, lambda: self._indexed(base, elem, form, where), instead)

    def condition(self, conjuncts: list[tuple[Node, Index]]) -> str:
        """The conjunction of what is left of a mask, as an i1."""
        names = [self._conjunct(leaf, index) for leaf, index in conjuncts]
        total = names[0]
        for name in names[1:]:
            total = self.writer.op(f"arith.andi {total}, {name} : i1")
        return total

    def _conjunct(self, leaf: Node, index: Index) -> str:
        """A comparison of indices by their linear forms: // and % of split dimensions are none there."""
        form = self.analysis.positive(leaf, index)
        if form is None or _element_of(form, leaf.args):
            return self.value(leaf, index)
        zero = self.writer.constant(0)
        return self.writer.op(f"arith.cmpi sgt, {self.form(form)}, {zero} : index")

    def guarded(self, condition: str, elem: str, read: Callable[[], str], instead: str) -> str:
        """condition ? read() : instead, without reading where the condition fails."""
        result = self.writer.fresh()
        self._values.append({})
        with self.writer.block(f"{result} = scf.if {condition} -> ({elem}) {{", "} else {"):
            self.writer.line(f"scf.yield {read()} : {elem}")
        self._values.pop()
        self.writer.line(f"  scf.yield {instead} : {elem}")
        self.writer.line("}")
        return result

    def _zero(self, elem: str) -> str:
        zero = "0.0" if elem.startswith(("f", "bf")) else "0"
        return (
            self.writer.op(f"arith.constant {zero} : {elem}")
            if elem != "i1"
            else self.writer.op("arith.constant false")
        )

    def _read(self, base: Node, elem: str, form: Linear, where: str | None) -> str:
        final = self.final(form)
        if not final.affine:
            return self._indexed(base, elem, form, where)
        for operand in self.inputs:
            if operand.base is base and operand.form == final and operand.elem == elem:
                return operand.argument
        operand = Operand(base, elem, final, self.writer.fresh("in"), where)
        self.inputs.append(operand)
        return operand.argument

    def _indexed(self, base: Node, elem: str, form: Linear, where: str | None) -> str:
        memref = memory(self.outer, base, elem)
        self.gathers.append(("load", base, self.final(form), where))
        narrow = None if absolute(base) else self._narrow(self.final(form), bytes_of(elem))
        if narrow is None:
            return self.writer.op(f"memref.load {memref}[{self.form(form)}] : {memory_type(base, elem)}")
        at, start, size = narrow
        offset = start.constant
        first, layout = (self.outer.poly(start), "?") if offset is None else (str(offset), str(offset))
        kind = f"memref<{size}x{elem}, strided<[1], offset: {layout}>>"
        view = self.outer.op(
            f"memref.reinterpret_cast {memref} to offset: [{first}], sizes: [{size}], strides: [1]"
            f" : {memory_type(base, elem)} to {kind}",
            "v",
        )
        return self.writer.op(f"memref.load {view}[{at}] : {kind}")

    def _narrow(self, form: Linear, size: int) -> tuple[str, Poly, int] | None:
        """(index, start, length) of a gather from a piece of memory whose offsets in bytes have 31 bits: the index is
        computed in 32 bits and never negative; start + index is the form."""
        plain = Poly({m: c for m, c in form.const.terms.items() if not any(a.varying for a in m)})
        if plain == form.const:
            return None
        terms: list[tuple[Callable[[], str], int, int]] = []  # value, largest value, coefficient
        for monomial, coefficient in (form.const - plain).terms.items():
            source = monomial[0].value
            if len(monomial) > 1 or not isinstance(source, Element) or source.node.most is None:
                return None
            terms.append((lambda s=source: self._as_i32(s), source.node.most, coefficient))  # type: ignore[misc]
        for dim, coef in form.coefs.items():
            if coef.constant is None:
                return None
            terms.append((lambda d=dim: self._index_as_i32(d), dim.size - 1, coef.constant))  # type: ignore[misc]
        last = sum(most * coefficient for _, most, coefficient in terms)
        if any(coefficient < 0 for *_, coefficient in terms) or (last + 1) * size >= 1 << 31:
            return None
        total = ""
        for value, _, coefficient in terms:
            term = value()
            if coefficient != 1:
                factor = self.writer.op(f"arith.constant {coefficient} : i32")
                term = self.writer.op(f"arith.muli {term}, {factor} : i32")
            total = self.writer.op(f"arith.addi {total}, {term} : i32") if total else term
        return self.writer.op(f"arith.index_castui {total} : i32 to index"), plain, last + 1

    def _as_i32(self, source: Element) -> str:
        value, elem = self.value(source.node, source.index), source.node.elem
        return value if elem == "i32" else self.writer.op(f"arith.trunci {value} : {elem} to i32")

    def _index_as_i32(self, dim: Dim) -> str:
        return self.writer.op(f"arith.index_cast {self._dim(dim)} : index to i32")

    def store(self, base: Node, elem: str, form: Linear, value: str, condition: str | None, where: str | None) -> None:
        """A store through a computed index, where a condition holds."""
        memref = memory(self.outer, base, elem)
        self.gathers.append(("store", base, self.final(form), where))
        index = self.form(form)
        text = f"memref.store {value}, {memref}[{index}] : {memory_type(base, elem)}"
        if condition is None:
            self.writer.line(text)
            return
        with self.writer.block(f"scf.if {condition} {{"):
            self.writer.line(text)

    # -- index arithmetic

    def final(self, form: Linear) -> Linear:
        """A form over the dims that are iterated: split dims replaced by their parts."""
        for dim, split in self.space.splits.items():
            if dim in form.coefs:
                coef = form.coefs[dim]
                start = Poly.of(split.quotient) * Poly(split.divisor) + Poly.of(split.low) - split.base
                rest = {d: c for d, c in form.coefs.items() if d is not dim}
                form = Linear(form.const, rest) + Linear(start, {split.rest: Poly(1)}).scale(coef)
        return form

    def form(self, form: Linear) -> str:
        """A form's value as an index, in the body."""
        final = self.final(form)
        total = self._terms(final.const)
        for dim, coef in final.coefs.items():
            position = self._dim(dim)
            factor = coef.constant
            if factor == 1:
                term = position
            elif not coef.varying:
                term = self.writer.op(f"arith.muli {position}, {self.outer.poly(coef)} : index")
            else:
                term = self.writer.op(f"arith.muli {position}, {self._terms(coef)} : index")
            total = term if total is None else self.writer.op(f"arith.addi {total}, {term} : index")
        return total or self.outer.constant(0)

    def _dim(self, dim: Dim) -> str:
        """The loop index of a dim. `linalg.index` stands only at the top of a body: see `indices`."""
        if dim not in self.indices:
            self.indices[dim] = self.writer.fresh("d")
        return self.indices[dim]

    def _terms(self, poly: Poly) -> str | None:
        """A polynomial's value; its varying monomials are computed in the body."""
        plain = Poly({m: c for m, c in poly.terms.items() if not any(a.varying for a in m)})
        total = self.outer.poly(plain) if plain.terms else None
        for monomial, coefficient in poly.terms.items():
            if not any(a.varying for a in monomial):
                continue
            factors = [self._varying(a) if a.varying else self.outer.atom(a) for a in monomial]
            value = factors[0]
            for factor in factors[1:]:
                value = self.writer.op(f"arith.muli {value}, {factor} : index")
            if coefficient != 1:
                value = self.writer.op(f"arith.muli {value}, {self.outer.constant(coefficient)} : index")
            total = value if total is None else self.writer.op(f"arith.addi {total}, {value} : index")
        return total

    def _varying(self, atom: Atom) -> str:
        source = atom.value
        if isinstance(source, Element):
            value = self.value(source.node, source.index)
            if source.node.elem == "index":
                return value
            return self.writer.op(f"arith.index_cast {value} : {source.node.elem} to index")
        assert isinstance(source, Quotient)
        op = ("arith.divui", "arith.remui")[source.what]
        return self.writer.op(f"{op} {self.form(source.form)}, {self.outer.constant(source.divisor)} : index")


def flat(buffer: Node, index: Index) -> Linear:
    """A buffer's element at an index as an offset: buffers are dense, and row-major if they are not turned."""
    assert buffer.shape is not None
    return row_major(buffer.shape[::-1], index[::-1]) if buffer.turned else row_major(buffer.shape, index)


def row_major(shape: tuple[int, ...], index: Index) -> Linear:
    """An element's place among all elements of a shape."""
    form = Linear()
    for n, i in zip(shape, index, strict=True):
        form = form.scale(Poly(n)) + i
    return form


def memory_type(base: Node, elem: str) -> str:
    """The memref type that a base is seen through."""
    if base.kind == "buffer":
        count = 1
        for n in base.shape or ():
            count *= n
        return f"memref<{count}x{base.elem}>"
    # Memory space 1: indices are addresses in bytes.
    return f"memref<?x{elem}, 1>" if absolute(base) else f"memref<?x{elem}>"


def _element_of(form: Linear, nodes: Sequence[Node]) -> bool:
    """Whether one of the nodes has no linear form, and so stands in this one as it is."""
    atoms = {atom for poly in (form.const, *form.coefs.values()) for monomial in poly.terms for atom in monomial}
    return any(isinstance(atom.value, Element) and atom.value.node in nodes for atom in atoms)


def memory(writer: Writer, base: Node, elem: str) -> str:
    """The memref of a base: a buffer's own, or a pointer seen as unbounded memory."""
    if base.kind == "buffer":
        return base.name
    key = ("memory", base, elem)
    found = writer._memo(key)
    if found is None:
        kind = memory_type(base, elem)
        found = writer.op(f"builtin.unrealized_conversion_cast {base.name} : !llvm.ptr to {kind}", "m")
        writer.remember(key, found)
    return found


__all__ = ["Body", "Operand", "flat", "memory", "memory_type", "pointee"]
