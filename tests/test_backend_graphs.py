"""Compiled graphs as programs: what they hold, when they free it, and the graphs that have no FX form."""

from __future__ import annotations

import subprocess
import sys
import warnings

import pytest
import torch
import triton
import triton.language as tl
from conftest import assert_same
from torch.nn import functional as F
from torch_rvv.lowering.graph import RULES
from torch_rvv.runtime import record
from torch_rvv.runtime.device import get_device
from torch_rvv.runtime.program import Launch, Program

import torch_rvv
from torch_rvv.errors import InstallError, OptionError
from torch_rvv.plugin import alone

pytestmark = pytest.mark.board


@triton.jit
def scaled(x, out, n, scale, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    m = i < n
    tl.store(out + i, tl.load(x + i, m) * scale, m)


tuned = triton.autotune(configs=[triton.Config({"B": 64}), triton.Config({"B": 256})], key=["n"])(scaled)


def run_scaled(x):
    out = torch.empty_like(x)
    scaled[(triton.cdiv(x.numel(), 128),)](x + 1, out, x.numel(), 2.5, B=128)
    return out * 2


def run_tuned(x):
    out = torch.empty_like(x)
    tuned[lambda meta: (triton.cdiv(x.numel(), meta["B"]),)](x + 1, out, x.numel(), 2.5)
    return out * 2


def branches(x):
    return torch.cond(x.sum() > 0, lambda x: x.sin() + 1, lambda x: x.cos() + 1, (x,))


def loops(x):
    return torch.while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, x.sin() * 2 + 1), (torch.tensor(0), x))


def compiled_graphs(function, *inputs, **keywords):
    """(outputs, graph records) of compiling and running."""
    torch._dynamo.reset()
    with record.collecting() as graphs:
        outputs = torch.compile(function, backend="rvv", **keywords)(*inputs)
    return outputs, graphs


@pytest.mark.parametrize("function", [run_scaled, run_tuned])
def test_triton_kernels_of_the_user_inside_a_compiled_function(function, rvv):
    x = torch.randn(300)
    torch.testing.assert_close(rvv(function)(x), (x + 1) * 5)


@triton.jit
def blocks(x, B: tl.constexpr, out, rows, SCALE: tl.constexpr, bias, columns, step, C: tl.constexpr):
    """out = x * SCALE + bias, each program a block of B x C; constants stand among the parameters."""
    i, j = tl.program_id(1) * B + tl.arange(0, B), tl.program_id(0) * C + tl.arange(0, C)
    m = (i[:, None] < rows) & (j[None, :] < columns)
    at = i[:, None] * columns + j[None, :] * step
    value = tl.load(x + at, m) * SCALE
    if bias is not None:
        value += tl.load(bias + j, j < columns)[None, :]
    tl.store(out + at, value + tl.program_id(2), m & (tl.program_id(2) == tl.num_programs(2) - 1))


tuned_blocks = triton.autotune(
    configs=[triton.Config({"B": 4, "C": 16}), triton.Config({"B": 2, "C": 32})], key=["rows"]
)(blocks)


def run_blocks(x, bias=None, depth=1):
    out = torch.empty_like(x)
    grid = (triton.cdiv(x.shape[1], 16), triton.cdiv(x.shape[0], 4), depth)
    blocks[grid](x, 4, out, x.shape[0], 2.5, bias, x.shape[1], 1, 16)
    return out


def run_tuned_blocks(x, bias=None, depth=1):
    out = torch.empty_like(x)

    def grid(meta):
        return triton.cdiv(x.shape[1], meta["C"]), triton.cdiv(x.shape[0], meta["B"]), depth

    tuned_blocks[grid](x, out=out, rows=x.shape[0], SCALE=2.5, bias=bias, columns=x.shape[1], step=1)
    return out


@pytest.mark.parametrize("function", [run_blocks, run_tuned_blocks])
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_constants_among_the_parameters_of_a_kernel_are_not_its_grid(function, dynamic, biased, rvv):
    compiled = rvv(lambda x, b: function(x, b, 2) * 2, dynamic=dynamic)
    for shape in ((9, 40), (30, 17)):
        x, bias = torch.randn(shape), torch.randn(shape[1]) if biased else None
        wanted = x * 5 + (2 * bias if biased else 0) + 2
        torch.testing.assert_close(compiled(x, bias), wanted)


def test_a_kernel_of_the_user_behind_a_loop_that_keeps_the_python_wrapper():
    x, bias = torch.randn(9, 40), torch.randn(40)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours, _ = compiled_graphs(lambda x, b: (loops(x)[1], run_blocks(x, b, 2)), x, bias)
    torch.testing.assert_close(ours, (loops(x)[1], x * 2.5 + bias + 1))


