"""What is known of each kernel that was compiled: for explain, for the fallback, for accuracy reports."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(eq=False)
class KernelRecord:
    """One kernel of one compiled graph.

    reason, where: why it fell back, and the Triton source line, if it did. metadata: the lowering's.
    seconds: by stage. origins: the aten operations it came from. launches: how often it ran; programs: how
    many programs that were.
    """

    name: str
    compiled: bool = True
    reason: str | None = None
    where: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    binary: bytes = b""
    seconds: float = 0.0
    origins: list[str] = field(default_factory=list)
    launches: int = 0
    programs: int = 0


@dataclass(eq=False)
class GraphRecord:
    """One compiled graph: its kernels, and the aten calls that Inductor left as they are.

    reason: why the graph keeps Inductor's Python wrapper instead of being one of our programs, if it does. decisions:
    choices that users will want to know of, as what is left to PyTorch's own kernels, each with its reason.
    """

    kernels: list[KernelRecord] = field(default_factory=list)
    extern: dict[str, int] = field(default_factory=dict)
    reason: str | None = None
    decisions: dict[str, str] = field(default_factory=dict)


_lock = threading.Lock()
_graphs: list[GraphRecord] = []
_noted = threading.local()


def add(graph: GraphRecord) -> None:
    graph.decisions = getattr(_noted, "decisions", {})
    _noted.decisions = {}
    with _lock:
        _graphs.append(graph)


def restore(graph: GraphRecord) -> None:
    """Add a graph that came from disk, with what was decided when it was compiled."""
    with _lock:
        _graphs.append(graph)


def graphs() -> list[GraphRecord]:
    """All graphs compiled in this process so far."""
    with _lock:
        return list(_graphs)


@contextmanager
def collecting() -> Iterator[list[GraphRecord]]:
    """The graphs compiled meanwhile, in a list that is complete at the end."""
    start = len(graphs())
    found: list[GraphRecord] = []
    try:
        yield found
    finally:
        found.extend(graphs()[start:])


def note(name: str, kernel: Any, node_schedule: Any) -> None:
    """Inductor made a kernel (in this thread): keep what it computes until `take`."""
    from torch_rvv.runtime.fallback import AtenKernel

    if not hasattr(_noted, "kernels"):
        _noted.kernels = {}
    captured, held = AtenKernel.capture(name, kernel, node_schedule), _noted.kernels.get(name)
    if held is None or captured is None:
        _noted.kernels.setdefault(name, captured)
    else:  # The same code for other buffers.
        held.others.append(captured)


LEFT = "is left to aten"


def decide(what: str, outcome: str) -> None:
    """A choice made while compiling (in this thread) that users will want to know of: part of the next graph that is
    added. outcome: what became of it and why, a predicate (LEFT and a reason)."""
    if not hasattr(_noted, "decisions"):
        _noted.decisions = {}
    _noted.decisions[what] = outcome


def take() -> dict[str, Any]:
    """What was noted since the last call: AtenKernel by kernel name."""
    kernels = getattr(_noted, "kernels", {})
    _noted.kernels = {}
    return kernels
