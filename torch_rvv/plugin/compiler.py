"""The Triton compiler backend: Triton's own passes, then the stages of lowering/pipeline.py."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any
from uuid import uuid4

from triton._C.libtriton import ir, passes
from triton.backends.compiler import BaseBackend, GPUTarget

from torch_rvv.errors import Declined
from torch_rvv.knobs import CodegenOptions, knobs
from torch_rvv.plugin import cachekey, extra, tritonkey
from torch_rvv.plugin.dump import SUFFIX, dump

extra.install()
tritonkey.install()
_PROCESS = uuid4().hex
# The names of pipeline.STAGES, without loading it.
STAGES = tuple(SUFFIX)
_codegen: ContextVar[CodegenOptions | None] = ContextVar("torch_rvv_codegen", default=None)


@contextmanager
def compiling(options: CodegenOptions) -> Iterator[None]:
    """Kernels compiled meanwhile (in this thread) are compiled with these options."""
    token = _codegen.set(options)
    try:
        yield
    finally:
        _codegen.reset(token)


def current_codegen() -> CodegenOptions:
    return _codegen.get() or CodegenOptions()


@dataclass(frozen=True)
class Options:
    """What Triton asks of a backend's options; `codegen` is ours."""

    codegen: CodegenOptions = field(default_factory=current_codegen)
    backend_name: str = "rvv"
    num_warps: int = 1
    num_ctas: int = 1
    num_stages: int = 1
    debug: bool = False
    sanitize_overflow: bool = False
    arch: str | None = None
    allowed_dot_input_precisions: tuple[str, ...] = ("ieee", "tf32", "tf32x3", "bf16x3", "bf16x6")
    default_dot_input_precision: str = "ieee"
    supported_fp8_dtypes: tuple[str, ...] = ("fp8e5", "fp8e4nv")
    deprecated_fp8_dot_operand_dtypes: tuple[str, ...] = ()
    enable_fp_fusion: bool = True
    max_num_imprecise_acc_default: int = 0
    extern_libs: tuple[Any, ...] | None = None
    launch_cooperative_grid: bool = False
    instrumentation_mode: str = ""
    ir_override: str | None = None

    def hash(self) -> str:
        return hashlib.sha256(f"{self}{self.codegen.key()}".encode()).hexdigest()


class Listing(str):
    """An object file for Triton's cache, which keeps text: its assembly, if there are readers; the bytes beside it."""

    data: bytes


# What the stages make of a kernel: (its .so, metadata).
Lowered = tuple[bytes, dict[str, Any]]
Maker = Callable[[str, CodegenOptions], Lowered | None]
_made: ContextVar[Maker | None] = ContextVar("torch_rvv_made", default=None)


@contextmanager
def results_from(made: Maker) -> Iterator[None]:
    """Kernels compiled meanwhile (in this thread): made(ttir, options) is asked before their stages run here."""
    token = _made.set(made)
    try:
        yield
    finally:
        _made.reset(token)


def lower(ttir: str, codegen: CodegenOptions) -> Lowered:
    """All stages behind Triton's own, at once."""
    metadata: dict[str, Any] = {}
    source: Any = ttir
    for name in STAGES:
        source = _run(name, source, metadata, codegen, listed=False)
    return source, metadata


def ttir_passes(module: Any, metadata: dict[str, Any], options: Options) -> Any:
    """Triton's target-independent clean-up, once: done again, it may write the same otherwise."""
    if getattr(module, "is_clean", False):
        return module
    pm = ir.pass_manager(module.context)
    passes.common.add_inliner(pm)
    passes.ttir.add_combine(pm)
    passes.common.add_canonicalizer(pm)
    passes.ttir.add_reorder_broadcast(pm)
    passes.common.add_cse(pm)
    passes.common.add_licm(pm)
    passes.common.add_symbol_dce(pm)
    passes.ttir.add_loop_unroll(pm)
    pm.run(module, "ttir")
    module.is_clean = True
    return module


