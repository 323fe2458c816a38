"""Products whose right operand lies by column, turned round: lanes along the rows, and no operand is copied crosswise.

    Fill(B, load b); Dot(load a, B, into c)      a side by side along the rows, b along the depth
    →  Dot(load a, load b, into c)               c column after column in scratch memory

A register tile reads vectors of one operand and scalars of the other. Vectors along the columns would need a copy of b
that turns it round; vectors along the rows are there in a, and b's elements are as good as any for scalars. Operands
that are copied all the same (converted to another type) are copied as they lie. What is paid is that the sums are
turned round as they leave: done where the depth is at least half the rows.
Declines: operands other than a matrix in memory and elementwise functions of it; a left one that is read where it
stands though its rows lie far apart; an accumulator that anything but a nest sees.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch_rvv.lowering.access import VIEWS, Analysis, Space, step
from torch_rvv.lowering.convert_dot import bounded
from torch_rvv.lowering.demand import private
from torch_rvv.lowering.graph import Graph
from torch_rvv.lowering.hazards import every
from torch_rvv.lowering.linear import ONE
from torch_rvv.lowering.nodes import Dot, Fill, Node, Region, Root, Statement

# Elements between columns that do not matter.
CLOSE = 32


@dataclass(frozen=True)
class _Operand:
    """Where an operand's elements come from, and the statement that copies them, if one does."""

    value: Node
    copy: Fill | None


def settle(graph: Graph) -> None:
    """Turn round what can be and pays."""
    places = [(statement, region) for statement, region, _ in every(graph.region)]
    statements = [statement for statement, _ in places]
    for buffer in dict.fromkeys(s.buffer for s in statements if isinstance(s, Dot) and s.buffer is not None):
        dots = [(s, region) for s, region in places if isinstance(s, Dot) and s.buffer is buffer]
        operands = [_operands(dot, region, statements) for dot, region in dots]
        if all(operands) and not seen_raw(buffer, statements):
            buffer.turned = True
            for (dot, region), pair in zip(dots, operands, strict=True):
                assert pair is not None
                _turn(graph, dot, region, *pair)


def seen_raw(buffer: Node, statements: list[Statement]) -> bool:
    """Whether anything but a nest has to do with a buffer, and so expects it row after row."""
    others = [s for s in statements if not isinstance(s, Root)]
    return any(node is buffer for s in others for node in (*s.inputs(), *vars(s).values()))


def _operands(dot: Dot, region: Region, statements: list[Statement]) -> tuple[_Operand, _Operand] | None:
    """The operands of a product that is better turned round; None for others."""
    if len(dot.shape) != 3 or 1 in dot.shape or dot.shape[0] > 2 * dot.shape[2]:
        return None
    assert dot.a is not None and dot.b is not None
    a, b = (_operand(node, dot, region, statements) for node in (dot.a, dot.b))
    if a is None or b is None or b.copy is None:
        return None
    # A copy of the tile's columns would lie no closer.
    most = dot.shape[0] + CLOSE if a.copy is None else None
    return (a, b) if _down(a.value, most) and _down(b.value, None) else None


def _operand(node: Node, dot: Dot, region: Region, statements: list[Statement]) -> _Operand | None:
    """What a product reads, if that is the same where it is copied and where it is multiplied."""
    if node.kind != "buffer":
        return _Operand(node, None)
    copy = private(node, dot, statements)
    if copy is None or copy.value is None or copy not in region.statements:
        return None
    between = region.statements[region.statements.index(copy) : region.statements.index(dot)]
    return _Operand(copy.value, copy) if between and all(isinstance(s, Fill) for s in between) else None


def _down(matrix: Node, most: int | None) -> bool:
    """Whether a matrix lies column after column in memory, or what it is computed from. most: how far apart."""
    assert matrix.shape is not None
    space = Space.over(matrix.shape)
    if len(space.dims) != 2:
        return False
    (down, across), analysis = space.dims, Analysis(space)
    found, pending = False, [(matrix, space.index)]
    while pending:
        node, index = pending.pop()
        while node.kind in VIEWS:
            node, index = step(node, index, analysis.divide)
        if node.kind == "load":
            form = analysis.linear(node.args[0].args[1], index)
            if not form.affine:
                return False
            if across not in form.coefs:
                continue
            apart = form.coefs[across].constant
            if form.coefs.get(down) != ONE or (most is not None and not (apart is not None and 0 < apart <= most)):
                return False
            found = True
        elif node.kind == "map":
            pending += [(arg, index) for arg in node.args]
        elif node.kind not in ("splat", "range", "scalar"):
            return False
    return found


def _turn(graph: Graph, dot: Dot, region: Region, a: _Operand, b: _Operand) -> None:
    if a.copy is not None and a.copy.buffer is not None:
        a.copy.buffer.turned = True
    assert b.copy is not None and b.copy.buffer is not None
    if _in_memory(graph, b.value) and b.value.elem == b.copy.buffer.elem:
        dot.b = b.value
        region.statements.remove(b.copy)
    else:
        b.copy.buffer.turned = True


def _in_memory(graph: Graph, node: Node) -> bool:
    """Whether a value is a load that is masked by the bounds of a product's loops at most."""
    whole = bounded(graph, node)[2]
    while node.kind in VIEWS:
        (node,) = node.args
    return node.kind == "load" and whole
