"""What each load and store turned out to be, for explain: unit, strided, broadcast or gather, and why."""

from __future__ import annotations

from typing import Any

from torch_rvv.lowering.linear import Atom, Dim, Linear
from torch_rvv.lowering.nodes import Node, walk


def kind_of(form: Linear) -> tuple[str, str]:
    """What an access through a computed index is, and why it is no better."""
    varying = [a for m in form.const.terms for a in m if a.varying]
    if not varying:
        return (
            "unit" if any(c.constant == 1 for c in form.coefs.values()) else "strided" if form.coefs else "broadcast"
        ), "masked"
    source = varying[0].value
    dims = _dims_of(varying)
    free = [d for d in form.coefs if d not in dims]
    node = getattr(source, "node", None)
    why = "index read from memory" if node is not None and _reads(node) else "index computed element by element"
    if any(form.coefs[d].constant == 1 for d in free):
        return "unit", f"rows: {why}"
    return "gather", why


def _dims_of(atoms: list[Atom]) -> set[Dim]:
    """The dims that varying atoms depend on, as far as their index tells."""
    dims: set[Dim] = set()
    for atom in atoms:
        index = getattr(atom.value, "index", None) or (atom.value.form,)
        for form in index:
            dims |= set(form.coefs)
            dims |= _dims_of([a for m in form.const.terms for a in m if a.varying])
    return dims


def _reads(node: Node) -> bool:
    return any(n.kind in ("load", "buffer") for n in walk([node]))


def describe(
    base: Node, op: str, kind: str, elem: str, elements: int, where: str | None, why: str = ""
) -> dict[str, Any]:
    return {
        "arg": base.attr if isinstance(base.attr, int) else None,
        "op": op,
        "kind": kind,
        "elements_per_program": elements,
        "why": why,
        "where": where,
    }
