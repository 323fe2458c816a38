"""A loop over whole strips whose loads stand one strip ahead.

    for i in strips:  v = load a[i];  store f(v)
    →
    v = load a[first]
    for i in strips but the last:  w = f(v);  v = load a[i + 1];  store w
    store f(v)

A core that issues in order waits for a load where its value is used; this way the load has a strip's time. The values
take the same registers: each is loaded when the strip before is done with it.
Works on the text of a loop's body (Writer). Declines: bodies with loops or branches in them, or loads from where only
the body knows; more vectors than there are registers; copies, which do nothing with what they wait for; anything
stored but by the body's own plain stores.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch_rvv.lowering.operations import bits_of
from torch_rvv.lowering.writer import Writer

_NAME = re.compile(r"%\w+(?:#\d+)?")
_MADE = re.compile(r"(%\w+) = (.*)$")
_LOAD = re.compile(r"(%\w+) = llvm\.load (%\w+) \{.*\} : !llvm\.ptr -> (vector<\[\d+\]x\w+>)$")
_VECTOR = re.compile(r"vector<\[(\d+)\]x(\w+)>")
# What an address is made of.
_ADDRESS = ("arith.", '"arith.', "llvm.getelementptr")
_STORE = "llvm.store "
# Numbers in all lanes, which operations take from scalar registers.
_SPLATS = ("vector.broadcast", "arith.constant")
_PURE = 'llvm.call_intrinsic "llvm.riscv.v'
# Vector registers, and how many are left where masks need the first of them (at LMUL 8 with its group).
REGISTERS, UNMASKED = 32, 24
# Of fewer, what stands before and behind the loop costs more than waiting.
STRIPS = 4


@dataclass(frozen=True)
class Load:
    """A load of a body: its result, its type, and the lines that make its address, itself the last."""

    name: str
    kind: str
    lines: list[str]


@dataclass(frozen=True)
class Body:
    """A body in parts: the loads, which go; what is done; stores, which come last."""

    loads: list[Load]
    done: list[str]
    stores: list[str]

    @property
    def kinds(self) -> list[str]:
        return [load.kind for load in self.loads]


def split(lines: Sequence[str], iv: str, sums: Sequence[tuple[str, str]]) -> Body | None:
    """A body whose loads may stand one strip ahead. iv: the strip's index; sums: (type, what the body makes of it) of
    each accumulator."""
    lines = [line.strip() for line in lines]
    if any(line.endswith("{") or ("call" in line and _PURE not in line) or "volatile" in line for line in lines):
        return None
    made = {found[1]: line for line in lines if (found := _MADE.match(line))}
    if any(line.startswith("%") and not _MADE.match(line) for line in lines):  # Of several results.
        return None
    loads: dict[str, Load] = {}
    again: dict[str, str] = {}
    for line in lines:
        found = _LOAD.match(line)
        if found is None:
            if "llvm.load" in line:
                return None
            continue
        address = _address(found[2], iv, made)
        if address is None:
            return None
        first = loads.setdefault(_expanded(line, made), Load(found[1], found[3], [*address, line]))
        again[found[1]] = first.name
    lines = [_NAME.sub(lambda m: again.get(m.group(), m.group()), line) for line in lines if not _LOAD.match(line)]
    stores = [line for line in lines if line.startswith(_STORE)]
    needed = {name for line in stores for name in _NAME.findall(line)} | {result for _, result in sums}
    done: list[str] = []
    for line in reversed([line for line in lines if not line.startswith(_STORE)]):
        if not (found := _MADE.match(line)) or found[1] in needed:
            needed |= set(_NAME.findall(line))
            done.insert(0, line)
    waits = any(_VECTOR.search(line) for line in done)
    parts = Body(list(loads.values()), done, stores)
    return parts if loads and waits and _fits(parts, [kind for kind, _ in sums]) else None


def _expanded(line: str, made: Mapping[str, str]) -> str:
    """What a line computes, of what a body has from elsewhere: the same text for the same value."""
    text = line.split(" = ", 1)[1]
    return _NAME.sub(lambda m: f"({_expanded(made[m.group()], made)})" if m.group() in made else m.group(), text)


def _address(pointer: str, iv: str, made: Mapping[str, str]) -> list[str] | None:
    """The lines of a body that make a pointer, in order; None if they are more than index arithmetic."""
    wanted, found = [pointer], []
    while wanted:
        line = made.get(wanted.pop())
        if line is None:
            continue
        name, text = line.split(" = ", 1)
        if not text.startswith(_ADDRESS) or "vector<" in text:
            return None
        if line in found:
            found.remove(line)
        found.append(line)
        wanted += [n for n in _NAME.findall(text) if n != name]
    moves = any(iv in _NAME.findall(line) for line in found)
    return found[::-1] if moves else None


def _fits(found: Body, carried: Sequence[str]) -> bool:
    """Whether all that waits at a time finds registers: what is loaded, made and stored, beside accumulators."""
    size = {load.name: _registers(load.kind) for load in found.loads}
    lines = [*found.done, *found.stores]
    last = {name: at for at, line in enumerate(lines) for name in _NAME.findall(line)}
    live, most = dict(size), 0
    for at, line in enumerate(lines):
        if at == len(found.done):  # From here on what is loaded for the next strip waits as well.
            live |= {f"next {name}": registers for name, registers in size.items()}
        made = _MADE.match(line)
        ends = [name for name in live if last.get(name, len(lines)) <= at]
        room = max((live.pop(name) for name in ends), default=0)  # A result may take an operand's place.
        if made and last[made[1]] > at and not any(word in line for word in _SPLATS):
            live[made[1]] = _registers(line)
            room = max(0, room - live[made[1]])
        most = max(most, sum(live.values()) + room)
    sums = sum(_registers(kind) for kind in carried)
    masked = any("xi1>" in line for line in lines)
    return max(most, sum(size.values())) + sums <= (UNMASKED if masked else REGISTERS)


def _registers(text: str) -> int:
    """Those of the last vector in a text; none of a mask, which has one of its own."""
    found = _VECTOR.findall(text)
    return max(1, int(found[-1][0]) * bits_of(found[-1][1]) // 64) if found and found[-1][1] != "i1" else 0


def renamed(lines: Sequence[str], names: Mapping[str, str], w: Writer) -> tuple[list[str], dict[str, str]]:
    """The same lines with names of their own: (lines, what every name is now)."""
    now = dict(names)
    result = []
    for line in lines:
        made = _MADE.match(line)
        text = _NAME.sub(lambda m: now.get(m.group(), m.group()), made[2] if made else line)
        if made:
            now[made[1]] = w.fresh("r")
            text = f"{now[made[1]]} = {text}"
        result.append(text)
    return result, now


def write(
    w: Writer, name: str, of: Body, iv: str, span: tuple[str, str, str], sums: Sequence[tuple[str, str, str, str]]
) -> list[str]:
    """The loop, as the results of an scf.if: the index behind the last strip, and sums, which it returns.

    span: where strips begin and end (indices), and how many lanes each has (i32). sums: (type, start, name in the body,
    what the body makes of it) of each accumulator.
    """
    begin, end, length = span
    lanes = w.op(f"arith.index_castui {length} : i32 to index")
    kinds = [kind for kind, *_ in sums]
    types = ", ".join(["index", *kinds])

    def load(at: str) -> list[str]:
        results = []
        for one in of.loads:
            lines, now = renamed(one.lines, {iv: at}, w)
            for line in lines:
                w.line(line)
            results.append(now[one.name])
        return results

    some = w.op(f"arith.cmpi slt, {begin}, {end} : index")
    with w.block(f"{name}:{len(kinds) + 1} = scf.if {some} -> ({types}) {{", "} else {"):
        last, first = w.op(f"arith.subi {end}, {lanes} : index"), load(begin)
        inner, at = w.fresh("loop"), w.fresh("at")
        every = ", ".join(["index", *kinds, *of.kinds])
        tops = [w.fresh("top") for _ in [*kinds, *of.loads]]
        starts = [*(start for _, start, _, _ in sums), *first]
        pairs = ", ".join(f"{top} = {start}" for top, start in zip([at, *tops], [begin, *starts], strict=True))
        count = 1 + len(tops)
        with w.block(f"{inner}:{count} = scf.while ({pairs}) : ({every}) -> ({every}) {{", "} do {"):
            more = w.op(f"arith.cmpi slt, {at}, {last} : index")
            w.line(f"scf.condition({more}) {', '.join([at, *tops])} : {every}")
        inside = [*(held for _, _, held, _ in sums), *(one.name for one in of.loads)]
        arguments = ", ".join(f"{n}: {k}" for n, k in zip([iv, *inside], ["index", *kinds, *of.kinds], strict=True))
        with w.block(f"^bb0({arguments}):"):
            for line in of.done:
                w.line(line)
            following = w.op(f"arith.addi {iv}, {lanes} : index")
            ahead = load(following)
            for line in of.stores:
                w.line(line)
            made = [result for *_, result in sums]
            w.line(f"scf.yield {', '.join([following, *made, *ahead])} : {every}")
        names = {n: f"{inner}#{i}" for i, n in enumerate([iv, *inside])}
        lines, now = renamed([*of.done, *of.stores], names, w)
        for line in lines:
            w.line(line)
        results = [end, *(now.get(result, result) for *_, result in sums)]
        w.line(f"scf.yield {', '.join(results)} : {types}")
    w.line(f"  scf.yield {', '.join([begin, *(start for _, start, _, _ in sums)])} : {types}")
    w.line("}")
    return [f"{name}#{i + 1}" for i in range(len(kinds))]
