"""The Dynamo backend: options, isolation from Inductor's default backend, threads, training, fallback, explain."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import warnings

import pytest
import torch
from conftest import assert_same
from torch._inductor import config
from torch._inductor.choices import InductorChoices
from torch._inductor.virtualized import V
from torch_rvv.lowering.graph import RULES
from torch_rvv.runtime import record

import torch_rvv
from torch_rvv.errors import Declined, OptionError
from torch_rvv.verify import VerifyError, compare

pytestmark = pytest.mark.board


def wave(x):
    return torch.sin(x) * 2 + x.sum(-1, keepdim=True)


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()


def test_dynamo_lists_the_backend_with_no_import_of_ours():
    script = (
        "import torch, triton, sys; assert 'rvv' in torch._dynamo.list_backends();"
        "assert not {'torch_mlir', 'llvmlite', 'torch_rvv.backend'} & set(sys.modules), 'loaded too early'"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


@pytest.mark.parametrize(
    "options",
    [
        {"target": "k1"},
        {"target": "k3"},
        {"target": "rv64gcv"},
        {"target": torch_rvv.TARGETS["k1"]},
        {"device": "virtual"},
        {"lmul": 2},
        {"max_fusion_size": 4},
    ],
)
def test_options_are_accepted(options, rvv):
    x = torch.randn(9, 100)
    torch.testing.assert_close(rvv(wave, options=options)(x), wave(x))


@pytest.mark.parametrize("mode", ["default", "reduce-overhead", "max-autotune"])
def test_modes_are_accepted(mode, rvv):
    x = torch.randn(9, 100)
    torch.testing.assert_close(rvv(wave, mode=mode)(x), wave(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"taget": "k1"}, "Unknown option 'taget'.*(?s:.*)target"),
        ({"target": "k9"}, "Unknown target 'k9'(?s:.*)k1, k1-ime, k3"),
        ({"device": "gpu"}, "Unknown device 'gpu'"),
        ({"lmul": 3}, "lmul=3"),
    ],
)
def test_unknown_options_are_one_clear_error(options, message):
    with pytest.raises(Exception, match=message) as caught:
        torch.compile(wave, backend="rvv", options=options)(torch.randn(3, 4))
    chain, found = caught.value, False
    while chain is not None:
        found, chain = found or isinstance(chain, OptionError), chain.__cause__ or chain.__context__
    assert found


def test_the_default_backend_stays_on_cpp_before_during_and_after(rvv):
    x = torch.randn(9, 100)
    before = torch.compile(wave)(x)
    ours = rvv(wave)(x)
    assert config.cpu_backend == "cpp" and not config.fx_wrapper
    torch._dynamo.reset()
    _, code = torch._inductor.utils.run_and_get_code(torch.compile(wave), x)
    assert any("cpp" in c for c in code) and not any("triton" in c for c in code)
    torch.testing.assert_close(before, ours)


def test_two_threads_compile_and_run_at_once_beside_the_default_backend():
    failures = []

    def work(k):
        try:
            x = torch.randn(5, 50 + k)
            function = torch.compile(lambda x: wave(x) + k, backend="rvv" if k % 3 else "inductor", dynamic=False)
            for _ in range(3):
                torch.testing.assert_close(function(x), wave(x) + k)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures, failures


def test_training_gives_the_gradients_of_eager(rvv):
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(20, 40), torch.nn.GELU(), torch.nn.LayerNorm(40), torch.nn.Linear(40, 3)
    )
    x = torch.randn(16, 20)
    model(x).square().mean().backward()
    expected = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    rvv(model)(x).square().mean().backward()
    for p, e in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad, e, rtol=1e-4, atol=1e-5)


def test_a_kernel_that_is_declined_runs_in_aten_with_one_warning(monkeypatch, tmp_path):
    def declined(graph, op):
        raise Declined("sines are out of stock", where="kernel.py:7")

    monkeypatch.setitem(RULES, "math.sin", declined)
    monkeypatch.setitem(RULES, "tt.extern_elementwise", declined)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("TORCH_RVV_FALLBACK", raising=False)
    x = torch.randn(6, 77)

    def run(x):
        return torch.sin(x).t().contiguous() @ x, x.cumsum(0) * 2

    with warnings.catch_warnings(record=True) as seen, record.collecting() as graphs:
        warnings.simplefilter("always")
        ours = torch.compile(run, backend="rvv")(x)
    for a, b in zip(ours, run(x), strict=True):
        torch.testing.assert_close(a, b)
    kernels = [k for g in graphs for k in g.kernels]
    fell = [k for k in kernels if not k.compiled]
    assert fell and fell[0].reason == "sines are out of stock" and fell[0].where == "kernel.py:7"
    assert sum("runs in aten" in str(w.message) for w in seen) == len(fell)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_fallback_is_exact_over_a_whole_graph(dtype, monkeypatch):
    monkeypatch.setenv("TORCH_RVV_FORCE_FALLBACK", "1")
    x, i = torch.randn(8, 64).to(dtype), torch.randint(0, 8, (5,))

    def run(x, i):
        return x.softmax(1), x[i].t().contiguous(), x.argmax(1), torch.cat([x, x * 2], 1), x.var(1), x.cumsum(1)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours = torch.compile(run, backend="rvv")(x, i)
    for a, b in zip(ours, run(x, i), strict=True):
        torch.testing.assert_close(a, b)


def test_random_numbers_of_the_fallback_are_those_of_the_kernel(monkeypatch):
    def draw():
        torch._dynamo.reset()
        torch.manual_seed(11)
        x = torch.empty(501)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.compile(lambda x: (torch.rand_like(x), torch.randn_like(x)), backend="rvv")(x)

    compiled = draw()
    monkeypatch.setenv("TORCH_RVV_FORCE_FALLBACK", "1")
    plain = draw()
    assert torch.equal(compiled[0], plain[0])
    torch.testing.assert_close(compiled[1], plain[1])


def test_verify_mode_passes_right_kernels_and_names_what_differs(monkeypatch):
    monkeypatch.setenv("TORCH_RVV_VERIFY", "1")
    x = torch.randn(6, 77)
    torch.testing.assert_close(torch.compile(wave, backend="rvv")(x), wave(x))
    with pytest.raises(VerifyError, match="kernel k: argument out differs .* element 2"):
        compare("k", "out", torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 4.0]))


def test_explain_shows_vector_code_kinds_and_origins():
    report = torch_rvv.explain(lambda x: torch.relu(x) * 2 + x.sum(-1, keepdim=True), torch.randn(9, 100))
    (row,) = report.rows
    assert row.compiled and row.vector > 5 and row.spills == 0 and row.accesses["unit"] >= 2
    assert any("relu" in o for o in row.origins)
    assert "1 of 1 kernels compiled" in str(report)
    parsed = json.loads(report.to_json())
    assert parsed["kernels"][0]["name"] == row.name and parsed["median_compile_ms"] > 0


def test_the_cache_key_holds_our_options(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_RVV_DUMP", str(tmp_path))
    for lmul in (1, 4):
        torch._dynamo.reset()
        torch.compile(wave, backend="rvv", options={"lmul": lmul})(torch.randn(3, 200 + lmul))
    texts = [p.read_text() for p in tmp_path.glob("*/2.vector.mlir")]
    assert len(texts) == 2 and texts[0] != texts[1]


def test_heuristics_are_ours_whoever_compiled_first(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_RVV_DUMP", str(tmp_path))  # Nothing comes from disk.
    torch._dynamo.reset()
    with V.set_choices_handler(InductorChoices()), record.collecting() as graphs:
        torch.compile(wave, backend="rvv")(torch.randn(3, 211))
        assert type(V.choices) is InductorChoices, "what others compile next is theirs"
    (kernel,) = graphs[0].kernels
    assert kernel.metadata["num_warps"] == 1 and "triton_unk" in kernel.name, "fixed blocks of RVV, not a GPU's"


def test_a_mutated_input_is_written_back(rvv):
    def run(x, y):
        x.add_(y)
        return x * 2

    x, y = torch.randn(100), torch.randn(100)
    a = x.clone()
    assert_same(rvv(run)(a, y), (x + y) * 2)
    assert_same(a, x + y)
