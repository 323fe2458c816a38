"""Stage 1, TTIR text → linalg text: read, apply the rules, settle hazards, write.

Fills the metadata: name, signature, asserts, prints, addresses (whether integers become pointers), written
(argument numbers), accesses.
"""

from __future__ import annotations

from typing import Any

# Importing a convert_*.py registers its rules.
from torch_rvv.lowering import (  # noqa: F401
    checked_index,
    convert_arith,
    convert_assembly,
    convert_atomic,
    convert_block,
    convert_branch,
    convert_cast,
    convert_control,
    convert_debug,
    convert_dot,
    convert_memory,
    convert_pointer,
    convert_reduce,
    convert_region,
    convert_shape,
    deep,
    demand,
    hazards,
    scanlayout,
    share,
    to_linalg,
    turned,
)
from torch_rvv.lowering.graph import Graph, type_of
from torch_rvv.lowering.mlir import context
from torch_rvv.lowering.nodes import Atomic, Node, Scan, Store, is_pointer
from torch_rvv.lowering.ttir import read, source_line

from torch_rvv.errors import Declined

_SIGNATURE = {
    "f16": "fp16", "bf16": "bf16", "f32": "fp32", "f64": "fp64", "f8E5M2": "fp8e5", "f8E4M3FN": "fp8e4nv",
}  # fmt: skip


def _signature(elem: str) -> str:
    if is_pointer(elem):
        inner = elem.removeprefix("!tt.ptr<").removesuffix(">")
        return "*" + _SIGNATURE.get(inner, inner)
    return _SIGNATURE.get(elem, elem)


def build(module: Any, saturate: bool = True, matrix: str | None = None, half: bool = False) -> Graph:
    """The graph of a TTIR module's one public function."""
    functions = [op.operation for op in module.body.operations if op.operation.name == "func.func"]
    public = [
        f
        for f in functions
        if "sym_visibility" not in f.attributes or f.attributes["sym_visibility"].value != "private"
    ]
    if len(public) != 1:
        raise Declined(f"a module with {len(public)} kernels")
    (function,) = public
    graph = Graph(deep.settle)
    graph.saturate, graph.matrix, graph.half = saturate, matrix, half
    graph.name = function.attributes["sym_name"].value
    graph.callees = {f.attributes["sym_name"].value: f for f in functions if f != function}
    arguments = _arguments(graph, function)
    for axis in ("pid_x", "pid_y", "pid_z", "num_x", "num_y", "num_z"):
        node = graph.scalar("i32", nonnegative=True)
        node.name = f"%{axis}"
        graph.arguments.append(node)
    convert_branch.run_function(graph, function, arguments, kernel=True)
    return graph


def _arguments(graph: Graph, function: Any) -> list[Node]:
    """The kernel's arguments as values.

    A tensor descriptor is passed as its base and whether it pads with NaN; its sizes and strides are the
    arguments behind it. Triton sees to it that the last stride is 1.
    """
    nodes: list[Node] = []
    descriptors: list[tuple[int, str, Node, Node]] = []
    for position, argument in enumerate(function.regions[0].blocks[0].arguments):
        text = str(argument.type)
        shape, elem = type_of(argument)
        if text.startswith("!tt.tensordesc"):
            base = _scalar_argument(graph, f"!tt.ptr<{convert_block.block_type(text)[1]}>")
            descriptors.append((position, text, base, _scalar_argument(graph, "i1")))
            nodes.append(base)
        elif shape is not None or (elem.startswith("!tt.") and not is_pointer(elem)):
            raise Declined(f"an argument of type {elem}", where=source_line(function))
        else:
            nodes.append(_scalar_argument(graph, elem))
    for position, text, base, nan in descriptors:
        shape, elem = convert_block.block_type(text)
        rank = len(shape)
        sizes = tuple(graph.as_width(n, "i64") for n in nodes[position + 1 : position + 1 + rank])
        strides = (*nodes[position + 1 + rank : position + 2 * rank], graph.constant("1", "i64"))
        offsets = (graph.constant("0", "i64"),) * rank
        nodes[position] = convert_block.Block(base, shape, elem, sizes, strides, offsets, nan).node()
    return nodes


def _scalar_argument(graph: Graph, elem: str) -> Node:
    node = graph.scalar(elem)
    node.attr = len(graph.arguments)
    graph.arguments.append(node)
    return node


def written(graph: Graph) -> list[int]:
    """Numbers of the pointer arguments that the kernel may write; all of them if it cannot tell."""
    pointers = [a.attr for a in graph.arguments if is_pointer(a.elem)]
    found: set[int] = set()
    for statement, _, _ in hazards.every(graph.region):
        if isinstance(statement, Scan) and statement.store is not None:
            statement = statement.store
        if isinstance(statement, Store | Atomic) and statement.pointer is not None:
            base: Node = statement.pointer.args[0]
            if not isinstance(base.attr, int):
                return pointers
            found.add(base.attr)
    return sorted(found)


def ttir_to_linalg(text: str, metadata: dict[str, Any], options: Any) -> str:
    """Stage function. Raises Declined with the Triton source line."""
    with context():
        graph = build(read(text), options.saturate, options.target.matrix, options.target.has("zvfh"))
        hazards.settle(graph, options.noalias)
        checked_index.settle(graph)
        share.settle(graph)
        demand.settle(graph)
        turned.settle(graph)
        scanlayout.settle(graph)
        result, accesses = to_linalg.function(graph, options.noalias)
    metadata["name"] = graph.name
    metadata["signature"] = [_signature(a.elem) for a in graph.arguments[:-6]]
    metadata["asserts"] = graph.asserts
    metadata["prints"] = graph.prints
    metadata["addresses"] = graph.addresses
    metadata["written"] = written(graph)
    metadata["accesses"] = accesses
    return result
