"""The virtual board: launches, arguments, memory, threads and forks."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from board_kernels import add, native, works
from torch_rvv.runtime.device import extensions, get_device
from torch_rvv.runtime.pool import Allocator, Pool
from torch_rvv.runtime.virtual import VirtualBoard

from torch_rvv.errors import DeviceError, OptionError

pytestmark = pytest.mark.board


@pytest.fixture(scope="module")
def board():
    device = VirtualBoard(256)
    yield device
    device.close()


# -- arguments


@pytest.mark.parametrize("n", [1, 63, 64, 65, 10007])
def test_tensors_in_and_out_of_the_boards_memory(n, board):
    for make in (torch.empty_strided, board.empty_strided):
        a, b, out = (make((n,), (1,), dtype=torch.float32) for _ in range(3))
        a.normal_(), b.normal_(), out.fill_(7)
        assert add(board, a, b, out, written=[2]) == 0
        assert torch.equal(out, a + b)


def shifted_sums(base):
    """What base[3 + i] = base[i] + 1 gives for i = 0 … 63, one after another."""
    expected = base.clone()
    for i in range(64):
        expected[3 + i] = expected[i] + 1
    return expected


def test_views_that_overlap_still_do_on_the_board(board):
    base = torch.arange(100.0)
    expected = shifted_sums(base)
    kernel = board.load(native("ADD"), "add")
    board.launch(kernel, (1, 1, 1), [base[:64], torch.ones(64), base[3:67], 64], written=[2])
    assert torch.equal(base, expected)


def test_storages_that_overlap_still_do_on_the_board(board):
    base = np.arange(100, dtype=np.float32)
    expected = shifted_sums(torch.from_numpy(base))
    a, out = torch.from_numpy(base[:64]), torch.from_numpy(base[3:67])
    assert a.untyped_storage().data_ptr() != out.untyped_storage().data_ptr()
    board.launch(board.load(native("ADD"), "add"), (1, 1, 1), [a, torch.ones(64), out, 64], written=[2])
    assert torch.equal(torch.from_numpy(base), expected)


@pytest.mark.parametrize("skew", [0, 1, 4, 60])
def test_copies_are_as_misaligned_as_their_tensors(skew, board):
    a, b, out = torch.zeros(256, dtype=torch.uint8), torch.zeros(256, dtype=torch.uint8), torch.zeros(2).int()
    a, b = a[skew:], b[2 * skew :]
    board.launch(board.load(native("ALIGNMENT"), "alignment"), (1,), [a, b, out])
    assert out.tolist() == [a.data_ptr() % 64, b.data_ptr() % 64]


def test_read_only_arguments_are_not_copied_back(board):
    a, out = torch.ones(64), torch.zeros(64)
    add(board, a, a, out, written=[])
    assert bool((out == 0).all())


def test_scalars_are_passed_bit_by_bit(board):
    out, values = torch.zeros(5, dtype=torch.int64), [0, -1, 1 << 63, 0x7FC00000, -(1 << 63)]
    board.launch(board.load(native("SLOTS"), "slots"), (1,), [out, *values])
    assert [v & (1 << 64) - 1 for v in out.tolist()] == [v & (1 << 64) - 1 for v in values]


def test_arguments_that_are_none_are_refused(board):
    kernel = board.load(native("ADD"), "add")
    with pytest.raises(DeviceError, match="takes 4 arguments, got 1"):
        board.launch(kernel, (1, 1, 1), [1])
    with pytest.raises(DeviceError, match="argument 3 is a float"):
        board.launch(kernel, (1, 1, 1), [torch.ones(1)] * 3 + [1.5])
    with pytest.raises(DeviceError, match="argument 0 is a .* tensor on meta"):
        board.launch(kernel, (1, 1, 1), [torch.ones(1, device="meta")] * 3 + [1])
    with pytest.raises(DeviceError, match="argument 1 is a torch.sparse_coo tensor"):
        board.launch(kernel, (1, 1, 1), [torch.ones(1), torch.ones(1).to_sparse(), torch.ones(1), 1])
    for grid in ((1 << 32, 1, 1), (-1,), (), (1, 1, 1, 1)):
        with pytest.raises(DeviceError, match="cannot run on the grid"):
            board.launch(kernel, grid, [torch.ones(1)] * 3 + [1])
    assert works(board)


# -- the grid


def test_status_and_program_ids_of_a_three_dimensional_grid(board):
    kernel, out = board.load(native("STATUS"), "status"), torch.zeros(7 * 5 * 3, dtype=torch.int32)
    assert board.launch(kernel, (7, 5, 3), [out, 1 << 40]) == 0
    x, y, z = torch.meshgrid(torch.arange(7), torch.arange(5), torch.arange(3), indexing="ij")
    assert torch.equal(out, (x + 100 * y + 10000 * z).permute(2, 1, 0).reshape(-1).int())
    assert board.launch(kernel, (7, 5, 3), [out, 77]) == 5
    assert board.launch(kernel, (0, 5, 3), [out, 0]) == 0


def test_a_status_that_is_not_zero_stops_the_rest_of_the_grid(board):
    kernel, out = board.load(native("STATUS"), "status"), torch.full((100_000,), -1, dtype=torch.int32)
    assert board.launch(kernel, (100_000,), [out, 0]) == 5
    assert int((out >= 0).sum()) < 100_000


def test_threads_have_numbers_and_scratch_memory_of_their_own(monkeypatch):
    monkeypatch.setenv("TORCH_RVV_THREADS", "3")
    board = VirtualBoard(128)
    seen = torch.zeros(64, dtype=torch.int32)
    for _ in range(10):
        assert board.launch(board.load(native("USES_SCRATCH"), "scratch"), (64,), [seen]) == 0
    assert seen[3:].sum() == 0 and seen[:3].sum() >= 2
    board.close()


def test_every_thread_has_a_deep_stack(board):
    assert board.launch(board.load(native("STACK"), "stack"), (64,), []) == 0


def test_identical_binaries_are_loaded_once_and_only_loaded_kernels_run(board):
    kernel = board.load(native("ADD"), "add")
    assert board.load(bytes(bytearray(native("ADD"))), "again") is kernel
    other = VirtualBoard(256)
    with pytest.raises(DeviceError, match="not loaded"):
        other.launch(kernel, (1,), [torch.ones(1)] * 3 + [1])


# -- memory


def test_exhausted_memory_says_which_knob():
    pool = Pool(1 << 16)
    held = pool.empty_strided((8000,), (1,), torch.float32)
    with pytest.raises(DeviceError, match="TORCH_RVV_POOL_BYTES"):
        pool.empty_strided((16000,), (1,), torch.float32)
    del held
    gc.collect()
    assert pool.used == 0
    assert pool.empty_strided((16000,), (1,), torch.float32).numel() == 16000


def test_a_launch_that_does_not_fit_leaves_nothing_behind(monkeypatch):
    monkeypatch.setenv("TORCH_RVV_POOL_BYTES", str(1 << 16))
    board = VirtualBoard(256)
    with pytest.raises(DeviceError, match="TORCH_RVV_POOL_BYTES"):
        add(board, torch.ones(8000), torch.ones(16000), torch.ones(8000))
    assert board.pool.used == 0
    assert works(board)
    board.close()


def test_a_memory_that_cannot_be_is_an_error(monkeypatch):
    for size in ("0", "-1", str(1 << 62)):
        monkeypatch.setenv("TORCH_RVV_POOL_BYTES", size)
        with pytest.raises(DeviceError, match="TORCH_RVV_POOL_BYTES"):
            VirtualBoard(256)


def test_the_allocator_never_gives_the_same_bytes_twice():
    generator = np.random.default_rng(0)
    memory = Allocator(1 << 20)
    held: dict[int, int] = {}
    for _ in range(3000):
        if held and generator.random() < 0.5:
            start = list(held)[generator.integers(len(held))]
            memory.release(start, held.pop(start))
        else:
            nbytes, alignment = int(generator.integers(1, 9000)), int(generator.choice([64, 4096]))
            try:
                at = memory.reserve(nbytes, alignment)
            except DeviceError:
                continue
            assert at % alignment == 0 and at + nbytes <= 1 << 20
            assert all(at + nbytes <= s or s + n <= at for s, n in held.items())
            held[at] = nbytes
    for start, nbytes in held.items():
        memory.release(start, nbytes)
    assert memory.free == [(0, 1 << 20)] and memory.used == 0


def test_tensors_of_the_board_are_ordinary_tensors(board):
    before = board.pool.used
    for dtype in (torch.float32, torch.bool, torch.bfloat16, torch.int8, torch.complex64, torch.float64):
        t = board.empty_strided((3, 4), (1, 3), dtype)
        assert t.shape == (3, 4) and t.stride() == (1, 3) and t.dtype == dtype and not t._is_view()
        assert t.data_ptr() % 64 == 0
    view = board.empty_strided((10, 10), (10, 1), torch.float32).fill_(2)[3:, 2:]
    gc.collect()
    assert bool((view == 2).all()) and board.pool.used > before
    del t, view
    gc.collect()
    assert board.pool.used == before
    assert board.empty_strided((0, 3), (3, 1), torch.float32).shape == (0, 3)


def test_many_launches_leave_no_memory_behind(board):
    before = board.pool.used
    for _ in range(200):
        add(board, torch.ones(100), torch.ones(100), torch.ones(100))
    assert board.pool.used == before


def test_pinned_tensors_are_copied_once_and_again_after_a_change(board, monkeypatch):
    a, b, out = torch.ones(1000), torch.ones(1000), board.empty_strided((1000,), (1,), torch.float32)
    before = board.pool.used
    board.pin(a)
    written = []
    monkeypatch.setattr(board.pool, "write", lambda *x, write=board.pool.write: written.append(x) or write(*x))
    for change in (0, 1, 0):
        if change:
            a.add_(change)
        add(board, a, b, out, written=[2])
        assert torch.equal(out, a + b)
    assert len(written) == 2 + 3  # a before and after its change; b each time
    add(board, b, b, a, written=[2])  # a launch that writes to it
    add(board, a, b, out, written=[2])
    assert bool((a == 2).all()) and bool((out == 3).all())
    with board.guarded():
        add(board, a, b, a, written=[2])
    add(board, a, b, out, written=[2])
    assert bool((out == 4).all())
    del a, written[:]
    gc.collect()
    add(board, b, b, out)
    assert board.pool.used == before
    with pytest.raises(DeviceError, match="inference tensor"), torch.inference_mode():
        board.pin(torch.ones(3))


# -- threads and processes


def test_threads_launch_at_once(board):
    failures = []

    def work(seed):
        a = torch.full((5000,), float(seed))
        for _ in range(20):
            out = torch.empty(5000)
            add(board, a, a, out)
            if not bool((out == 2 * seed).all()):
                failures.append(seed)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures


def test_the_worker_outlives_the_thread_that_started_it():
    board = VirtualBoard(256)
    thread = threading.Thread(target=works, args=(board,))
    thread.start()
    thread.join()
    time.sleep(0.2)
    generation = board.generation
    assert works(board) and board.generation == generation
    board.close()


def test_a_board_that_is_forgotten_or_closed_leaves_no_worker():
    board = VirtualBoard(256)
    assert works(board)
    board.close()
    assert works(board)  # closed is not broken
    pid = board._process.pid
    del board
    gc.collect()
    assert ended(pid)


def ended(pid: int) -> bool:
    """Whether a process ends soon (or has: a zombie counts)."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            if "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text():
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.02)
    return False


