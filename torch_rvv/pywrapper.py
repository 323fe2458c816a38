"""Graphs that have no FX form: Inductor's Python wrapper, with our kernels in it.

The generated module's kernels (Inductor's CachingAutotuner objects) are replaced by ones of ours with the same
`run`, so that fallback, verify mode and records work as they do in a Program.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch._inductor import config
from torch._inductor.exc import InductorError
from torch._inductor.graph import GraphLowering
from torch._inductor.runtime.triton_heuristics import CachingAutotuner

from torch_rvv.fxgraph import NotInFx, prefer_compiled
from torch_rvv.runtime import record
from torch_rvv.runtime.context import current_placement
from torch_rvv.runtime.device import get_device
from torch_rvv.runtime.program import Kernel
from torch_rvv.runtime.record import GraphRecord


class WrapperKernel:
    """A kernel as Inductor's generated Python calls it."""

    def __init__(self, kernel: Kernel, tuner: Any):
        self.kernel, self.tuner, self.config = kernel, tuner, tuner.compile_results[0].config
        self.device = current_placement().device

    def run(self, *args: Any, stream: Any = None, **_: Any) -> None:
        """Launch it. args: in the order of the kernel's signature, then what only the grid depends on."""
        args, grid = self.tuner._interpret_args_grid(args, self.config)
        names = [n for n in self.tuner.triton_meta["signature"] if n not in self.config.kwargs]
        values = dict(zip(names, args, strict=False))
        self.kernel.run([*grid, 1, 1][:3], [values[n] for n in self.kernel.names], get_device(self.device))


def compile_graph(inner: Callable[..., Any], gm: torch.fx.GraphModule, args: tuple[Any, ...], kwargs: Any) -> Any:
    """inner(gm, *args, **kwargs), Inductor's compile of one graph; through the Python wrapper where FX fails."""
    held = copy.deepcopy(gm.graph)
    try:
        return inner(gm, *args, **kwargs)
    except InductorError as error:
        if not isinstance(error.inner_exception, NotInFx):
            raise
        reason = error.inner_exception.what
    warnings.warn(f"torch_rvv: a graph keeps Inductor's Python wrapper: {reason}", stacklevel=2)
    again = torch.fx.GraphModule(gm, held)
    again.meta.update(gm.meta)
    if hasattr(gm, "shape_env"):
        again.shape_env = gm.shape_env
    noted = GraphRecord(reason=reason)
    with config.patch(fx_wrapper=False), _modules() as modules:
        compiled = inner(again, *args, **{**kwargs, "fx_wrapper": False})
    fallbacks = record.take()
    for module in modules:
        adopt(module, fallbacks, noted)
    record.add(noted)
    return compiled


class _modules:
    """Collects the Python modules that Inductor generates meanwhile, in this thread's compile."""

    def __enter__(self) -> list[Any]:
        self.found: list[Any] = []
        self.plain = GraphLowering.compile_to_module
        found, plain = self.found, self.plain

        def compile_to_module(graph: GraphLowering) -> Any:
            module = plain(graph)
            found.append(module)
            return module

        GraphLowering.compile_to_module = compile_to_module  # type: ignore[method-assign]
        return found

    def __exit__(self, *error: object) -> None:
        GraphLowering.compile_to_module = self.plain  # type: ignore[method-assign]


def adopt(module: Any, fallbacks: dict[str, Any], noted: GraphRecord) -> None:
    """Replace a generated module's kernels by ours."""
    for name, tuner in list(vars(module).items()):
        if isinstance(tuner, CachingAutotuner):
            prefer_compiled(tuner)
            kernel = Kernel.of(name, tuner, fallbacks.get(name))
            noted.kernels.append(kernel.record)
            setattr(module, name, WrapperKernel(kernel, tuner))
