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
from torch._inductor.loop_body import MemoryUsageType
from torch._inductor.utils import sympy_index_symbol
from torch._inductor.virtualized import V
from torch_rvv.runtime.fallback_ops import OPS, REDUCTIONS
from torch_rvv.runtime.philox import rand, randint64, randn
from torch_rvv.runtime.symbolic import Inconsistent, evaluate, solve

from torch_rvv.errors import KernelAssert, TorchRvvError

_lock = threading.RLock()
_NARROW = (torch.float16, torch.bfloat16)
_STORES = (MemoryUsageType.STORE, MemoryUsageType.STORE_REDUCTION)


@dataclass(frozen=True)
class Buffer:
    """A buffer that a kernel reads or writes: its argument's name (None if it never leaves the kernel)."""

    argument: str | None
    dtype: torch.dtype
    size: Any


@dataclass(eq=False)
class AtenKernel:
    """What one kernel computes. bodies: Inductor's LoopBody objects in order; sizes: expression → argument name.

    layouts: symbolic shape and strides of the tensors that are passed, by argument name.
    others: the same code where it is used again in the graph, there for buffers of other symbolic shapes.
    """

    name: str
    bodies: list[Any]
    buffers: dict[str, Buffer]
    sizes: list[tuple[Any, str]]
    layouts: dict[str, tuple[tuple[Any, ...], tuple[Any, ...]]] = field(default_factory=dict)
    origins: list[str] = field(default_factory=list)
    others: list[AtenKernel] = field(default_factory=list)

    @staticmethod
    def capture(name: str, kernel: Any, node_schedule: Sequence[Any]) -> AtenKernel | None:
        """Note what an Inductor kernel computes, while Inductor generates it; None for a template."""
        nodes = [n for n in node_schedule if hasattr(n, "_body")] if isinstance(node_schedule, list | tuple) else []
        if not nodes or any(not hasattr(n._body, "root_block") for n in nodes):
            return None
        arguments: dict[str, str] = {}
        for table in (kernel.args.input_buffers, kernel.args.output_buffers):
            arguments.update({outer: inner for outer, inner in table.items() if isinstance(inner, str)})
        passed = {inner: outer for outer, inner in arguments.items()}
        for outer, inner in kernel.args.inplace_buffers.items():
            if hasattr(inner, "inner_name"):
                arguments[outer] = inner.inner_name
                passed[inner.inner_name] = inner.other_names[-1]
        # What nobody outside reads is not stored, though its place may still be an argument for another's sake.
        removed = (
            kernel.removed_buffers | kernel.inplaced_to_remove | V.graph.removed_buffers | V.graph.inplaced_to_remove
        )
        names = {d.name for n in nodes for d in (*n.read_writes.reads, *n.read_writes.writes)}
        described = {b: _buffer(b, {} if b in removed else arguments) for b in sorted(names | set(arguments))}
        buffers = {name: buffer for name, buffer in described.items() if buffer is not None}
        origins = sorted(
            {
                str(o.target)
                for n in nodes
                if n.node is not None
                for o in n.node.get_origins()
                if o.op == "call_function"
            }
        )
        sizes = [(s, inner) for s, inner in kernel.args.sizevars.items() if isinstance(s, sympy.Symbol)]
        sizes += [(tree.numel, f"{tree.prefix}numel") for tree in kernel.range_trees]
        layouts = {inner: _layout(outer) for inner, outer in passed.items()}
        known = {inner: layout for inner, layout in layouts.items() if layout is not None}
        return AtenKernel(name, [n._body for n in nodes], buffers, sizes, known, origins)

    def run(self, arguments: dict[str, Any]) -> None:
        """Do what the kernel does. arguments: tensors and sizes by the kernel's argument names."""
        for use in (self, *self.others):
            try:
                symbols = solve(use.equations(arguments))
            except Inconsistent:
                continue
            if not use.symbols <= symbols.keys():
                continue
            run = _Run(use, arguments, symbols)
            with _lock, torch.no_grad():
                for body in use.bodies:
                    run.body(body)
            return
        raise TorchRvvError(f"kernel {self.name}: no use of it in the graph has arguments of these shapes")

    @property
    def symbols(self) -> set[sympy.Symbol]:
        """The sizes that say how often its bodies run."""
        return {s for body in self.bodies for group in body.sizes for n in group for s in sympy.sympify(n).free_symbols}

    def equations(self, arguments: dict[str, Any]) -> list[tuple[Any, int | float]]:
        """(symbolic expression, its value in this launch), from sizes that are passed and from tensors' shapes."""
        found = [(e, arguments[name]) for e, name in self.sizes if name in arguments]
        for name, (shape, strides) in self.layouts.items():
            tensor = arguments.get(name)
            if isinstance(tensor, torch.Tensor) and tensor.dim() == len(shape):
                found += zip(shape, tensor.shape, strict=True)
                # Strides of dims of length 0 and 1 are anything.
                found += [(e, s) for e, s, n in zip(strides, tensor.stride(), tensor.shape, strict=True) if n > 1]
        return [(e, v) for e, v in found if isinstance(e, sympy.Expr) and e.free_symbols]


