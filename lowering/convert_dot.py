"""Matrix products: one contraction a `tt.dot`, accumulated in place.

    %d = tt.dot %a, %b, %c : tensor<64x32xf16> * tensor<32x128xf16> -> tensor<64x128xf32>
    →  Fill(A, extf %a); Fill(B, extf %b); Dot(A, B, into = buffer of %c)

Products and sums are those of the accumulator: f32 for floats (f64 for f64), i32 for integers. Inputs are widened
once a tile: 8-bit ones to i16, bf16 to f32; the rest of the way, and f16, is the multiplication's own (vwmacc,
vfwmacc). An f16 result is rounded once, at the end. Plain loads of the right type are read where they stand.
Scaled products (mxfp) widen and scale first.
Declines: scaled products whose operands are packed along another axis than K.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from torch_rvv.lowering import matrixunit
from torch_rvv.lowering.access import VIEWS, Analysis, Space, step
from torch_rvv.lowering.convert_shape import join, view
from torch_rvv.lowering.graph import Graph, check_elements, rule
from torch_rvv.lowering.nodes import Dot, Fill, Node
from torch_rvv.lowering.operations import bits_of
from torch_rvv.lowering.scratch import materialise
from torch_rvv.lowering.ttir import source_line

from torch_rvv.errors import Declined

# From so many rows on the right operand is copied even if it could be read where it stands, unless a copy would lie
# just like it or its strips stay in the L1 cache: rows a power of two apart share few sets of it, and every block of
# rows reads them all again.
PACKING_ROWS = 32
# Bytes of a strip of columns at LMUL 4 and VLEN 256. A cache of 64 sets of 8 lines, two of which are for the rest.
STRIP, LINE, SETS, WAYS = 128, 64, 64, 6


def widened(graph: Graph, node: Node, elem: str) -> Node:
    """A tensor in the type that products are computed in."""
    if node.elem == elem:
        return node
    if elem[0] == "i":
        return graph.as_width(node, elem)
    return graph.map("arith.extf", [node], elem)


def _halves(graph: Graph, node: Node) -> Node | None:
    """An f32 tensor that is widened f16, as f16."""
    if node.elem == "f16":
        return node
    if node.kind == "map" and node.op == "arith.extf":
        return _halves(graph, node.args[0])
    if node.kind in VIEWS and node.shape is not None:
        inner = _halves(graph, node.args[0])
        return None if inner is None else view(graph, node.kind, inner, node.shape, node.attr)
    return None


def _operands(graph: Graph, a: Node, b: Node, elem: str) -> tuple[Node, Node]:
    """Both operands in the type that they are multiplied from: the accumulator's, or half of it."""
    if elem == "i32" and {a.elem, b.elem} <= {"i8", "i16"}:
        return widened(graph, a, "i16"), widened(graph, b, "i16")
    halves = [_halves(graph, node) for node in (a, b)] if elem == "f32" and graph.half else []
    if halves and halves[0] is not None and halves[1] is not None:
        return halves[0], halves[1]
    return widened(graph, a, elem), widened(graph, b, elem)


