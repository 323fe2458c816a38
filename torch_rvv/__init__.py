"""torch.compile(model, backend="rvv"): an Inductor backend for RISC-V with the vector extension.

Importing this package is cheap: what needs torch is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from torch_rvv.errors import TorchRvvError
from torch_rvv.target import TARGETS, Target

_LAZY = {
    "explain": ("torch_rvv.explain", "explain"),
    "rvv": ("torch_rvv.backend", "rvv"),
    "get_device": ("torch_rvv.runtime.device", "get_device"),
}

__all__ = ["TARGETS", "Target", "TorchRvvError", "explain", "get_device", "rvv"]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'torch_rvv' has no attribute {name!r}")
    module, attribute = _LAZY[name]
    value = getattr(import_module(module), attribute)
    globals()[name] = value
    return value
