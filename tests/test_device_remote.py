"""RemoteBoard, against a worker that listens on 127.0.0.1 under the emulator."""

from __future__ import annotations

import gc
import threading
import time

import pytest
import torch
from board_kernels import Server, add, native, works
from torch_rvv.runtime.device import get_device
from torch_rvv.runtime.remote import RemoteBoard

from torch_rvv.errors import DeviceError, KernelFault, KernelTimeout

pytestmark = pytest.mark.board
ISA = "rv64imafdcv_zba_zbb_zbs_zfh_zvfh"


@pytest.fixture(scope="module")
def server():
    server = Server("--isa", ISA, "--memory", str(64 << 20))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def board(server):
    board = get_device(server.address)
    yield board
    assert board.memory.used == 0
    board.close()


def test_it_tells_what_it_is(board, server):
    assert board.vlen == 256 and "zvfh" in board.isa and board.num_threads >= 1
    assert board.memory.size == 64 << 20 and server.address in board.name


@pytest.mark.parametrize("n", [1, 65, 1_000_003])
def test_launches(n, board):
    a, b, out = torch.randn(n), torch.randn(n), torch.zeros(n)
    assert add(board, a, b, out, written=[2]) == 0
    assert torch.equal(out, a + b)


def test_overlapping_arguments_and_status(board):
    base = torch.arange(100.0)
    expected = base.clone()
    for i in range(64):
        expected[3 + i] = expected[i] + 1
    board.launch(board.load(native("ADD"), "add"), (1,), [base[:64], torch.ones(64), base[3:67], 64], written=[2])
    assert torch.equal(base, expected)
    assert board.launch(board.load(native("STATUS"), "status"), (7, 5, 3), [torch.zeros(105).int(), 77]) == 5


def test_a_fault_and_a_timeout_are_errors_and_the_next_launch_works(board):
    with pytest.raises(KernelFault, match=r"kernel bad raised SIGSEGV .*kernel\+0x"):
        board.launch(board.load(native("SEGV"), "bad"), (64,), [])
    assert works(board)
    with pytest.raises(KernelTimeout, match="kernel spin"):
        board.launch(board.load(native("SPIN"), "spin"), (1,), [], timeout=0.5)
    assert works(board)
    with pytest.raises(DeviceError, match="--memory"):
        add(board, torch.ones(30 << 20), torch.ones(1), torch.ones(1))
    assert works(board)


def test_guarded_launches(board):
    with board.guarded(), pytest.raises(KernelFault, match="0 bytes past the end of argument 0"):
        board.launch(board.load(native("STRAY"), "stray"), (1,), [torch.ones(5), 20, 0])
    with board.guarded("start"):
        assert works(board)


def test_pinned_tensors_are_sent_once_and_again_after_a_restart(board, monkeypatch):
    a, b, out = torch.ones(1000), torch.ones(1000), torch.zeros(1000)
    board.pin(a)
    sent = []
    monkeypatch.setattr(board.memory, "write", lambda *x, write=board.memory.write: sent.append(x[1]) or write(*x))
    for _ in range(3):
        add(board, a, b, out, written=[2])
    assert sent.count(a.data_ptr()) == 1
    with pytest.raises(KernelFault):
        board.launch(board.load(native("SEGV"), "bad"), (1,), [])
    add(board, a, b, out, written=[2])
    assert sent.count(a.data_ptr()) == 2 and bool((out == 2).all())
    del a
    gc.collect()
    works(board)


def test_two_hosts_at_once(board, server):
    other = RemoteBoard(server.address)
    fine = []

    def work(which):
        fine.extend(works(which) for _ in range(10))

    threads = [threading.Thread(target=work, args=(b,)) for b in (board, other)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    other.close()
    assert fine == [True] * 20


def test_a_worker_that_was_restarted_is_found_again_and_one_that_changed_is_not():
    first = Server("--isa", ISA, "--memory", "1000000")
    board = RemoteBoard(first.address)
    assert works(board)
    first.stop()
    while board._channel.alive():  # its session ends a little later
        time.sleep(0.01)
    with pytest.raises(DeviceError, match="cannot reach"):
        works(board)
    second = Server("--isa", ISA, "--memory", "1000000", where=first.address)
    try:
        assert works(board)
    finally:
        second.stop()
    while board._channel.alive():
        time.sleep(0.01)
    third = Server("--isa", ISA, "--memory", "1000000", where=first.address, vlen=512)
    try:
        with pytest.raises(DeviceError, match="has changed"):
            works(board)
    finally:
        third.stop()


def test_a_machine_that_does_not_tell_its_isa_asks_for_it():
    server = Server()
    try:
        with pytest.raises(DeviceError, match="--isa"):
            RemoteBoard(server.address)
    finally:
        server.stop()


def test_nobody_there_is_one_clear_error():
    with pytest.raises(DeviceError, match="(?s)cannot reach the board at 127.0.0.1:1.*worker --listen"):
        RemoteBoard("127.0.0.1:1")


def test_what_speaks_something_else_is_refused():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"\0" * 8 + (100).to_bytes(8, "little") + b"SSH-2.0-other" + b"\0" * 87)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(DeviceError, match="another version"):
            RemoteBoard(f"127.0.0.1:{listener.getsockname()[1]}")
        thread.join()
