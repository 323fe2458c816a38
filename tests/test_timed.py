"""mode="max-autotune": kernels chosen by time on a board that is not said to be emulated, a worker that listens."""

from __future__ import annotations

import math

import pytest
import torch
from board_kernels import Server
from torch_rvv.runtime.context import Placement, placing
from torch_rvv.runtime.device import get_device

import torch_rvv
from torch_rvv import timed
from torch_rvv.timed import Candidate, Trials

pytestmark = pytest.mark.board


@pytest.fixture(scope="module")
def address():
    server = Server("--isa", "rv64imafdcv_zba_zbb_zbs_zfh_zvfh", "--memory", str(64 << 20))
    yield server.address
    server.stop()


@pytest.fixture
def clock(monkeypatch):
    """clock(seconds): candidates still run, but take seconds(blocks, LMUL); a list of those that ran."""
    ran = []

    def use(seconds):
        plain = Trials._time

        def time(self, result):
            assert plain(self, result) < math.inf
            blocks = {name: size for name, size in result.config.kwargs.items() if name in timed.POINTS}
            ran.append((blocks, result.kernel.metadata.codegen["lmul"]))
            return seconds(*ran[-1])

        monkeypatch.setattr(Trials, "_time", time)
        return ran

    return use


def autotuned(function, inputs, address, **options):
    torch._dynamo.reset()
    options = {"device": address, "max_autotune": True, **options}
    report = torch_rvv.explain(function, *inputs, options=options)
    result = torch.compile(function, backend="rvv", options=options)(*inputs)
    torch.testing.assert_close(result, function(*inputs), rtol=1e-5, atol=1e-4)
    return report


def test_the_fastest_blocks_and_lmul_are_taken(address, clock):
    ran = clock(lambda blocks, lmul: {2: 0.5}.get(lmul, 1.0) * (1 if blocks["XBLOCK"] > 512 else 2) * blocks["XBLOCK"])
    report = autotuned(lambda x: x.exp() + 1, [torch.randn(5000)], address)
    (row,) = report.rows
    assert row.lmul == "2"
    (note,) = [note for note in report.notes if note.startswith("kernel ")]
    assert "(XBLOCK 1024, LMUL 2) takes " in note and "forms tried on the board at" in note
    assert len(ran) == len({(tuple(blocks.items()), lmul) for blocks, lmul in ran}) == 9  # Each once.


def test_the_next_compile_of_a_kernel_has_what_was_chosen(address, clock):
    def function(x):
        return x.sin() * 3

    ran = clock(lambda blocks, lmul: 1.0 if lmul == 1 else 2.0)
    x = torch.randn(5000)
    first = autotuned(function, [x], address)
    tried = len(ran)
    again = autotuned(function, [x], address)
    assert len(ran) == tried and again.notes == first.notes and again.rows[0].lmul == first.rows[0].lmul
    assert (
        torch_rvv.explain(function, x).rows[0].lmul != first.rows[0].lmul
    )  # It is timed no more, and nobody's choice but its own.


def test_what_is_hardly_faster_is_not_taken(address, clock):
    clock(lambda blocks, lmul: 1.0 if lmul is None else 0.98)
    report = autotuned(lambda x: x.exp() + 2, [torch.randn(5000)], address)
    assert any("LMUL by loop) is the fastest of" in note for note in report.notes)


@pytest.mark.parametrize("m, k, n", [(70, 40, 50), (3, 1030, 33)])
def test_products(address, clock, m, k, n):
    clock(lambda blocks, lmul: math.prod(blocks.values()) + (lmul or 8))
    report = autotuned(lambda a, b: (a @ b).relu(), [torch.randn(m, k), torch.randn(k, n)], address)
    assert all(row.compiled for row in report.rows) and sum(note.startswith("kernel ") for note in report.notes)


def test_real_times_choose_something_right(address):
    model = torch.nn.Sequential(torch.nn.Linear(48, 65), torch.nn.GELU(), torch.nn.LayerNorm(65)).eval()
    with torch.no_grad():
        report = autotuned(model, [torch.randn(20, 48)], address)
    assert all(row.compiled for row in report.rows)
    assert sum(note.startswith("kernel ") for note in report.notes) == len(report.rows)


def test_indices_updates_and_dynamic_sizes(address):
    def function(table, index, total):
        return total.index_add(0, index, table[index] * 2)

    inputs = [torch.randn(30, 17), torch.tensor([3, 29, 0]), torch.randn(30, 17)]
    autotuned(function, inputs, address)
    compiled = torch.compile(
        lambda x: x.softmax(-1), backend="rvv", dynamic=True, options={"device": address, "max_autotune": True}
    )
    for rows in (3, 70):
        x = torch.randn(rows, 41)
        torch.testing.assert_close(compiled(x), x.softmax(-1))


def test_a_forced_lmul_stays(address, clock):
    ran = clock(lambda blocks, lmul: 1.0)
    report = autotuned(lambda x: x.exp() + 3, [torch.randn(5000)], address, lmul=4)
    assert {lmul for _, lmul in ran} == {4} and report.rows[0].lmul == "4"


def test_a_candidate_that_fails_is_out(address, clock, monkeypatch):
    clock(lambda blocks, lmul: 1.0)
    plain = Trials.result

    def result(self, candidate):
        if candidate.lmul == 1:
            raise torch_rvv.TorchRvvError("not at LMUL 1")
        return plain(self, candidate)

    monkeypatch.setattr(Trials, "result", result)
    report = autotuned(lambda x: x.exp() + 4, [torch.randn(5000)], address)
    assert any(note.startswith("kernel ") for note in report.notes)


def test_on_an_emulated_board_nothing_is_timed(clock):
    ran = clock(lambda blocks, lmul: 1.0)
    report = torch_rvv.explain(lambda x: x.exp() + 1, torch.randn(5000), options={"max_autotune": True})
    assert not ran and any("max-autotune times nothing on the virtual board" in note for note in report.notes)


def test_where_all_is_left_to_aten_nothing_is_timed(address, clock, monkeypatch):
    monkeypatch.setenv("TORCH_RVV_FORCE_FALLBACK", "1")
    ran = clock(lambda blocks, lmul: 1.0)
    autotuned(lambda x: x.exp() + 5, [torch.randn(50)], address)
    assert not ran


def test_the_graph_cache_knows_of_boards(address):
    from torch_rvv.graphcache import key

    keys = []
    for placement in (Placement(timed=True), Placement(), Placement(device=address, timed=True)):
        with placing(placement):
            keys.append(key())
    assert keys[0] == keys[1] != keys[2] and get_device(address).name in keys[2]


def test_halving_ends_at_one():
    candidate = Candidate(0, (("XBLOCK", 2), ("YBLOCK", 1)), None)
    assert candidate.halved("XBLOCK") == Candidate(0, (("XBLOCK", 1), ("YBLOCK", 1)), None)
    assert candidate.halved("YBLOCK") is None and candidate.halved("ZBLOCK") is None