class RVVBackend(BaseBackend):
    """Compiles for GPUTarget("cpu", ...)."""

    binary_ext = "so"

    @staticmethod
    def supports_target(target: GPUTarget) -> bool:
        return target.backend == "cpu"

    def hash(self) -> str:
        # A kernel found in Triton's cache goes through no stage, and nothing would be dumped.
        fresh = "" if knobs.dump is None else f"|dump={knobs.dump}|{_PROCESS}"
        return cachekey.environment_key() + fresh

    def parse_options(self, options: dict[str, Any]) -> Options:
        known = Options.__dataclass_fields__
        return Options(**{k: v for k, v in options.items() if k in known and v is not None})

    def get_codegen_implementation(self, options: Options) -> dict[str, Any]:
        return {"min_dot_size": lambda left, right: (1, 1, 1)}

    def pack_metadata(self, metadata: Any) -> Any:
        return metadata

    def get_module_map(self) -> dict[str, ModuleType]:
        from torch_rvv.plugin import libdevice

        return {"triton.language.extra.libdevice": libdevice}

    def load_dialects(self, context: Any) -> None:
        """TTIR needs no dialect of ours."""

    def add_stages(self, stages: dict[str, Callable[..., Any]], options: Options, language: Any = None) -> None:
        stages["ttir"] = lambda module, metadata: ttir_passes(module, metadata, options)
        if (ask := _made.get()) is not None:
            # A graph's kernel: who would read what the others make has it dumped.
            stages[self.binary_ext] = lambda source, metadata: _made_by(ask, str(source), metadata, options.codegen)
            return
        for name in STAGES:
            stages[name] = lambda source, metadata, name=name: _run(name, source, metadata, options.codegen)


def _made_by(ask: Maker, ttir: str, metadata: dict[str, Any], codegen: CodegenOptions) -> bytes:
    """A kernel's .so from elsewhere, or made here."""
    binary, of = ask(ttir, codegen) or lower(ttir, codegen)
    metadata.update(of)
    return binary


def _run(name: str, source: Any, metadata: dict[str, Any], codegen: CodegenOptions, *, listed: bool = True) -> Any:
    """One stage. A kernel that is declined is recorded, and its later stages are empty: nothing is raised here.

    metadata: declined = [reason, Triton source line] or None; seconds by stage. listed: with the object's assembly,
    which takes as long as the object.
    """
    # Triton imports this module in every process, and others may compile: MLIR is loaded only where it is used.
    from torch_rvv.lowering import pipeline
    from torch_rvv.lowering.llvm import to_assembly

    empty: Any = b"" if name == RVVBackend.binary_ext else ""
    if name == "linalg":
        metadata.update(declined=None, seconds={}, shared=0, name=_kernel_name(source))
        source = metadata["ttir"] = str(source)
    if metadata["declined"] is not None:
        return empty
    start = time.perf_counter()
    try:
        result = pipeline.run(name, source.data if isinstance(source, Listing) else source, metadata, codegen)
    except Declined as error:
        metadata["declined"] = [error.what, error.where]
        return empty
    except Exception as error:  # A bug of ours must not stop the user's model: this kernel runs in aten.
        if knobs.fallback == "error":
            raise
        metadata["declined"] = [f"the {name} stage failed: {type(error).__name__}: {str(error)[:500]}", None]
        return empty
    metadata["seconds"][name] = time.perf_counter() - start
    _say(metadata, name, result)
    dump(metadata, name, source, result)
    if name == "object":
        listing = Listing(to_assembly(source, codegen.target) if listed else "")
        listing.data = result
        return listing
    return result


def _say(metadata: dict[str, Any], stage: str, result: Any) -> None:
    """TORCH_RVV_DEBUG: 1 a line a kernel, 2 a line a stage, 3 each stage's text."""
    if knobs.debug >= 3 and isinstance(result, str):
        print(f"// {metadata['name']}: {stage}\n{result}", file=sys.stderr)
    if knobs.debug >= 2:
        print(f"torch_rvv: {metadata['name']}: {stage} {metadata['seconds'][stage] * 1e3:.1f} ms", file=sys.stderr)
    if knobs.debug >= 1 and stage == RVVBackend.binary_ext:
        total = sum(metadata["seconds"].values()) * 1e3
        print(f"torch_rvv: compiled {metadata['name']} in {total:.0f} ms, LMUL {metadata['lmul']}", file=sys.stderr)


def _kernel_name(module: Any) -> str:
    text = str(module)
    at = text.index("tt.func public @") + len("tt.func public @")
    return text[at : text.index("(", at)].strip('"')
