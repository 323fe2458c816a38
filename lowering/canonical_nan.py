"""Roundings to bf16 in which no NaN needs care: `canonical_nan` on their arith.truncf.

    %s = arith.addf %x, %y : f32
    %r = arith.truncf %s : f32 to bf16     →     %r = arith.truncf %s {canonical_nan} : f32 to bf16

Rounding adds to a float's low bits and drops them: a NaN with nothing but low bits would become infinity, one of ones
-0. Arithmetic on RISC-V makes one NaN only, 0x7FC00000 ("canonical" in the ISA manual), and what was a bf16 has no low
bits. Selections, signs, and functions, which give an argument back or the result of arithmetic, keep that.
Limits: what is loaded as f32 may be any NaN, and so may an f16 that is widened without hardware. Arithmetic with 0, 1
or -1 gives what its other operand gives: LLVM may make it nothing.
"""

from __future__ import annotations

import re
from typing import Any

from torch_rvv.lowering.mlir import ir, producer

MARK = "canonical_nan"
# Makes a canonical NaN or a number, whatever its operands.
_ARITHMETIC = ("addf", "subf", "mulf", "divf", "extf", "sitofp", "uitofp", "constant")
_MAKES = frozenset(f"arith.{op}" for op in _ARITHMETIC) | {"math.fma", "math.sqrt"}
# Gives back one of its operands, its sign apart, or the result of arithmetic on them.
_KEEPS = frozenset(f"arith.{op}" for op in ("negf", "select", "maximumf", "minimumf", "maxnumf", "minnumf", "remf"))
_FUNCTION = "@rvv."
_IDLE = re.compile(r"-?[01]\.0+e\+00 : ")


def mark_canonical_nans(module: Any) -> None:
    """Mark the roundings of an MLIR module, in place."""
    canonical: set[Any] = set()

    def visit(op: Any) -> Any:
        if op.name == "arith.truncf":
            if op.operands[0] in canonical and str(op.results[0].type) == "bf16":
                op.attributes[MARK] = ir.UnitAttr.get()
            canonical.add(op.results[0])
        elif _is_canonical(op, canonical):
            canonical.update(op.results)
        return ir.WalkResult.ADVANCE

    module.operation.walk(visit)


def _is_canonical(op: Any, canonical: set[Any]) -> bool:
    if op.name == "arith.extf" and str(op.operands[0].type) == "f16":
        return False
    if op.name in _MAKES and not any(_idle(v) for v in op.operands):
        return True
    function = op.name.startswith("math.") or (op.name == "func.call" and _FUNCTION in str(op.attributes["callee"]))
    if not function and op.name not in _MAKES | _KEEPS:
        return False
    return all(v in canonical for v in op.operands if str(v.type) == "f32" and not _idle(v))


def _idle(value: Any) -> bool:
    """Whether a value is 0, 1 or -1, which arithmetic may leave as if it were not there."""
    maker = producer(value)
    return maker is not None and maker.name == "arith.constant" and bool(_IDLE.match(str(maker.attributes["value"])))
