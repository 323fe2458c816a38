"""Peers: other compilers and libraries on the same work. Each is a class with a name and `build`.

build(case) gives the job and what its output buffers must hold, or raises Unavailable with the reason, which then
stands in the report in place of figures.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch_rvv.benchmarks.cases import Case
from torch_rvv.benchmarks.jobs import Job

from torch_rvv.errors import TorchRvvError


class Unavailable(TorchRvvError):
    """A peer cannot run a case here."""


# (position in the job's outputs, the tensor whose values must be there)
Checks = list[tuple[int, torch.Tensor]]


class Peer(Protocol):
    """Something that a case is compared with."""

    name: str

    def applies(self, case: Case) -> bool:
        """Whether it is meant for such work at all; if not, it has no row."""
        ...

    def build(self, case: Case) -> tuple[Job, Checks]:
        """The case as a job for the board, and what it must compute. Raises Unavailable."""
        ...
