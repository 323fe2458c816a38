"""Guarded launches find every access outside of an argument."""

from __future__ import annotations

import pytest
import torch
from board_kernels import add, native, works
from torch_rvv.runtime.virtual import VirtualBoard

from torch_rvv.errors import KernelFault

pytestmark = pytest.mark.board
READ, WRITE = 0, 1


@pytest.fixture(scope="module")
def board():
    device = VirtualBoard(256)
    yield device
    assert device.pool.used == 0
    device.close()


def stray(board, tensor, at, how, written=(0,)):
    return board.launch(board.load(native("STRAY"), "stray"), (1,), [tensor, at, how], written=written)


def make(board, inside, n=1000):
    tensor = board.empty_strided((n,), (1,), torch.float32) if inside else torch.empty(n)
    return tensor.fill_(1)


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("n", [1, 1000, 1024, 5000])
def test_right_launches_are_as_always(inside, n, board):
    for side in ("end", "start"):
        a, b, out = (make(board, inside, n) for _ in range(3))
        with board.guarded(side):
            add(board, a, b, out, written=[2])
        assert bool((out == 2).all())


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("how", [READ, WRITE])
def test_accesses_past_the_end_and_before_the_start(how, inside, board):
    t = make(board, inside)
    with board.guarded(), pytest.raises(KernelFault, match="SIGSEGV.* 0 bytes past the end of argument 0 .float32"):
        stray(board, t, 4000, how)
    with board.guarded("start"), pytest.raises(KernelFault, match="SIGSEGV.* 1 bytes before argument 0 "):
        stray(board, t, -1, how)
    assert bool((t == 1).all()) and works(board)


def test_a_write_on_the_other_side_is_found_afterwards(board):
    t = make(board, False)
    with board.guarded(), pytest.raises(KernelFault, match="wrote to memory that is not its own, 3 bytes before"):
        stray(board, t, -3, WRITE)
    with board.guarded("start"), pytest.raises(KernelFault, match="not its own, 5 bytes past the end of argument 0"):
        stray(board, t, 4005, WRITE)
    assert works(board)


def test_a_view_is_guarded_by_what_its_elements_reach(board):
    base = torch.ones(100)
    with board.guarded(), pytest.raises(KernelFault, match="0 bytes past the end of argument 0"):
        stray(board, base[:50], 200, READ)
    assert stray(board, base[:50], 200, READ) == 0  # unguarded, it is inside of the storage


def test_a_write_to_what_is_said_to_be_only_read(board):
    t = make(board, False)
    with board.guarded(), pytest.raises(KernelFault, match="a write to byte 8 of argument 0 .*only read"):
        stray(board, t, 8, WRITE, written=[])
    assert works(board)


def test_the_environment_variable_guards_a_whole_process(board, monkeypatch):
    monkeypatch.setenv("TORCH_RVV_GUARD", "end")
    with pytest.raises(KernelFault, match="past the end"):
        stray(board, make(board, True), 4000, READ)
    monkeypatch.delenv("TORCH_RVV_GUARD")
    assert works(board)


def test_overlapping_arguments_stay_together(board):
    base = torch.arange(100.0)
    kernel = board.load(native("ADD"), "add")
    expected = base.clone()
    for i in range(64):
        expected[3 + i] = expected[i] + 1
    with board.guarded():
        board.launch(kernel, (1,), [base[:64], torch.ones(64), base[3:67], 64], written=[2])
    assert torch.equal(base, expected)
