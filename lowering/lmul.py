"""LMUL from live values: how many vectors a loop body keeps at once decides how wide each may be.

    3 vectors alive → LMUL 8 (four groups of eight registers, one of them for masks); 9 → 4; 15 → 2; else 1

Counted on the vector-level text of the body, before instruction selection.
"""

from __future__ import annotations

import re

from torch_rvv.lowering.operations import bits_of

LMULS = (8, 4, 2, 1)
# Vectors that may live at once, v0 kept for masks: 32 registers in groups of LMUL.
LIVE_LIMIT = {8: 3, 4: 8, 2: 15, 1: 31}
# How many more than that do less harm, stored and loaded again, than strips half as long.
SPILLED = {4: 1}


VLEN = 256  # for which code is to be fast


def choose(live: int, length: int | None = None, width: int = 32) -> int:
    """The largest LMUL at which so many vectors fit the registers, or nearly do; no larger than a row of `length`
    elements of `width` bits fills."""
    fits = next((m for m in LMULS if live <= LIVE_LIMIT[m] + SPILLED.get(m, 0)), 1)
    if length is None:
        return fits
    return min(fits, next((m for m in reversed(LMULS) if m * VLEN >= length * width), 8))


_NAME = re.compile(r"%[\w#]+")
_VECTOR = re.compile(r"vector<\[(\d+)\]x([\w!.]+)>")


def widest_element(lines: list[str]) -> int:
    """Width in bits of the widest element of any vector."""
    kinds = {e for line in lines for _, e in _VECTOR.findall(line)}
    return max([8, *(64 if e.startswith(("!", "index")) else bits_of(e.rstrip(">")) for e in kinds)])


def _usual(lines: list[str]) -> list[str]:
    """The lines outside of branches that give a vector: what those hold runs only if a lane needs it."""
    open_blocks: list[bool] = []
    usual = []
    for line in "\n".join(lines).split("\n"):
        text = line.strip()
        if text.startswith("}") and open_blocks:
            branch = open_blocks.pop()
            if text.endswith("{"):
                open_blocks.append(branch)
        elif text.endswith("{"):
            if not any(open_blocks):
                usual.append(line)  # the result of a branch
            open_blocks.append("scf.if" in text and "-> (vector<" in text)
            continue
        if not any(open_blocks):
            usual.append(line)
    return usual


def pressure(lines: list[str]) -> tuple[int, int]:
    """(vectors alive at once, width of the widest element in bits) in the usual path of vector code.

    Counted in units of the widest element; splats and constants do not count, since RVV's vector-scalar
    forms take them from scalar registers, but for those that a select takes where its mask is false.
    """
    lines = _usual(lines)
    splats: set[str] = set()
    kept: set[str] = set()
    defined: dict[str, tuple[int, int]] = {}
    last: dict[str, int] = {}
    widest = 8
    for number, line in enumerate(lines):
        names = _NAME.findall(line)
        if " = " in line and ("scf." not in line or "scf.if" in line):
            result, right = line.split(" = ", 1)
            kinds = _VECTOR.findall(right)
            name = result.strip().split(":")[0]
            if kinds:
                elem = kinds[-1][1].rstrip(">")
                bits = 64 if elem in ("index",) or elem.startswith("!") else bits_of(elem)
                widest = max([widest, *(bits_of(e) if not e.startswith("!") else 64 for _, e in kinds)])
                if bits > 1 and not any(
                    word in right for word in ("vector.broadcast", "arith.constant", "mlir.poison")
                ):
                    defined[name] = (number, bits)
                elif bits > 1:
                    splats.add(name)
                # The value where a mask is false has no scalar form: its splat is kept in registers.
                if "arith.select" in right and names[-1] in splats:
                    kept.add(names[-1])
        for name in names:
            last[name.split("#")[0]] = number
    live = 0.0
    events: dict[int, float] = {}
    for name, (start, bits) in defined.items():
        end = last.get(name, start)
        events[start] = events.get(start, 0.0) + bits / widest
        events[end] = events.get(end, 0.0) - bits / widest
    most = 0.0
    for number in sorted(events):
        live += events[number]
        most = max(most, live)
    return max(1, round(most + len(kept) + 0.49)), widest
