"""Kernels lowered by other processes while Inductor still writes the next ones.

    define_kernel   begin: Triton's frontend here, its TTIR to a worker
    triton.compile  what the frontend made is there; take: the stages find their results, and wait for one under way

Nothing depends on it: a kernel whose result is not there, for whatever reason, is compiled where it is asked for.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, wraps
from hashlib import sha256
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from queue import Empty, SimpleQueue
from typing import Any

from torch._inductor.codecache import _load_triton_kernel_from_source
from triton._C.libtriton import ir
from triton.backends.compiler import GPUTarget
from triton.compiler.compiler import ASTSource, get_cache_invalidating_env_vars, get_cache_key
from triton.runtime.cache import get_cache_manager

from torch_rvv.knobs import CodegenOptions, knobs
from torch_rvv.plugin import compiler
from torch_rvv.plugin.compiler import Lowered, RVVBackend

# What Triton's frontend makes depends on: the source's digest, and a backend's options.
_Key = tuple[str, compiler.Options]
MOST = 8  # Beyond, starting them costs more than they bring.


class Workers:
    """Processes that lower kernels, each with a thread here that waits for it."""

    def __init__(self, count: int):
        self.count = count
        self.threads = ThreadPoolExecutor(count, "torch_rvv-ahead")
        self.own = threading.local()
        self.idle: SimpleQueue[Connection] = SimpleQueue()
        self.processes: list[subprocess.Popen[bytes]] = []

    def _start(self, count: int) -> None:
        """So many more, which are one process until it has loaded what all of them need."""
        pairs = [Pipe() for _ in range(count)]
        descriptors = [theirs.fileno() for _, theirs in pairs]
        command = [sys.executable, "-m", "torch_rvv.plugin.worker", *map(str, descriptors)]
        self.processes.append(subprocess.Popen(command, pass_fds=descriptors, stdin=subprocess.DEVNULL))
        for ours, theirs in pairs:
            theirs.close()
            self.idle.put(ours)

    def wake(self) -> None:
        """Start them before there is anything for them, so that they are ready when there is."""
        if not self.processes:
            self._start(self.count)

    def submit(self, ttir: str, codegen: CodegenOptions) -> Future[Lowered | None]:
        return self.threads.submit(self._ask, ttir, codegen)

    def _connected(self) -> Connection:
        """To the process of this thread."""
        if not hasattr(self.own, "connection"):
            try:
                self.own.connection = self.idle.get_nowait()
            except Empty:  # The one that it had has died.
                self._start(1)
                self.own.connection = self.idle.get()
        connection: Connection = self.own.connection
        return connection

    def _ask(self, ttir: str, codegen: CodegenOptions) -> Lowered | None:
        try:
            self._connected().send((ttir, codegen))
            answer: Lowered | None = self._connected().recv()
            return answer
        except (OSError, EOFError):  # It died, or never began. This kernel is compiled by whoever asks for it.
            self.own.__dict__.pop("connection", None)
            return None


@cache
def _workers(count: int) -> Workers:
    return Workers(count)


os.register_at_fork(after_in_child=_workers.cache_clear)  # A child has neither the threads nor a claim on the answers.


class Batch:
    """The kernels of one graph that are under way, by (TTIR, options), and what Triton's frontend made of them."""

    def __init__(self, workers: Workers):
        self.workers = workers
        self.under_way: dict[tuple[str, CodegenOptions], Future[Lowered | None]] = {}
        self.modules: dict[_Key, Any] = {}

    def begin(self, definition: str) -> None:
        """Send a kernel to the workers. definition: async_compile.triton(name, source, ...), as Inductor writes it."""
        codegen = compiler.current_codegen()
        try:
            tuner = eval(definition, {"async_compile": _Load})
            made = [_frontend(tuner, config) for config in tuner.configs or ()]
        except Exception:  # An error in the kernel is reported where it is compiled.
            return
        for key, module in filter(None, made):
            self.modules[key] = module
            if (ttir := str(module), codegen) not in self.under_way:
                self.under_way[ttir, codegen] = self.workers.submit(ttir, codegen)

    def take(self, ttir: str, codegen: CodegenOptions) -> Lowered | None:
        """A kernel's results, once, when they are there."""
        future = self.under_way.pop((ttir, codegen), None)
        return None if future is None else future.result()

    def close(self) -> None:
        for future in self.under_way.values():
            future.cancel()


class _Load:
    """Stands in for Inductor's async_compile: loads a kernel's source, and compiles nothing."""

    @staticmethod
    def triton(name: str, source: str, **_: Any) -> Any:
        return _load_triton_kernel_from_source(name, source)


_batch: ContextVar[Batch | None] = ContextVar("torch_rvv_batch", default=None)
current = _batch.get


@contextmanager
def batch() -> Iterator[None]:
    """Kernels of graphs compiled meanwhile (in this thread) go to the workers, if there are any."""
    count = knobs.compile_processes
    if count is None:  # As many as there are cores: this process has little to do while it waits.
        cores = len(os.sched_getaffinity(0))
        count = min(cores, MOST) if cores > 1 else 0
    # Who watches wants it all in one place; and no error is to be lost between two.
    if count <= 0 or knobs.debug or knobs.dump or knobs.verify or knobs.fallback == "error":
        yield
        return
    held = Batch(_workers(count))
    held.workers.wake()
    token = _batch.set(held)
    try:
        with compiler.results_from(held.take):
            yield
    finally:
        _batch.reset(token)
        held.close()


def _frontend(tuner: Any, config: Any) -> tuple[_Key, Any] | None:
    """What Triton's frontend makes of a configuration, cleaned up; None for one that Triton's cache has."""
    meta = tuner._create_compile_meta(config)
    source = ASTSource(tuner.fn, meta["signature"], meta["constants"], meta["configs"][0])
    target = GPUTarget("cpu", tuner.device_props.cc, tuner.device_props.warp_size_or_default)
    backend = RVVBackend(target)
    options = backend.parse_options({**tuner._create_compile_options(config, meta), **source.parse_options()})
    key = get_cache_key(source, backend, options, env_vars=get_cache_invalidating_env_vars())
    if get_cache_manager(sha256(key.encode()).hexdigest()).get_group(f"{source.name[:150]}.json"):
        return None
    context = ir.context()
    ir.load_dialects(context)
    generation = backend.get_codegen_implementation(options)
    module = source.make_ir(target, options, generation, backend.get_module_map(), context)
    return (source.hash(), options), compiler.ttir_passes(module, {}, options)


_make_ir = ASTSource.make_ir


@wraps(_make_ir)  # PyTorch looks at its parameters.
def _made_ir(source: ASTSource, target: Any, options: Any, *others: Any) -> Any:
    """Stands in for Triton's own, which would make anew what a batch has."""
    batch = current()
    module = None if batch is None else batch.modules.pop((source.hash(), options), None)
    return _make_ir(source, target, options, *others) if module is None else module


ASTSource.make_ir = _made_ir
