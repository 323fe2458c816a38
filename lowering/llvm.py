"""Vector-level MLIR → LLVM IR → riscv64 object → .so, all in this process but for the linker.

    func.func @k(...) -> i32 {                        define i32 @k(...) {
      func.call @torch_rvv.check(%ok, %code)     →      br i1 %ok, label %next, label %fail
      ...                                               ...
    }                                                 }

Contract of the input: dialects arith, math, vector, scf, cf, func and llvm only; pointers are
!llvm.ptr. `torch_rvv.check` returns its code from the function when its condition is false.
MLIR's LLVM is newer than llvmlite's: `to_llvm_ir` rewrites what the older reader does not know.
"""

from __future__ import annotations

import re
import struct
import sys
import tempfile
from functools import cache, lru_cache
from pathlib import Path
from subprocess import run
from typing import Any

import llvmlite.binding as llvm
from torch_rvv.lowering.assembler import compile_ir
from torch_rvv.lowering.mlir import context, ir, llvm_dialect, run_passes
from torch_rvv.lowering.writer import HERE

from torch_rvv.errors import InstallError, LoweringError
from torch_rvv.machinecode import count
from torch_rvv.target import Target

TRIPLE = "riscv64-unknown-linux-gnu"
DATA_LAYOUT = "e-m:e-p:64:64-i64:64-i128:128-n32:64-S128"
CHECK = "torch_rvv.check"
ABI_VERSION = 1

TO_CONTROL_FLOW = "builtin.module(canonicalize,cse,loop-invariant-code-motion,convert-scf-to-cf)"
TO_LLVM = (
    "builtin.module(convert-vector-to-llvm,convert-math-to-llvm,convert-func-to-llvm,"
    "convert-arith-to-llvm,convert-index-to-llvm,convert-cf-to-llvm,convert-ub-to-llvm,"
    "reconcile-unrealized-casts,canonicalize,cse)"
)


def to_llvm_ir(text: str) -> str:
    """LLVM IR text (as llvmlite reads it) of a vector-level module.

    Raises LoweringError when an op is left that is not in the LLVM dialect.
    """
    with context(), ir.Location.unknown():
        module = ir.Module.parse(text)
        # Without it an i64 is taken to lie at any multiple of four, and loaded in halves.
        module.operation.attributes["llvm.data_layout"] = ir.StringAttr.get(DATA_LAYOUT)
        run_passes(module, TO_CONTROL_FLOW)
        _checks_to_branches(module)
        run_passes(module, TO_LLVM)
        _only_llvm(module)
        return _for_llvmlite(llvm_dialect.translate_module_to_llvmir(module.operation))


def _checks_to_branches(module: Any) -> None:
    """Replace each call of CHECK by a branch to a block that returns its code."""
    for function in module.body.operations:
        if function.operation.name != "func.func" or not function.regions[0].blocks:
            continue
        region = function.regions[0]
        calls = [
            op
            for block in region.blocks
            for op in block.operations
            if op.operation.name == "func.call" and ir.FlatSymbolRefAttr(op.attributes["callee"]).value == CHECK
        ]
        for call in calls:
            _split_at(call)
    for function in list(module.body.operations):
        if function.operation.name == "func.func" and function.attributes["sym_name"].value == CHECK:
            function.operation.erase()


def _split_at(call: Any) -> None:
    block = call.operation.block
    ok, code = call.operands
    following = []
    seen = False
    for op in block.operations:
        if seen:
            following.append(op)
        seen = seen or op.operation == call.operation
    rest = block.create_after()
    fail = rest.create_after()
    for op in following:
        rest.append(op)
    with ir.InsertionPoint(fail):
        ir.Operation.create("func.return", operands=[code])
    call.operation.erase()
    with ir.InsertionPoint(block):
        ir.Operation.create(
            "cf.cond_br",
            operands=[ok],
            successors=[rest, fail],
            attributes={"operandSegmentSizes": ir.DenseI32ArrayAttr.get([1, 0, 0])},
        )


def _only_llvm(module: Any) -> None:
    """The translation crashes on an op of another dialect: refuse first, and say which."""
    left: list[str] = []

    def visit(op: Any) -> Any:
        if not op.name.startswith(("llvm.", "builtin.module")):
            left.append(op.name)
        return ir.WalkResult.ADVANCE

    module.operation.walk(visit)
    if left:
        raise LoweringError(f"ops left before the translation to LLVM IR: {', '.join(sorted(set(left)))}")


