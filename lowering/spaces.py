"""The iterations of a statement: a shape narrowed to a mask, dims split where // and % ask for it.

    sum over k < 64 of select(k // 8 < 7 and k % 8 < 7, v, 0)   →   dims q < 7, r < 7 of v alone

A mask that is the identity of a fold elsewhere bounds the loops (`masked_identity`). What neither bounds nor guards
can say is left over, for the body.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from torch_rvv.lowering.access import VIEWS, Analysis, Space
from torch_rvv.lowering.linear import Dim, Linear, Poly
from torch_rvv.lowering.nodes import Node, Reduce

SMALLEST_SPLIT = 8
LANES = 16


def plan(space: Space, smallest: int = SMALLEST_SPLIT) -> list[tuple[Dim, Poly, int]]:
    """For each dim that // or % would like to split: its base and the divisor of all its divisors."""
    plans: dict[Dim, tuple[Dim, Poly, int]] = {}
    for (dim, base), divisors in space.requests.items():
        usable = [c for c in sorted(divisors) if c >= smallest]
        if usable and dim not in plans:
            plans[dim] = (dim, base, usable[0])
    return list(plans.values())


def few(space: Space) -> list[tuple[Dim, Poly, int]]:
    """Likewise by any divisor, of dims that are no good as lanes, there being one that is better."""
    wide = [dim for dim in space.dims if space.bound(dim) >= LANES]
    return [p for p in plan(space, 2) if space.bound(p[0]) <= LANES and any(dim is not p[0] for dim in wide)]


def divides(space: Space, dim: Dim, base: Poly, divisor: int) -> bool:
    """Whether a dim is so many whole quotients, whatever its base."""
    known = all(end.constant is not None for end in space.high.get(dim, ()))
    bound = space.bound(dim)
    return known and bound > 0 and bound % divisor == 0 and base.split(divisor)[1].constant == 0


def restricted(shape: tuple[int, ...], mask: Node | None, facts: Iterable[Poly] = ()) -> tuple[Space, list[Any]]:
    """The space of a shape narrowed to a mask, a dim being two where // or % by what divides it tells the mask more;
    and the conditions left over. facts: numbers that are > 0."""
    known = frozenset(map(Linear, facts))
    space = replace(Space.over(shape), facts=known)
    if mask is None:
        return space, []
    left = Analysis(space).restrict(mask)
    whole = next((p for p in plan(space, 2) if p[0].size % p[2] == 0), None) if left else None
    if whole is None:
        return space, left
    again = replace(Space.over(shape), facts=known)
    again = again.in_two(again.dims[space.dims.index(whole[0])], whole[2])
    more = Analysis(again).restrict(mask)
    return (space, left) if more else (again, more)


def masked_identity(value: Node, root: Reduce) -> tuple[Node, Node | None]:
    """(v, mask) if a value is v where a mask holds and the identity elsewhere."""
    if value.kind in VIEWS and value.shape is not None:
        inner, mask = masked_identity(value.args[0], root)
        if mask is None:
            return value, None
        return tuple(Node(value.kind, value.shape, n.elem, (n,), attr=value.attr) for n in (inner, mask))  # type: ignore[return-value]
    if value.kind == "map" and value.op == "arith.select" and _is_identity(value.args[2], root):
        return value.args[1], value.args[0]
    if value.kind == "load" and value.attr[0] is not None and value.attr[1] is not None:
        if _is_identity(value.attr[1], root):
            return value, value.attr[0]
    return value, None


def _is_identity(node: Node, root: Reduce) -> bool:
    if node.kind != "splat" or not isinstance(node.args[0].attr, str):
        return False
    text, identity = node.args[0].attr, str(root.combine.identity)
    if text == identity:
        return True
    try:
        return float(text) == float(identity)
    except ValueError:
        return (
            text.lower().startswith("0x") and identity.lower().startswith("0x") and int(text, 16) == int(identity, 16)
        )
