"""The virtual board: launches, memory, and everything that can go wrong with a kernel."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from torch_rvv.runtime.build import compile_c
from torch_rvv.runtime.device import extensions, get_device
from torch_rvv.runtime.local import LocalBoard
from torch_rvv.runtime.pool import Pool
from torch_rvv.runtime.virtual import VirtualBoard

from torch_rvv.errors import DeviceError, InstallError, KernelFault, KernelTimeout, OptionError

pytestmark = pytest.mark.board
ADD, SEGV, ILL, SPIN, STATUS, SCRATCH = range(6)


@pytest.fixture(scope="session")
def native(tmp_path_factory):
    """Compile one of the C kernels to a .so."""
    folder, built = tmp_path_factory.mktemp("native"), {}

    def build(which: int, *flags: str) -> bytes:
        if (which, flags) not in built:
            out = folder / f"{which}{len(built)}.so"
            source = Path(__file__).parent / "native" / "kernels.c"
            compile_c([source], out, (f"-DWHICH={which}", "-shared", "-fPIC", "-nostdlib", *flags))
            built[which, flags] = out.read_bytes()
        return built[which, flags]

    return build


@pytest.fixture(scope="session")
def board():
    device = VirtualBoard(256)
    yield device
    device.close()


def add(board, native, a, b, out, **keywords):
    kernel = board.load(native(ADD), "add")
    return board.launch(kernel, (max(1, -(-a.numel() // 64)), 1, 1), [a, b, out, a.numel()], **keywords)


@pytest.mark.parametrize("n", [1, 63, 64, 65, 10007])
def test_tensors_in_and_out_of_the_boards_memory(n, board, native):
    for make in (torch.empty_strided, board.empty_strided):
        a, b, out = (make((n,), (1,), dtype=torch.float32) for _ in range(3))
        a.normal_(), b.normal_(), out.fill_(7)
        assert add(board, native, a, b, out, written=[2]) == 0
        assert torch.equal(out, a + b)


def test_overlapping_and_misaligned_arguments_stay_so(board, native):
    base = torch.arange(100.0)
    a, out = base[:64], base[3:67]
    expected = base.clone()
    for i in range(64):
        expected[3 + i] = expected[i] + 1
    board.launch(board.load(native(ADD), "add"), (1, 1, 1), [a, torch.ones(64), out, 64], written=[2])
    assert torch.equal(base, expected)


def test_read_only_arguments_are_not_copied_back(board, native):
    a, out = torch.ones(64), torch.zeros(64)
    add(board, native, a, a, out, written=[])
    assert bool((out == 0).all())


@pytest.mark.parametrize(("which", "name"), [(SEGV, "SIGSEGV"), (ILL, "SIGILL")])
def test_a_fault_names_the_kernel_and_the_device_stays_usable(which, name, board, native):
    held = board.empty_strided((64,), (1,), torch.float32).fill_(3)
    with pytest.raises(KernelFault, match=f"kernel bad raised {name}.*kernel\\+0x"):
        board.launch(board.load(native(which), "bad"), (1, 1, 1), [])
    out = torch.empty(64)
    add(board, native, held, held, out)
    assert bool((out == 6).all())


def test_an_endless_kernel_is_stopped(board, native):
    start = time.monotonic()
    with pytest.raises(KernelTimeout, match="(?s)kernel spin .*TORCH_RVV_TIMEOUT"):
        board.launch(board.load(native(SPIN), "spin"), (1, 1, 1), [], timeout=0.5)
    assert time.monotonic() - start < 5
    add(board, native, torch.ones(4), torch.ones(4), torch.ones(4))


def test_a_worker_killed_during_a_launch_is_an_error_and_replaced(board, native):
    kernel = board.load(native(SPIN), "spin")
    killer = threading.Timer(0.3, lambda: os.kill(board._process.pid, signal.SIGKILL))
    killer.start()
    with pytest.raises(KernelFault, match="while kernel spin ran"):
        board.launch(kernel, (1, 1, 1), [], timeout=20)
    add(board, native, torch.ones(4), torch.ones(4), torch.ones(4))


def test_status_and_program_ids_of_a_three_dimensional_grid(board, native):
    kernel, out = board.load(native(STATUS), "status"), torch.zeros(7 * 5 * 3, dtype=torch.int32)
    assert board.launch(kernel, (7, 5, 3), [out, 1 << 40]) == 0
    x, y, z = torch.meshgrid(torch.arange(7), torch.arange(5), torch.arange(3), indexing="ij")
    assert torch.equal(out, (x + 100 * y + 10000 * z).permute(2, 1, 0).reshape(-1).int())
    assert board.launch(kernel, (7, 5, 3), [out, 77]) == 5
    assert board.launch(kernel, (0, 5, 3), [out, 0]) == 0


def test_each_thread_has_aligned_scratch_memory(board, native):
    assert board.launch(board.load(native(SCRATCH), "scratch"), (64, 1, 1), []) == 0


def test_kernels_that_do_not_fit_the_device_are_refused(board, native):
    with pytest.raises(DeviceError, match="ABI version 9"):
        board.load(native(ADD, "-DABI=9"), "new")
    with pytest.raises(DeviceError, match="needs zvfbfmin"):
        board.load(native(ADD, '-DISA="rv64imafdcv_zvfbfmin"'), "bf16")
    with pytest.raises(DeviceError, match="VLEN >= 1024"):
        board.load(native(ADD, "-DMIN_VLEN=1024"), "wide")
    with pytest.raises(DeviceError, match="takes 4 arguments, got 1"):
        board.launch(board.load(native(ADD), "add"), (1, 1, 1), [1])


def test_exhausted_memory_says_which_knob():
    pool = Pool(1 << 16)
    held = pool.empty_strided((8000,), (1,), torch.float32)
    with pytest.raises(DeviceError, match="TORCH_RVV_POOL_BYTES"):
        pool.empty_strided((16000,), (1,), torch.float32)
    del held
    gc.collect()
    assert pool.used == 0
    assert pool.empty_strided((16000,), (1,), torch.float32).numel() == 16000


def test_freed_memory_is_joined_again():
    pool = Pool(1 << 20)
    for order in ((0, 1, 2), (2, 1, 0), (1, 0, 2)):
        held = [pool.empty_strided((1000,), (1,), torch.float32) for _ in range(3)]
        for i in order:
            held[i] = None
        gc.collect()
        assert pool._free == [(0, 1 << 20)]


def test_many_launches_leave_no_memory_behind(board, native):
    before = board.pool.used
    for _ in range(200):
        add(board, native, torch.ones(100), torch.ones(100), torch.ones(100))
    assert board.pool.used == before


def test_two_threads_launch_at_once(board, native):
    failures = []

    def work(seed):
        a = torch.full((5000,), float(seed))
        for _ in range(20):
            out = torch.empty(5000)
            add(board, native, a, a, out)
            if not bool((out == 2 * seed).all()):
                failures.append(seed)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures


def test_a_missing_emulator_says_what_to_install(monkeypatch):
    monkeypatch.setenv("TORCH_RVV_QEMU", "no-such-qemu")
    with pytest.raises(InstallError, match="apt-get install qemu-user"):
        VirtualBoard(256)
    monkeypatch.delenv("TORCH_RVV_QEMU")
    monkeypatch.setenv("TORCH_RVV_SYSROOT", "/nowhere")
    with pytest.raises(InstallError, match="libc6-riscv64-cross"):
        VirtualBoard(256)


def test_an_unknown_device_lists_the_known_ones():
    with pytest.raises(OptionError, match="auto, local, virtual"):
        get_device("gpu")


def test_the_local_board_refuses_a_machine_that_is_not_riscv64():
    with pytest.raises(DeviceError, match="not riscv64"):
        LocalBoard()


def test_isa_strings():
    assert extensions("rv64imafdcv_zba_zvfh") == {"m", "a", "f", "d", "c", "v", "zba", "zvfh"}


FORKED = """
import os, torch
f = torch.compile(lambda x: x * 2 + 1, backend="rvv")
x = torch.randn(1000)
assert torch.allclose(f(x), x * 2 + 1)
pid = os.fork()
if pid == 0:
    ok = torch.allclose(f(x), x * 2 + 1)
    os._exit(0 if ok else 1)
_, status = os.waitpid(pid, 0)
assert status == 0, status
assert torch.allclose(f(x), x * 2 + 1)
from torch_rvv.runtime.device import get_device
print(get_device()._process.pid)
"""


def test_a_process_may_fork_after_first_use_and_leaves_no_worker_behind():
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    worker = int(done.stdout.split()[-1])
    deadline = time.monotonic() + 5
    while Path(f"/proc/{worker}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{worker}").exists()
