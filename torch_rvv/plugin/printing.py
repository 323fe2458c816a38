"""What `tl.device_print` writes: a line an element, with the program and the index that it belongs to.

pid (0, 1, 0) idx (3) value: 2.500000
pid (0, 1, 0) idx () value: (operand 1) 7
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

Number = int | float

_FORMATS = {
    "i1": "B", "i8": "b", "i16": "h", "i32": "i", "i64": "q", "ptr": "Q", "f16": "e", "f32": "f", "f64": "d",
}  # fmt: skip


def _bf16(data: bytes) -> Iterator[Number]:
    for (half,) in struct.iter_unpack("<H", data):
        yield struct.unpack("<f", struct.pack("<I", half << 16))[0]


def _bytes(data: bytes) -> Iterator[Number]:
    """Types that Python has no format for: their bits."""
    yield from data


_READERS: dict[str, Callable[[bytes], Iterator[Number]]] = {"bf16": _bf16}


def _values(dtype: str, signed: bool, data: bytes) -> Iterator[Number]:
    letter = _FORMATS.get(dtype)
    if letter is None:
        return _READERS.get(dtype, _bytes)(data)
    if dtype[0] == "i" and not signed:
        letter = letter.upper()
    return (value for (value,) in struct.iter_unpack(f"<{letter}", data))


def _text(value: Number, dtype: str, hexadecimal: bool) -> str:
    if dtype == "ptr" or (hexadecimal and isinstance(value, int)):
        width = 8 * struct.calcsize(_FORMATS.get(dtype, "q"))
        return f"0x{value & (1 << width) - 1:x}" if isinstance(value, int) else str(value)
    return f"{value:f}" if isinstance(value, float) else str(value)


def lines(row: Mapping[str, Any], program: Sequence[int], data: bytes) -> str:
    """The text of one operand of a print. row: of the kernel's metadata `prints`; data: its elements in memory."""
    head = f"pid ({', '.join(map(str, program))})"
    if row["dtype"] is None:
        return f"{head} {row['prefix']}\n"
    operand = f"(operand {row['operand']}) " if row["operands"] > 1 else ""
    indices = itertools.product(*(range(n) for n in row["shape"]))
    return "".join(
        f"{head} idx ({', '.join(map(str, index))}) {row['prefix']}: {operand}"
        f"{_text(value, row['dtype'], row['hex'])}\n"
        for index, value in zip(indices, _values(row["dtype"], row["signed"], data), strict=True)
    )
