"""Sorting: the network and the radix sort against aten, what is sorted for a part of it, and what is declined."""

from __future__ import annotations

import itertools
import random

import pytest
import torch
from torch._inductor import config, lowering
from torch_rvv.lowering import convert_sort, sortnetwork
from torch_rvv.lowering.pipeline import lower

import torch_rvv
from tests.conftest import sample
from torch_rvv import sorts
from torch_rvv.knobs import CodegenOptions
from torch_rvv.target import TARGETS

DTYPES = [
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int8, torch.uint8, torch.int16, torch.int32,
    torch.int64, torch.bool,
]  # fmt: skip

KERNEL = """module {
 tt.func public @k(%p: !tt.ptr<ELEM>, %q: !tt.ptr<ELEM>, %n: i32) {
    %l = tt.make_range {end = SIZE : i32, start = 0 : i32} : tensor<SIZExi32>
    %r = tt.make_range {end = 2 : i32, start = 0 : i32} : tensor<2xi32>
    %le = tt.expand_dims %l {axis = 0 : i32} : tensor<SIZExi32> -> tensor<1xSIZExi32>
    %re = tt.expand_dims %r {axis = 1 : i32} : tensor<2xi32> -> tensor<2x1xi32>
    %w = arith.constant dense<SIZE> : tensor<2x1xi32>
    %rw = arith.muli %re, %w : tensor<2x1xi32>
    %lb = tt.broadcast %le : tensor<1xSIZExi32> -> tensor<2xSIZExi32>
    %rb = tt.broadcast %rw : tensor<2x1xi32> -> tensor<2xSIZExi32>
    %o = arith.addi %lb, %rb : tensor<2xSIZExi32>
    %ps = tt.splat %p : !tt.ptr<ELEM> -> tensor<2xSIZEx!tt.ptr<ELEM>>
    %pp = tt.addptr %ps, %o : tensor<2xSIZEx!tt.ptr<ELEM>>, tensor<2xSIZExi32>
    %x = tt.load %pp : tensor<2xSIZEx!tt.ptr<ELEM>>
    %c = arith.constant LENGTH : i32
    %ns = tt.splat %c : i32 -> tensor<2xSIZExi32>
    %s = tt.extern_elementwise %x, %ns {libname = "", libpath = "", pure = true, symbol = "rvv.sort"} : (tensor<2xSIZExELEM>, tensor<2xSIZExi32>) -> tensor<2xSIZExELEM>
    %qs = tt.splat %q : !tt.ptr<ELEM> -> tensor<2xSIZEx!tt.ptr<ELEM>>
    %qq = tt.addptr %qs, %o : tensor<2xSIZEx!tt.ptr<ELEM>>, tensor<2xSIZExi32>
    tt.store %qq, %s : tensor<2xSIZEx!tt.ptr<ELEM>>
    tt.return
 }
}"""  # noqa: E501


def linalg(size: int, length: int, elem: str = "i64") -> str:
    text = KERNEL.replace("SIZE", str(size)).replace("LENGTH", str(length)).replace("ELEM", elem)
    return lower(text, CodegenOptions(target=TARGETS["k1"]))[0]["linalg"]


@pytest.mark.ir
def test_short_rows_are_sorted_side_by_side_and_long_ones_along():
    (call,) = [line for line in linalg(128, 100).split("\n") if "func.call @torch_rvv.sort" in line]
    assert "rows = 2" in call and "size = 128" in call and "length = 100" in call and call.count("memref<") == 1
    (call,) = [line for line in linalg(1024, 1000).split("\n") if "func.call @torch_rvv.sort" in line]
    assert call.count("memref<") == 3  # the keys, as much again, the counts


@pytest.mark.ir
def test_keys_are_loaded_whole():
    """Not in halves, as by MLIR's own layout of data."""
    text = KERNEL.replace("SIZE", "1024").replace("LENGTH", "1000").replace("ELEM", "i64")
    code = lower(text, CodegenOptions(target=TARGETS["k1"]))[0]["llvm"]
    loads = [line for line in code.split("\n") if " = load i64, " in line]
    assert loads and all("align 8" in line for line in loads)


@pytest.mark.ir
def test_keys_of_another_type_are_declined():
    with pytest.raises(torch_rvv.errors.Declined, match="extern_elementwise"):
        linalg(128, 128, "i32")


@pytest.mark.ir
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8])
def test_small_networks_sort_whatever_is_0_or_1_and_so_anything(size):
    for keys in itertools.product((0, 1), repeat=size):
        assert exchanged(list(keys), sortnetwork.network(size)) == sorted(keys)


@pytest.mark.ir
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_steps_merge_two_runs(count):
    half = 1 << count - 1
    for low, high in itertools.product(range(half + 1), repeat=2):
        keys = [0] * low + [1] * (half - low) + [0] * high + [1] * (half - high)
        assert exchanged(keys, sortnetwork.steps(count, mirrored=True)) == sorted(keys)


def exchanged(keys: list[int], pairs: sortnetwork.Pairs) -> list[int]:
    for i, j in pairs:
        keys[i], keys[j] = min(keys[i], keys[j]), max(keys[i], keys[j])
    return keys


