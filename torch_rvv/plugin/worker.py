"""A process that lowers kernels for another one: python -m torch_rvv.plugin.worker FD.

FD: a socket's descriptor, with (TTIR, CodegenOptions) in and Lowered out, or None for a kernel that raised:
whoever asked compiles that one again and so has its error. Ends when the other side does. Loads no torch.
"""

from __future__ import annotations

import signal
import sys
from multiprocessing.connection import Connection

from torch_rvv.plugin.compiler import lower


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


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process in front; this one ends with it.
    serve(Connection(int(sys.argv[1])))
