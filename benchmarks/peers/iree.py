"""IREE's CPU compiler on the same graph: torch.export, linalg, a static library, and its dispatches called by ours.

No runtime of IREE runs on the board. Which functions it would call, with how many workgroups and which buffers, stands
in its intermediate form with all shapes known; a small C function that does those calls is generated and linked with
the library.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import run

import torch
from torch_rvv.benchmarks.cases import Case
from torch_rvv.benchmarks.emulate import NATIVE
from torch_rvv.benchmarks.jobs import CallStep, Job
from torch_rvv.benchmarks.peers import Checks, Unavailable
from torch_rvv.benchmarks.peers.plain_c import CLANG_CPU
from torch_rvv.runtime.build import compile_c

from torch_rvv.errors import InstallError

FLAGS = (
    "--iree-hal-target-backends=llvm-cpu", "--iree-llvmcpu-target-triple=riscv64-unknown-linux-gnu",
    "--iree-llvmcpu-target-abi=lp64d", "--iree-opt-level=O3",
    "--iree-llvmcpu-target-cpu-features=+m,+a,+f,+d,+c,+v,+zvl256b,+zba,+zbb,+zbs,+zfh,+zvfh",
    "--iree-llvmcpu-link-embedded=false", "--iree-llvmcpu-link-static", "--iree-llvmcpu-disable-distribution=true",
)  # fmt: skip
# Vectors of four registers: what its own choice of one leaves on the table for simple kernels.
WIDE = ("--iree-llvmcpu-target-vector-width-in-bytes=128",)
# Convolutions as products of matrices. Otherwise those with a filter of one element, or a stride, stay scalar code.
IM2COL = ("--iree-global-opt-use-im2col-for-convs",)
# The same with matrices rearranged in tiles, of which large convolutions gain, and attention of a single query.
TILED = (*IM2COL, "--iree-global-opt-data-tiling")


class _Module(torch.nn.Module):
    """A function as the module that torch.export wants."""

    def __init__(self, function: object):
        super().__init__()
        self.function = function

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.function(*inputs)  # type: ignore[operator]


@dataclass(frozen=True)
class Dispatch:
    """One call: the function's name and library, workgroups, 32-bit constants, bindings as (slot, offset, bytes)."""

    library: str
    function: str
    workgroups: tuple[int, int, int]
    constants: tuple[int, ...]
    bindings: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class Fill:
    """A buffer, or part of one, set to a pattern of some bits."""

    slot: int
    offset: int
    size: int
    pattern: int
    bits: int


@dataclass(frozen=True)
class Plan:
    """What a program does, in order. slots: what stands in each: an argument's number, or the bytes of a buffer of its
    own. result: the slot of the result."""

    steps: tuple[Dispatch | Fill, ...]
    slots: tuple[tuple[str, int], ...]
    result: int

    @property
    def dispatches(self) -> list[Dispatch]:
        return [step for step in self.steps if isinstance(step, Dispatch)]


_CONSTANT = re.compile(r"(%\S+) = arith\.constant (-?\d+) : (?:index|i8|i16|i32|i64)")
_LOOKUP = re.compile(r"(%\S+) = hal\.executable\.lookup\.function .* function\(@(\w+)::@\w+::@(\w+)\)")
_DISPATCH = re.compile(
    r"hal\.command_buffer\.dispatch<[^>]*> target\([^)]*\)\[(%\w+)\] workgroups\(\[([^\]]*)\]\)"
    r"(?: constants\(\[([^\]]*)\]\))? bindings\(\[(.*?)\n?\s*\]\) flags", re.S,
)  # fmt: skip
_FILL = re.compile(
    r"hal\.command_buffer\.fill_buffer<[^>]*> target\((%\w+) : index\)\[(%\w+), (%\w+)\] "
    r"pattern\((\S+) : i(\d+)\)"
)
_BINDING = re.compile(r"\((%\w+) : [^)]*\)\[(%\w+), (%\w+)\]")
_EXECUTE = re.compile(r"hal\.device\.queue\.execute\.indirect<.*?bindings\(\[(.*?)\n?\s*\]\) flags", re.S)
_ARGUMENT = re.compile(r"(%\w+) = hal\.buffer_view\.buffer<%arg(\d+) ")
_ALLOCATION = re.compile(r"(%\w+) = hal\.device\.queue\.alloca<.*!hal\.buffer\{(%\w+)\}")
_RESULT = re.compile(r"hal\.buffer_view\.create buffer\((%\w+) : !hal\.buffer\)\[(%\w+), ")
_EXPORT = re.compile(r"hal\.executable\.export public @(\w+) ordinal\(")


