"""Functions, and control flow between blocks: early returns.

    cf.cond_br %c, ^exit, ^rest         If(%c) {} else { the statements of ^rest }
    tt.call @f(%x)                      the statements of @f, with %x for its argument

Triton writes blocks only for a return inside an `if`, so they never form a cycle. Two branches that meet again
continue in the block where they meet, guarded by a flag if one of them may have returned. In a
function that returns values each branch carries on to its own return instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch_rvv.lowering import carried, unwrapped
from torch_rvv.lowering.carried import Form, form_of
from torch_rvv.lowering.graph import Graph, rule
from torch_rvv.lowering.linear import Poly
from torch_rvv.lowering.nodes import If, Node, Region, ScalarOp, is_pointer
from torch_rvv.lowering.ttir import source_line

from torch_rvv.errors import Declined


@dataclass
class Flow:
    """Where a walk came out. arrives: at the target always (True), never (False), or if a scalar holds.

    values: the target's arguments.
    """

    arrives: bool | Node
    values: list[Node] = field(default_factory=list)


@dataclass
class Target:
    """A block to arrive at, or the end of the function (block is None), and the types of its arguments."""

    block: Any
    types: list[str]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Target) or (self.block is None) != (other.block is None):
            return False
        return self.block is None or self.block == other.block

    def is_block(self, block: Any) -> bool:
        return self.block is not None and block == self.block


def run_function(graph: Graph, function: Any, arguments: Sequence[Node], kernel: bool = False) -> list[Node]:
    """The statements of a function; what it returns. Those of a kernel twice, if its blocks may wrap around."""
    blocks = list(function.regions[0].blocks)
    for argument, node in zip(blocks[0].arguments, arguments, strict=True):
        graph.values[argument] = node
    returns = [op.operation for b in blocks for op in b.operations if op.operation.name == "func.return"]
    types = [str(v.type) for v in returns[0].operands] if returns else []
    walk, target = Walk(graph, blocks), Target(None, types)
    first, end = unwrapped.span(blocks) if kernel else (0, 0)
    return (walk.twice(blocks[0], first, end, target) if end else walk.block(blocks[0], target)).values


class Walk:
    """The blocks of one function, walked once each (or once a path, if it returns values)."""

    def __init__(self, graph: Graph, blocks: list[Any]):
        self.graph, self.blocks = graph, blocks

    def twice(self, block: Any, first: int, end: int, target: Target) -> Flow:
        """A kernel's first block with both sides of the choice that unwrapped.py describes: what the operations up to
        `end` compute is known then, and each side has those from `first` on anew."""
        graph, operations = self.graph, [o.operation for o in block.operations]
        for op in operations[:first]:
            graph.apply(op)
        before = len(graph.region.statements)
        for op in operations[first:end]:
            graph.apply(op)
        computed = all(isinstance(s, ScalarOp) for s in graph.region.statements[before:])
        found = unwrapped.found(graph, operations[:end]) if computed else None
        if found is None:
            return self.block(block, target, end)
        condition, values, facts = found

        def side(replaced: dict[Any, Node]) -> Flow:
            return self.block(block, target, first, replaced)

        return self._fork(operations[end - 1], condition, [lambda: side(values), lambda: side({})], target, facts)

    def block(self, block: Any, target: Target, first: int = 0, replaced: Mapping[Any, Node] | None = None) -> Flow:
        """A block, from an operation on, and all that follow it up to the target. replaced: values that are others."""
        *operations, last = [o.operation for o in block.operations]
        for op in operations[first:]:
            self.graph.apply(op)
            self.graph.values.update((v, replaced[v]) for v in op.results if replaced and v in replaced)
        if last.name == "func.return":
            values = [self.graph[v] for v in last.operands]
            return Flow(True, values) if target.block is None else Flow(False)
        if last.name == "cf.br":
            return self._enter(last.successors[0], list(last.operands), target)
        if last.name != "cf.cond_br":
            raise Declined(f"no rule for {last.name}", where=source_line(last))
        return self._branch(last, target)

    def _enter(self, block: Any, operands: list[Any], target: Target) -> Flow:
        values = [self.graph[v] for v in operands]
        if target.is_block(block):
            return Flow(True, values)
        for argument, value in zip(block.arguments, values, strict=True):
            self.graph.values[argument] = value
        return self.block(block, target)

    def _branch(self, op: Any, target: Target) -> Flow:
        condition, *operands = op.operands
        yes, no = op.successors
        count = len(yes.arguments)
        meet = self._meet(yes, no, target)
        sides: list[Callable[[], Flow]] = [
            lambda: self._enter(yes, operands[:count], meet),
            lambda: self._enter(no, operands[count:], meet),
        ]
        flow = self._fork(op, self.graph[condition], sides, meet)
        if meet == target or flow.arrives is False:
            return flow if meet == target else Flow(False)
        for argument, value in zip(meet.block.arguments, flow.values, strict=True):
            self.graph.values[argument] = value
        if flow.arrives is True:
            return self.block(meet.block, target)
        sides = [lambda: self.block(meet.block, target), lambda: Flow(target.block is None and not target.types)]
        return self._fork(op, flow.arrives, sides, target)  # type: ignore[arg-type]

    def _meet(self, yes: Any, no: Any, target: Target) -> Target:
        """The nearest block that both sides lead to, or the target."""
        if target.block is None and target.types:
            return target
        common = self._reachable(yes, target) & self._reachable(no, target)
        for number, block in enumerate(self.blocks):
            if number in common:
                return Target(block, [str(a.type) for a in block.arguments])
        return target

    def _reachable(self, start: Any, target: Target) -> set[int]:
        """Numbers of the blocks that a block leads to, itself included, not beyond the target."""
        seen: set[int] = set()
        stack = [start]
        while stack:
            block = stack.pop()
            number = self.blocks.index(block)
            if number in seen:
                continue
            seen.add(number)
            if not target.is_block(block):
                stack.extend(list(block.operations)[-1].operation.successors)
        return seen

    def _fork(
        self, op: Any, condition: Node, sides: Sequence[Callable[[], Flow]], target: Target, facts: Sequence[Poly] = ()
    ) -> Flow:
        """Both sides as an If; the target's arguments joined. facts: what is > 0 on the first side."""
        graph = self.graph
        forms = [form_of(graph, t) for t in target.types]
        buffers = [form.buffers(graph) for form in forms]
        branch = If(source_line(op), condition=condition)
        branch.then.facts += facts
        graph.append(branch)
        flows = []
        for region, side in zip((branch.then, branch.other), sides, strict=True):
            with graph.inside(region):
                flow = side()
                flows.append(flow)
                self._hand_over(region, flow, forms, buffers)
        branch.last = graph.position
        if all(f.arrives is False for f in flows):
            branch.then.yields, branch.other.yields = [], []
            return Flow(False)
        flag = graph.scalar("i1")
        branch.results.append(flag)
        values = []
        for form, held in zip(forms, buffers, strict=True):
            scalars = [graph.scalar(elem) for elem in form.scalars]
            branch.results += scalars
            values.append(form.make(scalars, held))
        return Flow(True if all(f.arrives is True for f in flows) else flag, values)

    def _hand_over(self, region: Region, flow: Flow, forms: Sequence[Form], buffers: Sequence[Sequence[Node]]) -> None:
        """End a side: whether it arrives, then the arguments (anything, where it does not)."""
        graph = self.graph
        arrives = flow.arrives
        if isinstance(arrives, bool):
            arrives = graph.constant("true" if arrives else "false", "i1")
        region.yields.append(arrives)
        for number, (form, held) in enumerate(zip(forms, buffers, strict=True)):
            if flow.arrives is False:
                region.yields += [_anything(graph, elem) for elem in form.scalars]
                continue
            scalars, tensors = form.take(flow.values[number])
            region.yields += scalars
            carried.fill(graph, held, tensors)


def _anything(graph: Graph, elem: str) -> Node:
    """A scalar that nobody will look at."""
    if is_pointer(elem):
        return graph.scalar_op("llvm.mlir.zero", [], elem)
    if elem == "i1":
        return graph.constant("false", elem)
    return graph.constant("0.000000e+00" if elem[0] in "fb" else "0", elem)


@rule("tt.call")
def call(graph: Graph, op: Any) -> Sequence[Node] | None:
    name = op.attributes["callee"].value
    function = graph.callees.get(name)
    if function is None:
        return None
    return run_function(graph, function, graph.operands(op))


@rule("llvm.intr.assume")
def assume(graph: Graph, op: Any) -> Sequence[Node] | None:
    """A promise of the user's that nothing here needs."""
    return []
