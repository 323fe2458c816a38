"""A compiled graph as one program: allocations, views, kernel launches and aten calls, in order.

    buf0 = empty_strided(...) ; triton_kernel_wrapper_mutation(k, buf0, arg0, n) ; aten.mm.out(...) ; output
    →  [Call(empty, ...), Launch(k, ...), Call(aten.mm.out, ...)]  over numbered registers

Buffers live in the device's memory, so that tensors stay there from one kernel to the next. Registers are
dropped after their last use. A kernel that could not be compiled is run by its AtenKernel.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from torch._higher_order_ops.triton_kernel_wrap import kernel_side_table, triton_kernel_wrapper_mutation
from torch.fx.node import map_arg
from torch_rvv.runtime import record
from torch_rvv.runtime.context import Placement, current_placement
from torch_rvv.runtime.device import get_device
from torch_rvv.runtime.record import GraphRecord, KernelRecord

from torch_rvv.errors import Declined, TorchRvvError
from torch_rvv.knobs import knobs
from torch_rvv.plugin.driver import Launcher


@dataclass(frozen=True)
class Register:
    """A place for a value."""

    number: int


@dataclass(eq=False)
class Step:
    """One operation. frees: registers that are not needed after it."""

    result: int
    frees: tuple[int, ...] = ()

    def run(self, values: list[Any], device: Any) -> None:
        raise TypeError("a step of no kind")


def resolve(item: Any, values: list[Any]) -> Any:
    """An argument with its registers replaced by their values."""
    if isinstance(item, Register):
        return values[item.number]
    if isinstance(item, tuple | list):
        return type(item)(resolve(i, values) for i in item)
    if isinstance(item, dict):
        return {k: resolve(v, values) for k, v in item.items()}
    return item


@dataclass(eq=False)
class Call(Step):
    """A function of registers: an aten operation, a view, arithmetic on sizes."""

    function: Callable[..., Any] = field(default=lambda: None)
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)

    def run(self, values: list[Any], device: Any) -> None:
        values[self.result] = self.function(*resolve(self.args, values), **resolve(self.kwargs, values))

    def __getstate__(self) -> dict[str, Any]:
        function: Any = self.function
        if isinstance(function, torch._ops.OpOverload):  # These cannot be pickled, but have a name.
            function = (function._schema.name, function._overloadname)
        return {**self.__dict__, "function": function}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if isinstance(self.function, tuple):
            (namespace, name), overload = self.function[0].split("::"), self.function[1]
            self.function = getattr(getattr(getattr(torch.ops, namespace), name), overload)


@dataclass(eq=False)
class Allocate(Step):
    """An uninitialised tensor in the device's memory."""

    size: Any = ()
    stride: Any = ()
    dtype: torch.dtype = torch.float32

    def run(self, values: list[Any], device: Any) -> None:
        size, stride = resolve(self.size, values), resolve(self.stride, values)
        values[self.result] = device.empty_strided([int(n) for n in size], [int(s) for s in stride], self.dtype)


@dataclass(eq=False)
class Launch(Step):
    """A kernel over a grid. names: of the arguments, in the order of the kernel's signature."""

    kernel: Kernel | None = None
    grid: tuple[Any, ...] = ()
    args: tuple[Any, ...] = ()

    def run(self, values: list[Any], device: Any) -> None:
        assert self.kernel is not None
        grid = [int(values[g.number] if type(g) is Register else g) for g in self.grid]
        self.kernel.run(grid, [values[a.number] if type(a) is Register else a for a in self.args], device)


def part(tensor: torch.Tensor, size: Sequence[int], stride: Sequence[int], offset: int) -> torch.Tensor:
    """A view of a tensor's memory. offset: from where the tensor begins, which need not be where its storage does."""
    return torch.as_strided(tensor, size, stride, tensor.storage_offset() + offset)


def choose(condition: Any, yes: Program, no: Program, operands: Sequence[Any]) -> Any:
    """One branch's outputs. condition: a bool, or a tensor of one element."""
    return (yes if bool(condition) else no)(*operands)


