"""Inductor's patterns, learnt when a graph may hold them.

Before its first graph Inductor traces 142 examples of attention, some four tenths of a second of each process's first
compile. They look for a softmax that was written out: graphs that have none are as well off without.
"""

from __future__ import annotations

from contextvars import ContextVar
from functools import cache
from typing import Any

import torch
from torch._inductor import compile_fx
from torch._inductor.fx_passes import joint_graph
from torch._inductor.fx_passes.misc_patterns import _misc_patterns_init
from torch._inductor.pattern_matcher import init_once_fakemode

from torch_rvv.runtime.context import placed

# What a softmax is made of, or is.
SIGNS = ("aten.exp.", "aten.exp2.", "softmax")
_without: ContextVar[bool] = ContextVar("torch_rvv_without_attention", default=False)


def may_hold_attention(graph: torch.fx.GraphModule) -> bool:
    """Whether one of Inductor's patterns of attention could match in a graph."""
    return any(sign in str(node.target) for node in graph.graph.nodes for sign in SIGNS)


@init_once_fakemode
def _all_others(input_device: torch.device | None = None) -> None:
    # Those for padded products, which are for GPUs, come with attention's.
    _misc_patterns_init(input_device)


@cache
def register() -> None:
    """Let our choice stand in for Inductor's while a compile of ours is under way."""
    passes, all_patterns = compile_fx.joint_graph_passes, joint_graph.lazy_init

    def joint_graph_passes(graph: torch.fx.GraphModule, *args: Any, **kwargs: Any) -> Any:
        token = _without.set(placed() and not may_hold_attention(graph))
        try:
            return passes(graph, *args, **kwargs)
        finally:
            _without.reset(token)

    def lazy_init(input_device: torch.device | None = None) -> Any:
        return (_all_others if _without.get() else all_patterns)(input_device)

    compile_fx.joint_graph_passes = joint_graph_passes
    joint_graph.lazy_init = lazy_init
