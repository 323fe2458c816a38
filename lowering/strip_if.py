"""scf.if in a loop body: masks, and branches where all lanes agree.

    %v = scf.if %c -> (f32) { load p[i] } else { %x }
    →  lanes differ        a load under the mask, %x in the other lanes
       lanes agree         scf.if %c -> (vector) { vp.load } else { splat }: a row beyond the edge of an image
       nothing vectorised  scf.if

Declines: a branch with several results where nothing is vectorised.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch_rvv.lowering.values import Value

from torch_rvv.errors import Declined

if TYPE_CHECKING:
    from torch_rvv.lowering.vector_body import Strip


def conditional(strip: Strip, op: Any) -> None:
    """scf.if around a load or a store: both sides evaluated, memory touched under a mask."""
    if strip.lanes is None:
        _scalar_if(strip, op)
        return
    if strip.mask is None and _is_read(op) and _read(strip, op):
        return
    condition = strip.get(op.operands[0])
    outer = strip.mask
    strip.mask = condition if outer is None else strip.apply("arith.andi", "", [outer, condition], ["i1"])[0]
    then = strip.block(list(op.regions[0].blocks[0].operations))
    strip.mask = outer
    if not op.results:
        return
    other = strip.block(list(op.regions[1].blocks[0].operations))
    for result, yes, no in zip(op.results, then, other, strict=True):
        strip.values[result] = strip.apply("arith.select", "", [condition, yes, no], [str(result.type)])[0]


def _is_read(op: Any) -> bool:
    """Whether what a branch does is to compute an address and load from it."""
    if len(op.results) != 1:
        return False
    *_, read, last = [o.operation for o in op.regions[0].blocks[0].operations] or [op, op]
    return read.name == "memref.load" and last.operands[0] == read.results[0]


def _conditions(strip: Strip, condition: Any) -> tuple[Value | None, Value | None]:
    """A conjunction in two: what all lanes agree on, and the rest; None for an empty one."""
    parts, found = [condition], []
    while parts:
        part = parts.pop()
        owner = getattr(part.owner, "operation", None)
        if owner is not None and owner.name == "arith.andi":
            parts += list(owner.operands)[::-1]
        else:
            found.append(strip.get(part))
    halves: list[Value | None] = []
    for uniform in (True, False):
        values = [v for v in found if (v.kind == "uniform") == uniform]
        total = values[0] if values else None
        for value in values[1:]:
            (total,) = strip.apply("arith.andi", "", [total, value], ["i1"])
        halves.append(total)
    return halves[0], halves[1]


def _read(strip: Strip, op: Any) -> bool:
    """A load from addresses a stride apart, on a condition; False if it is one for all lanes, or a gather."""
    *before, read, _ = [o.operation for o in op.regions[0].blocks[0].operations]
    for inner in before:
        strip.operation(inner)
    memref, at = read.operands
    view = strip.views(memref)
    index = strip._offset(view, strip.get(at))
    if index.kind != "linear":
        return False
    agreed, differing = _conditions(strip, op.operands[0])
    (other,) = strip.block(list(op.regions[1].blocks[0].operations))
    instead = strip.vector(other)
    level = max(v.level for v in (index, instead, agreed, differing) if v is not None)
    strip.early = strip.early or level < len(strip.writers) - 1
    level = max(level, strip.level)
    address, stride = strip._address(view, index, level)
    assert stride is not None
    kind = strip.vector_type(instead.elem)
    if differing is None:
        text = strip._read_text(address, stride, instead.elem, kind, strip._mask(None))
    else:
        text = _masked(strip, address, stride, kind, instead.name, differing.name, level)
    writer = strip.writers[level]
    if agreed is None:
        name = writer.op(text, "v")
    else:
        name = writer.fresh("v")
        with writer.block(f"{name} = scf.if {agreed.name} -> ({kind}) {{", "} else {"):
            writer.line(f"scf.yield {writer.op(text, 'v')} : {kind}")
        writer.line(f"  scf.yield {instead.name} : {kind}")
        writer.line("}")
    strip.values[op.results[0]] = Value(name, instead.elem, level, "vector")
    return True


def _masked(strip: Strip, address: str, stride: str | int, kind: str, instead: str, mask: str, level: int) -> str:
    """A load that leaves the lanes of another vector where its mask is false: no select, and no register for one."""
    length = strip.wide_length(level)
    keep = strip._once(("i64", 1), 0, "arith.constant 1 : i64")  # the tail is nobody's, the masked lanes stay
    name, steps, step = ("vle", "", "") if stride == 1 else ("vlse", f", {stride}", ", i64")
    return (
        f'llvm.call_intrinsic "llvm.riscv.{name}.mask"({instead}, {address}{steps}, {mask}, {length}, {keep})'
        f" : ({kind}, !llvm.ptr{step}, {strip.mask_type()}, i64, i64) -> {kind}"
    )


def _scalar_if(strip: Strip, op: Any) -> None:
    """scf.if where nothing is vectorised: a real branch, in the innermost loop."""
    condition = strip.get(op.operands[0])
    writer, level = strip.writers[-1], len(strip.writers) - 1
    saved, strip.writers = strip.writers, [writer] * len(strip.writers)
    types = [strip.operations.carrier(str(r.type)) for r in op.results]
    names = [writer.fresh("v") for _ in types]
    head = f"scf.if {condition.name}"
    if len(types) > 1:
        raise Declined("a branch with several results in a loop body")
    if types:
        head = f"{names[0]} = {head} -> ({types[0]})"
    outer = dict(strip.values)
    with writer.block(f"{head} {{", "} else {" if types else "}"):
        then = strip.block(list(op.regions[0].blocks[0].operations))
        if types:
            writer.line(f"scf.yield {then[0].name} : {types[0]}")
    strip.values = dict(outer)
    if types:
        writer.depth += 1
        writer._indices.append({})
        other = strip.block(list(op.regions[1].blocks[0].operations))
        writer.line(f"scf.yield {other[0].name} : {types[0]}")
        writer._indices.pop()
        writer.depth -= 1
        writer.line("}")
    strip.values, strip.writers = outer, saved
    for result, name in zip(op.results, names, strict=True):
        strip.values[result] = Value(name, str(result.type), level)