_DECLARE = re.compile(r"^(declare .*@llvm\.[^(]*\(.*\)).*$", re.M)
_GROUP = re.compile(r"^attributes #\d+ = \{.*\}\n", re.M)
_GROUP_USE = re.compile(r"\) #\d+( \{)?$", re.M)
_FLOAT = re.compile(
    r"\b(half|bfloat|float|double)\b"
    r"|(?<![\w.%@\"])(f0x[0-9A-Fa-f]+|[-+]?(?:inf|s?q?nan)\b(?:\(0x[0-9a-fA-F]+\))?|[-+]?\d+\.\d*(?:[eE][-+]?\d+)?)(?![\w.])"
)


def _for_llvmlite(text: str) -> str:
    """LLVM IR as the older reader wants it: hexadecimal float literals, no unknown attributes. Labels for HERE."""
    if f"call void @{HERE}()" in text:
        text = text.replace(f"declare void @{HERE}()", "declare void @llvm.codeview.annotation(metadata)")
        text = text.replace(f"call void @{HERE}()", "call void @llvm.codeview.annotation(metadata !999999)")
        text += '\n!999999 = !{!"torch_rvv.here"}\n'
    text = _DECLARE.sub(r"\1", text)
    text = _GROUP.sub("", text)
    text = _GROUP_USE.sub(lambda m: ")" + (m.group(1) or ""), text)
    return "\n".join(_floats(line) for line in text.split("\n"))


def _floats(line: str) -> str:
    if line[:1] in ';!"s' or not any(sign in line for sign in (".", "f0x", "inf", "nan")):
        return line
    kind: str | None = None

    def literal(match: re.Match[str]) -> str:
        nonlocal kind
        if match.group(1):
            kind = match.group(1)
            return match.group(0)
        return match.group(0) if kind is None else _hex_float(kind, match.group(2))

    return _FLOAT.sub(literal, line)


_PACK = {"double": ("<d", "<Q"), "float": ("<f", "<I"), "half": ("<e", "<H")}


def _hex_float(kind: str, text: str) -> str:
    if text.startswith("f0x"):
        bits = int(text[3:], 16)
    else:
        bare = text.lstrip("+-")
        sign = "-" if text.startswith("-") else ""
        number = float(sign + ("nan" if "nan" in bare else bare))
        if kind == "bfloat":
            single = struct.unpack("<I", struct.pack("<f", number))[0]
            bits = (single + 0x7FFF + ((single >> 16) & 1)) >> 16
        else:
            of, to = _PACK[kind]
            bits = struct.unpack(to, struct.pack(of, number))[0]
    if kind == "double":
        return f"0x{bits:016X}"
    if kind == "half":
        return f"0xH{bits:04X}"
    if kind == "bfloat":
        return f"0xR{bits:04X}"
    return f"0x{_float_as_double(bits):016X}"


def _float_as_double(bits: int) -> int:
    """A float's bits widened to a double's, payload of a NaN included."""
    exponent, fraction, sign = bits >> 23 & 0xFF, bits & 0x7FFFFF, bits >> 31
    if exponent == 0xFF:
        return sign << 63 | 0x7FF << 52 | fraction << 29
    number = struct.unpack("<f", struct.pack("<I", bits))[0]
    return struct.unpack("<Q", struct.pack("<d", number))[0]


@cache
def _machine(target: Target) -> Any:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    return llvm.Target.from_triple(TRIPLE).create_target_machine(
        cpu="", features=target.llvm_features, opt=3, reloc="pic", codemodel="medium", abiname="lp64d"
    )


_DEFINE = re.compile(r"^(define .*\)) \{", re.M)
_TUNE = re.compile(r'"tune-cpu"="[^"]*"')
# How instructions may be scheduled. The target's own way hides latencies, at times at the cost of spilled vectors.
_PLAIN_TUNE = "generic-rv64"


def optimise(text: str, target: Target) -> str:
    """LLVM IR after LLVM's O3 for a target."""
    machine = _machine(target)
    tune = f' "tune-cpu"="{target.tune}" "target-features"="{target.llvm_features}" {{'
    text = _DEFINE.sub(lambda m: m.group(1) + tune, text)
    try:
        module = llvm.parse_assembly(text)
        module.verify()
    except RuntimeError as error:
        raise LoweringError(f"LLVM refuses the IR: {error}") from None
    module.triple = TRIPLE
    module.data_layout = str(machine.target_data)
    tuning = llvm.create_pipeline_tuning_options(speed_level=3)
    # Loops are vectorised before this point; LLVM only cleans up.
    tuning.loop_vectorization = False
    tuning.slp_vectorization = False
    tuning.loop_interleaving = False
    tuning.loop_unrolling = False
    builder = llvm.create_pass_builder(machine, tuning)
    builder.getModulePassManager().run(module, builder)
    return str(module)