def stays(apart: int, depth: int, nbytes: int) -> bool:
    """Whether a strip of columns, in so many rows that are so many elements apart, stays in the L1 cache."""
    step = apart * nbytes
    rows = (range(k * step // LINE, (k * step + STRIP - 1) // LINE + 1) for k in range(depth))
    return max(Counter(line % SETS for line in {line for row in rows for line in row}).values()) <= WAYS


def direct(node: Node, columns: bool, again: bool = False, domain: Node | None = None) -> bool:
    """Whether the inner loop may read a tensor where it stands: a load, unit-stride along its columns. again: each
    block of rows does, so that it must lie as a copy would or stay in the cache. domain: nothing else of it is read;
    without one a mask is the caller's concern.
    """
    if node.kind == "buffer":
        return True
    if node.shape is None:
        return False
    space = Space.over(node.shape)
    analysis, index = Analysis(space), space.index
    if domain is not None and (analysis.restrict(domain) or space.guards):
        return False
    rows, last = index[-2].coefs, index[-1].coefs
    depth, apart = node.shape[-2:]
    nbytes = bits_of(node.elem) // 8
    while node.kind in VIEWS:
        node, index = step(node, index, analysis.divide)
    if node.kind != "load":
        return False
    if domain is not None and node.attr[0] is not None and analysis.left(node.attr[0], index) != []:
        return False
    form = analysis.linear(node.args[0].args[1], index)
    if not form.affine:
        return False
    found = {d: form.coefs[d].constant if d in form.coefs else None for d in (*rows, *last)}
    if again and any(s is None or (s != apart and not stays(s, depth, nbytes)) for s in map(found.get, rows)):
        return False
    return not columns or all(found[d] == 1 for d in last)


def _has_mask(node: Node) -> bool:
    while node.kind in VIEWS:
        (node,) = node.args
    return node.kind == "load" and node.attr[0] is not None


def _is_zero(node: Node | None) -> bool:
    """Whether what a masked load gives elsewhere is 0, or anything."""
    if node is None:
        return True
    if node.kind != "splat" or not isinstance(node.args[0].attr, str):
        return False
    try:
        return float(node.args[0].attr) == 0.0
    except ValueError:
        return False


def _masked(graph: Graph, node: Node) -> tuple[Node, Node | None]:
    """(value, mask) of a tensor that is the value where the mask holds and 0 elsewhere; or (node, None)."""
    if node.kind == "load" and node.attr[0] is not None and _is_zero(node.attr[1]):
        return node, node.attr[0]
    if node.kind == "map" and node.op == "arith.select" and _is_zero(node.args[2]):
        inner, mask = _masked(graph, node.args[1])
        condition = node.args[0]
        return inner, condition if mask is None else graph.map("arith.andi", [condition, mask], "i1")
    if node.kind in VIEWS or (node.kind == "map" and node.op in ("arith.extf", "arith.extsi")):
        inner, mask = _masked(graph, node.args[0])
        if mask is None or node.shape is None:
            return node, None
        if node.kind == "map":
            return (node if inner is node.args[0] else graph.map(node.op, [inner], node.elem)), mask
        value = node if inner is node.args[0] else view(graph, node.kind, inner, node.shape, node.attr)
        return value, view(graph, node.kind, mask, node.shape, node.attr)
    return node, None


def conjuncts(graph: Graph, mask: Node) -> list[Node]:
    """The conditions whose conjunction a mask is, each of the mask's shape."""
    if mask.kind == "map" and mask.op == "arith.andi":
        return [part for arg in mask.args for part in conjuncts(graph, arg)]
    if mask.kind in VIEWS and mask.shape is not None:
        parts = conjuncts(graph, mask.args[0])
        return [mask] if len(parts) == 1 else [view(graph, mask.kind, p, mask.shape, mask.attr) for p in parts]
    return [mask]


def bounds_loops(mask: Node) -> bool:
    """Whether loop bounds can say all of a mask."""
    assert mask.shape is not None
    space = Space.over(mask.shape)
    return not Analysis(space).restrict(mask) and not space.guards


def bounded(graph: Graph, node: Node) -> tuple[Node, Node | None, bool]:
    """(value, mask, whether that is all of it): the part of an operand's mask that loop bounds can say; the rest
    stays in the value."""
    value, mask = _masked(graph, node)
    if mask is None or node.shape is None:
        return node, None, not _has_mask(node)
    bounds, rest = [], []
    for part in conjuncts(graph, mask):
        (bounds if bounds_loops(part) else rest).append(part)
    if not bounds:
        return node, None, False
    total = bounds[0]
    for part in bounds[1:]:
        total = graph.map("arith.andi", [total, part], "i1")
    return (node if rest else value), total, not rest


def _domain(graph: Graph, masks: Sequence[Node | None], shape: tuple[int, ...]) -> Node | None:
    """Where (rows, columns, depth) both operands are not masked off, if loop bounds can say that; else None."""
    *batch, rows, columns, depth = shape
    parts = []
    for number, mask in enumerate(masks):
        if mask is None:
            continue
        if number:
            order = (*range(len(batch)), len(batch) + 1, len(batch))
            mask = view(graph, "trans", mask, (*batch, columns, depth), order)
        kept = (*batch, 1, columns, depth) if number else (*batch, rows, 1, depth)
        mask = view(graph, "expand_dims", mask, kept, len(batch) + (0 if number else 1))
        parts.append(view(graph, "broadcast", mask, shape))
    if not parts:
        return None
    domain = parts[0] if len(parts) == 1 else graph.map("arith.andi", parts, "i1")
    return domain if bounds_loops(domain) else None


def product(graph: Graph, a: Node, b: Node, c: Node, in_place: bool, where: str | None) -> Node:
    """a @ b + c, in the type of c. in_place: c is a buffer that nobody else reads."""
    on_unit = matrixunit.product(graph, a, b, c, where)
    if on_unit is not None:
        return on_unit
    elem = c.elem if c.elem in ("f64", "f32", "i32") else "f32"
    assert a.shape is not None and b.shape is not None and c.shape is not None
    a, b = _operands(graph, a, b, elem)
    found = [bounded(graph, node) for node in (a, b)]
    domain = _domain(graph, [mask for _, mask, _ in found], (*c.shape, a.shape[-1]))
    if domain is None:
        found = [(node, None, not _has_mask(node)) for node in (a, b)]
    operands = []
    for (node, mask, whole), columns in zip(found, (False, True), strict=True):
        if whole and direct(node, columns, again=columns and c.shape[-2] >= PACKING_ROWS):
            operands.append(node)
        elif mask is None:
            operands.append(materialise(graph, node, where))
        else:
            operands.append(graph.buffer(node.shape, node.elem))
            graph.append(Fill(where, shape=node.shape, domain=mask, buffer=operands[-1], value=node))
    a, b = operands
    assert a.shape is not None and b.shape is not None
    if in_place and c.kind == "buffer" and c.elem == elem:
        buffer = c
    else:
        buffer = graph.buffer(c.shape, elem)
        graph.append(Fill(where, shape=c.shape, buffer=buffer, value=widened(graph, c, elem)))
    graph.append(Dot(where, shape=(*c.shape, a.shape[-1]), domain=domain, a=a, b=b, buffer=buffer))
    return buffer if elem == c.elem else graph.map("arith.truncf", [buffer], c.elem)


@rule("tt.dot")
def dot(graph: Graph, op: Any) -> Sequence[Node] | None:
    a, b, c = graph.operands(op)
    check_elements(op, a, b, c)
    return [product(graph, a, b, c, _last_use(op), source_line(op))]


def _last_use(op: Any) -> bool:
    """Whether a product is all that its accumulator is for, so that its buffer may be updated in place."""
    c = list(op.operands)[-1]
    if sum(1 for _ in c.uses) != 1:
        return False
    owner = getattr(c.owner, "operation", None)
    if owner is None:
        return c.owner == op.block
    return owner.block == op.block and owner.name in _FRESH


# Operations whose results have buffers of their own.
_FRESH = {"scf.for", "scf.if", "scf.while", "tt.dot", "tt.dot_scaled"}


# -- scaled products


def _constant(graph: Graph, number: int, like: Node) -> Node:
    assert like.shape is not None
    return graph.splat(graph.constant(str(number), like.elem), like.shape)


def _binary(graph: Graph, op: str, a: Node, number: int) -> Node:
    return graph.map(f"arith.{op}", [a, _constant(graph, number, a)], a.elem)


def _equal(graph: Graph, a: Node, number: int) -> Node:
    return graph.map("arith.cmpi", [a, _constant(graph, number, a)], "i1", "predicate = 0 : i64")


def fp4(graph: Graph, code: Node) -> Node:
    """e2m1 codes (i32, the low four bits) as f32: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives."""
    magnitude = _binary(graph, "andi", code, 7)
    bits = graph.map("arith.addi", [_binary(graph, "shli", magnitude, 22), _constant(graph, 126 << 23, code)], "i32")
    half = graph.map("arith.select", [_equal(graph, magnitude, 1), _constant(graph, 0x3F000000, code), bits], "i32")
    bits = graph.map("arith.select", [_equal(graph, magnitude, 0), _constant(graph, 0, code), half], "i32")
    sign = _binary(graph, "shli", _binary(graph, "andi", code, 8), 28)
    return graph.map("arith.bitcast", [graph.map("arith.ori", [bits, sign], "i32")], "f32")


def e8m0(graph: Graph, code: Node) -> Node:
    """Scales 2**(code - 127) as f32; 255 is NaN."""
    wide = graph.as_width(code, "i32", signed=False)
    bits = _binary(graph, "shli", wide, 23)
    bits = graph.map("arith.select", [_equal(graph, wide, 0), _constant(graph, 0x00400000, bits), bits], "i32")
    bits = graph.map("arith.select", [_equal(graph, wide, 255), _constant(graph, 0x7FC00000, bits), bits], "i32")
    return graph.map("arith.bitcast", [bits], "f32")


def _unpacked(graph: Graph, node: Node, axis: int) -> Node:
    """Two fp4 codes a byte, the low half first, along an axis: as f32."""
    assert node.shape is not None
    wide = graph.as_width(node, "i32", signed=False)
    halves = [fp4(graph, part) for part in (wide, _binary(graph, "shrui", wide, 4))]
    both = join(graph, *halves)
    rank = len(node.shape)
    order = (*range(axis + 1), rank, *range(axis + 1, rank))
    assert both.shape is not None
    swapped = view(graph, "trans", both, tuple(both.shape[i] for i in order), order)
    shape = tuple(2 * n if i == axis else n for i, n in enumerate(node.shape))
    return view(graph, "reshape", swapped, shape)


def _scaled(graph: Graph, node: Node, kind: str, scale: Node | None, axis: int) -> Node:
    """An operand as f32, each group along `axis` (K) times its scale (rows, groups)."""
    value = _unpacked(graph, node, axis) if kind == "e2m1" else widened(graph, node, "f32")
    if scale is None:
        return value
    assert value.shape is not None and scale.shape is not None
    factor = e8m0(graph, scale) if scale.elem == "i8" else widened(graph, scale, "f32")
    *rows, groups = scale.shape
    size = value.shape[axis] // groups
    factor = materialise(graph, factor)
    factor = view(graph, "expand_dims", factor, (*rows, groups, 1), len(scale.shape))
    factor = view(graph, "broadcast", factor, (*rows, groups, size))
    factor = view(graph, "reshape", factor, (*rows, groups * size))
    if axis != len(value.shape) - 1:
        order = (*range(len(rows) - 1), len(rows), len(rows) - 1)
        factor = view(graph, "trans", factor, value.shape, order)
    return graph.map("arith.mulf", [value, factor], "f32")


@rule("tt.dot_scaled")
def dot_scaled(graph: Graph, op: Any) -> Sequence[Node] | None:
    kinds = [op.attributes[side].value for side in ("lhs", "rhs")]
    for flag in ("lhs_k_pack", "rhs_k_pack"):
        if flag in op.attributes and str(op.attributes[flag]) == "false":
            raise Declined("a scaled product packed along another axis than K", where=source_line(op))
    a, a_scale, b, b_scale, c = _scaled_operands(graph, op)
    rank = len(a.shape or ())
    left = _scaled(graph, a, kinds[0], a_scale, rank - 1)
    right = _scaled(graph, b, kinds[1], b_scale, rank - 2)
    return [product(graph, left, right, c, _last_use(op), source_line(op))]


def _scaled_operands(graph: Graph, op: Any) -> tuple[Node, Node | None, Node, Node | None, Node]:
    """(a, its scale, b, its scale, c): `scales` says which scales there are."""
    a, *rest, c = graph.operands(op)
    scales = op.attributes["scales"].value
    a_scale = rest.pop(0) if scales in ("both", "lhs") else None
    b = rest.pop(0)
    return a, a_scale, b, rest.pop(0) if rest else None, c
