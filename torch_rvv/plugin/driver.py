"""The Triton driver: launches compiled kernels on the process's device."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from triton.backends.compiler import GPUTarget
from triton.backends.driver import DriverBase

from torch_rvv.errors import Declined, DeviceError, KernelAssert
from torch_rvv.knobs import CodegenOptions
from torch_rvv.plugin import printing, tuning
from torch_rvv.plugin.alone import check_alone
from torch_rvv.target import Target

_FLOATS = {"fp16": ("<e", "<H"), "fp32": ("<f", "<I"), "fp64": ("<d", "<Q"), "f32": ("<f", "<I"), "f64": ("<d", "<Q")}


def _bf16(value: float) -> int:
    bits = struct.unpack("<I", struct.pack("<f", value))[0]
    if value != value:
        return bits >> 16 | 0x40
    return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16


def slot(kind: str, value: Any) -> Any:
    """An argument as the C ABI's 64-bit slot: a tensor as it is, a scalar's exact bits as an int."""
    if kind.startswith("*"):
        return value if hasattr(value, "data_ptr") else int(value)
    if kind == "bf16":
        return _bf16(float(value))
    if kind in _FLOATS:
        of, to = _FLOATS[kind]
        return struct.unpack(to, struct.pack(of, float(value)))[0]
    return int(value)


class Launcher:
    """One compiled kernel, ready to launch on a device; loads itself there on first use. views: it touches a tensor's
    elements only, and nothing that lies between them, as Inductor's kernels do."""

    def __init__(self, binary: bytes, metadata: Any, signature: Sequence[str], device: Any = None, views: bool = False):
        self.views = views
        self.name, self.binary, self.metadata, self.signature, self.device = (
            metadata.name, binary, metadata, signature, device,
        )  # fmt: skip
        self._loaded: dict[tuple[Any, bool], Any] = {}
        self.written = list(metadata.written or ()) if getattr(metadata, "declined", None) is None else []

    def launch(self, grid: Sequence[int], values: Sequence[Any]) -> None:
        """Run a grid. values: in the order of the signature. Raises KernelAssert for a failed assert."""
        from torch_rvv.runtime.device import get_device

        if self.metadata.declined is not None:
            what, where = self.metadata.declined
            raise Declined(f"kernel {self.name} cannot be compiled: {what}", where=where)
        device = get_device(self.device)
        args = [slot(kind, value) for kind, value in zip(self.signature, values, strict=True)]
        kernel = self._kernel(device, noalias=not overlap(args, self.written, self.views))
        status = device.launch(
            kernel, grid, args, written=self.written, printed=self._print, addresses=bool(self.metadata.addresses)
        )
        if status:
            raise KernelAssert(f"kernel {self.name}: {self.metadata.asserts[status - 1]}")

    def _print(self, number: int, program: tuple[int, ...], data: bytes) -> None:
        """What a device_print says, to standard output."""
        sys.stdout.write(printing.lines(self.metadata.prints[number], program, data))

    def _kernel(self, device: Any, noalias: bool) -> Any:
        key = (device, noalias)
        if key not in self._loaded:
            binary = self.binary if noalias else self._twin
            self._loaded[key] = device.load(binary, self.name)
        return self._loaded[key]

    @cached_property
    def _twin(self) -> bytes:
        """The same kernel compiled for arguments that overlap."""
        from torch_rvv.lowering.pipeline import lower

        held = self.metadata.codegen
        if isinstance(held, dict):
            target = Target(**{**held["target"], "features": tuple(held["target"]["features"])})
            held = CodegenOptions(**{**held, "target": target})
        asm, _ = lower(self.metadata.ttir, replace(held, noalias=False))
        return asm["so"]


def overlap(args: Sequence[Any], written: Sequence[int], views: bool = False) -> bool:
    """Whether a tensor that may be written shares memory with another argument. views: what lies between a tensor's
    elements is not its own."""
    spans = {}
    for position, argument in enumerate(args):
        if hasattr(argument, "untyped_storage") and argument.numel():
            spans[position] = _span(argument)
    return any(
        start < other_end and other_start < end
        for position, (start, end) in spans.items()
        if position in written
        for other, (other_start, other_end) in spans.items()
        if other != position and not (views and interleaved(args[position], args[other]))
    )


def interleaved(one: Any, other: Any) -> bool:
    """Whether two tensors of the same shape and strides, rows within rows, are known to have no element in common."""
    if one.shape != other.shape or one.stride() != other.stride() or one.dtype != other.dtype:
        return False
    apart, rest = divmod(abs(one.data_ptr() - other.data_ptr()), one.element_size())
    dims = sorted(((s, n) for s, n in zip(one.stride(), one.shape, strict=True) if n > 1), reverse=True)
    reach = [sum((n - 1) * s for s, n in dims[i + 1 :]) for i in range(len(dims))]
    if rest or any(s <= within for (s, _), within in zip(dims, reach, strict=True)):
        return False  # Nothing is known of strides that run through each other.
    return not _is_between(apart, dims, reach)


