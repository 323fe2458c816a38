"""All that can go wrong with a kernel, a worker or an installation: one clear error, and the next launch works."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest
import torch
from board_kernels import add, native, works
from torch_rvv.runtime import build
from torch_rvv.runtime.virtual import VirtualBoard

from torch_rvv.errors import DeviceError, InstallError, KernelFault, KernelTimeout

pytestmark = pytest.mark.board


@pytest.fixture(scope="module")
def board():
    device = VirtualBoard(256)
    yield device
    device.close()


@pytest.fixture(autouse=True)
def stays_usable(board):
    """Whatever happened: the next launch works, and the board's memory is as it was."""
    held = board.empty_strided((64,), (1,), torch.float32).fill_(3)
    before = board.pool.used
    yield
    assert works(board)
    out = torch.empty(64)
    add(board, held, held, out)
    assert bool((out == 6).all())
    assert board.pool.used == before


@pytest.mark.parametrize(("which", "name"), [("SEGV", "SIGSEGV"), ("ILL", "SIGILL")])
def test_a_fault_names_the_kernel_the_signal_and_the_place(which, name, board):
    with pytest.raises(KernelFault, match=f"kernel bad raised {name} at address 0x.*pc 0x[0-9a-f]+, kernel\\+0x"):
        board.launch(board.load(native(which), "bad"), (1, 1, 1), [])


def test_a_stack_overflow_is_a_fault(board):
    with pytest.raises(KernelFault, match="kernel deep raised SIGSEGV"):
        board.launch(board.load(native("OVERFLOW"), "deep"), (1,), [])


def test_threads_that_fault_together_make_one_report(board):
    kernel = board.load(native("SEGV"), "bad")
    for _ in range(20):
        with pytest.raises(KernelFault, match="kernel bad raised SIGSEGV at address 0x10 "):
            board.launch(kernel, (64,), [])


def test_an_endless_kernel_is_stopped(board):
    start = time.monotonic()
    with pytest.raises(KernelTimeout, match="(?s)kernel spin .*0.5 s.*TORCH_RVV_TIMEOUT"):
        board.launch(board.load(native("SPIN"), "spin"), (1, 1, 1), [], timeout=0.5)
    assert time.monotonic() - start < 5


def test_a_worker_killed_during_a_launch(board):
    kernel = board.load(native("SPIN"), "spin")
    killer = threading.Timer(0.3, lambda: os.kill(board._process.pid, signal.SIGKILL))
    killer.start()
    with pytest.raises(KernelFault, match="while kernel spin ran: SIGKILL"):
        board.launch(kernel, (1, 1, 1), [], timeout=20)


def test_a_worker_killed_between_launches_is_replaced_in_silence(board):
    assert works(board)
    os.kill(board._process.pid, signal.SIGKILL)
    time.sleep(0.2)
    assert works(board)


def test_a_launch_that_is_interrupted_does_not_confuse_the_next(board):
    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        kernel = board.load(native("SPIN"), "spin")
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(KeyboardInterrupt):
            board.launch(kernel, (1,), [])
    finally:
        signal.signal(signal.SIGALRM, before)
    assert board.launch(board.load(native("STATUS"), "status"), (1,), [torch.zeros(1).int(), 0]) == 5


def test_a_worker_that_does_not_answer_is_stopped_even_when_much_is_sent_to_it(board):
    assert works(board)
    os.kill(board._process.pid, signal.SIGSTOP)
    kernel = board.load(native("ADD"), "add")
    with pytest.raises(KernelTimeout):
        board.launch(kernel, (1,), [torch.ones(1)] * 3 + [1], timeout=0.3)


def test_what_a_kernel_prints_is_no_reply(board):
    kernel = board.load(native("CHATTY"), "chatty")
    assert [board.launch(kernel, (1,), []) for _ in range(3)] == [0, 0, 0]


@pytest.mark.parametrize(
    ("binary", "message"),
    [
        (lambda: native("ADD", "-DABI=9"), "kernel k: ABI version 9"),
        (lambda: native("ADD", '-DISA="rv64imafdcv_zvfbfmin"'), "kernel k needs zvfbfmin"),
        (lambda: native("ADD", "-DMIN_VLEN=1024"), "VLEN >= 1024.*VLEN 256"),
        (lambda: native("NOWHERE"), "names a kernel that is not in the file"),
        (lambda: b"", "kernel k: "),
        (lambda: b"not an ELF file" * 100, "kernel k: .*ELF"),
        (lambda: native("ADD", target=None), "kernel k: "),
    ],
)
def test_kernels_that_do_not_fit_are_refused(binary, message, board):
    with pytest.raises(DeviceError, match=message):
        board.load(binary(), "k")


def test_a_truncated_kernel_is_refused(board):
    whole = native("ADD")
    for size in (10, 100, 300):
        with pytest.raises(DeviceError, match="kernel k"):
            board.load(whole[:size], "k")


def test_what_is_not_installed_says_how_to(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_RVV_QEMU", "no-such-qemu")
    with pytest.raises(InstallError, match="apt-get install qemu-user"):
        VirtualBoard(256)
    monkeypatch.delenv("TORCH_RVV_QEMU")
    monkeypatch.setenv("TORCH_RVV_SYSROOT", "/nowhere")
    with pytest.raises(InstallError, match="apt-get install libc6-riscv64-cross"):
        VirtualBoard(256)
    monkeypatch.delenv("TORCH_RVV_SYSROOT")
    (tmp_path / "file").touch()
    monkeypatch.setenv("TORCH_RVV_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.raises(InstallError, match="TORCH_RVV_CACHE_DIR"):
        works(VirtualBoard(256))


def test_an_emulator_that_does_not_start_says_why():
    with pytest.raises(DeviceError, match="(?s)did not start: exit status 1: .*(VLEN|vlen|Vector)"):
        works(VirtualBoard(1 << 20))


def test_the_worker_is_built_once_also_by_two_at_a_time(monkeypatch, tmp_path):
    calls, compile_c = [], build.compile_c
    monkeypatch.setenv("TORCH_RVV_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(build, "compile_c", lambda *a: calls.append(a) or a[1].write_bytes(b"worker"))
    threads = [threading.Thread(target=build.worker) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert 1 <= len(calls) <= 4 and compile_c is not build.compile_c
    assert build.worker().read_bytes() == b"worker" and len(list(tmp_path.iterdir())) == 1
