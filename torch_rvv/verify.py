"""Verify mode (TORCH_RVV_VERIFY=1): every compiled kernel's results against its aten twin, on the same inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from torch_rvv.errors import TorchRvvError

# Relative and absolute tolerance by element type: reductions may be summed in another order.
TOLERANCE = {
    torch.float64: (1e-9, 1e-9),
    torch.float32: (2e-4, 1e-5),
    torch.float16: (4e-3, 1e-3),
    torch.bfloat16: (4e-2, 1e-2),
}


class VerifyError(TorchRvvError, AssertionError):
    """A compiled kernel and its aten twin disagree; names the kernel, the argument and the first element."""


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    """All of a tensor's storage, flat."""
    count = tensor.untyped_storage().nbytes() // tensor.element_size()
    return torch.as_strided(tensor, (count,), (1,), 0)


def _copies(args: list[Any]) -> list[Any]:
    """The arguments on copies of their storages: what shares memory still does."""
    storages: dict[int, torch.Tensor] = {}
    copies = []
    for argument in args:
        if isinstance(argument, torch.Tensor):
            key = argument.untyped_storage().data_ptr()
            if key not in storages:
                count = argument.untyped_storage().nbytes()
                raw = torch.empty(0, dtype=torch.uint8).set_(argument.untyped_storage(), 0, (count,), (1,))
                storages[key] = raw.clone()
            flat = storages[key].view(argument.dtype)
            argument = torch.as_strided(flat, argument.shape, argument.stride(), argument.storage_offset())
        copies.append(argument)
    return copies


def checked(kernel: Any, grid: Sequence[int], args: list[Any], device: Any) -> None:
    """Launch a kernel, run its twin on copies, compare. Raises VerifyError."""
    expected = _copies(args)
    kernel.launch(grid, args, device)
    kernel.fallback.run(dict(zip(kernel.names, expected, strict=True)))
    for name, ours, theirs in zip(kernel.names, args, expected, strict=True):
        if isinstance(ours, torch.Tensor):
            compare(kernel.name, name, _whole(ours), _whole(theirs))


def compare(kernel: str, argument: str, ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Raise VerifyError unless two flat tensors agree within the element type's tolerance."""
    if ours.dtype in TOLERANCE:
        relative, absolute = TOLERANCE[ours.dtype]
        bad = ~torch.isclose(ours, theirs, rtol=relative, atol=absolute, equal_nan=True)
    else:
        bad = ours != theirs
    if bool(bad.any()):
        at = int(bad.nonzero()[0])
        raise VerifyError(
            f"kernel {kernel}: argument {argument} differs from aten in {int(bad.sum())} of {bad.numel()} elements;"
            f" element {at} is {ours[at].item()}, aten has {theirs[at].item()}"
        )
