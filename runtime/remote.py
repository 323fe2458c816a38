"""RemoteBoard: a worker across TCP. Tensors travel by value, but for those that are pinned.

    the board:  worker --listen 0.0.0.0:7700          the host:  device="board.local:7700"

The worker runs whatever code it is sent and asks nobody who they are: listen on networks that are trusted, or on
127.0.0.1 behind an SSH tunnel.
"""

from __future__ import annotations

import socket

from torch_rvv.runtime.board import START_TIMEOUT, Board
from torch_rvv.runtime.device import extensions
from torch_rvv.runtime.pins import Pins
from torch_rvv.runtime.pool import Allocator
from torch_rvv.runtime.wire import READ, Channel, Hello

from torch_rvv.errors import DeviceError
from torch_rvv.knobs import knobs


class _RemoteMemory(Allocator):
    """The board's memory; the host decides what stands where, and reaches it through the worker only."""

    def __init__(self, board: RemoteBoard, size: int):
        super().__init__(size, "Start the worker with a larger --memory.")
        self.board = board

    def offset(self, address: int) -> int | None:
        """No tensor of this process stands there."""
        return None

    def write(self, at: int, address: int, nbytes: int) -> None:
        """Send bytes from an address of this process."""
        self.board._exchange("(upload)", None, lambda c, deadline: c.send_memory(at, address, nbytes, deadline))

    def read(self, at: int, address: int, nbytes: int) -> None:
        """Fetch bytes to an address of this process."""

        def talk(channel: Channel, deadline: float) -> None:
            channel.send(READ, at.to_bytes(8, "little") + nbytes.to_bytes(8, "little"), deadline)
            status, data = channel.receive_memory(address, nbytes, deadline)
            if status:
                raise DeviceError(f"cannot read from {self.board.name}: {data.decode(errors='replace')}")

        self.board._exchange("(download)", None, talk)


class RemoteBoard(Board):
    """The board where a worker listens at "HOST:PORT". Raises DeviceError when nobody is there."""

    def __init__(self, address: str):
        super().__init__()
        host, _, port = address.rpartition(":")
        self._address = host, int(port)
        self.name = f"the board at {address}"
        self._socket: socket.socket | None = None
        hello = self.connect()
        if not hello.isa or not hello.vlen:
            self.close()
            what = "vector unit" if hello.isa else "ISA string in /proc/cpuinfo"
            raise DeviceError(f"{self.name} has no {what}", hint="Start the worker with --isa rv64imafdcv_...")
        self.vlen, self.isa = hello.vlen, frozenset(extensions(hello.isa))
        self.num_threads = knobs.threads or hello.threads
        self.memory = _RemoteMemory(self, hello.memory_bytes)
        self._pins = Pins(self.memory)

    def connect(self) -> Hello:
        before, hello = self._hello, super().connect()
        if before is not None and _machine(before) != _machine(hello):
            self.close()
            raise DeviceError(f"{self.name} has changed: it was {_machine(before)}, now it is {_machine(hello)}")
        return hello

    @property
    def _epoch(self) -> int:
        return self.generation

    def _open(self) -> Channel:
        try:
            self._socket = socket.create_connection(self._address, timeout=START_TIMEOUT)
        except OSError as error:
            raise DeviceError(
                f"cannot reach {self.name}: {error}", hint="Start it there: worker --listen 0.0.0.0:PORT"
            ) from None
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return Channel(self._socket, self._socket)

    def _end(self) -> str:
        self._socket = None
        return "the connection was closed"

    def _after_fork(self) -> None:
        super()._after_fork()
        self._socket = None
        self.generation += 1


def _machine(hello: Hello) -> str:
    return f"{hello.isa} with VLEN {hello.vlen} and {hello.memory_bytes} bytes"
