"""What each level of IR may hold, checked between stages when TORCH_RVV_VERIFY is set.

    linalg   func, arith, math, scf, memref, linalg; pointers only as !llvm.ptr values and their arithmetic
    vector   func, arith, math, scf, vector, llvm: no memref, no linalg
MLIR's own verifier has passed by then: both texts are parsed.
"""

from __future__ import annotations

from typing import Any

from torch_rvv.lowering.mlir import context, ir

from torch_rvv.errors import LoweringError

_COMMON = ("builtin.module", "builtin.unrealized_conversion_cast", "func.", "arith.", "math.", "scf.", "llvm.")
ALLOWED = {
    "linalg": (*_COMMON, "memref.", "linalg."),
    "vector": (*_COMMON, "vector."),
}


def check(level: str, text: str) -> None:
    """Raise LoweringError if a level's text does not keep its contract; levels without one always do."""
    if level not in ALLOWED:
        return
    strange: set[str] = set()

    def visit(op: Any) -> Any:
        if not op.name.startswith(ALLOWED[level]):
            strange.add(op.name)
        return ir.WalkResult.ADVANCE

    with context():
        try:
            module = ir.Module.parse(text)
        except ir.MLIRError as error:
            raise LoweringError(f"the {level} level is not valid MLIR: {str(error)[:400]}") from None
        module.operation.walk(visit)
    if strange:
        raise LoweringError(f"operations that do not belong at the {level} level: {', '.join(sorted(strange))}")
