"""The Dynamo backend "rvv": Inductor under our configuration."""

from __future__ import annotations

import difflib
import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch._functorch import config as functorch_config
from torch._inductor import config, list_mode_options
from torch._inductor.compile_fx import compile_fx, compile_fx_inner
from torch._inductor.virtualized import V

from torch_rvv import (
    decompositions,
    freezing,
    graphcache,
    inductor,
    late,
    patterns,
    pywrapper,
    recompute,
    shortcuts,
    timed,
)
from torch_rvv.errors import OptionError
from torch_rvv.knobs import CodegenOptions, knobs
from torch_rvv.plugin import ahead
from torch_rvv.plugin.alone import check_alone
from torch_rvv.plugin.compiler import compiling
from torch_rvv.runtime.context import Placement, placing
from torch_rvv.runtime.device import get_device
from torch_rvv.simplify import simplify
from torch_rvv.target import resolve_target

OPTIONS = {
    "target": "the board to compile for: a name of torch_rvv.TARGETS or a torch_rvv.Target",
    "device": "where to run: auto, local, virtual, or a Device",
    "lmul": "force this LMUL (1, 2, 4, 8)",
    "gemm": "who does matrix products: rvv, aten, or auto (default), where it pays",
    "conv": "who does convolutions, likewise",
    "attention": "who does scaled dot-product attention, likewise",
    "winograd": "3 x 3 convolutions by Winograd's tiles where that is faster: True (default), False",
}
# Options of Inductor by which kernels are chosen by time.
TIMED = ("max_autotune", "max_autotune_pointwise", "max_autotune_gemm", "coordinate_descent_tuning")
# What makes a compile one of ours: not for the user to change.
FIXED = ("cpu_backend", "fx_wrapper", "cpp_wrapper", "inductor_choices_class")


def _split(mode: str | None, options: dict[str, Any] | None) -> tuple[dict[str, Any], dict[str, Any], bool]:
    """(our options, Inductor's, whether kernels are to be timed). Raises OptionError for an unknown one."""
    ours: dict[str, Any] = {}
    theirs: dict[str, Any] = {}
    if mode not in (None, "default"):
        try:
            theirs.update(list_mode_options(mode))
        except (KeyError, RuntimeError):
            known = ", ".join(list_mode_options())
            raise OptionError(f"Unknown mode {mode!r}", hint=f"Known modes: {known}.") from None
    known_config = config.get_config_copy()
    for name, value in (options or {}).items():
        key = name.replace("-", "_")
        if key in OPTIONS:
            ours[key] = value
        elif key in FIXED:
            raise OptionError(f"Option {name!r} is fixed by backend 'rvv'", hint="Leave it out.")
        elif key in known_config:
            theirs[key] = value
        else:
            close = difflib.get_close_matches(key, [*OPTIONS, *known_config], n=1)
            hint = f"Did you mean {close[0]!r}? " if close else ""
            raise OptionError(
                f"Unknown option {name!r} for backend 'rvv'",
                hint=f"{hint}Known options: {', '.join(OPTIONS)}, and Inductor's (torch._inductor.list_options()).",
            )
    theirs.pop("triton.cudagraphs", None)
    # What is timed, and how, is ours (timed.py), where there is something to time.
    timed = [theirs.pop(name, False) for name in TIMED]
    return ours, theirs, any(timed)


@contextmanager
def uncollected() -> Iterator[None]:
    """Without Python's cycle collector: of a compile it finds next to nothing, and takes a twentieth of the time."""
    held = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if held:
            gc.enable()


def rvv(
    gm: torch.fx.GraphModule,
    example_inputs: Sequence[Any],
    *,
    mode: str | None = None,
    options: dict[str, Any] | None = None,
) -> Callable[..., Any]:
    """Compile an FX graph for RISC-V with the vector extension; returns a callable.

    mode: as torch.compile's. options: those of OPTIONS, or any option of Inductor's. Raises
    OptionError for an unknown option or value.
    """
    check_alone()
    ours, theirs, by_time = _split(mode, options)
    target = resolve_target(ours.get("target", knobs.target))
    lmul = ours.get("lmul")
    if ours.get("device") is not None:
        get_device(ours["device"])
    codegen = CodegenOptions(target=target, lmul=lmul, saturate=False)
    who = {kind: ours.get(kind, "auto") for kind in ("gemm", "conv", "attention")}
    for kind, value in who.items():
        if value not in ("rvv", "aten", "auto"):
            raise OptionError(f"{kind}={value!r}: nobody by that name", hint="Known: rvv, aten, auto.")
    if not isinstance(ours.get("winograd", True), bool):
        raise OptionError(f"winograd={ours['winograd']!r} is not a choice", hint="Known: True, False.")
    frozen = theirs.get("freezing", config.freezing) and not torch.is_grad_enabled()
    tiles = {"winograd": ours.get("winograd", True), "frozen": bool(frozen), "timed": by_time}
    placement = Placement(device=ours.get("device"), codegen=codegen, **who, **tiles)
    inductor.register()
    freezing.register()
    patterns.register()
    recompute.register()
    shortcuts.register()
    patches = inductor.patches(theirs)

    @contextmanager
    def ours_only() -> Iterator[None]:
        # Whole graphs are kept by AOTAutograd's cache (see graphcache.py); Inductor's own cannot hold a Program.
        cached = functorch_config.enable_autograd_cache and graphcache.wanted()
        caches = functorch_config.patch(enable_autograd_cache=cached, bundled_autograd_cache=True)
        # Inductor keeps the heuristics that a thread asked for first, whatever its config says later.
        choices = V.set_choices_handler(inductor.RvvChoices())
        with config.patch(patches), choices, caches, compiling(codegen), placing(placement), uncollected():
            yield

    def inner(graph: torch.fx.GraphModule, *args: Any, **kwargs: Any) -> Any:
        # The backward graph is compiled later, outside of our call: set everything up again.
        with (
            ours_only(),
            ahead.batch(),
            functorch_config.patch(bundled_autograd_cache=False),
            config.patch(fx_graph_cache=False),
        ):
            timed.tell()
            return graphcache.SavedGraph.of(
                pywrapper.compile_graph(compile_fx_inner, simplify(late.decompose(graph)), args, kwargs)
            )

    with ours_only():
        graph, kept = freezing.lift(gm, example_inputs) if frozen else (gm, range(len(example_inputs)))
        inputs = [example_inputs[i] for i in kept]
        compiled: Any = compile_fx(graph, inputs, inner_compile=inner, decompositions=decompositions.table())
        return freezing.without(compiled, kept) if frozen else compiled
