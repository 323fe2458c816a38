"""Matrix products of PyTorch as kernels of ours: sizes, strides, types, what is fused, what stays in aten."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import sympy
import torch
from torch._dynamo.exc import BackendCompilerFailed
from torch._inductor.virtualized import V
from torch_rvv.runtime import record

import torch_rvv
from torch_rvv import inductor
from torch_rvv.decompositions import LEAST_DEPTH
from torch_rvv.gemm import FEW_ROWS, TRITON_LIMIT, Problem, block_sizes, choose

F64, F32, F16, BF16, I8 = torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int8
TOLERANCE = {F64: 1e-14, F32: 2e-6, F16: 1e-3, BF16: 8e-3}


def agree(function, *args, options=None, dynamic=False, terms=1000):
    """Compiled all by us, and as exact as the type allows sums of so many terms (against f64); returns the graphs."""
    torch._dynamo.reset()
    with record.collecting() as graphs:
        ours = torch.compile(function, backend="rvv", options=options, dynamic=dynamic)(*args)
    wanted = function(*(a.double() for a in args))
    error = (ours.double() - wanted).abs().max() / wanted.abs().max().clamp(min=1e-30) if wanted.numel() else 0
    assert ours.shape == wanted.shape and error <= TOLERANCE[ours.dtype] * max(1.0, terms / 1000) ** 0.5, error
    assert all(k.compiled for g in graphs for k in g.kernels)
    return graphs


@pytest.mark.board
@pytest.mark.parametrize("dtype", [F32, F16, BF16], ids=str)
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(
    ("m", "n", "k"), [(60, 100, 147), (197, 192, 64), (3, 33, 7), (2, 257, 512), (16, 16, 16), (300, 70, 33)]
)
def test_a_product_with_its_epilogue_is_one_kernel(m, n, k, transposed, dtype):
    torch.manual_seed(0)
    x, b = torch.randn(m, k).to(dtype), torch.randn(n).to(dtype)
    w = (torch.randn(n, k).t() if transposed else torch.randn(k, n)).to(dtype)
    (graph,) = agree(lambda x, w, b: torch.relu(torch.addmm(b, x, w)), x, w, b)
    (kernel,) = graph.kernels
    few = transposed and m <= FEW_ROWS and k >= LEAST_DEPTH
    assert not graph.extern and any("rows" in nest for nest in kernel.metadata["nests"]) != few


@pytest.mark.board
@pytest.mark.parametrize("dtype", [F32, BF16], ids=str)
def test_batches_strides_and_prologues(dtype):
    torch.manual_seed(0)
    a, b = torch.randn(2, 3, 33, 64).to(dtype), torch.randn(2, 3, 47, 64).to(dtype)
    agree(lambda a, b: torch.matmul(a, b.transpose(-1, -2)) * 0.125, a, b)
    agree(lambda a, b: torch.matmul(a.permute(0, 2, 1, 3).flatten(2), b[0, 0, :, :1].expand(47, 192).t()), a, b)
    agree(lambda a, b: (a[0, 0] + 1).relu() @ (b[0, 0] * 2).t(), a, b)
    agree(lambda a, b: torch.baddbmm(a[0, :, :, :47] * 0 + 1, a[0], b[0].mT, beta=0.5, alpha=2.0), a, b)


@pytest.mark.board
def test_products_that_share_a_scale_and_swap_rows_and_columns_are_two_kernels():
    """As many elements of the same depth, both reading the scale of each step."""
    torch.manual_seed(0)
    a, b, c, d = torch.randn(4, 32, 24), torch.randn(4, 24, 16), torch.randn(4, 24, 16), torch.randn(4, 24, 32)
    scale = torch.randn(4, 24, 1)

    def both(a, b, c, d, s):
        return a @ (b * s), (c * s).mT @ d

    with record.collecting() as graphs:
        ours = torch.compile(both, backend="rvv")(a, b, c, d, scale)
    for mine, theirs in zip(ours, both(a, b, c, d, scale), strict=True):
        torch.testing.assert_close(mine, theirs)
    assert len(graphs[0].kernels) == 2 and not graphs[0].extern


@pytest.mark.board
def test_a_product_and_a_sum_over_its_depth_are_two_kernels():
    """The gradients of a product and of a quotient by a row: both sum over as many elements."""
    torch.manual_seed(0)
    inputs = torch.randn(33, 33), torch.randn(33, 33, 1), torch.randn(1, 33)
    gradients = []
    for run in (lambda f: f, lambda f: torch.compile(f, backend="rvv")):
        x, y, z = (t.clone().requires_grad_() for t in inputs)
        results = run(lambda x, y, z: (torch.matmul(x, y) / 5, y / (z.abs() + 1)))(x, y, z)
        sum(r.square().sum() for r in results).backward()
        gradients.append([t.grad for t in (x, y, z)])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.board
def test_operands_scaled_by_a_number_in_memory():
    """A number has neither rows nor columns, whichever operand it is a part of."""
    torch.manual_seed(0)
    x, w, s = torch.randn(20, 40), torch.randn(40, 30), torch.randn(1)
    for product in (
        lambda x, w, s: (x * s) @ w + s,
        lambda x, w, s: x @ (w * s[0]),
        lambda x, w, s: (x * s + s) @ (w - s),
        lambda x, w, s: s.expand(20, 40) @ w,
        lambda x, w, s: torch.bmm(x[None].expand(3, 20, 40) * s, w[None].expand(3, 40, 30)),
        lambda x, w, s: torch.nn.functional.pad(x * s, (1, 1)) @ torch.nn.functional.pad(w * s, (0, 0, 1, 1)),
        lambda x, w, s: torch.cat([x[:, :20] * s, s.expand(20, 20)], 1) @ w,
        lambda x, w, s: torch.nn.functional.pad(s.expand(20, 38), (1, 1), value=2.0) @ w,
        lambda x, w, s: x @ torch.nn.functional.pad(s.expand(38, 28), (1, 1, 1, 1)),
    ):
        agree(product, x, w, s)


@pytest.mark.board
@pytest.mark.parametrize("batch", [2, 12, 40])
@pytest.mark.parametrize(("m", "n", "k"), [(64, 96, 64), (70, 100, 64), (40, 3136, 33)])
def test_a_product_a_batch_reads_both_operands_where_they_stand(batch, m, n, k):
    torch.manual_seed(0)
    (graph,) = agree(lambda a, b: torch.bmm(a, b) + 1, torch.randn(batch, m, k), torch.randn(batch, k, n))
    (nest,) = graph.kernels[0].metadata["nests"]  # No copy, no pass behind it.
    assert nest["rows"] > 1 and nest["ends"]


@pytest.mark.board
@pytest.mark.parametrize("dtype", [F32, F16, BF16], ids=str)
@pytest.mark.parametrize(("m", "n", "k"), [(1, 100, 147), (60, 1, 40), (5, 7, 1), (1, 1, 33)])
def test_products_with_a_vector_are_reductions(m, n, k, dtype):
    torch.manual_seed(0)
    x, b = torch.randn(m, k).to(dtype), torch.randn(n).to(dtype)
    for w in (torch.randn(n, k).t().to(dtype), torch.randn(k, n).to(dtype)):
        (graph,) = agree(lambda x, w, b: torch.addmm(b, x, w, beta=2, alpha=0.5).relu(), x, w, b)
        assert not graph.extern
    agree(torch.bmm, torch.randn(12, m, k).to(dtype), torch.randn(12, k, n).to(dtype))


@pytest.mark.board
@pytest.mark.parametrize("dtype", [F32, F16, BF16], ids=str)
@pytest.mark.parametrize(("m", "n", "k"), [(2, 64, 128), (3, 57, 130), (4, 131, 300), (4, 200, 2000), (5, 64, 128)])
def test_a_few_rows_read_a_linear_layer_where_it_stands(m, n, k, dtype):
    torch.manual_seed(0)
    x, w, b = torch.randn(m, k).to(dtype), (torch.randn(n, k) / k**0.5).to(dtype), torch.randn(n).to(dtype)
    (graph,) = agree(lambda x, w, b: torch.nn.functional.linear(x, w, b).relu(), x, w, b)
    # Up to four rows there is nothing to copy first: no product of tiles is in the kernel.
    tiles = any("rows" in nest for kernel in graph.kernels for nest in kernel.metadata["nests"])
    assert not graph.extern and tiles == (m > 4) and (len(graph.kernels) == 1 or m > 4)
    agree(lambda x, w: torch.nn.functional.layer_norm(x, (k,)) @ (w * 2).t(), x, w)


@pytest.mark.board
@pytest.mark.parametrize("dtype", [F64, F32, F16, BF16, I8], ids=str)
@pytest.mark.parametrize(("n", "k"), [(5, 7), (64, 8), (100, 9), (513, 33), (1030, 64)])
def test_a_row_times_a_matrix(n, k, dtype):
    torch.manual_seed(0)
    if dtype == I8:
        a, b = torch.randint(-128, 128, (1, k), dtype=I8), torch.randint(-128, 128, (k, n), dtype=I8)
        assert torch.equal(torch.compile(torch._int_mm, backend="rvv")(a, b), (a.int() @ b.int()))
        return
    a, b = torch.randn(1, k).to(dtype), torch.randn(k, n).to(dtype)
    agree(torch.mm, a, b)
    agree(lambda a, b: (a @ b).relu() + 1, a, b[:, 1:])


@pytest.mark.board
def test_non_finite_numbers_pass_through_a_product():
    a, b = torch.randn(19, 37), torch.randn(37, 21)
    a[3, 5], a[4, 6], b[7, 2] = float("nan"), float("inf"), float("-inf")
    ours = torch.compile(torch.mm, backend="rvv")(a, b)
    torch.testing.assert_close(ours, a @ b, equal_nan=True, rtol=1e-5, atol=1e-5)


@pytest.mark.board
def test_a_dynamic_number_of_rows():
    x = torch.randn(13, 48)
    torch._dynamo.mark_dynamic(x, 0)
    graphs = agree(lambda x, w: (x @ w).relu(), x, torch.randn(48, 20), dynamic=None)
    assert not any(g.extern for g in graphs)
    graphs = agree(torch.mm, torch.randn(13, 48), torch.randn(48, 20), dynamic=True)
    assert all("a dynamic inner size" in why for g in graphs for why in g.decisions.values())


@pytest.mark.board
def test_the_fallback_of_a_product_is_right(monkeypatch):
    monkeypatch.setenv("TORCH_RVV_VERIFY", "1")
    agree(lambda x, w: (x @ w).relu(), torch.randn(13, 48), torch.randn(48, 20))


@pytest.mark.board
def test_products_are_left_to_aten_where_asked_or_where_there_is_no_kernel():
    x, w = torch.randn(5, 8), torch.randn(8, 6)
    report = torch_rvv.explain(lambda x, w: (x @ w).relu(), x, w, options={"gemm": "aten"})
    assert report.extern and "5x8 @ 8x6 is left to aten" in str(report)
    report = torch_rvv.explain(lambda x, w: (x @ w).relu(), x.int(), w.int())
    assert report.extern and "a type that has no kernel" in str(report)
    with pytest.raises(BackendCompilerFailed, match="nobody by that name"):
        torch_rvv.explain(torch.mm, x, w, options={"gemm": "blas"})


@pytest.mark.ir
def test_blocks_of_several_dimensions_stay_within_tritons_limit():
    tiling = {"x": sympy.Integer(3), "r0_": sympy.Symbol("s0"), "r1_": sympy.Symbol("s1")}
    with V.set_graph_handler(SimpleNamespace(sizevars=SimpleNamespace(optimization_hint=lambda *_, **__: 4000))):
        for inner in (False, True):
            for wide in ({"x": sympy.Integer(5000)}, {"x": sympy.Integer(5000), "y": sympy.Integer(700)}):
                blocks = inductor.block_sizes({**tiling, **wide}, persistent=False, inner=inner, least=512)
                assert 1 < math.prod(blocks.values()) <= TRITON_LIMIT and all(n > 0 for n in blocks.values())


@pytest.mark.ir
def test_choices_and_block_sizes():
    assert choose(Problem(5, 6, 7, F32, F32), "auto")[0] and choose(Problem(None, 6, 7, F16, F16), "rvv")[0]
    assert choose(Problem(5, 6, None, F32, F32), "auto")[0] and choose(Problem(5, 6, 9000, F32, F32), "auto")[0]
    assert choose(Problem(5, 6, 7, I8, I8), "auto")[0]
    for problem in (Problem(5, 1, 7, F32, F32), Problem(0, 6, 9, F32, F32), Problem(5, 6, 7, F32, F16)):
        assert not choose(problem, "auto")[0]
    for m, n, k, whole in (
        (1000, 1000, 8192, False),
        (9, 9, None, False),
        (3, 5, 7, True),
        (128, 768, 768, True),
        (64, 50257, 64, True),
    ):
        blocks = block_sizes(m, n, k)
        depth = blocks.get("R0_BLOCK") or 1 << (k - 1).bit_length()
        assert ("R0_BLOCK" not in blocks) == whole
        assert blocks["YBLOCK"] * depth <= 1 << 20 and blocks["XBLOCK"] * depth <= 1 << 20


@pytest.mark.board
@pytest.mark.parametrize(("m", "n", "k"), [(60, 100, 147), (3, 33, 7), (128, 128, 128), (9, 20, 9000)])
def test_products_of_bytes_are_exact(m, n, k):
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randint(-128, 128, s, generator=generator, dtype=I8) for s in ((m, k), (n, k)))
    a[0], b[0] = -128, -128  # The largest sum that k terms can have.
    for function in (lambda a, b: torch._int_mm(a, b.t()), lambda a, b: torch._int_mm(a, b.t()).float() * 0.5 + 1):
        torch._dynamo.reset()
        with record.collecting() as graphs:
            ours = torch.compile(function, backend="rvv")(a, b)
        assert torch.equal(ours, function(a, b))
        assert not any(g.extern for g in graphs) and all(k.compiled for g in graphs for k in g.kernels)


@pytest.mark.board
@pytest.mark.parametrize("dtype", [F64, F32, BF16], ids=str)
def test_a_long_inner_size_is_cut_into_blocks(dtype):
    torch.manual_seed(0)
    a, b = torch.randn(13, 9001).to(dtype), torch.randn(21, 9001).to(dtype)
    (graph,) = agree(lambda a, b: (a @ b.t()).relu() + 1, a, b, terms=9001)
    assert not graph.extern


@pytest.mark.board
def test_a_dynamic_inner_size():
    torch._dynamo.reset()
    function = torch.compile(torch.matmul, backend="rvv", dynamic=True)
    with record.collecting() as graphs:
        for k in (33, 64, 1500, 2):
            a, b = torch.randn(3, 17, k), torch.randn(3, k, 21)
            torch.testing.assert_close(function(a, b), a @ b, rtol=1e-5, atol=1e-4)
    assert len(graphs) == 1 and not graphs[0].extern


@pytest.mark.board
def test_a_length_of_any_size_that_was_halved_or_doubled_times_itself():
    def pooled(x, weight, _):
        x = torch.nn.functional.max_pool2d(x, 3, 2, 0, 1, True)
        scores = (x * 0.3).softmax(0) @ x.mT / 3
        return x @ x.mT / 3, torch.nn.functional.conv2d(scores, weight, stride=2)

    def strided(x, weight, index):
        x = torch.nn.functional.conv2d(x, weight, stride=2)
        scores = x @ x.mT / 3
        chosen = scores.gather(3, index)
        return scores.unflatten(2, (2, -1)), x.select(2, 7), torch.nn.functional.pad(chosen + chosen, [2, 0, 1, 0])

    def doubled(x, weight, _):
        x = torch.matmul(x, x[0, 0]) / 2
        x = torch.cat([x, x], 1)
        wide = torch.nn.functional.linear(x, torch.ones(33, x.shape[-1]), torch.ones(33))
        filters = weight.reshape(-1, 1, 1, 1).expand(8, 1, 1, 1)
        return weight.sum() * x, torch.nn.functional.conv2d(x, filters, padding=1, groups=8), wide.mean(2)

    index = torch.randint(0, 8, (2, 1, 8, 8))
    cases = [
        (pooled, [(2, 3, 8, 18), (2, 3, 12, 9)]),
        (strided, [(2, 1, 16, 14), (2, 1, 16, 30)]),
        (doubled, [(3, 4, 3, 3), (3, 4, 7, 7)]),
    ]
    for function, sizes in cases:
        torch._dynamo.reset()
        compiled = torch.compile(function, backend="rvv", dynamic=True)
        for size in sizes:
            arguments = torch.randn(size), torch.randn(1, 1 if function is doubled else size[1], 1, 1), index
            for ours, wanted in zip(compiled(*arguments), function(*arguments), strict=True):
                torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-4)
