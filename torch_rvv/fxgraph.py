"""A compiled graph's form: Inductor's wrapper lines → an FX graph → our Program.

    AllocateLine(buf0), KernelCallLine(triton_..., arg0, buf0, n), ExternKernelOutLine(mm)
    →  %buf0 = empty_strided(...) ; triton_kernel_wrapper_mutation(...) ; aten.mm.out(...)

Most of it is Inductor's own FX conversion; here is what that lacks. What neither knows (loops as
higher-order operators, some effects) is raised as NotInFx, and the graph keeps Inductor's Python wrapper
(see pywrapper.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import sympy
import torch
from torch._inductor import ir
from torch._inductor.codegen.common import FileBackedGraphModule
from torch._inductor.codegen.wrapper import PythonWrapperCodegen
from torch._inductor.codegen.wrapper_fxir import FxConverter, WrapperFxCodegen
from torch._inductor.runtime.triton_heuristics import GridExpr, get_constexprs
from torch._inductor.virtualized import V
from torch.fx.node import map_aggregate

from torch_rvv import timed
from torch_rvv.errors import TorchRvvError
from torch_rvv.plugin import ahead
from torch_rvv.plugin.compiler import current_codegen
from torch_rvv.runtime import record
from torch_rvv.runtime.context import placed
from torch_rvv.runtime.program import part


class NotInFx(TorchRvvError):
    """A graph has something that FX conversion does not know. Never reaches a user."""


class RvvConverter(FxConverter):
    """FX conversion that keeps, for each kernel, what compiled it."""

    def _generate_graph_constants(self) -> None:
        for name, constant in V.graph.constants.items():
            self.gm.register_buffer(name, constant)  # Before it is named: fx warns otherwise.
        super()._generate_graph_constants()
        for name in V.graph.constants:
            # Shapes are propagated over fake tensors: a real one among them is refused.
            node = self.buffer_to_node[name]
            node.meta["val"] = V.fake_mode.from_tensor(node.meta["val"])

    def _generate_graph_inputs(self) -> None:
        # Sizes worked out from others come in as numbers that nobody reads: they are worked out anew where needed.
        self.graph_inputs = {
            name: V.graph.sizevars.optimization_hint(node, fallback=0) if _is_worked_out(node) else node
            for name, node in self.graph_inputs.items()
        }
        super()._generate_graph_inputs()

    def _generate_outputs(self) -> Any:
        # Always a list: Inductor's single result, bare, would be taken apart where tensor subclasses are put together.
        result = super()._generate_outputs()
        return result if isinstance(result, list) else [result]

    def _import_kernel(self, code: str, kernel_name: str) -> Any:
        tuner = super()._import_kernel(code, kernel_name)
        prefer_compiled(tuner)
        return tuner

    def _generate_reinterpret_helper(self, input_buffer: Any, result_buffer: Any, layout: Any) -> None:
        # as_strided counts from where memory begins, and Inductor's from where a buffer does that is a part of another.
        placed_buffer = SimpleNamespace(get_name=input_buffer.get_name, get_offset=lambda: _start(input_buffer))
        super()._generate_reinterpret_helper(placed_buffer, result_buffer, layout)  # type: ignore[arg-type]

    def _create_as_strided(self, input_node: Any, size: Any, stride: Any, offset: Any) -> Any:
        # Of the memory that the first of several views is of, for that is what the offset counts in.
        while input_node.target is part:
            input_node = input_node.args[0]
        node = super()._create_as_strided(input_node, size, stride, offset)
        node.target = part
        return node

    def _generate_triton_call(self, line: Any) -> None:
        for name, value in zip(line.call_args, line.raw_args or (), strict=False):
            # A view has no name of its own, but a text that makes it.
            if isinstance(name, str) and name.startswith("reinterpret_tensor(") and isinstance(value, ir.IRNode):
                self.buffer_to_node[name] = self._generate_buffer(value)  # type: ignore[assignment]
        tuner = self.kernels[line.kernel_name].tuner
        if timed.board() and line.kernel_name not in self.gm.meta.get("rvv_kernels", ()):
            timed.choose(tuner, line.kernel_name, self._lookup_args(line.call_args))
        with _parameters_first(tuner):
            super()._generate_triton_call(line)
        node = next(n for n in reversed(self.gm.graph.nodes) if n.op == "call_function")
        node.meta["rvv_kernel"] = line.kernel_name
        self.gm.meta.setdefault("rvv_kernels", {})[line.kernel_name] = tuner

    def _generate_sym_node(self, s: Any) -> Any:
        if isinstance(s, sympy.Float):
            return float(s)
        if isinstance(s, sympy.Expr | torch.fx.Node):
            return super()._generate_sym_node(s)
        return s

    def _scalars(self, item: Any) -> Any:
        """An argument of an aten call with its symbolic sizes replaced by the nodes that compute them."""

        def scalar(leaf: Any) -> Any:
            if isinstance(leaf, torch.SymInt | torch.SymFloat | torch.SymBool):
                leaf = leaf.node.expr
            if isinstance(leaf, sympy.Integer):
                return int(leaf)
            return self._sympy_interp(leaf).node if isinstance(leaf, sympy.Basic) else leaf

        return map_aggregate(item, scalar)

    def _generate_extern_kernel_common(self, kernel: Any, out_ir_node: Any) -> None:
        held = kernel.constant_args, kernel.kwargs
        kernel.constant_args, kernel.kwargs = self._scalars(tuple(held[0])), dict(self._scalars(held[1]))
        try:
            super()._generate_extern_kernel_common(kernel, out_ir_node)
        finally:
            kernel.constant_args, kernel.kwargs = held

    def _generate_fallback_call(self, ir_node: Any, args: Any = None, kwargs: Any = None) -> None:
        super()._generate_fallback_call(ir_node, self._scalars(args or ()), dict(self._scalars(kwargs or {})))

    def _generate_unbacked_symbol_defs(self, line: Any) -> None:
        # Calls without a result (checks that only have effects) come here too, with nothing to define.
        if line.unbacked_bindings:
            super()._generate_unbacked_symbol_defs(line)


def _start(buffer: Any) -> Any:
    """Where a buffer begins in its memory, in elements: in that of a concatenation, for what it is written by."""
    layout = getattr(buffer, "layout", None)
    if not isinstance(layout, ir.NonOwningLayout):
        return buffer.get_offset()
    whole = layout.view
    return _start(whole.unwrap_view().data) + whole.get_layout().offset  # type: ignore[attr-defined]


def _is_worked_out(node: Any) -> bool:
    return isinstance(node, sympy.Expr) and not (node.is_Symbol or node.is_number)


def prefer_compiled(tuner: Any) -> None:
    """Put a kernel's configurations that could be compiled first: the first one is used."""
    tuner.compile_results.sort(key=lambda result: result.kernel.metadata.declined is not None)