FORKED = """
import os, sys, torch
sys.path.insert(0, {tests!r})
from board_kernels import works
from torch_rvv.runtime.device import get_device
board = get_device("virtual")
assert works(board)
shared = board.empty_strided((4,), (1,), torch.float32).fill_(1)
parents = board._process.pid
pid = os.fork()
if pid == 0:
    assert get_device("virtual") is board and works(board) and board._process.pid != parents
    shared.fill_(2)
    out = torch.zeros(4)
    from board_kernels import add
    add(board, shared, shared, out)
    assert bool((out == 4).all())
    sys.exit(0)
_, status = os.waitpid(pid, 0)
assert status == 0, status
assert bool((shared == 1).all()), shared
assert board._process.pid == parents and works(board) and board._process.pid == parents
print(parents, flush=True)
os._exit(0)
"""


def test_a_process_may_fork_after_first_use_and_leaves_no_worker_behind():
    code = FORKED.format(tests=str(Path(__file__).parent))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert ended(int(done.stdout.split()[-1]))


ENDLESS = """
import sys
sys.path.insert(0, {tests!r})
from board_kernels import native
from torch_rvv.runtime.virtual import VirtualBoard
board = VirtualBoard(256)
kernel = board.load(native("SPIN"), "spin")
print(board._process.pid, flush=True)
board.launch(kernel, (1,), [])
"""


def test_a_worker_in_an_endless_kernel_dies_with_its_parent():
    code = ENDLESS.format(tests=str(Path(__file__).parent))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        pid = int(parent.stdout.readline())
        time.sleep(0.3)
        parent.kill()
    assert ended(pid)


# -- finding a device


def test_devices_are_shared_and_unknown_ones_list_the_known():
    assert get_device("virtual") is get_device("virtual")
    assert get_device(get_device("virtual")) is get_device("virtual")
    for spec in ("gpu", "host:", ":1", "host:123456", "host:x"):
        with pytest.raises(OptionError, match="auto, local, virtual, or HOST:PORT"):
            get_device(spec)


def test_isa_strings():
    assert extensions("rv64imafdcv_zba_zvfh") == {"m", "a", "f", "d", "c", "v", "zba", "zvfh"}
