"""What rewrites of an ATen graph share: calls that know their value, and where products have their operands."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Graph, Node

aten = torch.ops.aten
# Product → which argument is the left operand; the right one is the next.
LEFT: dict[Any, int] = {aten.mm.default: 0, aten.addmm.default: 1, aten.bmm.default: 0, aten._int_mm.default: 0}


def call(graph: Graph, operator: Any, *args: Any) -> Node:
    """A call at the place where a graph is written, with its value on fake tensors. operator: a function of them."""
    made = graph.call_function(operator, args)
    made.meta["val"] = operator(*(arg.meta["val"] if isinstance(arg, Node) else arg for arg in args))
    return made
