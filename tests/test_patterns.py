"""Inductor's patterns of attention: learnt by the first graph that may hold one, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from torch_rvv.patterns import may_hold_attention

aten = torch.ops.aten

SCRIPT = """
import torch
from torch._dynamo.utils import counters
from torch._inductor.fx_passes.fuse_attention import _sfdp_init

def attention(q, k, v):
    return torch.softmax(q @ k.transpose(-2, -1) / 4, -1) @ v

def plain(x):
    return x.relu() + 1

x = torch.randn(2, 3, 24, 16)
assert torch.equal(torch.compile(plain, backend="rvv")(x), plain(x))
assert not _sfdp_init.cache_info().currsize
result = torch.compile(attention, backend=BACKEND)(x, x, x)
torch.testing.assert_close(result, attention(x, x, x))
assert _sfdp_init.cache_info().currsize == 1
print(counters["inductor"]["fuse_attention"])
"""


@pytest.mark.board
@pytest.mark.parametrize("backend", ["rvv", "inductor"])
def test_a_graph_without_softmax_learns_none_and_the_next_one_all(backend, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    script = SCRIPT.replace("BACKEND", repr(backend))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "1"


def traced(function, *args):
    return torch.fx.experimental.proxy_tensor.make_fx(function)(*args)


@pytest.mark.parametrize(
    "function, expected",
    [
        (lambda x: torch.softmax(x, -1), True),
        (lambda x: (x - x.amax(-1, True)).exp() / 2, True),
        (lambda x: x.expand(2, 3).tanh() @ x.expand(2, 3).t(), False),
    ],
)
def test_signs_of_attention(function, expected):
    assert may_hold_attention(traced(function, torch.randn(3))) is expected
