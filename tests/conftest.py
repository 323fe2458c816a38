"""What tests share: inputs with every edge value, and comparison with aten."""

from __future__ import annotations

import math
import os

import pytest
import torch
from torch._functorch import config as functorch_config
from torch_rvv.benchmarks import cycles

from torch_rvv.errors import InstallError

# What a test compiles is compiled, not found on disk (test_graphcache.py turns it on again).
functorch_config.enable_autograd_cache = False
# And in this process, where a test may look at it (test_ahead.py has other processes).
os.environ.setdefault("TORCH_RVV_COMPILE_PROCESSES", "0")

FLOATS = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
INTEGERS = [torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64]
EDGES = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, math.inf, -math.inf, math.nan, 1e-40, -1e-40, 1e-6, 6e4, -6e4, 3.0, 2.5, 1.5]


def sample(dtype: torch.dtype, n: int = 1003, seed: int = 0, low: float = -4.0, high: float = 4.0) -> torch.Tensor:
    """Random values of a dtype, with all edge values of that dtype in front."""
    generator = torch.Generator().manual_seed(seed)
    if dtype.is_floating_point:
        values = torch.rand(n, generator=generator, dtype=torch.float64) * (high - low) + low
        edges = torch.tensor(EDGES, dtype=torch.float64).roll(seed)
        values[: min(n, len(EDGES))] = edges[:n]
        return values.to(dtype)
    if dtype == torch.bool:
        return torch.randint(0, 2, (n,), generator=generator).bool()
    info = torch.iinfo(dtype)
    values = torch.randint(max(info.min, -100), min(info.max, 100), (n,), generator=generator).to(dtype)
    edges = torch.tensor([0, 1, info.max, info.min, 2, 3], dtype=dtype)
    values[: min(n, 6)] = edges.roll(seed)[:n]
    return values


def assert_same(ours: torch.Tensor, theirs: torch.Tensor, ulps: float = 4.0, exact: torch.Tensor | None = None) -> None:
    """Equal shapes, dtypes and NaN positions; floats within some ulps of aten's, or of a float64 result."""
    assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
    if not ours.is_floating_point():
        assert torch.equal(ours, theirs), _first(ours, theirs, ours != theirs)
        return
    relative = ulps * torch.finfo(ours.dtype).eps
    tiny = torch.finfo(ours.dtype).tiny * 4
    good = torch.isclose(ours.double(), theirs.double(), rtol=relative, atol=tiny, equal_nan=True)
    if exact is not None:
        good |= torch.isclose(ours, exact.to(ours.dtype), rtol=relative, atol=tiny, equal_nan=True)
    assert bool(good.all()), _first(ours, theirs, ~good)


def _first(ours: torch.Tensor, theirs: torch.Tensor, bad: torch.Tensor) -> str:
    at = tuple(bad.nonzero()[0].tolist())
    return f"{int(bad.sum())} differ, the first at {at}: {ours[at].item()!r} is not {theirs[at].item()!r}"


@pytest.fixture
def mca():
    """For tests of modelled cycles: skips where there is no llvm-mca that knows the core."""
    try:
        cycles.tools()
    except InstallError as error:
        pytest.skip(str(error))


@pytest.fixture
def rvv(monkeypatch):
    """torch.compile for RVV where a kernel that cannot be compiled is an error."""
    monkeypatch.setenv("TORCH_RVV_FALLBACK", "error")
    torch._dynamo.reset()

    def compile_(function, **keywords):
        return torch.compile(function, backend="rvv", **keywords)

    return compile_
