"""The stages from TTIR to .so, in order, one line each.

A stage is a function (source, metadata, options) → result. It may add to the metadata, which is JSON-able:
name, signature, asserts, written, accesses, scratch_bytes, nests, lmul.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch_rvv.lowering import contracts, llvm
from torch_rvv.lowering.linalg_to_vector import linalg_to_vector
from torch_rvv.lowering.ttir_to_linalg import ttir_to_linalg

from torch_rvv.knobs import CodegenOptions, knobs

Stage = Callable[[Any, dict[str, Any], CodegenOptions], Any]

STAGES: dict[str, Stage] = {
    "linalg": ttir_to_linalg,
    "vector": linalg_to_vector,
    "llvm": llvm.vector_to_llvm,
    "object": llvm.llvm_to_object,
    "so": llvm.object_to_so,
}


def run(name: str, source: Any, metadata: dict[str, Any], options: CodegenOptions) -> Any:
    """One stage by name; under TORCH_RVV_VERIFY its result is held against the contract of its level."""
    result = STAGES[name](source, metadata, options)
    if knobs.verify:
        contracts.check(name, result)
    return result


def lower(ttir: str, options: CodegenOptions) -> tuple[dict[str, Any], dict[str, Any]]:
    """All stages: ({"ttir": ..., each stage's result}, metadata).

    Raises Declined, with the Triton source line, when the kernel is not one that the lowering knows.
    """
    asm: dict[str, Any] = {"ttir": ttir}
    metadata: dict[str, Any] = {}
    source: Any = ttir
    for name in STAGES:
        source = asm[name] = run(name, source, metadata, options)
    return asm, metadata