def parameters(tuner: Any) -> list[str]:
    """The names of what a kernel's launches pass: all but its tl.constexpr parameters."""
    constant = get_constexprs(tuner.fn)
    return [name for number, name in enumerate(tuner.triton_meta["signature"]) if number not in constant]


def launch_of(tuner: Any, config: Any, args: Sequence[Any], names: Sequence[str]) -> tuple[list[Any], list[Any]]:
    """(grid, arguments by these names) of a kernel as Inductor calls it. args: in the order of the kernel's signature,
    then what only the grid depends on."""
    args, grid = tuner._interpret_args_grid(args, config)
    values = dict(zip(parameters(tuner), args, strict=True))
    return [*grid, 1, 1][:3], [values[name] for name in names]


@contextmanager
def _parameters_first(tuner: Any) -> Iterator[None]:
    """A kernel's constants behind its other parameters: Inductor's FX conversion pairs names and values in the order
    of the signature, though launches do not pass constants, and so takes them for sizes of the grid."""
    held, passed = tuner.triton_meta["signature"], parameters(tuner)
    tuned = tuner.compile_results[0].config.kwargs
    order = [*passed, *(n for n in held if n not in passed and n not in tuned), *(n for n in held if n in tuned)]

    def interpret(args: Sequence[Any], config: Any) -> tuple[Sequence[Any], tuple[Any, ...]]:
        extra = tuner.inductor_meta.get("extra_launcher_args", ())
        names = [*(n for n in order if n not in config.kwargs), *extra]
        grid = GridExpr.from_meta(tuner.inductor_meta, config, mode=tuner.grid_mode)
        return args[: len(args) - len(extra)], grid.eval_slow(dict(zip(names, args, strict=True)))

    tuner.triton_meta["signature"], tuner._interpret_args_grid = {n: held[n] for n in order}, interpret
    try:
        yield
    finally:
        tuner.triton_meta["signature"] = held
        del tuner._interpret_args_grid


