"""What a loop body works on: values of one of three kinds, and strided pieces of memory."""

from __future__ import annotations

from dataclasses import dataclass

from torch_rvv.lowering.linear import Poly

# An attribute of the linalg level: a number is loaded from memory that nothing in the kernel writes.
UNCHANGED = "torch_rvv.unchanged"


@dataclass(frozen=True)
class Value:
    """A value in a body. name: scalar or vector; for linear values the scalar at lane 0, and a step. narrow: the vector
    of i32 that it is the zero-extension of. memory: where it was read from, if it can be again at any time."""

    name: str
    elem: str
    level: int = 0
    kind: str = "uniform"
    step: str | int = 0
    step_level: int = 0
    constant: int | None = None
    narrow: str = ""
    memory: str = ""


@dataclass(frozen=True)
class View:
    """A strided piece of memory: base pointer, offset, and one stride a dimension.

    Offset and strides count elements, or bytes if `addressed`. most: what is known of how large each size can be.
    rests: what sizes can leave when divided by bounds.MODULUS, where that is known.
    origin: the offset in terms of what the linalg level works it out from.
    """

    base: str
    elem: str
    offset: str | int
    strides: tuple[str | int, ...] = ()
    sizes: tuple[str | int, ...] = ()
    most: tuple[int | None, ...] = ()
    rests: tuple[frozenset[int] | None, ...] = ()
    addressed: bool = False
    origin: Poly | None = None
