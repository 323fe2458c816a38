"""Scans of rows side by side: how their scratch memory lies, and where the result goes.

    Scan(axis 1, values load(%p + r + 1000 * k), into b); Store(%q + r + 1000 * k, b)     r: one row each, k along them
    →   Scan(..., b as b[k][r], store: Store(...))      filled, scanned and stored with unit stride

Scratch memory of a running sum down columns lies as they do, where what is scanned or what becomes of it is contiguous
along the rows, and nothing of it along the scan. A store that is all that reads the result is the scan's own.
Declines: scans of few rows, which are scanned along; buffers that more than nests see; scans in reverse and of several
values, for the store.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch_rvv.lowering import scan as scans
from torch_rvv.lowering.access import VIEWS, Analysis, Space, step
from torch_rvv.lowering.graph import Graph
from torch_rvv.lowering.hazards import every
from torch_rvv.lowering.linear import ONE
from torch_rvv.lowering.nodes import Node, Region, ScalarOp, Scan, Statement, Store, walk
from torch_rvv.lowering.turned import seen_raw


def settle(graph: Graph) -> None:
    """Put both into effect."""
    places = [(statement, region) for statement, region, _ in every(graph.region)]
    statements = [statement for statement, _ in places]
    for scan, region in places:
        if not isinstance(scan, Scan) or not _side_by_side(scan):
            continue
        if any(seen_raw(buffer, statements) for buffer in scan.buffers):
            continue
        if _by_column(scan, statements):
            for buffer in scan.buffers:
                buffer.turned = True
        _adopt(scan, region, statements)


def _adopt(scan: Scan, region: Region, statements: list[Statement]) -> None:
    """Make a store the scan's own, in its place: between the two there are numbers only."""
    readers = [s for s in statements if s is not scan and any(n in scan.buffers for n in walk(s.inputs()))]
    if scan.reverse or len(scan.buffers) != 1 or len(readers) != 1:
        return
    (store,), at = readers, region.statements.index(scan)
    if not isinstance(store, Store) or store.value is not scan.buffers[0] or store not in region.statements:
        return
    between = region.statements[at + 1 : region.statements.index(store)]
    if all(isinstance(s, ScalarOp) for s in between):
        scan.store = store
        region.statements[at : at + len(between) + 2] = [*between, scan]


def _side_by_side(scan: Scan) -> bool:
    """Whether a scan along its last axis has enough rows; those of one size more than one only, next to it."""
    *outer, length = scan.shape
    rows = [n for n in outer if n > 1]
    return scan.axis == len(outer) and length >= scans.SHORTEST and len(rows) == 1 and rows[0] >= scans.SIDE_BY_SIDE


def _by_column(scan: Scan, statements: list[Statement]) -> bool:
    """Whether memory is contiguous along a scan's rows where it is read or written, and never along the scan."""
    places = list(scan.values)
    for statement in statements:
        if isinstance(statement, Store) and any(n in scan.buffers for n in walk(statement.inputs())):
            if statement.shape != scan.shape or statement.pointer is None:
                return False
            places.append(statement.pointer)
    found = {form for node in places for form in _contiguous(node, scan.shape)}
    return found == {"rows"}


def _contiguous(node: Node, shape: tuple[int, ...]) -> Iterator[str]:
    """Along what each access of a value, or a store's pointer, is contiguous: "rows", "scan", or "" for what cannot be
    told. Nothing for those that are the same along both."""
    space = Space.over(shape)
    if len(space.dims) != 2:
        yield ""
        return
    (rows, along), analysis = space.dims, Analysis(space)
    pending = [(node, space.index)]
    while pending:
        at, index = pending.pop()
        while at.kind in VIEWS:
            at, index = step(at, index, analysis.divide)
        if at.kind in ("load", "pointer"):
            offset = at.args[0].args[1] if at.kind == "load" else at.args[1]
            form = analysis.linear(offset, index)
            if not form.affine:
                yield ""
            elif form.coefs.get(along) == ONE:
                yield "scan"
            elif form.coefs.get(rows) == ONE:
                yield "rows"
        elif at.kind == "map":
            pending += [(argument, index) for argument in at.args]
        elif at.kind not in ("splat", "range", "scalar"):
            yield ""
