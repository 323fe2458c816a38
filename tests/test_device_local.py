"""LocalBoard, with kernels compiled for this very machine: what it does is the same on a riscv64 host."""

from __future__ import annotations

import os
import platform
import subprocess
import threading

import pytest
import torch
from board_kernels import native
from torch_rvv.runtime.build import compile_c
from torch_rvv.runtime.local import _READ_VLENB, LocalBoard
from torch_rvv.runtime.virtual import command

from torch_rvv.errors import DeviceError

pytestmark = pytest.mark.board


@pytest.fixture(scope="module")
def board():
    device = LocalBoard(frozenset("mafdcv"), 256)
    yield device
    device.close()


def load(board, name, *flags):
    return board.load(native(name, *flags, target=None), name.lower())


def test_launches(board):
    for n in (1, 63, 64, 65, 10007):
        a, b, out = torch.randn(n), torch.randn(n), torch.full((n,), 7.0)
        assert board.launch(load(board, "ADD"), (-(-n // 64),), [a, b, out, n], written=[2]) == 0
        assert torch.equal(out, a + b)


def test_status_and_program_ids_of_a_three_dimensional_grid(board):
    kernel, out = load(board, "STATUS"), torch.zeros(7 * 5 * 3, dtype=torch.int32)
    assert board.launch(kernel, (7, 5, 3), [out, 1 << 40]) == 0
    x, y, z = torch.meshgrid(torch.arange(7), torch.arange(5), torch.arange(3), indexing="ij")
    assert torch.equal(out, (x + 100 * y + 10000 * z).permute(2, 1, 0).reshape(-1).int())
    assert board.launch(kernel, (7, 5, 3), [out, 77]) == 5
    assert board.launch(kernel, (7, 0, 3), [out, 0]) == 0


def test_threads_have_numbers_and_scratch_memory_of_their_own(board):
    seen = torch.zeros(64, dtype=torch.int32)
    failures = []

    def work():
        for _ in range(5):
            failures.append(board.launch(load(board, "USES_SCRATCH"), (64,), [seen]))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert failures == [0] * 15
    assert seen[board.num_threads :].sum() == 0


def test_kernels_that_do_not_fit_are_refused(board):
    with pytest.raises(DeviceError, match="ABI version 9"):
        load(board, "ADD", "-DABI=9")
    with pytest.raises(DeviceError, match="needs zvfh"):
        load(board, "ADD", '-DISA="rv64imafdcv_zvfh"')
    with pytest.raises(DeviceError, match="VLEN >= 1024"):
        load(board, "ADD", "-DMIN_VLEN=1024")
    with pytest.raises(DeviceError, match="kernel k: "):
        board.load(b"not an ELF file", "k")
    with pytest.raises(DeviceError, match="takes 4 arguments, got 1"):
        board.launch(load(board, "ADD"), (1,), [1])


def test_a_forked_child_launches_too(board):
    a, out = torch.ones(1000), torch.zeros(1000)
    kernel = load(board, "ADD")
    board.launch(kernel, (16,), [a, a, out, 1000])
    pid = os.fork()
    if pid == 0:
        try:
            board.launch(kernel, (16,), [out, a, out, 1000])
            os._exit(0 if bool((out == 3).all()) else 1)
        finally:
            os._exit(2)
    assert os.waitpid(pid, 0)[1] == 0 and bool((out == 2).all())


@pytest.mark.skipif(platform.machine() == "riscv64", reason="needs a machine that is not riscv64")
def test_another_machine_is_refused():
    with pytest.raises(DeviceError, match="not riscv64"):
        LocalBoard()


def test_the_code_that_reads_vlen(tmp_path):
    words = ", ".join(str(b) for b in _READ_VLENB)
    (tmp_path / "v.c").write_text(
        f"""__attribute__((section(".text"), aligned(4))) static const unsigned char code[] = {{{words}}};
        int main(void) {{ return (int)((unsigned long (*)(void))code)(); }}"""
    )
    compile_c([tmp_path / "v.c"], tmp_path / "v", ("-w",))
    for vlen in (128, 256, 1024):
        assert subprocess.run([*command(vlen), tmp_path / "v"], timeout=20).returncode == vlen // 8
