"""A random program: a tree of statements, its arguments, and its text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

HEAD = """import torch
import triton
import triton.language as tl


@triton.jit
def plus(a, b):
    return a + b


@triton.jit
def larger(a, b):
    return tl.maximum(a, b)


@triton.jit
def either(a, b):
    return a ^ b


"""

Item = "str | Block"


@dataclass(frozen=True)
class Block:
    """A compound statement: its head, and what it holds."""

    head: str
    body: tuple[str | Block, ...]


@dataclass(frozen=True)
class Program:
    """seed: where it came from. arguments: (name, dtype, elements); scalars: (name, value); vlen in bits."""

    seed: int
    vlen: int
    programs: int
    arguments: tuple[tuple[str, str, int], ...]
    scalars: tuple[tuple[str, int], ...]
    body: tuple[str | Block, ...] = field(default=())

    def text(self) -> str:
        """The module's source."""
        names = ", ".join([*(a[0] for a in self.arguments), *(s[0] for s in self.scalars)])
        lines = [f"# seed {self.seed}, VLEN {self.vlen}, {self.programs} programs, {dict(self.scalars)}"]
        return HEAD + "\n".join([*lines, "@triton.jit", f"def kernel({names}):", *_lines(self.body, 1)]) + "\n"

    def smaller(self) -> Iterator[Program]:
        """The same program without one of its statements, larger pieces first."""
        for body in _without(self.body):
            yield replace(self, body=body)


def _lines(items: tuple[str | Block, ...], depth: int) -> list[str]:
    out = []
    for item in items:
        if isinstance(item, Block):
            out.append("    " * depth + item.head)
            out += _lines(item.body, depth + 1) or ["    " * (depth + 1) + "pass"]
        else:
            out.append("    " * depth + item)
    return out or ["    " * depth + "pass"]


def _without(items: tuple[str | Block, ...]) -> Iterator[tuple[str | Block, ...]]:
    for count in (len(items) // 2, len(items) // 4, 1):
        if count:
            for start in range(len(items) - count, -1, -count):
                yield items[:start] + items[start + count :]
    for i, item in enumerate(items):
        if isinstance(item, Block):
            yield items[:i] + item.body + items[i + 1 :]
            for body in _without(item.body):
                yield (*items[:i], Block(item.head, body), *items[i + 1 :])
