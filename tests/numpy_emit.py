"""A plain twin of generated code: interprets the MLIR operations that vecmath writes, on numpy arrays."""

from __future__ import annotations

import re

import numpy as np

DTYPES = {
    "f32": np.float32, "f64": np.float64, "i1": np.bool_, "i8": np.int8, "i16": np.int16, "i32": np.int32,
    "i64": np.int64,
}  # fmt: skip


def _unsigned(a):
    return np.asarray(a).view(f"u{np.asarray(a).dtype.itemsize}")


_COMPARE = {
    "oeq": np.equal, "olt": np.less, "ole": np.less_equal, "ogt": np.greater, "oge": np.greater_equal,
    "une": np.not_equal, "one": lambda a, b: (a < b) | (a > b), "eq": np.equal, "ne": np.not_equal,
    "slt": np.less, "sle": np.less_equal, "sgt": np.greater, "sge": np.greater_equal,
    "uge": lambda a, b: _unsigned(a) >= _unsigned(b) if a.dtype.kind == "i" else ~(a < b),
}  # fmt: skip


def _halves(a):
    """A double as a sum of two of 26 bits (Veltkamp)."""
    big = a * 134217729.0
    high = big - (big - a)
    return high, a - high


def _fma(a, b, c):
    """a*b + c with the product exact: in double for f32, as a sum of two doubles (Dekker) for f64."""
    if a.dtype == np.float32:
        return (a.astype(np.float64) * b.astype(np.float64) + c.astype(np.float64)).astype(np.float32)
    product = a * b
    (ah, al), (bh, bl) = _halves(a), _halves(b)
    rest = al * bl - (((product - ah * bh) - al * bh) - ah * bl)
    total = product + c
    back = total - product
    lost = (product - (total - back)) + (c - back)
    # Where nothing is lost, adding nothing would turn -0 into 0.
    lost = lost + rest
    return np.where(np.isfinite(total) & np.isfinite(lost) & (lost != 0), total + lost, total)


_OPS = {
    "arith.addf": np.add, "arith.subf": np.subtract, "arith.mulf": np.multiply, "arith.divf": np.divide,
    "arith.addi": np.add, "arith.subi": np.subtract, "arith.muli": np.multiply, "arith.negf": np.negative,
    "arith.andi": np.bitwise_and, "arith.ori": np.bitwise_or, "arith.xori": np.bitwise_xor,
    "arith.shli": np.left_shift, "arith.shrsi": np.right_shift,
    "arith.shrui": lambda a, b: np.right_shift(_unsigned(a), _unsigned(b)).view(a.dtype),
    "arith.minsi": np.minimum, "arith.maxsi": np.maximum,
    "arith.minnumf": np.fmin, "arith.maxnumf": np.fmax, "math.absf": np.abs, "math.sqrt": np.sqrt,
    "math.copysign": np.copysign, "math.floor": np.floor, "math.trunc": np.trunc, "math.roundeven": np.rint,
    "math.fma": _fma,
}  # fmt: skip


class NumpyEmit:
    """emit(rhs) → name, with the values in `values`."""

    def __init__(self, **values):
        self.values = {f"%{name}": np.asarray(v) for name, v in values.items()}
        self.count = 0

    def __call__(self, rhs: str) -> str:
        self.count += 1
        name = f"%r{self.count}"
        with np.errstate(all="ignore"):
            self.run(name, rhs.split("\n"))
        return name

    def run(self, name: str, lines: list[str]) -> None:
        """One operation; one with regions takes several lines."""
        if len(lines) == 1:
            self.values[name] = self.evaluate(lines[0])
        elif lines[0].startswith("scf.if"):
            middle = lines.index("} else {")
            taken = np.any(self.values[lines[0].split()[1]])
            self.values[name] = self.block(lines[1:middle] if taken else lines[middle + 1 : -1])
        else:
            _, low, high, _, variable, value, *_ = re.findall(r"%[\w.]+", lines[0])
            self.values[variable] = self.values[value]
            for _ in range(int(self.values[low]), int(self.values[high])):
                self.values[variable] = self.block(lines[1:-1])
            self.values[name] = self.values[variable]

    def block(self, lines: list[str]):
        """Runs a region's operations and returns what it yields."""
        at = 0
        while not lines[at].strip().startswith("scf.yield"):
            name, rhs = lines[at].strip().split(" = ", 1)
            end = at + 1
            if rhs.startswith("scf."):
                # Everything inside is indented more than its last line, the first closing brace at this depth.
                depth = 1
                while depth:
                    depth += lines[end].endswith("{") - lines[end].strip().startswith("}")
                    end += 1
            self.run(name, [rhs, *lines[at + 1 : end]])
            at = end
        return self.values[lines[at].split()[1]]

    def evaluate(self, rhs: str):
        op, _, rest = rhs.partition(" ")
        if rest in ("true", "false"):
            return np.bool_(rest == "true")
        body, _, kind = rest.rpartition(" : ")
        if op == "arith.constant":
            if kind.startswith("f"):
                bits = np.array(int(body, 16), dtype=f"u{(kind[1:] == '64' and 8) or 4}")
                return bits.view(DTYPES[kind])
            return DTYPES.get(kind, np.int64)(int(body))
        args = [self.values[a] for a in re.findall(r"%[\w.]+", body)]
        if op in ("arith.cmpf", "arith.cmpi"):
            return _COMPARE[body.split(",")[0]](*args)
        if op == "arith.select":
            return np.where(*args)
        if " to " in kind:
            return self.cast(op, args[0], *kind.split(" to "))
        result = _OPS[op](*args)
        return np.asarray(result).astype(DTYPES[kind])

    def cast(self, op: str, value, source: str, target: str):
        dtype = DTYPES[target]
        if op == "arith.bitcast":
            return np.ascontiguousarray(value).view(dtype)
        if op == "arith.extui":
            return _unsigned(np.asarray(value)).astype(dtype) if source != "i1" else np.asarray(value).astype(dtype)
        return np.asarray(value).astype(dtype)
