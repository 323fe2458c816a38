"""Values that cost much and are needed by several statements: computed once, kept in scratch memory.

    s = reduce(f(x)); store(f(x) - s)       f an exponential, an error function ...
    →
    b = f(x); s = reduce(b); store(b - s)   and b's loop is the reduction's own

Where a statement fills a buffer with just that value, as for a product, the others read that buffer.
A cheap value is computed again where it is needed: that costs less than memory. Done only where all
statements that need the value run over the same iterations and see it element by element; then the
buffer is filled just there, in the loop of the first of them.
"""

from __future__ import annotations

from torch_rvv.lowering.access import Analysis, Space
from torch_rvv.lowering.graph import Graph
from torch_rvv.lowering.hazards import elementwise, every
from torch_rvv.lowering.nodes import Fill, Node, Reduce, Region, Root, Scan, Store, walk
from torch_rvv.lowering.operations import NATIVE_MATH
from torch_rvv.lowering.spaces import masked_identity

Use = tuple[Root, Region]


def costly(node: Node) -> bool:
    """Whether one operation takes tens of instructions."""
    return node.kind == "map" and (
        node.op == "func.call" or (node.op.startswith("math.") and node.op not in NATIVE_MATH)
    )


def settle(graph: Graph) -> None:
    """Materialise what is costly and shared."""
    uses: dict[Node, list[Use]] = {}
    parents: dict[Node, list[Node]] = {}
    for statement, region, _ in every(graph.region):
        if isinstance(statement, Root):
            for node in walk(statement.inputs()):
                uses.setdefault(node, []).append((statement, region))
                for child in node.args:
                    known = parents.setdefault(child, [])
                    if node not in known:
                        known.append(node)
    done: set[Node] = set()
    for node in sorted(uses, key=lambda n: -len(uses[n])):
        if len(uses[node]) < 2 or node.kind != "map" or node.elem == "i1":
            continue
        top = all(len(uses.get(p, ())) < len(uses[node]) for p in parents.get(node, ()))
        if top and any(costly(n) for n in walk([node])) and not any(n in done for n in walk([node])):
            if _materialise(graph, node, uses[node]):
                done.add(node)


def _mask(root: Root) -> tuple[list[Node], Node | None] | None:
    """(the values that a statement evaluates at each element, where), if it is of a simple kind."""
    if isinstance(root, Reduce):
        if len(root.values) != 1 or root.combine.function:
            return None
        value, mask = masked_identity(root.values[0], root)
        return [value], mask if root.domain is None else root.domain
    if isinstance(root, Store | Fill) and not isinstance(root, Scan):
        assert root.value is not None
        return [root.value], root.domain
    return None


def _materialise(graph: Graph, node: Node, uses: list[Use]) -> bool:
    """Put a Fill before the first use and turn the node into its buffer, if that is safe."""
    keys, first_mask = set(), None
    first, region = uses[0]
    for root, place in uses:
        found = _mask(root)
        if found is None or place is not region or root.shape != node.shape:
            return False
        values, mask = found
        if not all(elementwise(v, node) for v in values) or _elsewhere(root, node, mask):
            return False
        space = Space.over(root.shape)
        if mask is not None and Analysis(space).restrict(mask):
            return False
        keys.add(space.key())
        first_mask = mask if root is first else first_mask
    if len(keys) != 1 or node.shape is None:
        return False
    original = Node("map", node.shape, node.elem, node.args, op=node.op, attr=node.attr, where=node.where)
    held = next((r for r, _ in uses if isinstance(r, Fill) and r.value is node and r.at is r.domain is None), None)
    if held is not None and first_mask is None and held.buffer is not None:
        # One of them holds the value already: it comes first, and the others read what it holds.
        at = region.statements.index(first)
        region.statements.remove(held)
        region.statements.insert(at, held)
        held.value = original
        node.op, node.attr, node.args = "arith.bitcast", ("", 0, 1), (held.buffer,)
        return True
    node.kind, node.op, node.attr, node.args, node.name = "buffer", "", None, (), graph.fresh("b")
    fill = Fill(first.where, first.position, shape=node.shape, buffer=node, value=original, domain=first_mask)
    region.statements.insert(region.statements.index(first), fill)
    return True


def _elsewhere(root: Root, node: Node, mask: Node | None) -> bool:
    """Whether a statement needs the node for an address or a mask."""
    others = [mask] if mask is not None else []
    if isinstance(root, Store) and root.pointer is not None:
        others.append(root.pointer)
    return any(n is node for n in walk(others))
