"""What explain knows of a `@triton.jit` kernel: `kernel[grid]` taken apart, compiled, and made a record."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch_rvv.errors import OptionError, TorchRvvError
from torch_rvv.knobs import CodegenOptions, knobs
from torch_rvv.runtime.record import KernelRecord
from torch_rvv.target import resolve_target

# Those that torch.compile knows as well; nothing runs, so that the device is of no importance.
OPTIONS = ("target", "lmul", "device")


@dataclass(frozen=True)
class _Launch:
    """A launch on its way through heuristics and autotuners. config: what an autotuner chose."""

    kernel: Any
    grid: Any
    args: Sequence[Any]
    keywords: Mapping[str, Any]
    config: str | None = None


def triton_launch(function: Any) -> tuple[Any, Any] | None:
    """(kernel, grid) of Triton's `kernel[grid]`; None for anything else."""
    from triton.runtime.jit import KernelInterface

    if isinstance(function, KernelInterface):
        raise TorchRvvError(
            "explain needs the launch of a Triton kernel, not the kernel", hint="Write explain(kernel[grid], ...)."
        )
    if not inspect.isfunction(function) or function.__module__ != KernelInterface.__module__:
        return None
    held = inspect.getclosurevars(function).nonlocals
    kernel = held.get("self")
    return (kernel, held["grid"]) if isinstance(kernel, KernelInterface) and "grid" in held else None


def compiled_kernels(
    kernel: Any, grid: Any, args: Sequence[Any], keywords: Mapping[str, Any], options: Mapping[str, Any] | None = None
) -> list[KernelRecord]:
    """The kernel as it would be launched on these arguments: compiled, one record a configuration.

    options: "target" and "lmul". Raises OptionError, and what Triton raises for a kernel without configurations.
    """
    from torch_rvv.plugin.compiler import compiling

    with compiling(_codegen(options or {})):
        return list(_records(_Launch(kernel, grid, args, keywords)))


def _codegen(options: Mapping[str, Any]) -> CodegenOptions:
    for name in options:
        if name not in OPTIONS:
            raise OptionError(f"Unknown option {name!r} for a kernel", hint=f"Known options: {', '.join(OPTIONS)}.")
    return CodegenOptions(target=resolve_target(options.get("target", knobs.target)), lmul=options.get("lmul"))


def _records(launch: _Launch) -> Iterator[KernelRecord]:
    """Not by Triton's own warm-up: behind heuristics an autotuner would take it for a launch, and choose."""
    from triton.runtime.autotuner import Autotuner, Heuristics

    walk = {Heuristics: _with_heuristics, Autotuner: _with_configurations}.get(type(launch.kernel), _compile)
    yield from walk(launch)


def _with_heuristics(launch: _Launch) -> Iterator[KernelRecord]:
    named, keywords = dict(zip(launch.kernel.arg_names, launch.args, strict=False)), dict(launch.keywords)
    for name, choose in launch.kernel.values.items():
        keywords[name] = choose({**named, **keywords})
    yield from _records(replace(launch, kernel=launch.kernel.fn, keywords=keywords))


def _with_configurations(launch: _Launch) -> Iterator[KernelRecord]:
    from triton.tools.tensor_descriptor import TensorDescriptor

    tuner = launch.kernel
    tuner.nargs = dict(zip(tuner.arg_names, launch.args, strict=False))
    configs = tuner.prune_configs(dict(launch.keywords))
    for config in configs:
        keywords = {**launch.keywords, **config.all_kwargs()}
        # Hooks prepare a run, which there is none of; but they also set the block sizes of descriptors.
        if config.pre_hook is not None and any(isinstance(a, TensorDescriptor) for a in launch.args):
            config.pre_hook({**tuner.nargs, **keywords})
        named = ", ".join(f"{k}: {v}" for k, v in config.kwargs.items())
        yield from _records(replace(launch, kernel=tuner.fn, keywords=keywords, config=named))
    tuner.nargs = None


def _compile(launch: _Launch) -> Iterator[KernelRecord]:
    from triton.compiler.errors import CompilationError

    try:
        compiled = launch.kernel.warmup(*launch.args, grid=launch.grid, **launch.keywords)
    except CompilationError as error:
        if launch.config is None:
            raise
        yield _refused(launch, error)
        return
    metadata = compiled.metadata._asdict()
    reason, where = metadata["declined"] or (None, None)
    yield KernelRecord(
        name=metadata["name"],
        compiled=reason is None,
        reason=reason,
        where=where,
        metadata=metadata,
        binary=compiled.asm["so"],
        seconds=sum(metadata["seconds"].values()),
        origins=["triton.jit" if launch.config is None else launch.config],
    )


def _refused(launch: _Launch, error: Any) -> KernelRecord:
    """A configuration that Triton itself refuses: the innermost error's words, the line in the kernel."""
    kernel, last = launch.kernel, error
    while last.__cause__ is not None:
        last = last.__cause__
    line = getattr(error.node, "lineno", None)
    return KernelRecord(
        name=kernel.__name__,
        compiled=False,
        reason=getattr(last, "error_message", None) or str(last),
        where=f"{inspect.getsourcefile(kernel.fn)}:{kernel.starting_line_number + line - 1}" if line else None,
        origins=[launch.config or "triton.jit"],
    )
