"""The host's side of the protocol with a worker (runtime/include/torch_rvv_worker.h), over pipes or a socket."""

from __future__ import annotations

import ctypes
import os
import select
import struct
import time
from dataclasses import dataclass
from typing import Protocol

LOAD, RUN, WRITE, READ, PROTECT, PAGE = 1, 2, 3, 4, 5, 6
ERROR, FAULT, PRINTED, PAGE_WANTED, CHANGED = -1, -2, -3, -4, -5
PROTOCOL, ABI_VERSION = 3, 1

_REQUEST = struct.Struct("<IIQ")
_REPLY = struct.Struct("<iIQ")
_HELLO = struct.Struct("<6I2Q")
_FAULT = struct.Struct("<IIQQ")
LOADED = struct.Struct("<4I")
RUN_HEAD = struct.Struct("<8I")
PRINT_HEAD = struct.Struct("<4I")
PAGE_BYTES = 4096
PROTECTED = struct.Struct("<QQII")


class End(Protocol):
    """A file or a socket."""

    def fileno(self) -> int: ...

    def close(self) -> None: ...


class Gone(Exception):
    """The other side has closed the connection."""


class Late(Exception):
    """The deadline has passed."""


@dataclass(frozen=True)
class Hello:
    """What a worker says of its machine. vlen in bits; isa is empty where the system does not tell."""

    protocol: int
    abi_version: int
    vlen: int
    threads: int
    page: int
    memory_bytes: int
    memory_address: int
    isa: str

    @staticmethod
    def unpack(data: bytes) -> Hello:
        protocol, abi, vlen, threads, page, _, size, address = _HELLO.unpack_from(data)
        return Hello(protocol, abi, vlen, threads, page, size, address, data[_HELLO.size :].decode())


@dataclass(frozen=True)
class Fault:
    """A signal in a kernel, at an address of the worker's; where is "symbol+0xoffset"."""

    signal: int
    address: int
    pc: int
    where: str

    @staticmethod
    def unpack(data: bytes) -> Fault:
        number, _, address, pc = _FAULT.unpack_from(data)
        return Fault(number, address, pc, data[_FAULT.size :].decode(errors="replace"))


class Channel:
    """Requests and replies over two files (or one socket, twice), which become non-blocking and the channel's own.

    Deadlines are times of time.monotonic(). Every method raises Gone or Late; after either, and after an
    exception from outside (Ctrl-C), the two sides no longer agree on where a message starts: close it.
    """

    def __init__(self, reader: End, writer: End):
        self._ends = (reader, writer)
        self.reader, self.writer = reader.fileno(), writer.fileno()
        for fd in (self.reader, self.writer):
            os.set_blocking(fd, False)
        self._readable, self._writable = select.poll(), select.poll()  # select.select() ends at descriptor 1023
        self._readable.register(self.reader, select.POLLIN)
        self._writable.register(self.writer, select.POLLOUT)

    def alive(self) -> bool:
        """Whether the other side is there; to be asked between a reply and the next request only."""
        return not self._readable.poll(0)

    def send(self, op: int, payload: bytes, deadline: float) -> None:
        """One request."""
        self._write(memoryview(_REQUEST.pack(op, 0, len(payload)) + payload), deadline)

    def send_memory(self, offset: int, address: int, nbytes: int, deadline: float) -> None:
        """WRITE from an address of this process."""
        self._write(memoryview(_REQUEST.pack(WRITE, 0, 8 + nbytes) + struct.pack("<Q", offset)), deadline)
        self._write(_view(address, nbytes), deadline)

    def receive(self, deadline: float) -> tuple[int, bytes]:
        """One reply: its status and its payload."""
        status, count = self._head(deadline)
        payload = bytearray(count)
        self._read(memoryview(payload), deadline)
        return status, bytes(payload)

    def receive_memory(self, address: int, nbytes: int, deadline: float) -> tuple[int, bytes]:
        """The reply to a READ, put at an address of this process; the payload of any other reply."""
        status, count = self._head(deadline)
        if status == 0 and count == nbytes:
            self._read(_view(address, nbytes), deadline)
            return 0, b""
        payload = bytearray(count)
        self._read(memoryview(payload), deadline)
        return status or ERROR, bytes(payload)

    def close(self) -> None:
        """Leave; the worker ends."""
        for end in self._ends:
            end.close()

    def _head(self, deadline: float) -> tuple[int, int]:
        head = bytearray(_REPLY.size)
        self._read(memoryview(head), deadline)
        status, _, count = _REPLY.unpack(head)
        return status, count

    def _read(self, into: memoryview, deadline: float) -> None:
        while into:
            _wait(self._readable, deadline)
            try:
                count = os.readv(self.reader, [into])
            except BlockingIOError:
                continue
            except OSError as error:
                raise Gone from error
            if not count:
                raise Gone
            into = into[count:]

    def _write(self, data: memoryview, deadline: float) -> None:
        while data:
            try:
                data = data[os.write(self.writer, data) :]
            except BlockingIOError:
                _wait(self._writable, deadline)
            except OSError as error:
                raise Gone from error


def _wait(ready: select.poll, deadline: float) -> None:
    left = deadline - time.monotonic()
    if left <= 0 or not ready.poll(left * 1000 + 1):
        raise Late


def _view(address: int, nbytes: int) -> memoryview:
    return memoryview((ctypes.c_char * nbytes).from_address(address)).cast("B")