def rows(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    """Values of which many are alike, with all edge values."""
    count = torch.Size(shape).numel()
    values = sample(dtype, count, seed=count)
    order = list(range(count))
    random.Random(count).shuffle(order)
    return torch.where(torch.arange(count) % 3 > 0, values, values[order]).reshape(shape)


def same(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    """Bit by bit, but for what a NaN carries."""
    if not ours.is_floating_point():
        return torch.equal(ours, theirs)
    return torch.equal(ours.isnan(), theirs.isnan()) and all(
        torch.equal(of(ours), of(theirs)) for of in (lambda t: t.nan_to_num(7.0), lambda t: t.signbit() & ~t.isnan())
    )


def check(rvv, x: torch.Tensor, dim: int = -1) -> None:
    def both(x):
        return (*x.sort(dim=dim, stable=True), *x.sort(dim=dim, stable=True, descending=True))

    for ours, theirs in zip(rvv(both)(x), both(x), strict=True):
        assert same(ours, theirs), (tuple(x.shape), x.dtype)


@pytest.mark.board
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rows_side_by_side_as_aten_sorts_them(rvv, dtype):
    for shape in ((20, 7), (17, 2), (33, 64), (5, 100), (3, 512), (1, 60)):
        torch._dynamo.reset()
        check(rvv, rows(dtype, *shape))


@pytest.mark.board
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_row_alone_and_long_rows_as_aten_sorts_them(rvv, dtype):
    for shape in ((301,), (3, 600), (2, 2, 1025)):
        torch._dynamo.reset()
        check(rvv, rows(dtype, *shape))


@pytest.mark.board
@pytest.mark.parametrize("vlen", [128, 512, 1024])
def test_other_vector_lengths(rvv, vlen, monkeypatch):
    monkeypatch.setenv("TORCH_RVV_VLEN", str(vlen))
    for shape in ((40, 33), (1, 700)):
        torch._dynamo.reset()
        check(rvv, rows(torch.float32, *shape))


@pytest.mark.board
def test_both_forms_give_the_same(rvv, monkeypatch, tmp_path):
    x = rows(torch.float32, 6, 200)
    found = []
    for longest in (convert_sort.LONGEST, 1):
        monkeypatch.setattr(convert_sort, "LONGEST", longest)
        monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / str(longest)))
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / f"i{longest}"))
        torch._dynamo.reset()
        found.append(rvv(lambda x: tuple(x.sort(dim=1, stable=True)), options={"fx_graph_cache": False})(x))
    assert all(same(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.board
def test_other_dimensions_and_layouts(rvv):
    for x, dim in (
        (rows(torch.float32, 30, 37), 0),
        (rows(torch.float32, 6, 30, 7), 1),
        (rows(torch.int64, 37, 30).t(), 1),
        (rows(torch.float32, 40, 60)[:, ::2], 1),
        (rows(torch.float32, 1, 40).expand(5, 40), 1),
        (rows(torch.float32, 5, 1), 1),
    ):
        torch._dynamo.reset()
        check(rvv, x, dim)


@pytest.mark.board
def test_a_size_that_the_function_itself_names(rvv):
    def drawn():
        x = torch.rand(6, 16)
        return x, x.argsort(1)

    x, order = rvv(drawn)()
    assert torch.equal(order, x.argsort(1))


@pytest.mark.board
def test_keys_that_are_alike_stay_in_order(rvv):
    for x in (torch.zeros(9, 300), torch.zeros(700, dtype=torch.int64), torch.full((2000,), float("nan"))):
        torch._dynamo.reset()
        assert torch.equal(rvv(lambda x: x.argsort(-1))(x), torch.arange(x.shape[-1]).expand(x.shape))


@pytest.mark.board
@pytest.mark.parametrize("shape", [(16, 64), (1000,), (3, 5, 9)], ids=str)
def test_selections_are_a_sort_and_its_first(rvv, shape):
    x = torch.randperm(torch.Size(shape).numel(), generator=torch.Generator().manual_seed(0)).float().reshape(shape)

    def select(x):
        return (*x.topk(3), *x.topk(2, largest=False), *x.kthvalue(4), *x.median(-1), x.median(), (x // 5).mode(-1)[0])

    report = torch_rvv.explain(select, x)
    assert not report.extern
    for ours, theirs in zip(rvv(select)(x), select(x), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.board
def test_selections_from_long_rows_are_atens(rvv):
    report = torch_rvv.explain(lambda x: x.topk(2), torch.randn(2, 3000))
    assert list(report.extern) == ["aten.topk.default"]


@pytest.mark.ir
def test_a_compile_that_is_not_ours_keeps_its_own_choice(monkeypatch):
    operator, seen = torch.ops.aten.topk.default, []
    monkeypatch.setitem(lowering.lowerings, operator, lambda *_: seen.append(config.triton.decompose_sort_ops))
    lower_topk = sorts._sorting(operator, sorts.SELECTED)
    for own in (True, False):
        with config.patch({"triton.decompose_sort_ops": own}):
            lower_topk(None, 2)
    assert seen == [True, False]


@pytest.mark.board
def test_dynamic_sizes_are_atens(rvv):
    sort = rvv(lambda x: (x.sort(-1)[0] * 2, x.topk(2)[0]), dynamic=True)
    for n in (5, 70, 700):
        x = torch.randperm(4 * n).float().reshape(4, n)
        assert torch.equal(sort(x)[0], x.sort(-1)[0] * 2) and torch.equal(sort(x)[1], x.topk(2)[0])


@pytest.mark.board
def test_a_sampler_of_the_likeliest_tokens_is_kernels_of_ours(rvv):
    """Nucleus sampling: a long sort, and sums along as long a row."""

    def top_p(logits):
        values, order = logits.sort(-1, descending=True)
        likely = values.softmax(-1)
        kept = torch.where(likely.cumsum(-1) - likely < 0.9, values, float("-inf"))
        return torch.full_like(logits, float("-inf")).scatter(-1, order, kept)

    logits = torch.randn(2, 9000, generator=torch.Generator().manual_seed(0)) * 3
    report = torch_rvv.explain(top_p, logits)
    assert not report.extern and all(row.compiled for row in report.rows)
    assert torch.equal(rvv(top_p)(logits).isinf(), top_p(logits).isinf())
