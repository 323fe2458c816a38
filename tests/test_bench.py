"""The suites of `bench`: cases, comparison, the forms of the report, and one case from end to end."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest
import torch
from torch._inductor.async_compile import AsyncCompile
from torch_rvv.benchmarks import bench, compiletime, html, measure, modelsuite, svg, table
from torch_rvv.benchmarks.capture import capture
from torch_rvv.benchmarks.cases import CASES, add, select
from torch_rvv.benchmarks.compare import compare, geometric_mean, summary
from torch_rvv.benchmarks.emulate import run_job
from torch_rvv.benchmarks.jobs import CallStep, FillStep, Job, KernelStep, Pointer
from torch_rvv.benchmarks.measure import OURS, Result, same
from torch_rvv.benchmarks.models import MODELS
from torch_rvv.benchmarks.peers import Unavailable, inductor_cpp, iree, openblas, plain_c
from torch_rvv.benchmarks.recorder import Recorder
from torch_rvv.runtime.build import compile_c

from torch_rvv import cli
from torch_rvv.errors import OptionError

SCHEMA = {
    "suite", "case", "dtype", "shape", "vlen", "system", "instructions", "vector_instructions", "cycles",
    "cycles_bound", "elements", "flops", "spills",
}  # fmt: skip
ISSUE = (
    "relu add copy cast exp log sigmoid silu tanh gelu sin cos row_sum row_max row_mean softmax layer_norm rms_norm "
    "batch_norm_relu embedding gather transpose permute_021 nchw_nhwc cumsum max_pool"
)


def row(case: str, system: str, figures: float | None, elements: int = 100, limit: float | None = None) -> Result:
    known = None if figures is None else round(figures)
    return Result(
        "kernels", case, "float32", [elements], 256, system, elements, elements, elements * 8, known, known, figures,
        figures, figures, 0, 0, limit, None if figures else "it would not",
    )  # fmt: skip


@pytest.mark.ir
def test_cases_cover_the_kernels_and_are_never_only_powers_of_two():
    kinds = {c.kind for c in CASES.values()}
    assert set(ISSUE.split()) <= kinds
    for kind in ISSUE.split()[:15]:
        assert {f"{kind}/f16", f"{kind}/bf16"} <= set(CASES), kind
    for case in select(None):
        assert case.elements & (case.elements - 1), case.name
        assert (case.limit is None or case.limit > 0) and case.bytes > 0
        first, second = case.inputs(), case.inputs()
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True)), case.name
    assert CASES["exp/bf16"].limit == pytest.approx(2 * CASES["exp"].limit)
    assert CASES["exp/f16"].dtype == torch.float16


@pytest.mark.ir
def test_select():
    assert [c.name for c in select("relu")] == ["relu", "relu/f16", "relu/bf16"]
    assert [c.name for c in select("relu/f16,gather")] == ["relu/f16", "gather"]
    assert len(select(None)) + len(select(None, "gemm")) == len(CASES)
    wide, *token = [c.name for c in select("linear", "gemm")]
    assert wide == "linear/128x768x768" and token == [f"linear/1x4096x4096{kind}" for kind in ("", "/f16", "/bf16")]
    with pytest.raises(OptionError, match="Unknown case 'rleu'"):
        select("rleu")
    with pytest.raises(OptionError, match="Unknown peer"):
        bench.select_peers("msvc")
    assert bench.select_peers("none") == []
    assert [p.name for p in bench.select_peers("c_gcc")] == ["c_gcc"]


@pytest.mark.ir
def test_a_win_is_claimed_only_where_all_figures_agree():
    def verdict(*figures: float) -> str:
        mine = row("relu", OURS, 100.0)
        theirs = replace(row("relu", "p", 100.0), instructions=figures[0], cycles=figures[1], cycles_bound=figures[2])
        return compare([mine, theirs])[0].verdict

    assert verdict(101, 101, 101) == "win"
    assert verdict(99, 99, 99) == "loss"
    assert verdict(101, 99, 101) == verdict(99, 101, 101) == verdict(100, 101, 101) == "mixed"


@pytest.mark.ir
def test_each_figure_is_compared_with_its_own_best_peer():
    slow = replace(row("relu", "slow", 400.0), instructions=50)
    results = [row("relu", OURS, 100.0, limit=2.0), slow, row("relu", "fast", 80.0), row("relu", "none", None)]
    found = compare(results)[0]
    assert found.best == {"instructions": "slow", "cycles": "fast", "cycles_bound": "fast"}
    assert found.ratios["instructions"] == 2.0 and found.ratios["cycles"] == 1.25
    assert found.to_limit == 0.5
    assert compare([row("relu", OURS, None), row("relu", "p", 3.0)])[0].verdict == ""
    assert geometric_mean([2.0, 8.0]) == pytest.approx(4.0) and geometric_mean([]) is None


@pytest.mark.ir
def test_the_summary_and_the_table():
    results = [
        row("relu", OURS, 100.0, limit=2.0), row("relu", "p", 200.0),
        row("exp", OURS, 300.0, limit=2.0), row("exp", "p", None), row("sin", OURS, None, limit=1.0),
    ]  # fmt: skip
    text = table.kernels(results)
    assert "1 of 3 cases within their limit" in text and "no figures of ours: sin" in text
    assert "1 win, 0 mixed, 0 loss" in text
    assert "p: exp: it would not" in text
    lines = {line.split()[0]: line.split() for line in text.splitlines()}
    assert lines["relu"][2:5] == ["1.000", "2.00", "0.50"] and lines["exp"][4] == "1.50!"
    assert lines["relu"][-1] == "win"
    assert summary([]) == []


@pytest.mark.ir
def test_the_page_stands_alone_and_is_well_formed():
    results = [
        row("relu", OURS, 100.0, limit=2.0),
        row("relu", "<peer> & co", 200.0),
        row("exp", OURS, None, limit=1.0),
    ]
    page = html.kernels(results)
    assert (
        page.startswith("<!doctype html>")
        and "http://" not in page
        and "https://" not in page
        and "<script" not in page
    )
    for picture in page.split("<svg")[1:]:
        root = ElementTree.fromstring("<svg" + picture.partition("</svg>")[0] + "</svg>")
        assert root.tag == "svg" and len(root)
    assert page.count("<svg") == 3 and "&lt;peer&gt; &amp; co" in page and "<peer>" not in page
    points = [svg.Point("a", "s", 0.25, 1.0), svg.Point("b", "s", 4.0, 0.1)]
    drawn = ElementTree.fromstring(svg.roofline(points, {"s": "#123456"}, 4.375))
    left, right = (c for c in drawn if c.tag == "circle")
    assert float(left.get("cx", 0)) < float(right.get("cx", 0)) and float(left.get("cy", 0)) < float(right.get("cy", 0))
    assert svg.bars({}, {}, "s") == svg.roofline([], {}, 1.0) == "<p>Nothing to draw.</p>"


@pytest.mark.ir
def test_jobs_as_text(tmp_path):
    job = Job()
    strided = torch.arange(6, dtype=torch.float32)[2:]
    pointer = job.add(strided)
    assert pointer == Pointer(0, 8) and len(job.buffers[0]) == 24
    second = job.add(bytes(100))
    job.steps = [KernelStep(b"code", (1, 2, 3), (pointer, -1)), CallStep(tmp_path / "x.so", "f", (second, 10))]
    job.outputs = [1]
    offsets = job.offsets()
    assert offsets[0] == 0 and offsets[1] >= 24 and offsets[1] % 64 == 0 and offsets[2] >= offsets[1] + 100
    path, saved = job.write(tmp_path)
    lines = path.read_text().splitlines()
    assert lines[0] == f"memory {offsets[2]}" and lines[1].startswith("fill 0 24 ")
    assert lines[3].startswith("kernel ") and lines[3].endswith(" 1 2 3 2 @8 ffffffffffffffff")
    assert lines[4] == f"call {tmp_path}/x.so f 2 @{offsets[1]} a"
    assert lines[5] == f"save {offsets[1]} 100 {saved[0]}"


@pytest.mark.ir
def test_what_is_written_between_steps_becomes_a_step():
    recorder = Recorder()
    whole = torch.arange(4.0)
    part = whole[2:]
    assert recorder.pointer(whole) == Pointer(0, 0) and recorder.pointer(part) == Pointer(0, 8)
    whole += 1  # what the step did
    recorder.ran([part, 7])
    assert recorder.pointer(whole) == Pointer(0, 0) and recorder.job.steps == []
    part.zero_()  # what something else did
    assert recorder.pointer(whole) == Pointer(0, 0)
    assert recorder.job.steps == [FillStep(0, whole.numpy().tobytes())]
    assert recorder.buffer(part) == 0 and recorder.buffer(torch.ones(1)) is None
    assert recorder.job.buffers == [torch.arange(4.0).numpy().tobytes()]


@pytest.mark.ir
def test_results_are_compared_by_value():
    right = torch.tensor([1.0, -100.0, 0.0])
    near = torch.tensor([1.0, -100.0 * (1 + 2**-22), 1e-6])
    assert same(near.numpy().tobytes(), right)
    assert not same(torch.tensor([1.0, -100.0, 0.01]).numpy().tobytes(), right)
    assert not same(torch.tensor([1.0, float("nan"), 0.0]).numpy().tobytes(), right)
    transposed = torch.arange(6.0).view(2, 3).t()
    assert same(torch.arange(6.0).numpy().tobytes(), transposed)
    half = torch.tensor([1.0, -100.0]).half()
    assert same((half * 1.001).numpy().tobytes(), half) and not same((half * 1.01).numpy().tobytes(), half)
    assert not same(torch.tensor([1, 2]).numpy().tobytes(), torch.tensor([1, 3]))


@pytest.mark.board
def test_our_kernels_are_counted_with_their_grid_and_tail():
    case = CASES["relu"]
    job, memory, result, graphs = capture(case.function, case.inputs())
    assert torch.equal(result, torch.relu(*case.inputs()))
    assert [k.compiled for g in graphs for k in g.kernels] == [True] and len(job.steps) == 1
    (first, found), (second, _) = (run_job(job, 256) for _ in range(2))
    assert found == memory
    assert first.classes() == second.classes() and first.spills == second.spills
    # At most 64 lanes a load at VLEN 256, and every element is read and written once.
    assert first.classes()["vload_unit"] + first.classes()["vload_whole"] >= 10007 / 64
    assert first.memory["store_bytes"] >= 4 * 10007 and first.memory["loads"] >= 10007
    assert measure.fill(measure.blank(case, OURS, 1024), first).cycles is None
    longer, _ = run_job(job, 1024)
    assert longer.vector_instructions < 0.5 * first.vector_instructions


@pytest.mark.board
@pytest.mark.skipif(shutil.which("g++") is None, reason="Inductor's C++ backend needs g++")
def test_the_kernels_of_a_model_are_counted_with_what_aten_does_between_them(mca):
    def tiny():
        layers = torch.nn.Linear(30, 50), torch.nn.GELU(), torch.nn.Linear(50, 30), torch.nn.LayerNorm(30)
        return torch.nn.Sequential(*layers), {"input": torch.randn(70, 30)}

    MODELS["test_only_tiny"] = tiny
    try:
        ours = modelsuite.ours("test_only_tiny")
        c, aten = modelsuite.peer("test_only_tiny", inductor_cpp.InductorCpp("inductor_cpp_v", inductor_cpp.clang_v))
    finally:
        del MODELS["test_only_tiny"]
    assert ours.reason is None and c.reason is None and ours.elements == 2100
    assert [(call.operation, call.arguments[1].shape) for call in aten] == [
        ("aten.addmm", (70, 30)), ("aten.addmm", (70, 50)),
    ]  # fmt: skip
    # GELU on 3500 values, and a layer norm on 2100: not the products.
    assert ours.instructions and c.instructions and 1000 < ours.instructions < c.instructions
    assert sum(k["instructions"] for k in ours.kernels) == ours.instructions and len(ours.kernels) >= 2
    assert all(k["launches"] == 1 and k["kernel"].startswith("triton_") for k in ours.kernels)
    text = modelsuite.text([ours, c])
    assert ours.kernels[0]["kernel"][:42] in text
    assert "win" in text and "inductor_cpp_v" in text and "<svg" in modelsuite.page([ours, c])


@pytest.mark.board
def test_a_case_that_stays_in_aten_has_a_reason():
    add("test_only_inverse", torch.linalg.inv, lambda generator: [torch.rand(9, 9, generator=generator)], 1.0)
    try:
        result = measure.ours(CASES["test_only_inverse"], 256)
    finally:
        del CASES["test_only_inverse"]
    assert result.failed and result.reason and result.instructions is None


@pytest.mark.board
@pytest.mark.parametrize(
    "name",
    ["add", "relu/bf16", "row_max", "layer_norm", "embedding", "nchw_nhwc/back", "max_pool"]
    + ["matmul/128x128x128/f16", "bmm/12x128x128x64", "depthwise/384x14x14s1", "attention/1x8x1x64_1024"],
)
def test_plain_c_computes_the_case(name):
    """Figures of a peer mean something only if it does the same work: `peer` refuses wrong results."""
    result = measure.peer(CASES[name], "c_clang", 256, plain_c.PlainC("c_clang", plain_c.clang()).build)
    assert result.instructions and result.instructions > 0.05 * result.elements, result.reason


@pytest.mark.board
def test_a_peer_that_is_wrong_or_cannot_run_is_reported():
    clang = plain_c.PlainC("c_clang", plain_c.clang())

    def wrong(case):
        job, checks = clang.build(CASES["add"])
        return job, [(0, checks[0][1] + 1)]

    def absent(case):
        raise Unavailable("not here")

    assert measure.peer(CASES["add"], "p", 256, wrong).reason == "wrong results"
    found = measure.peer(CASES["add"], "p", 256, absent)
    assert found.reason == "not here" and found.instructions is None and not found.failed


@pytest.mark.board
def test_the_command_writes_json_and_html(tmp_path, capsys):
    files = tmp_path / "r.json", tmp_path / "r.html"
    command = ["bench", "--only", "relu", "--peers", "c_clang", "--json", str(files[0]), "--html", str(files[1])]
    assert cli.main([*command, "--blocks", "2"]) == 0
    text = capsys.readouterr().out
    assert "relu/bf16" in text and "cases within their limit" in text
    rows = json.loads(files[0].read_text())
    assert [(r["case"], r["system"]) for r in rows][:2] == [("relu", "torch_rvv"), ("relu", "c_clang")]
    for r in rows:
        assert set(r) >= SCHEMA and r["suite"] == "kernels" and r["vlen"] == 256
        assert 0 < r["vector_instructions"] < r["instructions"] == sum(r["classes"].values())
        assert r["reason"] or 0 < r["cycles_bound"] <= r["cycles"]
        first, second = r["hottest"]
        assert first["share"] > second["share"] > 0 and first["share"] + second["share"] <= 1
        assert first["share"] * r["cycles"] == pytest.approx(first["count"] * first["cycles"], rel=1e-3)
        assert all(line.split()[0] in text for line in first["code"])
    assert rows[0]["hottest"][0]["code"][0].split()[0].startswith("v")
    assert "<svg" in files[1].read_text()


@pytest.mark.ir
def test_inductors_calls_are_recorded_and_not_made(tmp_path):
    inputs = CASES["layer_norm"].inputs()
    generated, result = inductor_cpp.generate(CASES["layer_norm"].function, inputs, run_them=False)
    assert len(generated.sources) == 1 and "layer_norm" not in generated.sources[0]
    assert 'extern "C"' in generated.sources[0] and "Vectorized" not in generated.sources[0]
    (step,) = generated.job([tmp_path / "made.so"]).steps
    assert isinstance(step, CallStep) and step.library == tmp_path / "made.so"
    buffers = [a.buffer for a in step.args if isinstance(a, Pointer)]
    assert {generated.recorder.buffer(t) for t in [*inputs, result]} <= set(buffers)
    assert "cpp_pybinding" in AsyncCompile.cpp_pybinding.__qualname__  # Inductor is itself again.
    assert AsyncCompile.cpp_pybinding.__module__ == AsyncCompile.__module__


# ruff: noqa: E501 - IREE writes long lines
IREE_TEXT = """
  util.func private @__main_memoize_apply() -> !hal.command_buffer {
    %c16 = arith.constant 16 : index
    %c1 = arith.constant 1 : index
    %c0 = arith.constant 0 : index
    %c640 = arith.constant 640 : index
    %c-8388608_i32 = arith.constant -8388608 : i32
    hal.command_buffer.fill_buffer<%cmd : !hal.command_buffer> target(%c1 : index)[%c0, %c640] pattern(%c-8388608_i32 : i32) flags("None")
    %function_id = hal.executable.lookup.function target(%e : !hal.executable) function(@lib::@static::@second) : i64
    hal.command_buffer.dispatch<%cmd : !hal.command_buffer> target(%e : !hal.executable)[%function_id] workgroups([%c16, %c1, %c1]) constants([%c-8388608_i32]) bindings([
      (%c0 : index)[%c0, %c640],
      (%c1 : index)[%c16, %c640]
    ]) flags("None")
    util.return %cmd : !hal.command_buffer
  }
  util.func public @main(%arg0: !hal.buffer_view) -> !hal.buffer_view {
    %c0 = arith.constant 0 : index
    %c640 = arith.constant 640 : index
    %buffer = hal.buffer_view.buffer<%arg0 : !hal.buffer_view> : !hal.buffer
    %transient_buffer = hal.device.queue.alloca<%d : !hal.device> wait(%0) flags("None") : !hal.buffer{%c640}
    hal.device.queue.execute.indirect<%d : !hal.device> wait(%f) commands(%m) bindings([
      (%buffer : !hal.buffer)[%c0, %c640],
      (%transient_buffer : !hal.buffer)[%c0, %c640]
    ]) flags("None")
    %view = hal.buffer_view.create buffer(%transient_buffer : !hal.buffer)[%c0, %c640] shape([%c1]) : !hal.buffer_view
"""


@pytest.mark.ir
def test_what_iree_would_call_is_read_from_its_text():
    plan = iree.read_plan(IREE_TEXT)
    assert plan.slots == (("argument", 0), ("bytes", 640)) and plan.result == 1
    fill, dispatch = plan.steps
    assert fill == iree.Fill(1, 0, 640, 0xFF800000, 32)
    assert dispatch == iree.Dispatch("lib", "second", (16, 1, 1), (0xFF800000,), ((0, 0, 640), (1, 16, 640)))
    text = iree.shim(plan, {"first": 0, "second": 1})
    assert "void iree_run(char *slot0, char *slot1)" in text and "lib_library_query, 1, 16, 1, 1" in text
    assert text.index("4286578688u;") < text.index("call(") and "slot1 + 16" in text
    with pytest.raises(Unavailable, match="copies"):
        iree.read_plan(IREE_TEXT.replace("hal.command_buffer.fill_buffer", "hal.command_buffer.copy_buffer"))
    with pytest.raises(Unavailable, match="more than one list"):
        iree.read_plan(IREE_TEXT.replace("hal.buffer_view.create", "hal.buffer_view.other"))


@pytest.mark.ir
def test_a_version_that_a_library_needs_is_made_a_wish(tmp_path):
    source, made = tmp_path / "a.c", tmp_path / "a.so"
    source.write_text('#include <stdio.h>\nvoid f(void) { puts(""); }\n')
    compile_c([source], made, ("-shared", "-fPIC"))
    before = made.read_bytes()
    after = openblas.without_version(before, b"GLIBC_2.27")
    changed = [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
    assert len(changed) == 1 and after[changed[0]] == before[changed[0]] | 2
    with pytest.raises(ValueError, match=r"GLIBC_2\.99"):
        openblas.without_version(before, b"GLIBC_2.99")
    blas = openblas.OpenBlas()
    assert blas.applies(CASES["matmul"]) and not blas.applies(CASES["relu"])


@pytest.mark.ir
def test_compile_time_as_text():
    results = [
        compiletime.CompileResult("compile", "gpt2", OURS, 6.0, 5.0, 0.5),
        compiletime.CompileResult("compile", "gpt2", "inductor_gcc", 40.0, 20.0, 0.4),
        compiletime.CompileResult("compile", "gpt2", "inductor_clang", reason="no such compiler here"),
    ]
    text = compiletime.text(results)
    assert "0.15" in text and "0.25" in text and "inductor_clang: gpt2: no such compiler here" in text
    assert not any(r.failed for r in results) and compiletime.CompileResult("compile", "gpt2", OURS).failed
    assert compiletime.page(results).count("<svg") == 3
    with pytest.raises(OptionError, match="Unknown model"):
        list(compiletime.run("gtp2"))


@pytest.mark.ir
def test_what_is_measured_before_a_suite_breaks_off_is_in_the_file(monkeypatch, tmp_path):
    def run(options):
        yield row("relu", OURS, 1.0)
        raise KeyboardInterrupt

    monkeypatch.setitem(bench.SUITES, "kernels", replace(bench.SUITES["kernels"], run=run))
    with pytest.raises(KeyboardInterrupt):
        bench.main("kernels", bench.Options(), str(tmp_path / "rows.json"), None)
    assert [r["case"] for r in json.loads((tmp_path / "rows.json").read_text())] == ["relu"]
