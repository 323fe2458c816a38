"""Values that pass through loops and branches: what each kind of value is made of.

    f32 scalar                one scalar
    tensor                    one buffer (booleans as bytes)
    tensor of pointers        one buffer of addresses
    block pointer, descriptor its base, sizes, strides and offsets: scalars

A `Form` takes such a value apart and puts one together again from new parts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch_rvv.lowering import convert_block, convert_pointer
from torch_rvv.lowering.graph import Graph
from torch_rvv.lowering.nodes import Fill, Node, Statement, is_pointer, parse_type
from torch_rvv.lowering.scratch import truth

Parts = tuple[list[Node], list[Node]]


@dataclass(frozen=True)
class Form:
    """scalars: element types; tensors: shapes and element types.

    take: a value → its scalars and its tensors. make: scalars and tensors (buffers) → a value.
    """

    scalars: tuple[str, ...]
    tensors: tuple[tuple[tuple[int, ...], str], ...]
    take: Callable[[Node], Parts]
    make: Callable[[Sequence[Node], Sequence[Node]], Node]

    def buffers(self, graph: Graph) -> list[Node]:
        """New scratch memory for the tensors."""
        return [graph.buffer(shape, elem) for shape, elem in self.tensors]


def form_of(graph: Graph, text: str) -> Form:
    """The form of values of a TTIR type."""
    if text.startswith(("!tt.ptr<tensor", "!tt.tensordesc")):
        return _block(graph, text)
    shape, elem = parse_type(text)
    if shape is None:
        return Form((elem,), (), lambda v: ([v], []), lambda s, t: s[0])
    if is_pointer(elem):
        return Form(
            (), ((shape, "i64"),), lambda v: ([], [convert_pointer.addresses(graph, v)]),
            lambda s, t: convert_pointer.at_addresses(graph, t[0], elem),
        )  # fmt: skip
    if elem == "i1":
        return Form(
            (), ((shape, "i8"),), lambda v: ([], [graph.map("arith.extui", [v], "i8")]),
            lambda s, t: truth(graph, t[0]),
        )  # fmt: skip
    return Form((), ((shape, elem),), lambda v: ([], [v]), lambda s, t: t[0])


def _block(graph: Graph, text: str) -> Form:
    shape, elem = convert_block.block_type(text)
    rank = len(shape)

    def take(value: Node) -> Parts:
        block: convert_block.Block = value.attr
        padding = block.padding
        if isinstance(padding, str):
            padding = graph.constant("true" if padding == "nan" else "false", "i1")
        return [block.base, *block.sizes, *block.strides, *block.offsets, padding], []

    def make(scalars: Sequence[Node], _: Sequence[Node]) -> Node:
        base, *rest, padding = scalars
        sizes, strides, offsets = (tuple(rest[i * rank : (i + 1) * rank]) for i in range(3))
        return convert_block.Block(base, shape, elem, sizes, strides, offsets, padding).node()

    return Form((f"!tt.ptr<{elem}>", *["i64"] * (3 * rank), "i1"), (), take, make)


def offsets_of(block: Node) -> Form:
    """The form of a block pointer that only moves: its offsets."""
    start: convert_block.Block = block.attr
    return Form(
        ("i64",) * len(start.offsets),
        (),
        lambda v: (list(v.attr.offsets), []),
        lambda s, t: replace(start, offsets=tuple(s)).node(),
    )


def fill(graph: Graph, buffers: Sequence[Node], values: Sequence[Node]) -> list[Statement]:
    """Write tensors to buffers."""
    statements = []
    for buffer, value in zip(buffers, values, strict=True):
        assert buffer.shape is not None
        statements.append(graph.append(Fill(shape=buffer.shape, buffer=buffer, value=value)))
    return statements
