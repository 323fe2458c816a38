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
from torch._inductor.codecache import PyCodeCache
from torch._inductor.exc import InductorError
from torch._inductor.runtime.triton_heuristics import CachingAutotuner

from torch_rvv.fxgraph import NotInFx, launch_of, prefer_compiled
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
        self.kernel.run(*launch_of(self.tuner, self.config, args, self.kernel.names), get_device(self.device))


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
    with config.patch(fx_wrapper=False):
        compiled = inner(again, *args, **{**kwargs, "fx_wrapper": False})
    adopt(_module(compiled), record.take(), noted)
    record.add(noted)
    return compiled


def _module(compiled: Any) -> Any:
    """The Python module that Inductor generated for a graph: the newest one with its key."""
    return next(m for m in reversed(PyCodeCache.modules) if getattr(m, "key", None) == compiled.cache_key)


def adopt(module: Any, fallbacks: dict[str, Any], noted: GraphRecord) -> None:
    """Replace a generated module's kernels by ours."""
    for name, tuner in list(vars(module).items()):
        if isinstance(tuner, CachingAutotuner):
            prefer_compiled(tuner)
            kernel = Kernel.of(name, tuner, fallbacks.get(name))
            noted.kernels.append(kernel.record)
            setattr(module, name, WrapperKernel(kernel, tuner))