@lru_cache(maxsize=1)
def _scheduled(text: str, target: Target) -> tuple[str, bytes]:
    """(optimised LLVM IR that asks for the schedule with the fewest spills, the target's own if that has none; its
    object). Kept, for the listing of the same kernel comes next."""

    def compiled(candidate: str) -> bytes:
        return bytes(_machine(target).emit_object(llvm.parse_assembly(candidate)))

    own = optimise(text, target)
    code = compiled(own)
    least = count(code).spills
    if not least:
        return own, code
    plain = _TUNE.sub(f'"tune-cpu"="{_PLAIN_TUNE}"', own)
    other = compiled(plain)
    # One spill less may well be one in a branch that few strips take: there is one if lanes are counted.
    margin = 1 if "@llvm.riscv.vcpop" in own else 0
    return (plain, other) if count(other).spills < least - margin else (own, code)


_LABEL = re.compile(r"^\.Lannotation\d+:\n", re.M)
# An empty template needs no parser: it only hides where a number comes from (Kernel.bytes_of).
_INLINE_ASSEMBLY = re.compile(r'^ .*\bcall\b.* asm (?:sideeffect )?(?:alignstack )?(?:inteldialect )?"[^"]', re.M)


def to_object(text: str, target: Target) -> bytes:
    """The riscv64 ELF object of LLVM IR text."""
    if _INLINE_ASSEMBLY.search(text):
        return compile_ir(optimise(text, target), to_text=False)
    return _scheduled(text, target)[1]


def to_assembly(text: str, target: Target) -> str:
    """The assembly of LLVM IR text, for reading."""
    if _INLINE_ASSEMBLY.search(text):
        return compile_ir(optimise(text, target), to_text=True).decode()
    return _LABEL.sub("", _machine(target).emit_assembly(llvm.parse_assembly(_scheduled(text, target)[0])))


@cache
def _linker() -> tuple[str, ...]:
    try:
        import ziglang
    except ImportError:
        raise InstallError("the linker is missing", hint="pip install ziglang") from None
    binary = Path(ziglang.__file__).parent / ("zig.exe" if sys.platform == "win32" else "zig")
    return (str(binary), "ld.lld")


def link(obj: bytes) -> bytes:
    """The .so of one object."""
    with tempfile.TemporaryDirectory(prefix="torch_rvv_") as folder:
        source, result = Path(folder, "k.o"), Path(folder, "k.so")
        source.write_bytes(obj)
        done = run(
            [*_linker(), "-m", "elf64lriscv", "-shared", "--hash-style=gnu", "-s", "-o", str(result), str(source)],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise LoweringError(f"the linker refuses the object: {done.stderr.strip()}")
        return result.read_bytes()


def vector_to_llvm(text: str, metadata: dict[str, Any], options: Any) -> str:
    """Stage function: LLVM IR with the kernel's descriptor beside it."""
    return to_llvm_ir(text) + _descriptor(metadata, options.target)


def _descriptor(metadata: dict[str, Any], target: Target) -> str:
    """The torch_rvv_descriptor of the C ABI as an LLVM global, and its strings."""
    strings = {
        "name": metadata["name"],
        "signature": ",".join(metadata["signature"]),
        "isa": target.isa,
    }
    lines = [
        f'@torch_rvv.{key} = private constant [{len(text) + 1} x i8] c"{text}\\00"' for key, text in strings.items()
    ]
    fields = [
        f"i32 {ABI_VERSION}",
        f"i32 {len(metadata['signature'])}",
        f"i32 {target.min_vlen}",
        "i32 0",
        f"i64 {metadata['scratch_bytes']}",
        *(f"ptr @torch_rvv.{key}" for key in strings),
    ]
    lines.append(
        "@torch_rvv_descriptor = constant { i32, i32, i32, i32, i64, ptr, ptr, ptr } { " + ", ".join(fields) + " }"
    )
    return "\n" + "\n".join(lines) + "\n"


def llvm_to_object(text: str, metadata: dict[str, Any], options: Any) -> bytes:
    """Stage function."""
    return to_object(text, options.target)


def object_to_so(obj: bytes, metadata: dict[str, Any], options: Any) -> bytes:
    """Stage function."""
    return link(obj)
