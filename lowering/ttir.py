"""The TTIR reader: Triton's pretty-printed text to an MLIR module of generic `tt.*` operations.

    %2 = tt.load %1, %m evictionPolicy = evict_last : tensor<8x!tt.ptr<f32>> loc(#loc3)
    →
    %2 = "tt.load"(%1, %m) {evictionPolicy = "evict_last"}
           : (tensor<8x!tt.ptr<f32>>, tensor<8xi1>) -> tensor<8xf32> loc(#loc3)

MLIR's own parser reads everything else (arith, math, scf, cf, builtin). `FORMATS` has one row for each
`tt` operation: how the types behind its colon spread over operands and results, and the names of
the bare words in it. Enumerators become string attributes. Locations stay: errors need them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch_rvv.lowering.mlir import ir

from torch_rvv.errors import Declined

Types = tuple[list[str], list[str]]
Spread = Callable[[str, int], Types]


def _split(text: str, separator: str = ",") -> list[str]:
    """Split at a separator that is outside brackets and quotes."""
    parts, depth, start, quoted, i = [], 0, 0, False, 0
    while i < len(text):
        c = text[i]
        if c == '"' and text[i - 1 : i] != "\\":
            quoted = not quoted
        elif not quoted:
            if c in "<([{":
                depth += 1
            elif c in ")]}" or (c == ">" and text[i - 1] != "-"):
                depth -= 1
            elif depth == 0 and text.startswith(separator, i):
                parts.append(text[start:i].strip())
                start = i + len(separator)
                i = start
                continue
        i += 1
    parts.append(text[start:].strip())
    return parts


def _tuple(text: str) -> list[str]:
    text = text.strip()
    if text == "()":
        return []
    if text.startswith("(") and text.endswith(")"):
        text = text[1:-1]
    return _split(text)


def pointee(pointer: str) -> str:
    """The type behind a pointer, elementwise for a tensor of pointers ("tensor<8x!tt.ptr<f32>>")."""
    if pointer.startswith("tensor"):
        return re.sub(r"!tt\.ptr<(.*)>>$", r"\1>", pointer)
    inner = pointer.removeprefix("!tt.ptr<").removesuffix(">")
    return _split(inner)[0]


def _mask(pointer: str) -> str:
    if pointer.startswith("tensor"):
        return re.sub(r"!tt\.ptr<.*>>$", "i1>", pointer)
    if pointer.startswith("!tt.ptr<tensor"):
        return re.sub(r"x[^x>]+>$", "xi1>", pointee(pointer))
    return "i1"


def _same(signature: str, operands: int) -> Types:
    return [signature] * operands, [signature]


def _cast(signature: str, operands: int) -> Types:
    if "->" not in signature:
        return [signature] * operands, [signature]
    source, result = _split(signature, "->")
    return (_tuple(source) * operands)[:operands], _tuple(result)


def _functional(signature: str, operands: int) -> Types:
    source, result = _split(signature, "->")
    return _tuple(source), _tuple(result)


def _result(signature: str, operands: int) -> Types:
    return [], [signature.removeprefix("->").strip()]


def _operands(signature: str, operands: int) -> Types:
    return _split(signature)[:operands] if signature else [], []


def _addptr(signature: str, operands: int) -> Types:
    pointer, offset = _split(signature)
    return [pointer, offset], [pointer]


def _load(signature: str, operands: int) -> Types:
    value = pointee(signature)
    return [signature, _mask(signature), value][:operands], [value]


def _store(signature: str, operands: int) -> Types:
    return [signature, pointee(signature), _mask(signature)][:operands], []


def _full(kind: str, mnemonic: str) -> str:
    """A type whose prefix the printer left out: "<tensor<8xf32>>" is "!tt.ptr<tensor<8xf32>>"."""
    return f"!tt.{mnemonic}{kind}" if kind.startswith("<") else kind


def _advance(signature: str, operands: int) -> Types:
    kind = _full(signature, "ptr")
    return [kind] + ["i32"] * (operands - 1), [kind]


def _block_pointer(signature: str, operands: int) -> Types:
    """make_tensor_ptr: base, then shape and strides (i64) and offsets (i32), one each a dimension."""
    rank, kind = (operands - 1) // 3, _full(signature, "ptr")
    element = re.search(r"x([^x]+)>>?$", pointee(kind)).group(1)  # type: ignore[union-attr]
    return [f"!tt.ptr<{element.removesuffix('>')}>"] + ["i64"] * (2 * rank) + ["i32"] * rank, [kind]


def _descriptor(signature: str, operands: int) -> Types:
    """make_tensor_descriptor: base, then shape (i32) and strides (i64), one each a dimension."""
    pointer, block = _split(signature)
    rank = (operands - 1) // 2
    return [_full(pointer, "ptr")] + ["i32"] * rank + ["i64"] * rank, [_full(block, "tensordesc")]


def _descriptor_load(signature: str, operands: int) -> Types:
    descriptor, result = _split(signature, "->")
    return [descriptor] + ["i32"] * (operands - 1), [result]


def _descriptor_store(signature: str, operands: int) -> Types:
    descriptor, value = _split(signature)
    return [descriptor] + ["i32"] * (operands - 2) + [value], []


def _histogram(signature: str, operands: int) -> Types:
    source, result = _split(signature, "->")
    return [source, re.sub(r"x[^x]+>$", "xi1>", source)][:operands], [result]


def _unsplat(signature: str, operands: int) -> Types:
    return [signature], [re.sub(r"^tensor<(?:\d+x)+(.*)>$", r"\1", signature)]


def _dot_scaled(signature: str, operands: int) -> Types:
    inputs, result = _split(signature, "->")
    left, right = _split(inputs, "*")
    return [*_split(left), *_split(right), result], [result]


def _split_result(signature: str, operands: int) -> Types:
    source, result = _split(signature, "->")
    return [source], [result, result]


def _dot(signature: str, operands: int) -> Types:
    inputs, result = _split(signature, "->")
    left, right = _split(inputs, "*")
    return [left, right, result], [result]


@dataclass(frozen=True)
class Format:
    """One row: how types spread; names of bare words in order; a name for a string operand."""

    spread: Spread
    words: tuple[str, ...] = ()
    string: str | None = None


FORMATS: dict[str, Format] = {
    "addptr": Format(_addptr),
    "advance": Format(_advance),
    "assert": Format(_operands, string="message"),
    "atomic_cas": Format(_functional, ("sem", "scope")),
    "atomic_rmw": Format(_functional, ("kind", "sem", "scope")),
    "bitcast": Format(_cast),
    "broadcast": Format(_cast),
    "call": Format(_functional),
    "cat": Format(_cast),
    "clampf": Format(_same),
    "descriptor_gather": Format(_functional),
    "descriptor_load": Format(_descriptor_load),
    "descriptor_reduce": Format(_descriptor_store, ("kind",)),
    "descriptor_scatter": Format(_operands),
    "descriptor_store": Format(_descriptor_store),
    "dot": Format(_dot),
    "dot_scaled": Format(_dot_scaled),
    "elementwise_inline_asm": Format(_functional, string="asm_string"),
    "expand_dims": Format(_cast),
    "extern_elementwise": Format(_functional),
    "fp_to_fp": Format(_cast),
    "gather": Format(_functional),
    "get_num_programs": Format(_result, ("axis",)),
    "get_program_id": Format(_result, ("axis",)),
    "histogram": Format(_histogram),
    "int_to_ptr": Format(_cast),
    "join": Format(_cast),
    "load": Format(_load),
    "make_range": Format(_result),
    "make_tensor_descriptor": Format(_descriptor),
    "make_tensor_ptr": Format(_block_pointer),
    "mulhiui": Format(_same),
    "precise_divf": Format(_same),
    "precise_sqrt": Format(_same),
    "print": Format(_operands, string="prefix"),
    "ptr_to_int": Format(_cast),
    "reshape": Format(_cast, ("order_free",)),
    "splat": Format(_cast),
    "split": Format(_split_result),
    "store": Format(_store),
    "trans": Format(_cast),
    "unsplat": Format(_unsplat),
}

_OP = re.compile(r"^(\s*)((?:%[\w:]+(?:, %[\w:]+)* = )?)tt\.(\w+)\b(.*)$")
_VALUE = re.compile(r"%[\w.$-]+(?:#\d+)?")
_SCALES = {(False, False): "none", (True, False): "lhs", (False, True): "rhs", (True, True): "both"}
_SYMBOL = re.compile(r'@(?:"[^"]*"|[\w$.-]+)')
_CLAUSE = re.compile(r"(\w+)\s*=\s*(\w+)")
_TERMINATOR = re.compile(r"^(\s*)tt\.(reduce|scan|map_elementwise)\.return (.*?) : (.*?)(\s+loc\(.*\))?$")


def _split_location(text: str) -> tuple[str, str]:
    """The text and its trailing ` loc(...)`."""
    if not text.endswith(")"):
        return text, ""
    depth = 0
    for i in range(len(text) - 1, -1, -1):
        if text[i] == ")":
            depth += 1
        elif text[i] == "(":
            depth -= 1
            if depth == 0:
                return (text[: i - 3].rstrip(), " " + text[i - 3 :]) if text[i - 3 : i] == "loc" else (text, "")
    return text, ""


def _dictionary(head: str) -> tuple[str, str]:
    """The text without its `{...}`, and what stands in that."""
    start, quoted, depth = -1, False, 0
    for i, c in enumerate(head):
        if c == '"' and head[i - 1 : i] != "\\":
            quoted = not quoted
        elif c == "{" and not quoted:
            start = i if depth == 0 else start
            depth += 1
        elif c == "}" and not quoted:
            depth -= 1
            if depth == 0:
                return head[:start] + head[i + 1 :], head[start + 1 : i].strip()
    return head, ""


def _line(line: str) -> str:
    match = _TERMINATOR.match(line)
    if match:
        indent, op, values, types, location = match.groups()
        return f'{indent}"tt.{op}.return"({values}) : ({types}) -> (){location or ""}'
    match = _OP.match(line)
    if not match:
        # A barrier between the lanes of one program: our lanes run in step.
        return "" if line.lstrip().startswith("ttg.barrier") else line
    indent, result, op, rest = match.groups()
    if op == "func":
        return line.replace("tt.func", "func.func", 1)
    if op == "return":
        return f"{indent}func.return{rest}"
    row = FORMATS.get(op)
    if row is None:
        raise Declined(f"the reader has no format for tt.{op}")
    rest, location = _split_location(rest)
    pieces = _split(rest.strip(), " : ")
    head, signature = (pieces[0], pieces[-1]) if len(pieces) > 1 else (rest.strip(), "")
    # print's operands stand behind its attributes.
    late = _VALUE.findall(" ".join(pieces[1:-1]))
    if not signature and " -> " in head:
        head, signature = _split(head, " -> ")
    if head.startswith(": "):
        head, signature = "", head[2:]
    attributes = []
    if row.string:
        quote = re.search(r'"(?:[^"\\]|\\.)*"', head)
        if quote:
            attributes.append(f"{row.string} = {quote.group(0)}")
            head = head[: quote.start()] + head[quote.end() :]
    head, inner = _dictionary(head)
    attributes += [inner] if inner else []
    values = _VALUE.findall(head) + late
    bare = _VALUE.sub("", head)
    if op == "call":
        symbol = _SYMBOL.search(bare)
        attributes.append(f"callee = {symbol.group(0) if symbol else '@unknown'}")
        bare = ""
    if op == "dot_scaled":
        # Which operands have a scale is told by a word between the values only.
        left, right = ("scale" in side for side in _split(bare)[:2])
        attributes.append(f'scales = "{_SCALES[left, right]}"')
    for name, value in _CLAUSE.findall(bare):
        attributes.append(f'{name} = "{value}"')
    words = re.findall(r"@?\w+", _CLAUSE.sub("", bare))
    for name, word in zip(row.words, words, strict=False):
        attributes.append(f'{name} = "{word}"')
    operands, results = row.spread(signature, len(values))
    types = f"({', '.join(operands)}) -> ({', '.join(results)})"
    return f'{indent}{result}"tt.{op}"({", ".join(values)}) {{{", ".join(attributes)}}} : {types}{location}'


def to_generic(text: str) -> str:
    """TTIR text with every `tt` operation in MLIR's generic form."""
    return "\n".join(_line(line) for line in text.split("\n"))


def read(text: str) -> Any:
    """The MLIR module of TTIR text, in the current context.

    Raises Declined when an operation has no row, or when MLIR refuses the text.
    """
    try:
        return ir.Module.parse(to_generic(text))
    except ir.MLIRError as error:
        raise Declined(f"MLIR cannot read this TTIR: {str(error)[:400]}") from None


_SOURCE = re.compile(r'"([^"]+)":(\d+):\d+')


def source_line(op: Any) -> str | None:
    """Where an operation stands in the Triton source ("kernel.py:12"), or None if unknown."""
    match = _SOURCE.search(str(op.location))
    return f"{match.group(1)}:{match.group(2)}" if match else None
