"""What a user can get wrong, one class a mistake.

Every message says what happened, where (the Triton source line, when there is one) and what to do.
`Declined` is the exception that is not an error: a lowering rule met something it does not know, and
the kernel runs in aten instead.
"""

from __future__ import annotations


class TorchRvvError(Exception):
    """Base of all of ours. `where` is a source location ("file.py:12"), `hint` says what to do."""

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None):
        self.what, self.where, self.hint = what, where, hint
        super().__init__(what)

    def __str__(self) -> str:
        text = self.what
        if self.where:
            text += f"\n  at {self.where}"
        if self.hint:
            text += f"\n  {self.hint}"
        return text

    def __reduce__(self):
        return (_rebuild, (type(self), self.__dict__))


def _rebuild(cls: type, state: dict) -> Exception:
    error: Exception = Exception.__new__(cls)
    error.__dict__.update(state)
    error.args = (state.get("what", ""),)
    return error


class OptionError(TorchRvvError, ValueError):
    """An unknown option, target or value; the message lists the known ones."""


class InstallError(TorchRvvError, RuntimeError):
    """Something the package needs is not on this machine; the hint is the command that installs it."""


class Declined(TorchRvvError):
    """The lowering does not handle this kernel; the caller falls back to aten and records why."""


class LoweringError(TorchRvvError, RuntimeError):
    """The lowering broke one of its own contracts (a bug of ours, reported with its stage)."""


class DeviceError(TorchRvvError, RuntimeError):
    """The device could not do what was asked: out of memory, a bad kernel file, a lost worker."""


class KernelFault(DeviceError):
    """A kernel raised a signal (SIGSEGV, SIGILL, ...); names the kernel, the signal and the address."""


class KernelTimeout(DeviceError):
    """A kernel did not end within the time limit; the worker was restarted."""


class KernelAssert(TorchRvvError, AssertionError):
    """A `tl.device_assert` failed in a kernel; carries the assert's own message."""
