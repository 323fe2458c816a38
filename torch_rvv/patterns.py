"""Inductor's patterns: learnt when a graph may hold them, and those that it is better without.

A softmax of scaled numbers is left as it stands: Inductor scales after the maximum is taken off, works it out both
ways, and finds out whether all numbers are finite, to choose between them: three passes over a row, where one does.

Before its first graph Inductor traces 142 examples of attention, some four tenths of a second of each process's first
compile. They look for a softmax that was written out: graphs that have none are as well off without.
"""

from __future__ import annotations

from collections.abc import Callable
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


SCALED_SOFTMAX = (joint_graph.mul_softmax_pattern, joint_graph.div_softmax_pattern)


def _elsewhere(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """A pattern's condition, and that the compile is not ours."""
    return lambda match: not placed() and check(match)


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

    for patterns in joint_graph.pass_patterns:
        for entry in (entry for entries in patterns.patterns.values() for entry in entries):
            if getattr(entry, "handler", None) in SCALED_SOFTMAX:
                entry.extra_check = _elsewhere(entry.extra_check)
    compile_fx.joint_graph_passes = joint_graph_passes
    joint_graph.lazy_init = lazy_init