def read_plan(text: str) -> Plan:
    """The plan in a program's text after IREE's `hal` phase. Unavailable if there is more than fixed calls."""
    commands, _, entry = text.partition("util.func public @")
    commands = commands[commands.rfind("util.func private @") :]
    known = {name: int(value) for name, value in _CONSTANT.findall(commands)}
    functions = {name: (library, function) for name, library, function in _LOOKUP.findall(commands)}
    if re.search(r"hal\.command_buffer\.(copy|update)_buffer", commands):
        raise Unavailable("IREE's program copies buffers between its functions")
    steps: dict[int, Dispatch | Fill] = {}  # by their place in the text
    for match in _FILL.finditer(commands):
        slot, offset, size, pattern = (known[name] for name in match.groups()[:4])
        steps[match.start()] = Fill(slot, offset, size, pattern % (1 << int(match[5])), int(match[5]))
    for match in _DISPATCH.finditer(commands):
        function, groups, constants, bindings = match.groups(default="")
        x, y, z = (known[g.strip()] for g in groups.split(","))
        steps[match.start()] = Dispatch(
            *functions[function], (x, y, z),
            tuple(known[c.strip().split(" ")[0]] & 0xFFFFFFFF for c in constants.split(",") if c.strip()),
            tuple((known[a], known[b], known[c]) for a, b, c in _BINDING.findall(bindings)),
        )  # fmt: skip
    known = {name: int(value) for name, value in _CONSTANT.findall(entry)}
    buffers = {name: ("argument", int(number)) for name, number in _ARGUMENT.findall(entry)}
    buffers |= {name: ("bytes", known[size]) for name, size in _ALLOCATION.findall(entry)}
    executed, results = _EXECUTE.findall(entry), _RESULT.findall(entry)
    if len(executed) != 1 or len(results) != 1 or not steps or known[results[0][1]] != 0:
        raise Unavailable("IREE's program is more than one list of calls with one result")
    named = [name for name, offset, _ in _BINDING.findall(executed[0]) if known[offset] == 0]
    if len(named) != executed[0].count("!hal.buffer") or any(name not in buffers for name in named):
        raise Unavailable("IREE's program has buffers of a kind that is not known here")
    return Plan(
        tuple(step for _, step in sorted(steps.items())),
        tuple(buffers[name] for name in named),
        named.index(results[0][0]),
    )


def shim(plan: Plan, ordinals: dict[str, int]) -> str:
    """C for `iree_run(slot0, slot1, ...)`: all calls of a plan. ordinals: of its functions, in their libraries."""
    lines = ['#include "iree_calls.h"']
    for library in dict.fromkeys(d.library for d in plan.dispatches):
        lines.append(f"const struct library **{library}_library_query(uint32_t version, const void *environment);")
    names = [f"slot{n}" for n in range(len(plan.slots))]
    lines.append(f"void iree_run({', '.join('char *' + name for name in names)}) {{")
    for d in plan.steps:
        if isinstance(d, Fill):
            lines += [
                f"  for (size_t i = 0; i < {d.size * 8 // d.bits}; i++)",
                f"    ((uint{d.bits}_t *)(slot{d.slot} + {d.offset}))[i] = {d.pattern}u;",
            ]
            continue
        pointers = ", ".join(f"slot{slot} + {offset}" for slot, offset, _ in d.bindings)
        sizes = ", ".join(str(size) for _, _, size in d.bindings)
        constants = ", ".join(f"{c}u" for c in d.constants) or "0"
        lines += [
            "  {",
            f"    void *const pointers[] = {{{pointers}}};",
            f"    static const size_t sizes[] = {{{sizes}}};",
            f"    static const uint32_t constants[] = {{{constants}}};",
            f"    call({d.library}_library_query, {ordinals.get(d.function, 0)}, {', '.join(map(str, d.workgroups))},",
            f"         constants, {len(d.constants)}, pointers, sizes, {len(d.bindings)});",
            "  }",
        ]
    return "\n".join([*lines, "}", ""])


