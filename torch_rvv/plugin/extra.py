"""Makes `import triton.language.extra.smt` find our module, without copying anything into Triton's package."""

from __future__ import annotations

import importlib
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MODULES = {"triton.language.extra.smt": "torch_rvv.plugin.smt"}


class _Ours(Loader):
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return importlib.import_module(MODULES[spec.name])

    def exec_module(self, module: ModuleType) -> None:
        """It has run already."""


class _Finder(MetaPathFinder):
    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(name, _Ours()) if name in MODULES else None


def install() -> None:
    """Register the finder, once."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
