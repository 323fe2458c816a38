"""Compiled graphs on disk: Inductor's output as something that AOTAutograd's cache can save and load.

    miss:  FX graph → Inductor → Program → pickled beside AOTAutograd's own results
    hit:   key of the graph (and of `key()` below) → Program, with nothing traced, lowered or compiled

What needs more than its own bytes is not saved: graphs that keep Inductor's Python wrapper, kernels that run in
aten. Nor is a backward graph that is compiled when it first runs, as PyTorch does it for static shapes unless
torch._functorch.config.force_non_lazy_backward_lowering is set. Off while a knob asks to see or check the compile
itself; TORCHINDUCTOR_AUTOGRAD_CACHE=0 turns it off too.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch._functorch._aot_autograd.autograd_cache import BypassAOTAutogradCache
from torch._functorch._aot_autograd.runtime_wrappers import _AnalyzeCustomOpInputOutputMode
from torch._inductor.custom_graph_pass import CustomGraphModulePass
from torch._inductor.output_code import OutputCode
from torch._inductor.utils import set_tracing_context_output_strides
from torch.utils._python_dispatch import _get_current_dispatch_mode, _pop_mode_temporarily

from torch_rvv import timed
from torch_rvv.errors import TorchRvvError
from torch_rvv.knobs import knobs
from torch_rvv.plugin import cachekey
from torch_rvv.runtime import record
from torch_rvv.runtime.context import current_placement, placed
from torch_rvv.runtime.program import Program


def wanted() -> bool:
    """Whether graphs may come from disk: not where a user wants to see or check how they are made."""
    return not (knobs.debug or knobs.dump or knobs.verify or knobs.force_fallback)


def key() -> str:
    """What a compiled graph of ours depends on besides the graph: our source, tools, options."""
    placement = current_placement()
    who = (placement.gemm, placement.conv, placement.attention, placement.winograd, placement.frozen, timed.board())
    return "|".join([cachekey.environment_key(), placement.codegen.key(), *map(str, who), knobs.fallback])


class KeyPass(CustomGraphModulePass):
    """A pass that changes nothing: passes are where Inductor asks a backend for its part of the cache key."""

    def __call__(self, gm: torch.fx.GraphModule) -> None:
        pass

    def uuid(self) -> str:
        return key() if placed() else "torch_rvv: not in use"


def _unwatched() -> AbstractContextManager[Any]:
    """Without the mode in which AOTAutograd runs a graph the first time, to look for results of custom operators that
    are views of their arguments: in a mode, any mode, PyTorch's linalg.pinv of complex numbers is wrong."""
    watched = isinstance(_get_current_dispatch_mode(), _AnalyzeCustomOpInputOutputMode)
    return _pop_mode_temporarily() if watched else nullcontext()


@dataclass
class SavedGraph(OutputCode):
    """One compiled graph for AOTAutograd. run: what executes it; output_strides: as Inductor's."""

    run: Callable[[Any], Any] | None
    output_strides: Any
    saved: bytes = b""
    _boxed_call: bool = True

    @staticmethod
    def of(compiled: Any) -> SavedGraph:
        """The result of Inductor's compile_fx_inner, or a plain callable for a graph without operations."""
        return SavedGraph(compiled, getattr(compiled, "output_strides", None))

    def __call__(self, inputs: Sequence[Any]) -> Any:
        assert self.run is not None
        with _unwatched():
            return self.run(inputs)

    def prepare_for_serialization(self) -> None:
        """Drop what cannot be saved. Raises BypassAOTAutogradCache for a graph that is not all ours."""
        if not self.saved:
            self.saved = _dump(_program(self.run))
        self.run = None

    def post_compile(self, example_inputs: Sequence[Any], constants: Any, graph_kwargs: Any) -> None:
        """Make a graph from disk ready to run, in this process and on the device of this compile."""
        set_tracing_context_output_strides(example_inputs, self)  # type: ignore[arg-type]
        program: Program = pickle.loads(self.saved)
        record.restore(program.record)
        self.run = program.run

    def set_triton_bundle(self, triton_bundle: Any) -> None:
        """Nothing to keep: a program has its kernels' binaries in it."""


def _program(compiled: Any) -> Program:
    """The Program behind what Inductor made of a graph."""
    module = getattr(getattr(compiled, "current_callable", None), "__self__", None)
    program = getattr(getattr(module, "compiled_fn", None), "__self__", None)
    if not isinstance(program, Program):
        raise BypassAOTAutogradCache("torch_rvv: the graph is not a program")
    return program


def _dump(program: Program) -> bytes:
    try:
        return pickle.dumps(program)
    except (TorchRvvError, pickle.PicklingError, TypeError, AttributeError, RuntimeError) as error:
        raise BypassAOTAutogradCache(f"torch_rvv: {error}") from error
