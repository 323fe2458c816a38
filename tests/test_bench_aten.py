"""What peers compute of products, convolutions and attention, and what is counted for aten in a model's row."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch._inductor.output_code import CompiledFxGraph
from torch_rvv.benchmarks import atencost, cases, cycles, measure, modelsuite
from torch_rvv.benchmarks.atencalls import AtenCall, Like, described
from torch_rvv.benchmarks.atencost import Cost
from torch_rvv.benchmarks.blocks import Block
from torch_rvv.benchmarks.cases import CASES
from torch_rvv.benchmarks.measure import Result
from torch_rvv.benchmarks.peers import Unavailable, inductor_cpp, iree, openblas, plain_c

LAST = torch.channels_last


def openblas_is_here() -> bool:
    try:
        openblas.library()
    except Unavailable:
        return False
    return True


needs_openblas = pytest.mark.skipif(not openblas_is_here(), reason="python -m torch_rvv.benchmarks.peers.openblas")


def call(operation: str, *arguments: object, **keywords: object) -> AtenCall:
    return AtenCall(f"aten.{operation}", described(arguments), tuple((k, described(v)) for k, v in keywords.items()))


def conv(x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor | None = None, stride=1, padding=(0, 0), groups=1,
         dilation=1) -> AtenCall:  # fmt: skip
    strides = (stride, stride) if isinstance(stride, int) else stride
    return call("convolution", x, w, bias, strides, padding, (dilation, dilation), False, (0, 0), groups)


def last(*shape: int) -> torch.Tensor:
    return torch.empty(shape).contiguous(memory_format=LAST)


@pytest.fixture
def fresh(monkeypatch):
    monkeypatch.setattr(atencost, "_measured", {})


# name of a convolution: (channels, size, filters, kernel, stride, groups)
CONVOLUTIONS = {
    "test_only_1x1": (5, 9, 7, 1, 1, 1), "test_only_1x1s2": (5, 9, 7, 1, 2, 1), "test_only_3x3": (4, 7, 6, 3, 1, 1),
    "test_only_3x3s2": (4, 8, 6, 3, 2, 1), "test_only_7x7s3": (3, 13, 4, 7, 3, 1),
    "test_only_groups": (6, 7, 4, 3, 1, 2), "test_only_depthwise_s2": (6, 8, 6, 3, 2, 6),
    "test_only_wider_than_image": (3, 2, 4, 5, 1, 1),
}  # fmt: skip


@pytest.mark.board
@pytest.mark.parametrize(
    "peer", [plain_c.PlainC("c_clang", plain_c.clang()), openblas.OpenBlas()], ids=lambda p: p.name
)
def test_convolutions_of_peers(peer):
    """Of odd sizes: every stride, padding and group reaches the C function, and the result is PyTorch's."""
    if peer.name == "openblas" and not openblas_is_here():
        pytest.skip("OpenBLAS is not here")
    for name, (channels, size, filters, kernel, stride, groups) in CONVOLUTIONS.items():
        cases._convolution(f"conv/{name}", channels, size, filters, kernel, stride, groups)
        case = CASES.pop(f"conv/{name}")
        result = measure.peer(case, peer.name, 256, peer.build)
        assert result.instructions, (name, result.reason)
        wrong = measure.peer(replace(case, function=lambda x, w, f=case.function: f(x, w) * 1.01), "p", 256, peer.build)
        assert wrong.reason == "wrong results", name


