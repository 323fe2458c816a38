"""One system's figures on one case: a row of the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch_rvv.benchmarks.capture import capture
from torch_rvv.benchmarks.cases import Case
from torch_rvv.benchmarks.cycles import MODEL_VLEN, memory_cycles, modelled, total
from torch_rvv.benchmarks.emulate import Profile, run_job
from torch_rvv.benchmarks.hottest import HotBlock, hottest

from torch_rvv.errors import InstallError, TorchRvvError

OURS = "torch_rvv"


@dataclass
class Result:
    """One system on one case. Counts are dynamic; cycles are modelled (see cycles.py), None without llvm-mca.

    reason: why there are no figures, or why some are missing. limit: instructions an element, ours only. bytes: of the
    inputs and outputs, what must move at least. kernels: of a model, each kernel's share of this. hottest: the blocks
    with the most cycles, where they were asked for.
    """

    suite: str
    case: str
    dtype: str
    shape: list[int]
    vlen: int
    system: str
    elements: int = 0
    flops: int = 0
    bytes: int = 0
    instructions: int | None = None
    vector_instructions: int | None = None
    cycles: float | None = None
    cycles_bound: float | None = None
    cycles_memory: float | None = None
    spills: int | None = None
    spills_vector: int | None = None
    limit: float | None = None
    reason: str | None = None
    classes: dict[str, int] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)
    kernels: list[dict[str, Any]] = field(default_factory=list)
    hottest: list[HotBlock] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def per_element(self) -> float | None:
        """Instructions an element."""
        return None if self.instructions is None else self.instructions / self.elements

    @property
    def failed(self) -> bool:
        """One of ours that has a limit and no figures; a peer may lack them."""
        return self.system == OURS and self.limit is not None and self.instructions is None


def blank(case: Case, system: str, vlen: int, reason: str | None = None) -> Result:
    """A row without figures."""
    dtype = str(case.dtype).removeprefix("torch.")
    return Result(
        case.suite,
        case.name,
        dtype,
        list(case.shape),
        vlen,
        system,
        case.elements,
        case.flops,
        case.bytes,
        reason=reason,
    )


def fill(result: Result, profile: Profile, blocks: int = 0) -> Result:
    """Put a profile's figures into a row, and that many of its hottest blocks."""
    classes = profile.classes()
    result.classes = {name: classes[name] for name in sorted(classes)}
    result.instructions, result.vector_instructions = profile.instructions, profile.vector_instructions
    result.spills, result.spills_vector = sum(profile.spills.values()), profile.spills["vector"]
    result.memory = dict(profile.memory)
    result.cycles_memory = round(memory_cycles(profile.memory), 1)
    if result.vlen != MODEL_VLEN:
        result.reason = f"no cycles: the model is of a core with VLEN {MODEL_VLEN}"
        return result
    try:
        (found,) = modelled(profile.blocks())
        cycles, result.hottest = total(found), hottest(found, blocks)
    except (InstallError, ValueError) as error:  # ValueError: an instruction that the tools do not know
        result.reason = f"no cycles: {error}"
    else:
        result.cycles, result.cycles_bound = round(cycles.estimate, 1), round(cycles.bound, 1)
    return result


def ours(case: Case, vlen: int, blocks: int = 0) -> Result:
    """Our kernels on a case: counted only if they leave in memory what they left there when they ran on the board."""
    result = blank(case, OURS, vlen)
    result.limit = case.limit
    try:
        job, memory, _, _ = capture(case.kernel or case.function, case.inputs())
        profile, found = run_job(job, vlen)
    except (TorchRvvError, NotImplementedError, RuntimeError) as error:
        result.reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        return result
    if found != memory:
        result.reason = "what ran under the profiler left other results than on the board"
        return result
    return fill(result, profile, blocks)


def same(found: bytes, expected: torch.Tensor, ulps: float | None = None) -> bool:
    """Whether a buffer holds a tensor's values, in its memory order: floats within some ulps of the largest.

    ulps: 64 for single and double precision and 4 for halves, whose arithmetic is in single, if not given.
    """
    flat = expected.detach().as_strided((expected.untyped_storage().nbytes() // expected.element_size(),), (1,), 0)
    got = torch.frombuffer(bytearray(found), dtype=expected.dtype)[: flat.numel()]
    if not expected.is_floating_point():
        return bool(torch.equal(got, flat))
    epsilon = torch.finfo(expected.dtype).eps
    ulps = ulps or (4.0 if expected.element_size() == 2 else 64.0)
    largest = float(flat.double().abs().max())
    return torch.allclose(got.double(), flat.double(), rtol=0.0, atol=ulps * epsilon * largest, equal_nan=True)


def peer(case: Case, system: str, vlen: int, build: Any, blocks: int = 0) -> Result:
    """A peer on a case. build(case): see peers/__init__.py; a TorchRvvError that it raises becomes the reason."""
    result = blank(case, system, vlen)
    try:
        job, checks = build(case)
        profile, found = run_job(job, vlen)
    except TorchRvvError as error:
        result.reason = str(error).splitlines()[0]
        return result
    if not all(same(found[position], expected) for position, expected in checks):
        result.reason = "wrong results"
        return result
    return fill(result, profile, blocks)


def rows(case: Case, vlen: int, peers: Sequence[tuple[str, Any]], blocks: int = 0) -> list[Result]:
    """Ours and every peer's row of a case, each with that many of its hottest blocks."""
    return [ours(case, vlen, blocks), *(peer(case, name, vlen, build, blocks) for name, build in peers)]