def test_an_autotuned_kernel_launched_by_hand():
    x, out = torch.randn(300), torch.zeros(300)
    tuned[lambda meta: (triton.cdiv(300, meta["B"]),)](x, out, 300, 3.0)
    assert_same(out, x * 3)


def test_constants_of_the_graph_stay_on_the_device(rvv):
    table = torch.arange(7.0)
    function = rvv(lambda x: x * torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]) + table)
    x = torch.randn(5, 7)
    for _ in range(2):
        torch.testing.assert_close(function(x), x * torch.arange(1.0, 8.0) + table)


def test_a_graph_without_inputs(rvv):
    compiled = rvv(lambda: torch.arange(5) * 2 + 1)
    for _ in range(2):
        assert torch.equal(compiled(), torch.arange(5) * 2 + 1)


def test_sizes_that_aten_calls_take_follow_the_input(rvv):
    function = rvv(lambda x: (x + 1).topk(x.shape[0] // 2, 0).values.sum(1), dynamic=True)
    for n in (6, 9, 40):
        x = torch.randn(n, 5)
        torch.testing.assert_close(function(x), (x + 1).topk(n // 2, 0).values.sum(1))


def test_data_dependent_sizes(rvv):
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        function = rvv(lambda x: (x.nonzero() * 3).sum(1) + 1, fullgraph=True)
        for n in (11, 50):
            x = torch.randn(n, 3).relu()
            assert_same(function(x), (x.nonzero() * 3).sum(1) + 1)


def test_calls_that_only_have_effects(rvv):
    x = torch.eye(5) + torch.rand(5, 5) / 10
    function = rvv(lambda x: torch.linalg.inv(x) * 2)
    torch.testing.assert_close(function(x), torch.linalg.inv(x) * 2)
    with pytest.raises(RuntimeError, match="singular"):
        function(torch.zeros(5, 5))


@pytest.mark.parametrize("sign", [1, -1])
def test_both_branches_of_a_conditional_are_our_kernels(sign):
    x = torch.rand(6, 50) * sign
    ours, graphs = compiled_graphs(branches, x)
    torch.testing.assert_close(ours, branches(x))
    (graph,) = graphs
    assert graph.reason is None and len(graph.kernels) == 3 and all(k.compiled for k in graph.kernels)
    assert sum(k.launches for k in graph.kernels) == 2


@pytest.mark.parametrize("forced", ["", "1"])
def test_a_graph_with_a_loop_keeps_the_python_wrapper_and_our_kernels(forced, monkeypatch):
    monkeypatch.setenv("TORCH_RVV_FORCE_FALLBACK", forced)
    x = torch.randn(6, 50)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        ours, graphs = compiled_graphs(loops, x)
    for a, b in zip(ours, loops(x), strict=True):
        torch.testing.assert_close(a, b)
    (graph,) = graphs
    assert "NotImplementedError" in graph.reason
    assert any("Python wrapper" in str(w.message) for w in seen)
    assert graph.kernels and all(k.compiled != bool(forced) and k.launches for k in graph.kernels)


def test_training_through_the_python_wrapper():
    def run(x, w):
        return loops(x.detach())[1] + (x * w).sin()

    x, w = torch.randn(6, 50, requires_grad=True), torch.randn(50, requires_grad=True)
    run(x, w).sum().backward()
    expected = x.grad.clone(), w.grad.clone()
    x.grad = w.grad = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch._dynamo.reset()
        torch.compile(run, backend="rvv")(x, w).sum().backward()
    torch.testing.assert_close((x.grad, w.grad), expected)


def test_another_target_in_the_same_process_is_other_code():
    x = torch.randn(64)
    sizes = {}
    for target in ("k1", "rv64gcv", "k1"):
        _, (graph,) = compiled_graphs(lambda x: x.half().exp() * 3, x, options={"target": target})
        sizes.setdefault(target, []).append(graph.kernels[0].binary)
    assert sizes["k1"][0] == sizes["k1"][1] != sizes["rv64gcv"][0]


@pytest.mark.parametrize("name", ["cpu_backend", "fx_wrapper"])
def test_options_that_make_the_backend_are_refused(name):
    with pytest.raises(Exception, match=f"Option '{name}' is fixed") as caught:
        compiled_graphs(lambda x: x + 1, torch.ones(3), options={name: "cpp"})
    assert isinstance(caught.value.__cause__ or caught.value.__context__ or caught.value.inner_exception, OptionError)


def test_buffers_are_freed_after_their_last_use():
    torch._dynamo.reset()
    weight = torch.randn(512, 512) / 23
    peaks = []
    device = get_device()
    function = torch.compile(lambda x: chain(x, weight), backend="rvv")
    x = torch.randn(512, 512)
    function(x)
    used, reserve = device.pool.used, device.pool.reserve

    def watched(nbytes):
        start = reserve(nbytes)
        peaks.append(device.pool.used - used)
        return start

    device.pool.reserve = watched
    try:
        out = function(x)
    finally:
        device.pool.reserve = reserve
    assert max(peaks) <= 4 * x.nbytes
    del out
    assert device.pool.used == used


def chain(x, weight):
    for _ in range(8):
        x = F.relu(x @ weight) + 1
    return x


def test_overlapping_arguments_whose_code_is_declined_run_in_aten(monkeypatch, tmp_path):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("TORCH_RVV_FALLBACK", raising=False)
    programs, build = [], Program.from_graph
    monkeypatch.setattr(Program, "from_graph", lambda *a: programs.append(build(*a)) or programs[-1])
    _, (graph,) = compiled_graphs(lambda x, y: x.add_(y * 2), torch.zeros(10), torch.zeros(10))
    (kernel,), (program,) = graph.kernels, programs
    for step in program.steps:
        if isinstance(step, Launch):  # forget the code for overlap: the input that is written is two arguments
            step.kernel.launcher._loaded.clear()
            step.kernel.launcher.__dict__.pop("_twin", None)
    monkeypatch.setitem(RULES, "tt.store", lambda graph, op: None)
    memory = torch.arange(20.0)
    # Dynamo itself would never pass overlapping inputs to this graph.
    with pytest.warns(UserWarning, match="runs in aten"):
        program.run([memory[1:11], memory[0:10]])
    assert not kernel.compiled and kernel.reason
    expected = torch.arange(20.0)
    expected[1:11].add_(expected[0:10] * 2)
    assert_same(memory, expected)


def test_a_second_triton_backend_for_the_cpu_is_a_clear_error(monkeypatch):
    class Other:
        name, value, dist = "cpu", "somebody.cpu", None

    monkeypatch.setattr(alone, "entry_points", lambda group: [Other])
    alone.check_alone.cache_clear()
    try:
        with pytest.raises(InstallError, match=r"two Triton backends(?s:.*)somebody.cpu(?s:.*)pip uninstall"):
            alone.check_alone()
    finally:
        monkeypatch.undo()
        alone.check_alone.cache_clear()
    alone.check_alone()


@pytest.mark.parametrize(
    "first", ["torch_rvv.plugin.driver", "torch_rvv.runtime.program", "torch_rvv.fxgraph", "triton"]
)
def test_modules_can_be_imported_in_any_order(first):
    subprocess.run([sys.executable, "-c", f"import {first}, torch_rvv.backend"], check=True, timeout=120)


def test_importing_the_package_loads_neither_torch_nor_triton():
    script = "import sys, torch_rvv; assert not {'torch', 'triton', 'torch_mlir'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


@pytest.mark.parametrize("trained", [False, True])
def test_a_part_of_what_became_a_part_of_a_concatenation(trained, rvv):
    """What is computed is written where the concatenation has it; a slice of it begins behind that."""

    def parts(x, w):
        y, z = (w * x).sum(1) / 3, w.relu()
        return torch.cat([x, y]), y[12:22:3], torch.cat([x[None], z]), z[3:5]

    torch.manual_seed(0)
    x, w = torch.randn(8, requires_grad=trained), torch.randn(33, 8, requires_grad=trained)
    for ours, theirs in zip(rvv(parts)(x, w), parts(x, w), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_aten_reads_a_part_of_an_input_that_is_a_part_itself(rvv):
    """An input may begin anywhere in its memory, and a view of it counts from there."""

    def products(x):
        return x[3:10] @ x[11:18].T, (x[2:, 5:] * 2)[1:] @ x[:35]

    torch.manual_seed(0)
    x = torch.randn(100, 40)[7:57]
    report = torch_rvv.explain(products, x, options={"gemm": "aten"})
    assert report.extern
    for ours, theirs in zip(rvv(products, options={"gemm": "aten"})(x), products(x), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_single_result_that_is_a_tensor_subclass(rvv):
    from torch.testing._internal.two_tensor import TwoTensor

    a, b = torch.randn(5, 7), torch.randn(5, 7)
    out = torch.compile(lambda x: x.relu() + 1, backend="rvv")(TwoTensor(a, b))
    assert_same(out.a, a.relu() + 1)
    assert_same(out.b, b.relu() + 1)
