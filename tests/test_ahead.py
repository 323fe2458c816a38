"""Kernels lowered by other processes: the same code, the same errors, and nothing lost where one dies."""

from __future__ import annotations

import pytest
import torch
from torch_rvv.runtime import record

from torch_rvv.plugin import ahead, compiler


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """fresh(name): from here on, nothing that was compiled before is found, in memory or on disk."""

    def forget(name):
        torch._dynamo.reset()
        for variable in ("TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR"):
            monkeypatch.setenv(variable, str(tmp_path / name / variable))

    forget("first")
    return forget


@pytest.fixture
def workers(monkeypatch):
    """One process besides, and a list of what it answered: a kernel's TTIR, and whether it could lower it."""
    monkeypatch.setenv("TORCH_RVV_COMPILE_PROCESSES", "1")
    answers = []
    plain = ahead.Workers._ask

    def ask(self, ttir, codegen):
        answer = plain(self, ttir, codegen)
        answers.append((ttir, answer is not None))
        return answer

    monkeypatch.setattr(ahead.Workers, "_ask", ask)
    yield answers
    ahead._workers.cache_clear()


def model(x, weight):
    return torch.softmax(x @ weight, -1), x.exp().sum(0), x.sort().values.cumsum(1)


def compiled(*inputs, function=model):
    with record.collecting() as graphs:
        results = torch.compile(function, backend="rvv")(*inputs)
    return results, [kernel for graph in graphs for kernel in graph.kernels]


def test_another_process_makes_the_same_code(workers, fresh, monkeypatch):
    inputs = torch.randn(33, 20), torch.randn(20, 7)
    theirs, made_there = compiled(*inputs)
    assert len(workers) == len(made_there) and all(done for _, done in workers)
    fresh("again")
    monkeypatch.setenv("TORCH_RVV_COMPILE_PROCESSES", "0")
    ours, made_here = compiled(*inputs)
    assert len(workers) == len(made_there)
    assert [k.binary for k in made_there] == [k.binary for k in made_here] and made_here
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_a_kernel_of_the_users_is_made_there_too(workers, fresh):
    q, k, v = (torch.randn(1, 2, 40, 16) for _ in range(3))
    result, kernels = compiled(q, k, v, function=torch.nn.functional.scaled_dot_product_attention)
    assert len(kernels) == 1 and kernels[0].name.startswith("attention_forward") and kernels[0].binary
    assert [done for _, done in workers] == [True]
    torch.testing.assert_close(result, torch.nn.functional.scaled_dot_product_attention(q, k, v))


def test_kernels_that_are_triton_s_already_are_begun_first(workers, fresh):
    def normed(x, q, k, v):
        x = torch.softmax(x, -1)
        return torch.nn.functional.scaled_dot_product_attention(q * x, k, v).exp().cumsum(-1)

    q, k, v = (torch.randn(1, 2, 40, 16) for _ in range(3))
    _, kernels = compiled(torch.randn(40, 16), q, k, v, function=normed)
    assert ["@attention_forward" in ttir for ttir, _ in workers] == [True] + [False] * (len(kernels) - 1)
    assert not kernels[0].name.startswith("attention_forward")  # The graph runs another one before it.


def test_each_process_ends_with_its_own_connection():
    workers = ahead.Workers(3)
    workers.wake()
    first, *others = [workers.idle.get(timeout=5) for _ in range(3)]
    job = ("module { tt.func public @k() { tt.return } }", compiler.current_codegen())
    for connection in others:
        connection.send(job)
        assert connection.recv()[1]["name"] == "k"
    first.close()
    workers.processes[0].wait(timeout=20)
    for connection in others:  # Forked from the one that has ended, and still at work.
        connection.send(job)
        assert connection.recv()[1]["name"] == "k"
        connection.close()


def test_a_process_that_dies_loses_nothing(workers, fresh, monkeypatch):
    inputs = torch.randn(33, 20), torch.randn(20, 7)
    compiled(*inputs)
    process = ahead._workers(1).processes[0]
    process.kill()
    process.wait()
    fresh("again")
    workers.clear()
    results, kernels = compiled(*inputs)
    assert [done for _, done in workers] == [False] + [True] * (len(workers) - 1) and len(workers) == len(kernels)
    for got, want in zip(results, model(*inputs), strict=True):
        torch.testing.assert_close(got, want)


def test_a_kernel_that_raises_ahead_is_compiled_where_it_is_asked_for(workers, fresh, monkeypatch):
    monkeypatch.setattr(ahead.Workers, "_ask", lambda self, ttir, codegen: None)
    x = torch.randn(40)
    result, kernels = compiled(x, function=lambda x: x.exp())
    torch.testing.assert_close(result, x.exp())
    assert len(kernels) == 1 and kernels[0].binary


def test_a_backend_has_the_stages_of_the_pipeline():
    from torch_rvv.lowering import pipeline

    assert tuple(pipeline.STAGES) == compiler.STAGES


def test_the_frontend_makes_each_kernel_once(workers, fresh, monkeypatch):
    made, plain = [], ahead._make_ir
    monkeypatch.setattr(ahead, "_make_ir", lambda *args: made.append(args[0].name) or plain(*args))
    _, kernels = compiled(torch.randn(33, 20), torch.randn(20, 7))
    assert sorted(made) == sorted(kernel.name for kernel in kernels)


def test_who_watches_a_compile_has_all_of_it_in_this_process(workers, fresh, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_RVV_DUMP", str(tmp_path / "dump"))
    compiled(torch.randn(40), function=lambda x: x.exp())
    assert not workers and list((tmp_path / "dump").glob("*/5.so.so"))


def test_a_declined_kernel_has_its_reason_from_the_other_process(workers, fresh, monkeypatch):
    ttir = "module { tt.func public @k(%p: !tt.ptr<f32>) { %0 = tt.no_such_op : f32\n tt.return } }"
    answer = ahead._workers(1).submit(ttir, compiler.current_codegen()).result()
    assert answer is not None and answer[1]["declined"][0] and answer[0] == b""


def test_inline_assembly_is_assembled_there_too():
    ttir = """module {
    tt.func public @k(%p: !tt.ptr<i32>) {
    %l = tt.make_range {end = 8 : i32, start = 0 : i32} : tensor<8xi32>
    %ps = tt.splat %p : !tt.ptr<i32> -> tensor<8x!tt.ptr<i32>>
    %pp = tt.addptr %ps, %l : tensor<8x!tt.ptr<i32>>, tensor<8xi32>
    %x = tt.load %pp : tensor<8x!tt.ptr<i32>>
    %y = tt.elementwise_inline_asm "addi $0, $1, 7" {CONSTRAINTS} %x : tensor<8xi32> -> tensor<8xi32>
    tt.store %pp, %y : tensor<8x!tt.ptr<i32>>
    tt.return
    }
    }"""
    ttir = ttir.replace("CONSTRAINTS", 'constraints = "=r,r", packed_element = 1 : i32, pure = true')
    binary, metadata = ahead._workers(1).submit(ttir, compiler.current_codegen()).result()
    assert metadata["declined"] is None and binary[:4] == b"\x7fELF"