m = torch.empty
QKV = [m(2, 4, 70, 16), m(2, 2, 70, 16), m(2, 2, 70, 16)]
# Each with its operands as graphs have them: transposed, with gaps between rows, shared, with biases of two kinds.
CALLS = {
    "mm": call("mm", m(5, 33), m(33, 17)),
    "mm of transposes": call("mm", m(33, 5).t(), m(17, 33).t()),
    "mm of parts": call("mm", m(5, 40)[:, 3:36], m(33, 40)[:, :17]),
    "a row": call("mm", m(1, 33), m(33, 17)),
    "a row by a transpose": call("mm", m(1, 33), m(17, 33).t()),
    "a row of stride 0": call("mm", m(33)[None].as_strided((1, 33), (0, 1)), m(17, 33).t()),
    "a column": call("mm", m(5, 33), m(33, 1)),
    "a column by a transpose": call("mm", m(33, 5).t(), m(33, 1)),
    "addmm": call("addmm", m(17), m(5, 33), m(17, 33).t()),
    "addmm of a matrix": call("addmm", m(5, 17), m(5, 33), m(33, 17)),
    "addmm of a row": call("addmm", m(17), m(1, 33), m(33, 17)),
    "bmm": call("bmm", m(3, 5, 33), m(3, 17, 33).transpose(1, 2)),
    "bmm of one": call("bmm", m(3, 5, 33), m(33, 17).expand(3, 33, 17)),
    "baddbmm": call("baddbmm", m(3, 5, 17), m(3, 5, 33), m(3, 33, 17)),
    "baddbmm of a row": call("baddbmm", m(3, 1, 17), m(3, 5, 33), m(3, 33, 17)),
    "conv": conv(m(2, 4, 9, 11), m(6, 4, 3, 3), m(6), 1, (1, 1)),
    "conv of two strides": conv(m(2, 4, 9, 11), m(6, 4, 3, 2), None, (2, 3), (0, 1)),
    "conv last": conv(last(2, 4, 9, 11), last(6, 4, 3, 3), m(6), 1, (1, 1)),
    "conv last of two strides": conv(last(2, 4, 9, 11), last(6, 4, 3, 2), None, (2, 3), (0, 1)),
    "conv last of one": conv(last(2, 4, 9, 11), last(6, 4, 1, 1), m(6)),
    "conv last of groups": conv(last(2, 4, 9, 11), last(6, 2, 3, 3), m(6), 2, (1, 1), groups=2),
    "conv last of one in groups": conv(last(2, 4, 9, 11), last(6, 2, 1, 1), None, 1, groups=2),
    "depthwise": conv(m(2, 5, 9, 11), m(5, 1, 3, 3), m(5), 2, (1, 1), groups=5),
    "depthwise last": conv(last(2, 5, 9, 11), m(5, 1, 3, 3), m(5), 1, (1, 1), groups=5),
    "depthwise last of two strides": conv(last(2, 5, 9, 11), m(5, 1, 7, 3), None, (2, 1), (3, 0), groups=5),
    "attention": call("_scaled_dot_product_flash_attention_for_cpu", *[m(1, 3, 7, 16)] * 3),
    "attention of a query": call("_scaled_dot_product_flash_attention_for_cpu", m(1, 3, 1, 16), *[m(1, 3, 90, 16)] * 2),
    "attention that is causal": call("_scaled_dot_product_flash_attention_for_cpu", *QKV, 0.0, True, scale=0.3),
    "attention with a mask": call(
        "_scaled_dot_product_flash_attention_for_cpu", *[m(2, 7, 3, 16).transpose(1, 2)] * 3,
        attn_mask=m(2, 1, 7, 7), scale=0.25,
    ),
}  # fmt: skip


@pytest.mark.board
@needs_openblas
def test_what_aten_does_is_done_by_openblas(fresh, mca):
    found = atencost.measured(CALLS.values())
    for name, one in CALLS.items():
        cost = found[one]
        assert isinstance(cost, Cost), (name, cost)
        assert cost.instructions > 50 and cost.cycles and cost.cycles_bound and cost.cycles_bound <= cost.cycles


@pytest.mark.board
@needs_openblas
def test_a_way_that_computes_something_else_is_not_counted(fresh, monkeypatch):
    noun, ways = atencost.OPERATIONS["aten.addmm"]
    monkeypatch.setitem(atencost.OPERATIONS, "aten.addmm", (noun, lambda bias, a, b: ways(bias * 1.01, a, b)))
    (found,) = atencost.measured([CALLS["addmm"]]).values()
    assert str(found) == "wrong results"


@pytest.mark.board
@needs_openblas
def test_the_cheapest_way_counts_and_is_measured_once(fresh, monkeypatch, mca):
    depthwise = conv(last(1, 48, 9, 9), m(48, 1, 3, 3), None, 1, (1, 1), groups=48)
    (best,) = atencost.measured([depthwise]).values()
    monkeypatch.setattr(atencost, "run_job", None)
    assert atencost.measured([depthwise, depthwise]) == {depthwise: best}
    monkeypatch.undo()
    noun, ways = atencost.OPERATIONS["aten.convolution"]
    each = []
    for number in (0, 1):
        monkeypatch.setattr(atencost, "_measured", {})
        monkeypatch.setitem(atencost.OPERATIONS, "aten.convolution", (noun, lambda *a, n=number: [ways(*a)[n]]))
        each += atencost.measured([depthwise]).values()
    assert each[0] != each[1] and best in each and best.cycles == min(cost.cycles for cost in each)


@pytest.mark.ir
@pytest.mark.parametrize(
    "one, reason",
    [
        (call("cumsum", m(4, 5), -1), "no product, convolution or attention"),
        (call("mm", m(4, 5).half(), m(5, 6).half()), "but in f32"),
        (call("mm", m(4, 10)[:, ::2], m(5, 6)), "gaps"),
        (call("addmm", m(4, 1), m(4, 5), m(5, 6)), "a column"),
        (call("addmm", m(6), m(4, 5), m(5, 6), alpha=2), "alpha"),
        (conv(m(1, 4, 9, 9), m(4, 4, 3, 3), dilation=2), "dilated"),
        (conv(m(1, 4, 9, 9), last(4, 4, 3, 3)), "two layouts"),
        (call("_scaled_dot_product_flash_attention_for_cpu", *QKV, 0.5), "dropout"),
    ],
)
def test_what_has_no_way_has_a_reason(one, reason):
    with pytest.raises(Unavailable, match=reason):
        atencost._ways(one)