@dataclass
class Iree:
    """IREE with some flags. kinds: of cases that they make a difference to, if not all."""

    name: str
    flags: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    _folder: tempfile.TemporaryDirectory[str] = field(default_factory=tempfile.TemporaryDirectory)

    def applies(self, case: Case) -> bool:
        return not self.kinds or case.kind in self.kinds

    def build(self, case: Case) -> tuple[Job, Checks]:
        folder = Path(self._folder.name)
        source = folder / f"{case.name.replace('/', '_')}.mlir"
        source.write_text(_linalg(case))
        made = source.with_suffix(".o")
        static = f"--iree-llvmcpu-static-library-output-path={made}"
        self._compile(source, static, "-o", str(source.with_suffix(".vmfb")))
        plan = read_plan(self._compile(source, static, "--compile-to=hal"))
        ordinals: dict[str, int] = {}
        if len(plan.dispatches) > 1:
            text = self._compile(source, static, "--compile-to=executable-targets")
            # The executables are linked into one library, in their order.
            ordinals = {name: number for number, name in enumerate(_EXPORT.findall(text))}
        library = self._link(source, made, shim(plan, ordinals))
        inputs = case.inputs()
        expected = case.function(*inputs).contiguous()
        job = Job()
        pointers = [job.add(inputs[n] if kind == "argument" else bytes(n)) for kind, n in plan.slots]
        job.steps.append(CallStep(library, "iree_run", tuple(pointers)))
        job.outputs = [pointers[plan.result].buffer]
        return job, [(0, expected)]

    def _compile(self, source: Path, *extra: str) -> str:
        compiler = shutil.which("iree-compile") or shutil.which(str(Path(sys.executable).parent / "iree-compile"))
        if compiler is None:
            raise Unavailable("IREE: pip install iree-base-compiler")
        done = run([compiler, *FLAGS, *self.flags, *extra, str(source)], capture_output=True, text=True)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if "error" in line]
            raise Unavailable("IREE: " + (lines or ["it failed"])[0].rpartition("error: ")[2][:200])
        return done.stdout

    def _link(self, source: Path, made: Path, text: str) -> Path:
        calls, library = source.with_suffix(".c"), source.with_suffix(".so")
        calls.write_text(text)
        try:
            compile_c([calls, made], library, ("-shared", "-fPIC", "-O3", CLANG_CPU, f"-I{NATIVE}"))
        except InstallError as error:
            raise Unavailable(f"IREE's library does not link: {str(error).splitlines()[-1]}") from None
        return library


def _linalg(case: Case) -> str:
    """The case as MLIR text: linalg on tensors, with torch-mlir."""
    from torch_mlir import fx

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = fx.export_and_import(
                _Module(case.function), *case.inputs(), output_type="linalg-on-tensors", func_name="main"
            )
    except Exception as error:  # torch-mlir raises many kinds; each is a reason for the report.
        raise Unavailable(f"torch-mlir: {type(error).__name__}: {(str(error).splitlines() or [''])[0][:150]}") from None
    return str(made)


def peers() -> list[Iree]:
    return [
        Iree("iree"),
        Iree("iree_wide", WIDE),
        Iree("iree_im2col", IM2COL, ("conv",)),
        Iree("iree_tiled", TILED, ("conv", "attention")),
    ]
