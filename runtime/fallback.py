"""One Inductor kernel in aten: its loop bodies evaluated over full index grids.

    ops.store("buf0", i0, ops.add(ops.load("arg0", i0), ops.load("arg1", i0)))
    →  buf0.flat[grid] = arg0.flat[grid] + arg1.flat[grid]        grid = arange over all iterations

It is what a kernel that cannot be compiled runs as, and the oracle of verify mode. Values of f16 and bf16 are
computed in f32 and rounded when they are stored, as Inductor's Triton code does.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import sympy
import torch
from torch._inductor.utils import sympy_index_symbol
from torch._inductor.virtualized import V

from torch_rvv.errors import KernelAssert, TorchRvvError
from torch_rvv.runtime.fallback_ops import OPS, REDUCTIONS
from torch_rvv.runtime.philox import rand, randint64, randn
from torch_rvv.runtime.symbolic import evaluate

_lock = threading.RLock()
_NARROW = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Buffer:
    """A buffer that a kernel reads or writes: its argument's name (None if it never leaves the kernel)."""

    argument: str | None
    dtype: torch.dtype
    size: Any


@dataclass(eq=False)
class AtenKernel:
    """What one kernel computes. bodies: Inductor's LoopBody objects in order; sizes: symbol → argument name."""

    name: str
    bodies: list[Any]
    buffers: dict[str, Buffer]
    sizes: dict[sympy.Symbol, str]
    origins: list[str] = field(default_factory=list)

    @staticmethod
    def capture(name: str, kernel: Any, node_schedule: Sequence[Any]) -> AtenKernel | None:
        """Note what an Inductor kernel computes, while Inductor generates it; None for a template."""
        nodes = [n for n in node_schedule if hasattr(n, "_body")] if isinstance(node_schedule, list | tuple) else []
        if not nodes or any(not hasattr(n._body, "root_block") for n in nodes):
            return None
        arguments: dict[str, str] = {}
        for table in (kernel.args.input_buffers, kernel.args.output_buffers):
            arguments.update({outer: inner for outer, inner in table.items() if isinstance(inner, str)})
        for outer, inner in kernel.args.inplace_buffers.items():
            if hasattr(inner, "inner_name"):
                arguments[outer] = inner.inner_name
        names = {d.name for n in nodes for d in (*n.read_writes.reads, *n.read_writes.writes)}
        buffers = {b: Buffer(arguments.get(b), V.graph.get_dtype(b), _storage_size(b)) for b in sorted(names | set(arguments))}
        origins = sorted({str(o.target) for n in nodes if n.node is not None for o in n.node.get_origins() if o.op == "call_function"})
        sizes = {s: inner for s, inner in kernel.args.sizevars.items() if isinstance(s, sympy.Symbol)}
        return AtenKernel(name, [n._body for n in nodes], buffers, sizes, origins)

    def run(self, arguments: dict[str, Any]) -> None:
        """Do what the kernel does. arguments: tensors and sizes by the kernel's argument names."""
        symbols = {s: int(arguments[name]) for s, name in self.sizes.items() if name in arguments}
        run = _Run(self, arguments, symbols)
        with _lock, torch.no_grad():
            for body in self.bodies:
                run.body(body)


def _storage_size(name: str) -> Any:
    """Elements of a buffer's storage, possibly symbolic; None if Inductor knows no layout."""
    buffer = V.graph.try_get_buffer(name)
    if buffer is None:
        return None
    try:
        return buffer.get_layout().storage_size()
    except (NotImplementedError, AttributeError):
        return None


