"""TORCH_RVV_DUMP: every stage's result of every kernel in files, one folder a kernel."""

from __future__ import annotations

import hashlib
from typing import Any

from torch_rvv.knobs import knobs

SUFFIX = {"linalg": "mlir", "vector": "mlir", "llvm": "ll", "object": "o", "so": "so"}


def dump(metadata: dict[str, Any], stage: str, source: Any, result: Any) -> None:
    """Write a stage's result, and before the first stage its source. The folder is name-digest of the TTIR."""
    folder = knobs.dump
    if folder is None:
        return
    if stage == "linalg":
        metadata["dump"] = f"{metadata['name'][:120]}-{hashlib.sha256(source.encode()).hexdigest()[:12]}"
    place = folder / metadata["dump"]
    place.mkdir(parents=True, exist_ok=True)
    if stage == "linalg":
        (place / "0.ttir.mlir").write_text(source)
    number = list(SUFFIX).index(stage) + 1
    path = place / f"{number}.{stage}.{SUFFIX[stage]}"
    path.write_bytes(result if isinstance(result, bytes) else result.encode())
