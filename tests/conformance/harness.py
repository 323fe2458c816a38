"""What the families share: the table of cases, kernels made from their body, random and edge inputs, comparison."""

from __future__ import annotations

import hashlib
import importlib.util
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

F32, F64, F16, BF16 = torch.float32, torch.float64, torch.float16, torch.bfloat16
I8, I16, I32, I64, U8 = torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8
E4M3, E5M2, BOOL = torch.float8_e4m3fn, torch.float8_e5m2, torch.bool
FLOATS = (F32, F64, F16, BF16)
INTEGERS = (I8, I16, I32, I64)
NUMBERS = (*FLOATS, *INTEGERS)
EVERY = (*NUMBERS, U8)

NAMES = {
    F32: "f32", F64: "f64", F16: "f16", BF16: "bf16", I8: "i8", I16: "i16", I32: "i32", I64: "i64", U8: "u8",
    E4M3: "f8e4m3", E5M2: "f8e5m2", BOOL: "bool", torch.uint32: "u32", torch.uint64: "u64",
}  # fmt: skip
TRITON = {
    F32: "tl.float32", F64: "tl.float64", F16: "tl.float16", BF16: "tl.bfloat16", I8: "tl.int8", I16: "tl.int16",
    I32: "tl.int32", I64: "tl.int64", U8: "tl.uint8", E4M3: "tl.float8e4nv", E5M2: "tl.float8e5", BOOL: "tl.int1",
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One cell, but for the VLEN. run raises AssertionError if the result is wrong."""

    family: str
    feature: str
    dtype: str
    run: Callable[[], None]

    @property
    def name(self) -> str:
        return f"{self.family}/{self.feature}/{self.dtype}"


CASES: list[Case] = []


def add(family: str, feature: str, dtype: torch.dtype | str, run: Callable[[], None]) -> None:
    """Register a cell."""
    name = dtype if isinstance(dtype, str) else NAMES[dtype]
    CASES.append(Case(family, feature, name, run))


def case(family: str, feature: str, *dtypes: torch.dtype) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function of a dtype (of nothing, if there are none) as cells."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        if not dtypes:
            add(family, feature, "-", function)
        for dtype in dtypes:
            add(family, feature, dtype, lambda dtype=dtype: function(dtype))
        return function

    return register


_HEAD = """import triton
import triton.language as tl
import triton.language.extra.smt as smt
from triton.language.extra import libdevice

"""
_folder = Path(tempfile.gettempdir(), "torch_rvv_conformance")


@cache
def kernel(parameters: str, body: str, before: str = "") -> Any:
    """The @triton.jit function `kernel(parameters)` with a body. before: other functions of its module."""
    lines = "\n".join("    " + line for line in body.strip("\n").split("\n"))
    text = f"{_HEAD}{before}\n\n@triton.jit\ndef kernel({parameters}):\n{lines}\n"
    name = "k" + hashlib.sha256(text.encode()).hexdigest()[:20]
    _folder.mkdir(exist_ok=True)
    path = _folder / f"{name}.py"
    if not path.exists():
        with tempfile.NamedTemporaryFile("w", dir=_folder, delete=False) as file:
            file.write(text)
        Path(file.name).rename(path)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.kernel


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


EDGES = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, float("inf"), -float("inf"), float("nan"), 1e-40, 6e4, -6e4, 2.5, -3.5]


def values(
    dtype: torch.dtype, *shape: int, seed: int = 0, edges: bool = False, low: float = -4, high: float = 4
) -> Any:
    """Random values; edges: special ones in front. Integers are small, but for their edges."""
    count = 1
    for n in shape:
        count *= n
    if dtype == BOOL:
        return torch.randint(0, 2, shape, generator=generator(seed)).bool()
    if not dtype.is_floating_point:
        info = torch.iinfo(dtype)
        numbers = torch.randint(max(info.min, -50), 50, (count,), generator=generator(seed)).to(dtype)
        if edges and count >= 6:
            numbers[:6] = torch.tensor([0, 1, info.max, info.min, info.max - 1, 2], dtype=dtype)
        return numbers.view(shape)
    floats = torch.rand(count, generator=generator(seed), dtype=F64) * (high - low) + low
    if edges and count >= len(EDGES):
        floats[: len(EDGES)] = torch.tensor(EDGES, dtype=F64)
    return floats.to(dtype).view(shape)


TOLERANCE = {F32: 2e-6, F64: 2e-14, F16: 2e-3, BF16: 1.6e-2, E4M3: 0.13, E5M2: 0.26}


def same(ours: torch.Tensor, wanted: torch.Tensor, exact: bool = False, scale: float = 1.0) -> None:
    """Equal, or floats within a few roundings of a reference in any precision."""
    assert ours.shape == wanted.shape, f"shape {tuple(ours.shape)}, wanted {tuple(wanted.shape)}"
    if exact or not ours.dtype.is_floating_point:
        a, b = (t.to(F64) if t.dtype.is_floating_point else t.to(I64) for t in (ours, wanted.to(ours.dtype)))
        good = (a == b) | ((a != a) & (b != b)) if a.is_floating_point() else a == b
    else:
        a, b = ours.to(F64), wanted.to(ours.dtype).to(F64)
        good = torch.isclose(
            a, b, rtol=TOLERANCE[ours.dtype] * scale, atol=TOLERANCE[ours.dtype] * scale, equal_nan=True
        )
    if not bool(good.all()):
        at = tuple((~good).nonzero()[0].tolist())
        raise AssertionError(
            f"{int((~good).sum())} differ, the first at {at}: {ours[at].item()!r} is not {wanted[at].item()!r}"
        )


N = 200
BLOCK = 64
_INDEX = f"i = tl.program_id(0) * {BLOCK} + tl.arange(0, {BLOCK})\nm = i < n\n"


def elementwise(
    family: str,
    feature: str,
    dtypes: Sequence[torch.dtype],
    expression: str,
    reference: Callable[..., torch.Tensor],
    inputs: int = 1,
    out: torch.dtype | None = None,
    edges: bool = True,
    low: float = -4,
    high: float = 4,
    scale: float = 1.0,
    before: str = "",
) -> None:
    """Cells for an expression of x, y, z (and i, the index): compared with a reference on tensors."""
    names = "xyz"[:inputs]
    loads = "\n".join(f"{a} = tl.load({a}p + i, mask=m, other=1)" for a in names)
    body = f"{_INDEX}{loads}\ntl.store(op + i, {expression}, mask=m)"
    parameters = ", ".join([*(f"{a}p" for a in names), "op", "n"])

    def run(dtype: torch.dtype) -> None:
        args = [values(dtype, N, seed=s, edges=edges and s == 0, low=low, high=high) for s in range(inputs)]
        wide = [a.to(F64) if a.dtype.is_floating_point and a.dtype != F64 else a for a in args]
        wanted = reference(*wide)
        result = torch.zeros(N + 8, dtype=out or dtype)
        kernel(parameters, body, before)[((N + BLOCK - 1) // BLOCK,)](*args, result, N)
        same(result[:N], wanted.to(result.dtype), scale=scale)
        assert bool((result[N:] == 0).all()), "wrote beyond the mask"

    for dtype in dtypes:
        add(family, feature, dtype, lambda dtype=dtype: run(dtype))
