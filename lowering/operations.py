"""Writing one operation on scalars or on scalable vectors, in forms that LLVM can select for RVV.

    arith.divf on vector<[8]xf32>      as it is
    math.exp, call @rvv.erf.f32        vecmath's expansion
    arith.divsi on vectors             llvm.vp.sdiv: lanes past the end do not divide
    anything on bf16                   carried as i16, computed in f32, rounded back

`lanes` is None for scalars, or n for `vector<[n]xT>`, n elements for each 64 bits of VLEN.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch_rvv.lowering import halffloat, vecmath
from torch_rvv.lowering.canonical_nan import MARK
from torch_rvv.lowering.vecmath.builder import floor_to_int, truncate_to_int

from torch_rvv.errors import Declined
from torch_rvv.target import Target

# What LLVM selects by itself on scalable vectors.
NATIVE_MATH = frozenset(
    "math." + op
    for op in [
        "absf",
        "absi",
        "ceil",
        "copysign",
        "ctlz",
        "ctpop",
        "cttz",
        "floor",
        "fma",
        "round",
        "roundeven",
        "sqrt",
    ]
)
# MLIR's name of a function → vecmath's, where they differ.
_RENAMED = {"powf": "pow"}
_VP_DIVISION = {
    "arith.divsi": "llvm.vp.sdiv",
    "arith.divui": "llvm.vp.udiv",
    "arith.remsi": "llvm.vp.srem",
    "arith.remui": "llvm.vp.urem",
}
_TO_INTEGER = frozenset({"arith.fptosi", "arith.fptoui"})
_HIGH_HALF = {"arith.mului_extended": "llvm.riscv.vmulhu", "arith.mulsi_extended": "llvm.riscv.vmulh"}
_FP8 = {"f8E4M3FN": "e4m3fn", "f8E5M2": "e5m2"}


Emit = Callable[..., str]  # emit(rhs, results=1) writes one operation and returns its name


def bits_of(elem: str) -> int:
    """Width of an element in a register, in bits."""
    if elem == "index" or elem.startswith("!"):
        return 64
    return int(re.sub(r"^(bf|f8E.*|f|i)", lambda m: "8" if m.group(0).startswith("f8") else "", elem)[:2])


@dataclass(frozen=True)
class Operations:
    """The target's way to write operations; emit(rhs) writes one and returns its name."""

    target: Target

    def soft(self, elem: str) -> bool:
        """Whether an element type has no arithmetic here and is carried as an integer."""
        return elem == "bf16" or elem in _FP8 or (elem == "f16" and not self.target.has("zvfh"))

    def carrier(self, elem: str) -> str:
        """The type that holds an element in registers and in memory."""
        return f"i{bits_of(elem)}" if self.soft(elem) else elem

    def type(self, elem: str, lanes: int | None) -> str:
        carrier = self.carrier(elem)
        return carrier if lanes is None else f"vector<[{lanes}]x{carrier}>"

    def widen(self, value: str, elem: str, lanes: int | None, emit: Emit) -> str:
        """A soft float as f32."""
        if elem == "bf16":
            return halffloat.bf16_to_f32(value, lanes, emit)
        if elem == "f16":
            return halffloat.f16_to_f32(value, lanes, emit)
        return halffloat.fp8_to_f32(value, _FP8[elem], lanes, emit)

    def narrow(self, value: str, elem: str, lanes: int | None, emit: Emit, canonical_nan: bool = False) -> str:
        """An f32 rounded to a soft float. canonical_nan: see canonical_nan.py."""
        if elem == "bf16":
            return halffloat.f32_to_bf16(value, lanes, emit, canonical_nan)
        if elem == "f16":
            return halffloat.f32_to_f16(value, lanes, emit)
        return halffloat.f32_to_fp8(value, _FP8[elem], lanes, emit)

    def constant(self, text: str, elem: str, lanes: int | None, emit: Emit) -> str:
        """A constant of an element type, text as MLIR prints it."""
        if self.soft(elem):
            wide = emit(f"arith.constant {text} : {elem}")
            return emit(f"arith.bitcast {wide} : {elem} to {self.carrier(elem)}")
        return emit(f"arith.constant {text} : {elem}" if elem != "i1" else f"arith.constant {text}")

    def apply(
        self,
        op: str,
        attr: str,
        args: Sequence[str],
        elems: Sequence[str],
        results: Sequence[str],
        lanes: int | None,
        emit: Emit,
        evl: tuple[str, str] | None = None,
        safe_divisor: bool = False,
    ) -> list[str]:
        """Write an operation by MLIR name; returns its results' names.

        elems and results are the element types of operands and results. evl: (all-true mask, length)
        of the strip, for vectors. Raises Declined when there is no form for the target.
        """
        name = op.removeprefix("math.")
        if op == "func.call":
            symbol = attr.split("@", 1)[1].strip('" ')
            _, name, elem = symbol.split(".")
            return [self._function(name, args, elem, lanes, emit, evl)]
        if op.startswith("math.") and op not in NATIVE_MATH:
            return [self._function(_RENAMED.get(name, name), args, elems[0], lanes, emit, evl)]
        if op == "arith.remf":
            return [self._function("fmod", args, elems[0], lanes, emit, evl)]
        if op in ("arith.extf", "arith.truncf") or any(self.soft(e) for e in (*elems, *results)):
            return self._soft(op, attr, args, elems, results, lanes, emit, evl)
        if lanes is not None and op in _VP_DIVISION and not safe_divisor and evl is not None:
            vector, mask = self.type(elems[0], lanes), f"vector<[{lanes}]xi1>"
            return [
                emit(
                    f'llvm.call_intrinsic "{_VP_DIVISION[op]}"({args[0]}, {args[1]}, {evl[0]}, {evl[1]})'
                    f" : ({vector}, {vector}, {mask}, i32) -> {vector}"
                )
            ]
        if lanes is not None and op in _TO_INTEGER:
            return [self._to_integer(op, args[0], elems[0], results[0], lanes, emit)]
        if lanes is not None and op in _HIGH_HALF and evl is not None:
            return self._extended(op, args, elems[0], lanes, emit, evl[1])
        return self._plain(op, attr, args, elems, results, lanes, emit)

    def _to_integer(self, op: str, value: str, source: str, result: str, lanes: int, emit: Emit) -> str:
        """A float rounded towards zero, as an integer."""
        width = max(bits_of(source), min(bits_of(result), 64))
        wide = f"f{width}"
        if wide != source:
            value = emit(f"arith.extf {value} : {self.type(source, lanes)} to {self.type(wide, lanes)}")
        if op == "arith.fptosi":
            whole = truncate_to_int(value, wide, lanes, emit)
        else:
            whole = floor_to_int(value, wide, lanes, emit, "llvm.riscv.vfcvt.xu.f.v")
        if result == f"i{width}":
            return whole
        return emit(f"arith.trunci {whole} : {self.type(f'i{width}', lanes)} to {self.type(result, lanes)}")

    def _extended(self, op: str, args: Sequence[str], elem: str, lanes: int, emit: Emit, evl: str) -> list[str]:
        """Both halves of a product: vmul and vmulh (upstream's expansion loses the vectors' scalability)."""
        kind = self.type(elem, lanes)
        low = emit(f"arith.muli {args[0]}, {args[1]} : {kind}")
        poison, length = emit(f"llvm.mlir.poison : {kind}"), emit(f"arith.extui {evl} : i32 to i64")
        high = emit(
            f'llvm.call_intrinsic "{_HIGH_HALF[op]}"({poison}, {args[0]}, {args[1]}, {length})'
            f" : ({kind}, {kind}, {kind}, i64) -> {kind}"
        )
        return [low, high]

    def _plain(
        self,
        op: str,
        attr: str,
        args: Sequence[str],
        elems: Sequence[str],
        results: Sequence[str],
        lanes: int | None,
        emit: Emit,
    ) -> list[str]:
        ins = ", ".join(self.type(e, lanes) for e in elems)
        outs = ", ".join(self.type(e, lanes) for e in results)
        text = f'"{op}"({", ".join(args)}) {{{attr}}} : ({ins}) -> ({outs})'
        if len(results) == 1:
            return [emit(text)]
        name = emit(text, len(results))
        return [f"{name}#{i}" for i in range(len(results))]

    def _function(
        self,
        name: str,
        args: Sequence[str],
        elem: str,
        lanes: int | None,
        emit: Emit,
        evl: tuple[str, str] | None,
    ) -> str:
        if self.soft(elem) or elem == "f16":
            wide = [self._to_f32(a, elem, lanes, emit) for a in args]
            return self._from_f32(self._function(name, wide, "f32", lanes, emit, evl), elem, lanes, emit, True)
        if name not in vecmath.FUNCTIONS:
            raise Declined(f"no vector code for the function {name} on {elem}")
        return vecmath.expand(name, list(args), elem, lanes, emit, evl[1] if evl else None)

    def _to_f32(self, value: str, elem: str, lanes: int | None, emit: Emit) -> str:
        if self.soft(elem):
            return self.widen(value, elem, lanes, emit)
        if elem == "f32":
            return value
        op = "arith.extf" if bits_of(elem) < 32 else "arith.truncf"
        return emit(f"{op} {value} : {self.type(elem, lanes)} to {self.type('f32', lanes)}")

    def _from_f32(self, value: str, elem: str, lanes: int | None, emit: Emit, canonical_nan: bool = False) -> str:
        if self.soft(elem):
            return self.narrow(value, elem, lanes, emit, canonical_nan)
        if elem == "f32":
            return value
        op = "arith.truncf" if bits_of(elem) < 32 else "arith.extf"
        return emit(f"{op} {value} : {self.type('f32', lanes)} to {self.type(elem, lanes)}")

    def _soft(
        self,
        op: str,
        attr: str,
        args: Sequence[str],
        elems: Sequence[str],
        results: Sequence[str],
        lanes: int | None,
        emit: Emit,
        evl: tuple[str, str] | None,
    ) -> list[str]:
        """An operation with a float type narrower than f32 in it."""
        if op in ("arith.extf", "arith.truncf"):
            source, result = elems[0], results[0]
            if not self.soft(source) and not self.soft(result):
                return self._plain(op, attr, args, elems, results, lanes, emit)
            wide = self._to_f32(args[0], source, lanes, emit)
            return [self._from_f32(wide, result, lanes, emit, MARK in attr)]
        if op in ("arith.select", "arith.bitcast", "llvm.bitcast"):
            carriers = [self.carrier(e) for e in elems]
            out = [self.carrier(e) for e in results]
            if op != "arith.select" and carriers == out:
                return list(args)
            return self._plain(op, attr, args, carriers, out, lanes, emit)
        widened = [self._to_f32(a, e, lanes, emit) if self.soft(e) else a for a, e in zip(args, elems, strict=True)]
        wide_elems = ["f32" if self.soft(e) else e for e in elems]
        wide_results = ["f32" if self.soft(e) else e for e in results]
        done = self.apply(op, attr, widened, wide_elems, wide_results, lanes, emit, evl)
        same = "f32" not in elems  # What was narrow has no NaN but such.
        return [
            self._from_f32(d, e, lanes, emit, same) if self.soft(e) else d for d, e in zip(done, results, strict=True)
        ]
