"""What a loop body works on: values of one of three kinds, and strided pieces of memory."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Value:
    """A value in a body. name: scalar or vector; for linear values the scalar at lane 0, and a step. narrow: the vector
    of i32 that it is the zero-extension of."""

    name: str
    elem: str
    level: int = 0
    kind: str = "uniform"
    step: str | int = 0
    step_level: int = 0
    constant: int | None = None
    narrow: str = ""


@dataclass(frozen=True)
class View:
    """A strided piece of memory: base pointer, offset, and one stride a dimension.

    Offset and strides count elements, or bytes if `addressed`. most: what is known of how large each size can be.
    """

    base: str
    elem: str
    offset: str | int
    strides: tuple[str | int, ...] = ()
    sizes: tuple[str | int, ...] = ()
    most: tuple[int | None, ...] = ()
    addressed: bool = False