class _Run:
    """One execution: memory by buffer name, and the ops handler that Inductor's bodies call."""

    def __init__(self, kernel: AtenKernel, arguments: dict[str, Any], symbols: dict[sympy.Symbol, Any]):
        self.kernel, self.arguments, self.symbols = kernel, arguments, symbols
        self.memory: dict[str, torch.Tensor] = {}
        self.exact: dict[str, torch.Tensor] = {}
        self.grid: dict[sympy.Symbol, Any] = {}
        self.shape: tuple[int, ...] = ()
        self.reduced = 0
        self.mask: torch.Tensor | None = None
        self.count = 0

    def body(self, body: Any) -> None:
        sizes = [[int(evaluate(n, self.symbols)) for n in group] for group in body.sizes]
        flat = [n for group in sizes for n in group]
        names = [sympy_index_symbol(f"grid{i}") for i in range(len(flat))]
        self.shape, self.reduced = tuple(flat), len(sizes[1])
        self.grid = dict(self.symbols)
        for i, (name, n) in enumerate(zip(names, flat, strict=True)):
            self.grid[name] = torch.arange(n).reshape([n if d == i else 1 for d in range(len(flat))])
        if 0 in flat and not self.reduced:
            return
        with V.set_ops_handler(self):
            body(names[: len(sizes[0])], names[len(sizes[0]) :])

    def __getattr__(self, name: str) -> Any:
        if name in OPS:
            return OPS[name]
        raise TorchRvvError(f"the aten fallback has no operation {name!r} (kernel {self.kernel.name})")

    # -- indices

    def index(self, expression: Any) -> Any:
        return evaluate(expression, self.grid)

    def index_expr(self, expression: Any, dtype: torch.dtype) -> torch.Tensor:
        return torch.as_tensor(self.index(expression)).to(dtype)

    value_expr = index_expr

    def indirect_indexing(self, x: torch.Tensor, size: Any, check: bool = True, wrap_neg: bool = True) -> sympy.Symbol:
        limit = self.index(size)
        x = x.to(torch.int64)
        if wrap_neg:
            x = torch.where(x < 0, x + limit, x)
        if check:
            self._require((x >= 0) & (x < limit), f"index out of bounds: 0 <= index < {limit}")
        self.count += 1
        symbol = sympy_index_symbol(f"indirect_grid{self.count}")
        self.grid[symbol] = x
        return symbol

    def _require(self, condition: torch.Tensor, message: str) -> None:
        if self.mask is not None:
            condition = condition | ~self.mask
        if not bool(condition.all()):
            raise KernelAssert(f"kernel {self.kernel.name}: {message}")

    def check_bounds(self, expression: Any, size: Any, lower: bool, upper: bool) -> None:
        x, limit = torch.as_tensor(self.index(expression)), self.index(size)
        if lower:
            self._require(x >= 0, f"index out of bounds: 0 <= {expression}")
        if upper:
            self._require(x < limit, f"index out of bounds: {expression} < {limit}")

    # -- memory

    def _flat(self, name: str) -> torch.Tensor:
        """A buffer's elements from its first on."""
        if name not in self.memory:
            buffer = self.kernel.buffers[name]
            if buffer.argument is not None and buffer.argument in self.arguments:
                tensor = self.arguments[buffer.argument]
                count = tensor.untyped_storage().nbytes() // tensor.element_size() - tensor.storage_offset()
                self.memory[name] = torch.as_strided(tensor.detach(), (count,), (1,), tensor.storage_offset())
            else:
                size = buffer.size if buffer.size is not None else math.prod(self.shape)
                self.memory[name] = torch.zeros(int(evaluate(size, self.symbols)), dtype=buffer.dtype)
        return self.memory[name]

    def load(self, name: str, index: Any) -> torch.Tensor:
        position = torch.as_tensor(self.index(index))
        if self.mask is not None:
            position = torch.where(self.mask, position, 0)
        value = self.exact.get(name, self._flat(name))[position]
        return value.float() if value.dtype in _NARROW else value

    def store(self, name: str, index: Any, value: Any, mode: str | None = None) -> None:
        flat = self._flat(name)
        position = torch.as_tensor(self.index(index)).expand(self.shape)
        value = torch.as_tensor(value)
        if mode == "atomic_add":
            flat.index_put_((position,), value.to(flat.dtype).expand(self.shape), accumulate=True)
            return
        if mode is not None:
            raise TorchRvvError(f"the aten fallback has no store of mode {mode!r}")
        flat[position] = value.to(flat.dtype).expand(self.shape)
        if flat.dtype in _NARROW:
            # Later readers in this kernel get the value before rounding, as in Inductor's own code.
            exact = self.exact.setdefault(name, flat.float())
            exact[position] = value.float().expand(self.shape)

    def load_seed(self, name: str, offset: Any) -> torch.Tensor:
        return self._flat(name)[int(self.index(offset))]

    # -- whole-grid operations

    def masked(self, mask: torch.Tensor, body: Any, other: Any) -> torch.Tensor:
        outer = self.mask
        self.mask = mask if outer is None else mask & outer
        try:
            value = torch.as_tensor(body())
        finally:
            self.mask = outer
        return torch.where(mask, value, torch.as_tensor(other).to(value.dtype))

    def _axes(self) -> tuple[int, ...]:
        return tuple(range(len(self.shape) - self.reduced, len(self.shape)))

    def reduction(self, dtype: torch.dtype, src_dtype: torch.dtype, kind: str, value: Any) -> Any:
        values = [torch.as_tensor(v).expand(self.shape) for v in (value if isinstance(value, tuple) else (value,))]
        if kind not in REDUCTIONS:
            raise TorchRvvError(f"the aten fallback has no reduction {kind!r} (kernel {self.kernel.name})")
        kept = self.shape[: len(self.shape) - self.reduced]
        rows = [v.reshape(*kept, -1) for v in values]
        results = REDUCTIONS[kind](*rows)
        ones = (1,) * self.reduced
        if isinstance(results, tuple):
            return tuple(r.reshape(*kept, *ones) for r in results)
        return results.reshape(*kept, *ones).to(torch.float32 if dtype in _NARROW else dtype)

    def store_reduction(self, name: str, index: Any, value: Any) -> None:
        shape, self.shape = self.shape, self.shape[: len(self.shape) - self.reduced] + (1,) * self.reduced
        try:
            self.store(name, index, value)
        finally:
            self.shape = shape

    def scan(self, dtypes: Any, combine: Any, values: tuple[Any, ...]) -> tuple[torch.Tensor, ...]:
        rows = [torch.as_tensor(v).expand(self.shape).clone() for v in values]
        axis = len(self.shape) - 1
        for k in range(1, self.shape[axis]):
            joined = combine(tuple(r.select(axis, k - 1) for r in rows), tuple(r.select(axis, k) for r in rows))
            for r, j in zip(rows, joined, strict=True):
                r.select(axis, k).copy_(getattr(j, "value", j))
        return tuple(rows)

    def sort(self, dtypes: Any, values: tuple[Any, ...], stable: bool, descending: bool) -> tuple[torch.Tensor, ...]:
        rows = [torch.as_tensor(v).expand(self.shape) for v in values]
        first, order = torch.sort(rows[0], dim=-1, descending=descending, stable=True)
        return first, *(torch.gather(r, -1, order) for r in rows[1:])

    def bucketize(self, values: Any, boundaries: Any, boundary_indices: Any, indexing_dtype: torch.dtype, right: bool,
                  sorter: Any = None, sorter_indices: Any = None) -> torch.Tensor:  # fmt: skip
        name, size, _, stride = boundaries
        count, step = int(self.index(size)), int(self.index(stride))
        start = int(torch.as_tensor(self.index(boundary_indices)).reshape(-1)[0]) if not isinstance(boundary_indices, int) else 0
        edges = self._flat(name)[start : start + (count - 1) * step + 1 : step] if count else self._flat(name)[:0]
        return torch.bucketize(values, edges.to(values.dtype), right=right).to(indexing_dtype)

    # -- random numbers

    def rand(self, seed: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
        return rand(seed, offset)

    def randn(self, seed: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
        return randn(seed, offset)

    def randint64(self, seed: torch.Tensor, offset: torch.Tensor, low: Any, high: Any) -> torch.Tensor:
        return randint64(seed, offset, low, high)

    def device_assert_async(self, condition: torch.Tensor, message: str) -> None:
        self._require(condition, message)
