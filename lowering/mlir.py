"""The one place that imports MLIR's Python bindings: `mlir` where installed, else `torch_mlir`.

`torch_mlir` carries the same API with every upstream pass; LLVM's own `mlir` package is preferred.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from torch_rvv.errors import InstallError
from torch_rvv.knobs import knobs


def _bindings() -> str:
    for name in ("mlir", "torch_mlir"):
        spec = find_spec(name)
        if spec is not None and find_spec(f"{name}.passmanager") is not None:
            return name
    raise InstallError("MLIR's Python bindings are missing", hint="pip install torch-mlir")


PACKAGE = _bindings()
ir: Any = import_module(f"{PACKAGE}.ir")
passmanager: Any = import_module(f"{PACKAGE}.passmanager")
llvm_dialect: Any = import_module(f"{PACKAGE}.dialects.llvm")
# The bindings look for a module of an operation's dialect, again with each operation while they find none.
sys.modules.setdefault(f"{PACKAGE}.dialects.tt", ModuleType(f"{PACKAGE}.dialects.tt"))

_local = threading.local()


@contextmanager
def context() -> Iterator[Any]:
    """An MLIR context of this thread, kept from one kernel to the next (making one takes 10 ms)."""
    if not hasattr(_local, "context"):
        _local.context = ir.Context()
        _local.context.allow_unregistered_dialects = True
    with _local.context as current:
        yield current


def producer(value: Any) -> Any | None:
    """The operation whose result a value is, None for an argument."""
    return None if isinstance(value.owner, ir.Block) else value.owner.operation


def integer(op: Any, name: str) -> int:
    """An integer attribute of an operation."""
    return int(str(op.attributes[name]).split(" : ")[0])


def number_of_inputs(generic: Any) -> int:
    """How many of a linalg.generic's operands are inputs; the outputs follow."""
    return list(ir.DenseI32ArrayAttr(generic.attributes["operandSegmentSizes"]))[0]


def run_passes(module: Any, pipeline: str) -> None:
    """Run a pass pipeline, given in MLIR's textual form, on a module.

    MLIR checks what each pass leaves when TORCH_RVV_VERIFY=1 only: it takes as long as the passes do.
    """
    manager = passmanager.PassManager.parse(pipeline)
    manager.enable_verifier(knobs.verify)
    manager.run(module.operation)