def _is_between(distance: int, dims: Sequence[tuple[int, int]], reach: Sequence[int]) -> bool:
    """Whether a distance is one between two elements of a tensor: the sum of strides, each some of its size times."""
    if not dims:
        return distance == 0
    (stride, size), within = dims[0], reach[0]
    return any(
        _is_between(distance - steps * stride, dims[1:], reach[1:])
        for steps in (distance // stride, distance // stride + 1)
        if abs(steps) < size and abs(distance - steps * stride) <= within
    )


def _span(tensor: Any) -> tuple[int, int]:
    reach = sum((n - 1) * abs(s) for n, s in zip(tensor.shape, tensor.stride(), strict=True)) + 1
    return tensor.data_ptr(), tensor.data_ptr() + reach * tensor.element_size()


def parts_of(kind: Any) -> list[str]:
    """The kinds that a kernel sees of an argument.

    A tensor descriptor is base, NaN padding, sizes, strides; a tuple is its members; a constant is nothing.
    """
    if isinstance(kind, tuple):
        return [part for member in kind for part in parts_of(member)]
    if kind == "constexpr":
        return []
    if not kind.startswith("tensordesc<"):
        return [kind]
    elem, block = kind.removeprefix("tensordesc<").split("[", 1)
    rank = block.split("]")[0].count(",") + 1
    return [f"*{elem}", "i1", *["i32"] * rank, *["i64"] * rank]


def values_of(kind: Any, value: Any) -> list[Any]:
    """An argument's values for `parts_of`."""
    if isinstance(kind, tuple):
        return [v for member, held in zip(kind, value, strict=True) for v in values_of(member, held)]
    if kind == "constexpr":
        return []
    if not kind.startswith("tensordesc<"):
        return [value]
    return [value.base, value.padding == "nan", *value.shape, *value.strides]


class JitLauncher:
    """What Triton makes for a `@triton.jit` kernel that is launched by hand."""

    def __init__(self, src: Any, metadata: Any):
        signature = src.signature
        names = list(signature)
        self.positions = [i for i, n in enumerate(names) if signature[n] != "constexpr"]
        self.given = [signature[names[i]] for i in self.positions]
        self.kinds = [part for kind in self.given for part in parts_of(kind)]
        self.launcher: Launcher | None = None
        self.metadata = metadata

    def __call__(self, x: int, y: int, z: int, stream: Any, function: Any, packed: Any, launch_metadata: Any,
                 enter: Callable[..., Any] | None, leave: Callable[..., Any] | None, *args: Any) -> None:  # fmt: skip
        if enter is not None:
            enter(launch_metadata)
        if self.launcher is None:
            self.launcher = Launcher(function, self.metadata, self.kinds)
        values = [v for i, kind in zip(self.positions, self.given, strict=True) for v in values_of(kind, args[i])]
        self.launcher.launch((x, y, z), values)
        if leave is not None:
            leave(launch_metadata)


class _Utils:
    """The part of a Triton driver that loads binaries and tells what a device has."""

    def load_binary(self, name: str, kernel: Any, shared: int, device: int) -> tuple[Any, Any, int, int, int]:
        return _Module(), kernel, 0, 0, 1 << 30

    def get_device_properties(self, device: int) -> dict[str, int]:
        return {"max_shared_mem": 1 << 30, "multiprocessor_count": 8, "max_num_regs": 32, "warpSize": 1}


class _Module:
    """Something that is not None: Triton asks only that."""


class RVVDriver(DriverBase):
    """CPU tensors, launched on the device that torch_rvv.get_device() names."""

    def __init__(self) -> None:
        check_alone()
        self.utils = _Utils()
        self.launcher_cls = JitLauncher
        self.numbers: dict[str, int] = {}

    @classmethod
    def is_active(cls) -> bool:
        """Ours is the driver unless this process has an accelerator that Triton can drive."""
        import torch

        return not (torch.cuda.is_available() or (hasattr(torch, "xpu") and torch.xpu.is_available()))

    def map_python_to_cpp_type(self, ty: str) -> str:
        raise DeviceError("torch_rvv launches kernels through its own C ABI; there is no generated C launcher")

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cpu", "riscv64", 1)

    def get_active_torch_device(self) -> Any:
        import torch

        return torch.device("cpu")

    def get_current_device(self) -> int:
        """A number for each set of options: Triton keeps the kernels that it has compiled by device."""
        from torch_rvv.plugin.compiler import current_codegen

        return self.numbers.setdefault(current_codegen().key(), len(self.numbers))

    def set_current_device(self, device: int) -> None:
        """There is one device."""

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_device_interface(self) -> Any:
        return tuning.DeviceInterface

    def get_benchmarker(self) -> Any:
        return tuning.benchmark

    def get_empty_cache_for_benchmark(self) -> Any:
        import torch

        return torch.empty(1 << 20, dtype=torch.int8)

    def clear_cache(self, cache: Any) -> None:
        cache.zero_()
