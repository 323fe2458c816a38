"""A check that no second Triton backend for the CPU is installed."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points

from torch_rvv.errors import InstallError

NAME, OURS = "cpu", "torch_rvv.plugin"


@cache
def check_alone() -> None:
    """Raise InstallError if another package is Triton's backend for the CPU, too: Triton keeps only one."""
    others = [e for e in entry_points(group="triton.backends") if e.name == NAME and e.value != OURS]
    if others:
        package = others[0].dist.name if others[0].dist is not None else others[0].value
        raise InstallError(
            f"two Triton backends for the CPU are installed: {OURS} and {others[0].value}",
            hint=f"Remove one of them, e.g. pip uninstall {package}",
        )