class Kernel:
    """A kernel of the program: compiled, or run by aten. views: as the launcher's."""

    def __init__(self, name: str, compiled: Any, fallback: Any, noted: KernelRecord, views: bool = False):
        self.name, self.fallback, self.record = name, fallback, noted
        signature = compiled.src.signature
        self.names = [n for n, kind in signature.items() if kind != "constexpr"]
        self.kinds = [signature[n] for n in self.names]
        metadata = compiled.metadata
        self.views = views
        self.launcher: Launcher | None = None
        if metadata.declined is None and not knobs.force_fallback:
            self.launcher = Launcher(compiled.asm["so"], metadata, self.kinds, views=views)
        else:
            self._decline(*(metadata.declined or ("TORCH_RVV_FORCE_FALLBACK is set", None)))

    @staticmethod
    def of(name: str, tuner: Any, fallback: Any) -> Kernel:
        """The kernel that Inductor's CachingAutotuner compiled, with its record."""
        compiled = tuner.compile_results[0].kernel
        metadata = compiled.metadata._asdict()
        noted = KernelRecord(
            name,
            metadata=metadata,
            binary=compiled.asm["so"],
            seconds=sum((metadata.get("seconds") or {}).values()),
            origins=fallback.origins if fallback is not None else [],
        )
        return Kernel(name, compiled, fallback, noted, views=not tuner.custom_kernel)

    def __getstate__(self) -> dict[str, Any]:
        if self.launcher is None:
            raise TorchRvvError(f"kernel {self.name} runs in aten: it has no form that can be saved")
        kept = ("name", "names", "kinds", "views", "record")
        return {name: getattr(self, name) for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.fallback = None
        self.launcher = Launcher(
            self.record.binary, SimpleNamespace(**self.record.metadata), self.kinds, views=self.views
        )

    def _decline(self, what: str, where: str | None) -> None:
        self.launcher = None
        self.record.compiled, self.record.reason, self.record.where = False, what, where
        if knobs.fallback == "error" and not knobs.force_fallback:
            raise Declined(f"kernel {self.name} cannot be compiled: {what}", where=where)
        if self.fallback is None:
            raise Declined(f"kernel {self.name} cannot be compiled, and has no form in aten: {what}", where=where)
        at = f" at {where}" if where else ""
        warnings.warn(f"torch_rvv: kernel {self.name} runs in aten: {what}{at}", stacklevel=2)

    def run(self, grid: Sequence[int], args: list[Any], device: Any) -> None:
        self.record.launches += 1
        self.record.programs += grid[0] * grid[1] * grid[2]
        if self.launcher is None:
            self.fallback.run(dict(zip(self.names, args, strict=True)))
        elif knobs.verify and self.fallback is not None:
            from torch_rvv.verify import checked

            checked(self, grid, args, device)
        else:
            try:
                self.launch(grid, args, device)
            except Declined as error:  # The code for arguments that overlap; nothing has run yet.
                if self.fallback is None:
                    self.launch(grid, self._apart(args), device)
                    return
                self._decline(error.what, error.where)
                self.fallback.run(dict(zip(self.names, args, strict=True)))

    def _apart(self, args: Sequence[Any]) -> list[Any]:
        """The arguments with copies of what is only read: Inductor's readers want the values from before."""
        assert self.launcher is not None
        written = self.launcher.written
        return [a.clone() if isinstance(a, torch.Tensor) and i not in written else a for i, a in enumerate(args)]

    def launch(self, grid: Sequence[int], args: list[Any], device: Any) -> None:
        """Run the compiled code."""
        assert self.launcher is not None
        self.launcher.device = device
        self.launcher.launch(grid, args)


class Program:
    """A compiled graph, callable like the graph itself: inputs in, list of outputs out."""

    def __init__(self, steps: list[Step], inputs: list[int], constants: dict[int, Any], outputs: Any, size: int,
                 placement: Placement, noted: GraphRecord):  # fmt: skip
        self.steps, self.inputs, self.constants, self.outputs, self.size = steps, inputs, constants, outputs, size
        self.placement, self.record = placement, noted
        launched = {a.number for s in steps if isinstance(s, Launch) for a in s.args if isinstance(a, Register)}
        self._moving = [n for n, value in constants.items() if n in launched and isinstance(value, torch.Tensor)]
        self._home: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "placement": None, "_home": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # It runs where the graph is wanted now, which need not be where it was compiled for.
        self.__dict__.update(state, placement=current_placement())

    def _move(self, device: Any) -> None:
        """Keep the constants that kernels read in the device's memory, instead of copying them at each launch."""
        for number in self._moving:
            value = self.constants[number]
            self.constants[number] = device.empty_strided(value.shape, value.stride(), value.dtype).copy_(value)
        self._home = device

    def __call__(self, *args: Any) -> Any:
        return self.run(list(args))

    def run(self, inputs: list[Any]) -> Any:
        """The outputs for a list of inputs, which is emptied: each is freed after its last use."""
        device = get_device(self.placement.device)
        if self._home is not device:
            self._move(device)
        values: list[Any] = [None] * self.size
        for number in self.constants:
            values[number] = self.constants[number]
        for number in reversed(self.inputs):
            values[number] = inputs.pop()
        for step in self.steps:
            step.run(values, device)
            for number in step.frees:
                values[number] = None
        return resolve(self.outputs, values)

    @staticmethod
    def from_graph(gm: torch.fx.GraphModule, fallbacks: dict[str, Any]) -> Program:
        """The program of Inductor's FX graph. fallbacks: AtenKernel by kernel name."""
        builder = _Builder(gm, fallbacks)
        program = builder.build()
        record.add(builder.record)
        return program


class _Builder:
    def __init__(self, gm: torch.fx.GraphModule, fallbacks: dict[str, Any], parent: _Builder | None = None):
        self.gm, self.fallbacks = gm, fallbacks
        self.registers: dict[torch.fx.Node, Register] = {}
        self.record = GraphRecord() if parent is None else parent.record
        self.kernels: dict[str, Kernel] = {} if parent is None else parent.kernels

    def build(self) -> Program:
        steps: list[Step] = []
        inputs: list[int] = []
        constants: dict[int, Any] = {}
        outputs: Any = None
        last: dict[torch.fx.Node, int] = {}
        for node in self.gm.graph.nodes:
            register = self.registers[node] = Register(len(self.registers))
            for used in node.all_input_nodes:
                last[used] = len(steps)
            if node.op == "placeholder":
                inputs.append(register.number)
            elif node.op == "get_attr":
                constants[register.number] = self.constant(getattr(self.gm, node.target))
            elif node.op == "output":
                outputs = self.value(node.args[0])
                for used in node.all_input_nodes:
                    last[used] = 1 << 60
            else:
                steps.append(self.step(node, register.number))
                if not node.users:  # e.g. mm(out=buf): its result would keep buf alive
                    steps[-1].frees += (register.number,)
        for node, position in last.items():
            number = self.registers[node].number
            if position < len(steps) and number not in constants:
                steps[position].frees += (number,)
        size = len(self.registers)
        return Program(steps, inputs, constants, outputs, size, current_placement(), self.record)

    def constant(self, value: Any) -> Any:
        """A constant of the graph: a tensor, or a branch of a conditional as a program."""
        return _Builder(value, self.fallbacks, self).build() if isinstance(value, torch.fx.GraphModule) else value

    def value(self, argument: Any) -> Any:
        return map_arg(argument, lambda node: self.registers[node])

    def step(self, node: torch.fx.Node, result: int) -> Step:
        if node.target is torch.empty_strided:
            size, stride = self.value(node.args)
            return Allocate(result, size=size, stride=stride, dtype=node.kwargs["dtype"])
        if node.target is triton_kernel_wrapper_mutation:
            return self.launch(node, result)
        if node.target is torch.ops.higher_order.cond:
            return Call(result, function=choose, args=self.value(node.args))
        if isinstance(node.target, torch._ops.OpOverload) and not str(node.target).startswith("aten.sym_"):
            name = str(node.target)
            self.record.extern[name] = self.record.extern.get(name, 0) + 1
        if node.op != "call_function":
            raise TorchRvvError(f"a compiled graph with a {node.op} node is not known to the runtime")
        return Call(
            result, function=node.target, args=tuple(self.value(node.args)), kwargs=dict(self.value(node.kwargs))
        )

    def launch(self, node: torch.fx.Node, result: int) -> Step:
        name = node.meta["rvv_kernel"]
        kernel = self.kernels.get(name) or self.kernel(name)
        held = {**kernel_side_table.get_constant_args(node.kwargs["constant_args_idx"]), **node.kwargs["kwargs"]}
        args = tuple(self.value(held[n]) for n in kernel.names)
        grid = tuple(self.value(node.kwargs["grid"][0]))
        return Launch(result, kernel=kernel, grid=(*grid, 1, 1)[:3], args=args)

    def kernel(self, name: str) -> Kernel:
        kernel = self.kernels[name] = Kernel.of(name, self.gm.meta["rvv_kernels"][name], self.fallbacks.get(name))
        self.record.kernels.append(kernel.record)
        return kernel
