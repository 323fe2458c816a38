"""int8 products on SpacemiT's matrix unit: tiles of 4 x 8 by 4 x 8, accumulated in 4 x 4 int32.

    Dot(a: 64x32xi8, b: 32x128xi8, into 64x128xi32)
    →  a as [16, 4, 4, 8], b as [32, 4, 4, 8] (columns first), c as [16, 32, 4, 4];
       for each tile of c: load it, smt.vmadot along the depth, store it

At VLEN 256 one register holds a tile of a or b, two hold a tile of c. The instruction is written as inline assembly:
the compiler need not know it. Taken for sizes that whole tiles cover; others are ordinary products.
"""

from __future__ import annotations

from typing import Any

from torch_rvv.lowering.convert_shape import view
from torch_rvv.lowering.graph import Graph
from torch_rvv.lowering.nodes import Fill, MatrixUnit, Node
from torch_rvv.lowering.scratch import materialise
from torch_rvv.lowering.writer import Writer

ROWS, DEPTH, COLUMNS = 4, 8, 4
TILE_BYTES = ROWS * DEPTH
CALL = "torch_rvv.ime"

# a, b, c: first tiles; n: tiles along the depth. Registers are named, and so out of bounds to the compiler.
_ASSEMBLY = "\n".join(
    [
        ".option push", ".option arch, +xsmtvdot", "mv x5, $0", "mv x6, $1", "mv x7, $3", "li x28, 32",
        "vsetivli zero, 16, e32, m2, ta, ma", "vle32.v v16, ($2)", "vsetvli zero, x28, e8, m1, ta, ma",
        "1:", "vle8.v v8, (x5)", "addi x5, x5, 32", "vle8.v v9, (x6)", "addi x6, x6, 32", "addi x7, x7, -1",
        "smt.vmadot v16, v8, v9", "bnez x7, 1b",
        "vsetivli zero, 16, e32, m2, ta, ma", "vse32.v v16, ($2)", ".option pop",
    ]
)  # fmt: skip
_CONSTRAINTS = "r,r,r,r,~{x5},~{x6},~{x7},~{x28},~{v8},~{v9},~{v16},~{v17},~{vl},~{vtype},~{memory}"


def product(graph: Graph, a: Node, b: Node, c: Node, where: str | None) -> Node | None:
    """a @ b + c on the unit, or None if it is not one of its products."""
    if graph.matrix != "ime" or a.elem != "i8" or b.elem != "i8" or c.elem != "i32":
        return None
    assert a.shape is not None and b.shape is not None and c.shape is not None
    if len(c.shape) != 2 or c.shape[0] % ROWS or c.shape[1] % COLUMNS or a.shape[1] % DEPTH:
        return None
    (m, k), n = a.shape, b.shape[1]
    tiles_a = materialise(graph, _tiled(graph, a, ROWS, DEPTH), where)
    tiles_b = materialise(graph, _tiled(graph, view(graph, "trans", b, (n, k), (1, 0)), COLUMNS, DEPTH), where)
    shape = (m // ROWS, n // COLUMNS, ROWS, COLUMNS)
    total = graph.buffer(shape, "i32")
    graph.append(Fill(where, shape=shape, buffer=total, value=_tiled(graph, c, ROWS, COLUMNS)))
    graph.append(MatrixUnit(where, a=_in_memory(graph, tiles_a), b=_in_memory(graph, tiles_b), c=total))
    flat = view(graph, "trans", total, (m // ROWS, ROWS, n // COLUMNS, COLUMNS), (0, 2, 1, 3))
    return view(graph, "reshape", flat, (m, n))


def _tiled(graph: Graph, node: Node, rows: int, columns: int) -> Node:
    """(M, K) → (M/rows, K/columns, rows, columns)."""
    assert node.shape is not None
    m, k = node.shape
    split = view(graph, "reshape", node, (m // rows, rows, k // columns, columns))
    return view(graph, "trans", split, (m // rows, k // columns, rows, columns), (0, 2, 1, 3))


def _in_memory(graph: Graph, node: Node) -> Node:
    """A buffer, of a splat too."""
    if node.kind == "buffer":
        return node
    assert node.shape is not None
    buffer = graph.buffer(node.shape, node.elem)
    graph.append(Fill(shape=node.shape, buffer=buffer, value=node))
    return buffer


def write(w: Writer, a: str, b: str, c: str, sizes: tuple[int, int, int]) -> None:
    """The loops over tiles of c. a, b, c: pointers; sizes: tiles along rows, columns and depth."""
    rows, columns, depth = sizes
    zero, one = w.constant(0), w.constant(1)
    i, j = w.fresh("i"), w.fresh("j")
    down = f"scf.for {i} = {zero} to {w.constant(rows)} step {one} {{"
    across = f"scf.for {j} = {zero} to {w.constant(columns)} step {one} {{"
    with w.block(down), w.block(across):
        tile = w.op(f"arith.addi {w.op(f'arith.muli {i}, {w.constant(columns)} : index')}, {j} : index")
        at = [
            _at(w, a, i, depth * TILE_BYTES), _at(w, b, j, depth * TILE_BYTES), _at(w, c, tile, 4 * ROWS * COLUMNS),
        ]  # fmt: skip
        count = w.op(f"arith.constant {depth} : i64")
        text = _ASSEMBLY.replace("\n", "\\0A")
        w.line(
            f'llvm.inline_asm has_side_effects "{text}", "{_CONSTRAINTS}" {", ".join([*at, count])}'
            " : (!llvm.ptr, !llvm.ptr, !llvm.ptr, i64) -> ()"
        )


def _at(w: Writer, base: str, index: str, size: int) -> str:
    offset = w.op(f"arith.index_cast {w.op(f'arith.muli {index}, {w.constant(size)} : index')} : index to i64")
    return w.op(f"llvm.getelementptr {base}[{offset}] : (!llvm.ptr, i64) -> !llvm.ptr, i8")


def sizes_of(statement: Any) -> tuple[int, int, int]:
    """Tiles along rows, columns and depth."""
    return statement.c.shape[0], statement.c.shape[1], statement.a.shape[1]
