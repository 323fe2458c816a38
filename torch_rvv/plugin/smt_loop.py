"""`for s in smt.parallel(...)`: a loop whose rounds do not depend on each other, and the check that they do not."""

from __future__ import annotations

import ast
from functools import wraps
from typing import Any

import triton.language as tl
from triton.compiler.code_generator import CodeGenerator
from triton.language.core import builtin

# The name of tl.range in a loop that was parallel.
_RANGE = "__torch_rvv_range"


@builtin
def parallel(*bounds, bind_sub_block=False, _semantic=None):
    """Rounds from `bounds` (as of range) that may run in any order.

    A variable that a round hands to the next is refused.
    """
    raise ValueError("smt.parallel stands in the head of a for loop")


def _assigned(body: list[ast.stmt]) -> set[str]:
    """The names that statements assign to."""
    return {
        node.id
        for statement in body
        for node in ast.walk(statement)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }


def _with_parallel(visit: Any) -> Any:
    """CodeGenerator.visit_For, for `parallel` as well."""

    @wraps(visit)
    def visit_for(self: Any, node: ast.For) -> Any:
        if not isinstance(node.iter, ast.Call) or self.visit(node.iter.func) is not parallel:
            return visit(self, node)
        carried = sorted(_assigned(node.body) & set(self.lscope))
        if carried:
            raise self._unsupported(
                node, f"the rounds of smt.parallel must not depend on each other, but hand on {', '.join(carried)}"
            )
        keywords = [k for k in node.iter.keywords if k.arg != "bind_sub_block"]
        function = ast.copy_location(ast.Name(_RANGE, ast.Load()), node.iter)
        call = ast.copy_location(ast.Call(function, node.iter.args, keywords), node.iter)
        loop = ast.copy_location(ast.For(node.target, call, node.body, node.orelse), node)
        return visit(self, loop)

    return visit_for


CodeGenerator.builtin_namespace[_RANGE] = tl.range
CodeGenerator.visit_For = _with_parallel(CodeGenerator.visit_For)