@pytest.mark.ir
def test_a_row_says_what_was_added_and_what_was_not(monkeypatch):
    mm, other, sdpa = CALLS["mm"], call("cumsum", m(4, 5), -1), CALLS["attention"]
    costs = {mm: Cost(1000, 20.0, 10.0), sdpa: Cost(70, 2.0, 1.0), other: Unavailable("it cannot")}
    monkeypatch.setattr(atencost, "measured", lambda calls: {c: costs[c] for c in calls})
    row = Result("models", "m", "float32", [1], 256, "p", instructions=5, cycles=0.5, cycles_bound=0.5)
    found = modelsuite.with_aten(replace(row), Counter({mm: 3, sdpa: 2, other: 1}))
    assert (found.instructions, found.cycles, found.cycles_bound) == (3145, 64.5, 32.5)
    assert found.reason == (
        "in aten, added as OpenBLAS does it: 3 products, 2 attentions; not counted: aten.cumsum (it cannot)"
    )
    # Half of a sum is no figure.
    costs[mm] = Cost(1000, None, None)
    found = modelsuite.with_aten(replace(row), Counter({mm: 1, sdpa: 1}))
    assert (found.instructions, found.cycles, found.cycles_bound) == (1075, None, None)
    assert modelsuite.with_aten(replace(row), Counter()) == row
    failed = replace(row, instructions=None, reason="wrong results")
    assert modelsuite.with_aten(replace(failed), Counter({mm: 1})) == failed


@pytest.mark.ir
def test_what_inductor_leaves_to_aten_is_noted_with_its_arguments():
    def function(x, w, a):
        return F.gelu(F.conv2d(x, w, None, 2, 1).flatten(1) @ a.t()) @ a

    held = CompiledFxGraph.__call__
    inputs = torch.rand(2, 3, 8, 8), torch.rand(5, 3, 3, 3), torch.rand(7, 80)
    generated, _ = inductor_cpp.generate(function, inputs, run_them=False)
    assert CompiledFxGraph.__call__ is held
    assert generated.sources and sum(generated.aten.values()) == 3
    convolution, first, second = generated.aten
    assert convolution.operation == "aten.convolution" and convolution.arguments[0].shape == (2, 3, 8, 8)
    assert convolution.arguments[3:] == ((2, 2), (1, 1), (1, 1), False, (0, 0), 1)
    assert first.arguments[1] == Like((80, 7), (1, 80), torch.float32) and first.keywords == ()
    assert second.arguments == (Like((2, 7), (7, 1), torch.float32), Like((7, 80), (80, 1), torch.float32))
    none, _ = inductor_cpp.generate(torch.relu, [torch.rand(9)], run_them=False)
    assert none.sources and not none.aten


@pytest.mark.ir
@pytest.mark.parametrize("name", ["conv/256x56x56_128x1x1s2", "depthwise/384x14x14s1", "matmul/128x128x128", "cumsum"])
def test_a_call_of_aten_with_copies_around_is_no_kernel_of_inductors(name):
    peer = inductor_cpp.InductorCpp("inductor_cpp_v", inductor_cpp.clang_v)
    with pytest.raises(Unavailable, match="Inductor makes no kernel of it: it stays in aten"):
        peer.build(CASES[name])


@pytest.mark.ir
def test_which_peers_are_for_which_cases():
    blas, (base, wide, im2col, tiled) = openblas.OpenBlas(), iree.peers()
    names = ("matmul/128x128x128", "bmm/12x128x128x64", "conv/64x56x56_64x1x1s1", "attention/1x8x1x64_1024", "softmax")
    assert [blas.applies(CASES[n]) for n in names] == [True, True, True, True, False]
    assert not any(blas.applies(CASES[f"matmul/128x128x128/{t}"]) for t in ("f16", "bf16"))
    assert not blas.applies(CASES["int_mm/128x128x128"])
    assert all(peer.applies(CASES[n]) for peer in (base, wide) for n in names)
    assert [im2col.applies(CASES[n]) for n in names] == [False, False, True, False, False]
    assert [tiled.applies(CASES[n]) for n in names] == [False, False, True, True, False]
    assert CASES["depthwise/96x112x112s2"].geometry == (2, 1, 96) and CASES["softmax"].geometry == ()


@pytest.mark.ir
def test_cycles_of_several_executions(mca):
    nop, add = b"\x01\x00", b"\x33\x05\xb5\x00"
    one, two = [Block(0, nop, 64, 4)], [Block(0, nop, 64, 2), Block(2, add, 64, 6)]
    assert cycles.cycles_of_each([one, [], two]) == [cycles.cycles_of(part) for part in (one, [], two)]