class BoxedModule(FileBackedGraphModule):
    """What Inductor calls: takes the inputs out of the caller's list, so that each is freed after its last use."""

    def call(self, args: list[Any]) -> Any:
        inputs = list(args)
        args.clear()
        return self.compiled_fn(inputs)


def _begun(body: str) -> str:
    """A kernel's definition with the codegen options in its source; its compile may begin in another process.

    Inductor keeps compiled kernels in memory by their source alone: another target must be another source, and a kernel
    that is to be timed on a board.
    """
    options = " ".join(filter(None, [current_codegen().key()[:16], timed.board()]))
    marked = body.replace("'''\n", f"'''\n# torch_rvv options {options}\n", 1)
    if (batch := ahead.current()) is not None:
        batch.begin(marked)
    return marked


def _made(base: Any, is_subgraph: bool, *args: Any) -> Any:
    """A graph's wrapper, in which the kernels that are Triton's already (attention, a user's) are defined: they are
    long, and other processes may begin them while Inductor still plans its own."""
    wrapper = base.create(is_subgraph, *args)
    for operation in () if is_subgraph else V.graph.operations:
        if isinstance(operation, ir.UserDefinedTritonKernel) and not operation.can_fuse_epilogue():
            kernel, configs, restored, zeroed = operation.get_kernel_and_metadata()
            with V.graph.set_current_device(operation.get_device_or_error()):
                wrapper.define_user_defined_triton_kernel(
                    kernel, configs, operation.kwargs, restored, zeroed, operation.grid, None
                )
    return wrapper


class RvvPythonWrapper(PythonWrapperCodegen):
    """Inductor's Python wrapper, for the graphs that have no FX form."""

    @classmethod
    def create(cls, *args: Any, **kwargs: Any) -> Any:
        # Subgraphs come through their parent's class, and a compile that is not ours gets Inductor's own.
        return _made(super(), *args, **kwargs) if placed() else PythonWrapperCodegen.create(*args, **kwargs)

    def define_kernel(self, kernel_name: str, kernel_body: str, *args: Any, **kwargs: Any) -> None:
        super().define_kernel(kernel_name, _begun(kernel_body), *args, **kwargs)


class RvvWrapper(WrapperFxCodegen):
    """The compiled graph as an FX graph, handed to our runtime."""

    @classmethod
    def create(cls, *args: Any, **kwargs: Any) -> Any:
        # Someone else's fx_wrapper compile for the CPU gets Inductor's own class.
        return _made(super(), *args, **kwargs) if placed() else WrapperFxCodegen.create(*args, **kwargs)

    def define_kernel(self, kernel_name: str, kernel_body: str, *args: Any, **kwargs: Any) -> None:
        super().define_kernel(kernel_name, _begun(kernel_body), *args, **kwargs)

    def _generate(self, is_inference: bool) -> tuple[FileBackedGraphModule, None]:
        self.run_wrapper_ir_passes(is_inference)
        converter = RvvConverter(
            lines=self.lines,
            prologue="\n".join([self.imports.getvalue(), self.header.getvalue()]),
            graph_inputs=self.get_fx_graph_inputs(),
            graph_outputs=self.get_graph_outputs(),
            subgms=self.subgms,
            is_subgraph=self.is_subgraph,  # type: ignore[misc]
        )
        try:
            module = converter.generate()
        except TorchRvvError:
            raise
        except Exception as error:
            record.take()
            reason = " ".join(str(error).split())
            raise NotInFx(f"{type(error).__name__}: {reason[:300]}") from error
        return BoxedModule(module, self.compile_graph(module)), None

    def compile_graph(self, gm: torch.fx.GraphModule) -> Callable[..., Any]:
        from torch_rvv.runtime.program import Program

        return Program.from_graph(gm, record.take()).run
