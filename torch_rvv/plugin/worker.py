"""Processes that lower kernels for another one: python -m torch_rvv.plugin.worker FD...

FD: a socket's descriptor, with (TTIR, CodegenOptions) in and Lowered out, or None for a kernel that raised:
whoever asked compiles that one again and so has its error. A process for each, all forked from the first, so that
what they need is loaded once. Each ends when the other side of its socket does. Loads no torch.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection

from torch_rvv.lowering import pipeline  # noqa: F401  # Before the fork.
from torch_rvv.plugin.compiler import lower

# So much less urgent than the process that finds work for them: they may be as many as there are cores.
LESS = 5


def serve(connection: Connection) -> None:
    """Answer until the connection closes."""
    while True:
        try:
            ttir, codegen = connection.recv()
        except EOFError:
            return
        try:
            lowered = lower(ttir, codegen)
        except Exception:
            lowered = None
        connection.send(lowered)


def own(descriptors: Sequence[int]) -> int:
    """The descriptor of this process, which is forked for each but the first. The others are closed: a socket must end
    with the one process that serves it."""
    first, *others = descriptors
    mine = next((descriptor for descriptor in others if os.fork() == 0), first)
    for descriptor in descriptors:
        if descriptor != mine:
            os.close(descriptor)
    return mine


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process in front; this one ends with it.
    os.nice(LESS)
    serve(Connection(own([int(text) for text in sys.argv[1:]])))