def _buffer(name: str, arguments: dict[str, str]) -> Buffer | None:
    """What Inductor knows of a buffer; None for what is only ordered by name, like an operation of several results.

    A mutation has a name of its own but writes its target's memory.
    """
    real = V.graph.scheduler.mutation_real_name.get(name, name)
    argument, held = arguments.get(real, arguments.get(name)), V.graph.try_get_buffer(real)
    try:
        dtype = V.graph.get_dtype(name)
    except NotImplementedError:
        return None
    try:
        return Buffer(argument, dtype, held.get_layout().storage_size())
    except (NotImplementedError, AttributeError):  # No buffer, or one without a layout: its size is the grid's.
        return Buffer(argument, dtype, None)


def _layout(name: str) -> tuple[tuple[Any, ...], tuple[Any, ...]] | None:
    """A buffer's symbolic shape and strides, if it has a layout."""
    try:
        layout = V.graph.try_get_buffer(name).get_layout()
        return tuple(layout.size), tuple(layout.stride)
    except (NotImplementedError, AttributeError):
        return None


def _writes(body: Any) -> set[str]:
    """The buffers that a LoopBody stores to."""
    return {e.buffer_name for kind, entries in body.memory_usage.items() if kind in _STORES for e in entries}


class _Run:
    """One execution: memory by buffer name, and the ops handler that Inductor's bodies call."""

    def __init__(self, kernel: AtenKernel, arguments: dict[str, Any], symbols: dict[sympy.Symbol, Any]):
        self.kernel, self.arguments, self.symbols = kernel, arguments, symbols
        self.memory: dict[str, torch.Tensor] = {}
        self.exact: dict[str, torch.Tensor] = {}
        self.before = self._snapshots()
        self.grid: dict[sympy.Symbol, Any] = {}
        self.shape: tuple[int, ...] = ()
        self.reduced = 0
        self.mask: torch.Tensor | None = None
        self.count = 0

    def _snapshots(self) -> dict[str, torch.Tensor]:
        """Copies of what is read under one name and overwritten in place under another: readers want the old values."""
        written = {name for body in self.kernel.bodies for name in _writes(body)}
        targets = {self.kernel.buffers[name].argument for name in written} - {None}
        found = {}
        for name, buffer in self.kernel.buffers.items():
            if name not in written and buffer.argument in targets and buffer.argument in self.arguments:
                found[name] = self._flat(name).clone()
        return found

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
        return torch.as_tensor(self.index(expression)).to(torch.float32 if dtype in _NARROW else dtype)

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
                if not isinstance(tensor, torch.Tensor):  # a tensor of no dimensions may come as a scalar
                    tensor = torch.tensor([tensor], dtype=buffer.dtype)
                count = tensor.untyped_storage().nbytes() // tensor.element_size() - tensor.storage_offset()
                self.memory[name] = torch.as_strided(tensor.detach(), (count,), (1,), tensor.storage_offset())
            else:
                size = buffer.size if buffer.size is not None else math.prod(self.shape)
                self.memory[name] = torch.zeros(int(evaluate(size, self.symbols)), dtype=buffer.dtype)
        return self.memory[name]

    def load(self, name: str, index: Any) -> torch.Tensor:
        position = torch.as_tensor(self.index(index))
        flat = self._memory_to_read(name)
        if self.mask is not None:
            position = torch.where(self.mask, position, 0)
            if not flat.numel():
                flat = flat.new_zeros(1)
        value = flat[position]
        return value.float() if value.dtype in _NARROW else value

    def _memory_to_read(self, name: str) -> torch.Tensor:
        for held in (self.exact, self.before):
            if name in held:
                return held[name]
        return self._flat(name)

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
        if kind not in REDUCTIONS:
            raise TorchRvvError(f"the aten fallback has no reduction {kind!r} (kernel {self.kernel.name})")
        values = [torch.as_tensor(v).expand(self.shape) for v in (value if isinstance(value, tuple) else (value,))]
        kept = self.shape[: len(self.shape) - self.reduced]
        rows = [v.reshape(*kept, -1) for v in values]
        if kind.startswith("arg") and len(rows) == 1:
            rows.append(torch.arange(rows[0].shape[-1]).expand(rows[0].shape))
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
        name, size, _, step = boundaries
        edges, order = self._flat(name), self._flat(sorter[0]) if sorter else None
        count, step = int(self.index(size)), int(self.index(step))
        values, first = torch.broadcast_tensors(torch.as_tensor(values), torch.as_tensor(boundary_indices))
        low, high = torch.zeros_like(first, dtype=torch.int64), torch.full_like(first, count, dtype=torch.int64)
        # The boundaries may start elsewhere for each value: a binary search of all values side by side.
        for _ in range(count.bit_length()):
            middle = (low + high) // 2
            at = middle.clamp(max=count - 1)
            if sorter is not None and order is not None:
                at = order[sorter_indices + at * int(self.index(sorter[1]))]
            edge = edges[first + at * step]
            above = (values >= edge if right else values > edge) | (values != values)
            open_ = low < high
            low, high = torch.where(above & open_, middle + 1, low), torch.where(~above & open_, middle, high)
        return low.to(indexing_dtype)

    # -- random numbers

    def rand(self, seed: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
        return rand(seed, offset)

    def randn(self, seed: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
        return randn(seed, offset)

    def randint64(self, seed: torch.Tensor, offset: torch.Tensor, low: Any, high: Any) -> torch.Tensor:
        return randint64(seed, offset, low, high)

    def device_assert_async(self, condition: torch.Tensor, message: str) -> None:
        self._require(condition, message)
