"""What a compiled kernel depends on besides its source: our own code and every tool's version."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch_rvv

TOOLS = ("torch", "triton", "llvmlite", "torch-mlir", "mlir-python-bindings", "ziglang")


@cache
def source_digest() -> str:
    """A digest of our own source files that can change generated code."""
    import torch_rvv.lowering as lowering
    import torch_rvv.runtime as runtime

    digest = hashlib.sha256()
    roots = [Path(torch_rvv.__file__).parent, Path(lowering.__file__).parent, Path(runtime.__file__).parent / "include"]
    for root in roots:
        for path in sorted([*root.rglob("*.py"), *root.rglob("*.h")]):
            digest.update(path.relative_to(root).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _version(tool: str) -> str:
    try:
        return version(tool)
    except PackageNotFoundError:
        return "none"


@cache
def environment_key() -> str:
    """Our source and the tools' versions as one string."""
    return "|".join([source_digest(), *(f"{tool}={_version(tool)}" for tool in TOOLS)])
