"""Atomics, inline assembly and addresses in a loop body: one element at a time, in the innermost loop.

    %old = llvm.atomicrmw fadd %p, %x acq_rel : f16    →    a loop of compare-and-exchange on the 16 bits

Declines: a nest that has a vectorised dimension (loops.py keeps such bodies scalar).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch_rvv.lowering.graph import attributes
from torch_rvv.lowering.values import Value
from torch_rvv.lowering.writer import Writer

from torch_rvv.errors import Declined

if TYPE_CHECKING:
    from torch_rvv.lowering.vector_body import Strip


def atomic(strip: Strip, op: Any) -> None:
    """llvm.atomicrmw, llvm.cmpxchg and what surrounds them: scalars only, in the innermost loop."""
    if strip.lanes is not None:
        raise Declined("an atomic in a vector loop")
    writer, level = strip.writers[-1], len(strip.writers) - 1
    args = [strip.get(v) for v in op.operands]
    elem = str(op.results[0].type)
    if op.name == "llvm.atomicrmw" and elem in ("f16", "bf16"):
        name = _atomic_half(strip, writer, args[0].name, args[1].name, elem)
        strip.values[op.results[0]] = Value(name, elem, level)
        return
    ins = ", ".join(strip.operations.carrier(a.elem) for a in args)
    outs = ", ".join(str(r.type) for r in op.results)
    name = writer.op(f'"{op.name}"({", ".join(a.name for a in args)}) {{{attributes(op)}}} : ({ins}) -> ({outs})', "v")
    strip.values[op.results[0]] = Value(name, str(op.results[0].type), level)


def _atomic_half(strip: Strip, writer: Writer, pointer: str, addend: str, elem: str) -> str:
    """An atomic addition to a half-precision number, as a loop of compare-and-exchange; the old value."""
    emit = lambda text, results=1: writer.op(text, "v")  # noqa: E731
    bits = "i16"
    soft = strip.operations.soft(elem)

    def wide(name: str) -> str:
        if soft:
            return strip.operations.widen(name, elem, None, emit)
        return emit(f"arith.extf {emit(f'arith.bitcast {name} : i16 to f16')} : f16 to f32")

    def narrow(name: str) -> str:
        if soft:
            return strip.operations.narrow(name, elem, None, emit)
        return emit(f"arith.bitcast {emit(f'arith.truncf {name} : f32 to f16')} : f16 to i16")

    if not soft:
        addend = emit(f"arith.bitcast {addend} : f16 to i16")
    more = wide(addend)
    first = emit(f"llvm.load {pointer} : !llvm.ptr -> {bits}")
    result, old, again = writer.fresh("old"), writer.fresh("v"), writer.fresh("v")
    with writer.block(f"{result} = scf.while ({old} = {first}) : ({bits}) -> {bits} {{", "} do {"):
        new = narrow(emit(f"arith.addf {wide(old)}, {more} : f32"))
        pair = emit(f"llvm.cmpxchg {pointer}, {old}, {new} acq_rel acquire : !llvm.ptr, {bits}")
        seen = emit(f"llvm.extractvalue {pair}[0] : !llvm.struct<({bits}, i1)>")
        done = emit(f"llvm.extractvalue {pair}[1] : !llvm.struct<({bits}, i1)>")
        failed = emit(f"arith.xori {done}, {emit('arith.constant true')} : i1")
        writer.line(f"scf.condition({failed}) {seen} : {bits}")
    with writer.block(f"^bb0({again}: {bits}):"):
        writer.line(f"scf.yield {again} : {bits}")
    return result if soft else emit(f"arith.bitcast {result} : i16 to f16")
