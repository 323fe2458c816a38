"""linalg.fill: a number, all along a buffer in scratch memory."""

from __future__ import annotations

from typing import Any

from torch_rvv.lowering.operations import bits_of


def fill(to: Any, op: Any) -> None:
    """Write a linalg.fill. to: the writer of the kernel (linalg_to_vector.ToVector)."""
    value, memref = op.operands
    view = to.views[memref]
    count = view.sizes[0]
    filled = to.value(value)
    carrier = to.operations.carrier(filled.elem)
    if count == 1:
        to.writer.line(f"llvm.store {filled.name}, {view.base} : {carrier}, !llvm.ptr")
        return
    lanes = max(1, 8 * 64 // max(bits_of(filled.elem), 8))
    w = to.writer
    kind, masks = f"vector<[{lanes}]x{carrier}>", f"vector<[{lanes}]xi1>"
    zero, end = (w.op(f"arith.constant {n} : index", "c") for n in (0, count))
    mask, true = w.op(f"arith.constant dense<true> : {masks}"), w.op("arith.constant true")
    factor = w.op(f"arith.constant {lanes} : i32")
    splat = w.op(f"vector.broadcast {filled.name} : {carrier} to {kind}")
    at, i = w.fresh("at"), w.fresh("i")
    with w.block(f"{w.fresh('loop')} = scf.while ({at} = {zero}) : (index) -> index {{", "} do {"):
        w.line(f"scf.condition({w.op(f'arith.cmpi slt, {at}, {end} : index')}) {at} : index")
    with w.block(f"^bb0({i}: index):"):
        left = w.op(f"arith.index_cast {w.op(f'arith.subi {end}, {i} : index')} : index to i64")
        evl = w.op(
            f'llvm.call_intrinsic "llvm.experimental.get.vector.length"({left}, {factor}, {true})'
            " : (i64, i32, i1) -> i32"
        )
        position = w.op(f"arith.index_cast {i} : index to i64")
        pointer = w.op(f"llvm.getelementptr {view.base}[{position}] : (!llvm.ptr, i64) -> !llvm.ptr, {carrier}")
        w.line(
            f'llvm.call_intrinsic "llvm.vp.store"({splat}, {pointer}, {mask}, {evl})'
            f" : ({kind}, !llvm.ptr, {masks}, i32) -> ()"
        )
        done = w.op(f"arith.index_castui {evl} : i32 to index")
        w.line(f"scf.yield {w.op(f'arith.addi {i}, {done} : index')} : index")
