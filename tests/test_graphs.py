"""Reductions, scans, indexing, scatter, random numbers and control of the compiled graph, against aten."""

from __future__ import annotations

import pytest
import torch
from conftest import FLOATS, assert_same, sample
from torch.nn import functional as F

from torch_rvv.errors import KernelAssert

pytestmark = pytest.mark.board


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def check(rvv, function, *inputs, ulps=64.0, **keywords):
    """Compile, run, compare; returns our results."""
    ours, theirs = rvv(function, **keywords)(*inputs), function(*inputs)
    pairs = zip(ours, theirs, strict=True) if isinstance(ours, tuple) else [(ours, theirs)]
    for a, b in pairs:
        if b.is_floating_point():
            torch.testing.assert_close(a, b, rtol=ulps * torch.finfo(b.dtype).eps, atol=1e-5, equal_nan=True)
        else:
            assert torch.equal(a, b)
    return ours


@pytest.mark.parametrize("shape", [(7, 1003), (1003, 7), (1, 1), (33, 64), (2, 20000), (300, 3)])
@pytest.mark.parametrize("dim", [0, 1])
def test_reductions_along_either_dim(shape, dim, rvv):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    check(
        rvv,
        lambda x: (
            x.sum(dim),
            x.mean(dim),
            x.amax(dim),
            x.amin(dim),
            x.var(dim),
            x.argmax(dim),
            x.argmin(dim),
            (x > 1).any(dim),
        ),
        x,
        ulps=512 if shape != (1, 1) else 4,
    )


@pytest.mark.parametrize("dtype", [*FLOATS, torch.int32, torch.int64])
def test_full_reductions_of_each_dtype(dtype, rvv):
    x = sample(dtype, 5000)
    x = x.nan_to_num(0, 1, -1).clamp(-3, 3) if dtype.is_floating_point else x.clamp(-9, 9)
    check(rvv, lambda x: (x.sum(), x.max(), x.min(), x.argmax(), x.argmin()), x, ulps=512)


def test_max_and_argmax_propagate_nan_and_take_the_first(rvv):
    x = torch.randn(5, 300)
    x[1, 17] = x[1, 200] = float("nan")
    x[2, 40] = x[2, 90] = 50.0
    check(rvv, lambda x: (x.amax(1), x.amin(1), x.argmax(1), x.argmin(1), x.max(1).indices), x)


def test_softmax_layer_norm_and_logsumexp(rvv):
    x, w, b = torch.randn(33, 1000), torch.randn(1000), torch.randn(1000)
    check(rvv, lambda x: (x.softmax(1), x.log_softmax(0), x.logsumexp(1), F.layer_norm(x, (1000,), w, b)), x, ulps=2048)


@pytest.mark.parametrize("dim", [0, 1])
def test_scans_along_either_dim(dim, rvv):
    x = torch.randn(9, 131)
    check(rvv, lambda x: (x.cumsum(dim), x.cumprod(dim), x.int().cumsum(dim)), x, ulps=512)


def test_transposed_strided_and_broadcast_reads(rvv):
    x, y = torch.randn(37, 53), torch.randn(53)
    check(
        rvv,
        lambda x, y: (x.t() + 1, (x[::2, 1::3] * 2), (x + y).t().contiguous(), x.flip(1) + y, x.expand(3, 37, 53) * 2),
        x,
        y,
    )


def test_permuted_and_channels_last_copies(rvv):
    x = torch.randn(2, 5, 7, 11)
    check(
        rvv,
        lambda x: (
            x.permute(0, 2, 3, 1).contiguous(),
            x.to(memory_format=torch.channels_last) + 1,
            x.permute(0, 2, 1, 3).reshape(2, 7, 55) * 2,
        ),
        x,
    )


def test_cat_pad_roll_and_pooling(rvv):
    x = torch.randn(2, 3, 10, 13)
    check(
        rvv,
        lambda x: (
            torch.cat([x, x[:, :, :4] + 1], 2),
            F.pad(x, (1, 2, 3, 0), value=7.0),
            x.roll((2, -3), (2, 3)),
            F.max_pool2d(x, 3, 2, 1),
            F.avg_pool2d(x, 2),
            F.interpolate(x, scale_factor=2.0, mode="nearest"),
        ),
        x,
    )


@pytest.mark.parametrize("dynamic", [False, True])
def test_an_index_that_is_a_reductions_result(dynamic, rvv):
    """Rows that a block has too many would give -1, which is no index."""

    def interpolated(x, bins, table):
        place = (x[:, None] >= bins).sum(-1, keepdim=True) - 1
        return table.gather(1, place) + table.gather(1, (x[:, None] - bins).abs().argmin(-1, keepdim=True))

    compiled = rvv(interpolated, dynamic=dynamic)
    for n in (7, 9):
        x, bins, table = torch.rand(n), torch.linspace(0, 1, 11).repeat(n, 1), torch.rand(n, 12)
        assert_same(compiled(x, bins, table), interpolated(x, bins, table))


POOLS = [(3, 2, 0), (3, 2, 1), (2, None, 0), (9, None, 0), ((2, 3), (3, 2), (1, 0))]


@pytest.mark.parametrize("kernel, stride, padding", POOLS)
@pytest.mark.parametrize("counted", [True, False])
def test_gradients_of_means_over_windows_that_end_with_the_image(kernel, stride, padding, counted, rvv):
    def pooled(x):
        return F.avg_pool2d(x, kernel, stride, padding, ceil_mode=True, count_include_pad=counted)

    x = torch.randn(2, 3, 8, 7, requires_grad=True)
    weights = torch.randn_like(pooled(x))
    ours = torch.autograd.grad((rvv(pooled)(x) * weights).sum(), x)[0]
    theirs = torch.autograd.grad((pooled(x) * weights).sum(), x)[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_padding_around_what_is_read_by_an_index(rvv):
    """Where there is padding no index is read, and what stands for it is a number of the index's type."""
    x, i, b = torch.randn(5, 40), torch.tensor([7]), torch.tensor([True])
    for value in (0.0, 1.5, -2.0, float("-inf")):
        check(rvv, lambda x, i, v=value: F.pad(x.index_select(1, i), [2, 0], value=v), x, i)
        check(rvv, lambda x, b, v=value: F.pad(torch.where(b, x, -x), [1, 1], value=v), x, b)
    check(rvv, lambda i, b: (F.pad(i, [1, 1], value=3), F.pad(b, [1, 1], value=True)), i, b)


def test_gathers_and_scatters(rvv):
    x, i = torch.randn(50, 9), torch.randint(0, 50, (33,))
    j = torch.randint(0, 9, (50, 4))

    def run(x, i, j):
        out = torch.zeros(50, 9)
        return (
            x[i],
            x.gather(1, j),
            out.index_add(0, i, x[:33]),
            out.scatter_add(1, j, x[:, :4]),
            out.index_put((i,), x[:33] * 0 + 2.0),
        )

    check(rvv, run, x, i, j)


def test_embedding_and_its_backward_with_repeated_rows(rvv):
    table = torch.randn(20, 130, requires_grad=True)
    rows = torch.randint(0, 20, (64,))

    def run(table, rows):
        return F.embedding(rows, table).sin().sum()

    run(table, rows).backward()
    expected, table.grad = table.grad, None
    rvv(run)(table, rows).backward()
    torch.testing.assert_close(table.grad, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("length", [1, 8, 300])
def test_a_sum_that_is_added_to_one_place_is_added_once(length, rvv):
    """The gradient of an element that a row is made of: the row's sum, to where the index says."""
    number, row, index = torch.tensor([3.0]), torch.arange(1.0, length + 1), torch.zeros(1, dtype=torch.int64)
    gradients = []
    for run in (lambda f: f, rvv):
        x = number.clone().requires_grad_()
        run(lambda x, row, i: (x.gather(0, i) / row).sum())(x, row, index).backward()
        gradients.append(x.grad)
    torch.testing.assert_close(*gradients)


def test_index_out_of_bounds_is_a_python_error_and_the_device_lives_on(rvv):
    x, i = torch.randn(10, 4), torch.tensor([1, 12, 3])
    gather = rvv(lambda x, i: x[i] + 1)
    with pytest.raises(KernelAssert, match="index out of bounds"):
        gather(x, i)
    assert torch.equal(gather(x, i.clamp(0, 9)), x[i.clamp(0, 9)] + 1)


def test_random_numbers_are_uniform_and_follow_the_seed(rvv):
    draw = rvv(lambda x: torch.rand_like(x))
    torch.manual_seed(7)
    first = draw(torch.empty(20000))
    torch.manual_seed(7)
    assert torch.equal(first, draw(torch.empty(20000)))
    assert first.min() >= 0 and first.max() < 1 and abs(float(first.mean()) - 0.5) < 0.02
    normal = rvv(lambda x: torch.randn_like(x))(torch.empty(20000))
    assert abs(float(normal.mean())) < 0.05 and abs(float(normal.std()) - 1) < 0.05


def test_dropout_keeps_the_expected_share(rvv):
    x = torch.ones(10000)
    out = rvv(lambda x: F.dropout(x, 0.25, training=True))(x)
    assert bool(((out == 0) | torch.isclose(out, torch.tensor(4 / 3))).all())
    assert abs(float((out == 0).float().mean()) - 0.25) < 0.03


@pytest.mark.parametrize("dtype", FLOATS)
def test_norms_of_each_float_type(dtype, rvv):
    x, w = torch.randn(17, 96).to(dtype), torch.randn(96).to(dtype)
    check(rvv, lambda x, w: (F.layer_norm(x, (96,), w, w), F.rms_norm(x, (96,), w), F.gelu(x)), x, w, ulps=16)


def test_in_place_and_overlapping_arguments(rvv):
    def run(x):
        x.mul_(2).add_(1)
        return x[1:] - x[:-1]

    a = torch.randn(1000)
    b = a.clone()
    assert_same(rvv(run)(a), run(b))
    assert_same(a, b)


def test_misaligned_inputs(rvv):
    raw = torch.zeros(4 * 100 + 1, dtype=torch.uint8)
    x = torch.frombuffer(raw.numpy().data, dtype=torch.float32, count=99, offset=4)
    x.copy_(torch.randn(99))
    assert_same(rvv(lambda x: x * 3)(x), x * 3)


def test_dynamic_shapes_compile_once_for_many_sizes(rvv):
    function = rvv(lambda x: (x.softmax(-1) * 2).sum(0), dynamic=True)
    for n in (5, 6, 100, 1000, 1001):
        x = torch.randn(3, n)
        torch.testing.assert_close(function(x), (x.softmax(-1) * 2).sum(0), rtol=1e-4, atol=1e-6)


def test_a_product_of_dynamic_sizes_with_one_step_of_depth(rvv):
    """The gradient of its weight sums over two dimensions, neither of a known size."""
    gradients = []
    for run in (lambda f: f, lambda f: rvv(f, dynamic=True)):
        torch.manual_seed(0)
        x, w = torch.randn(3, 5, 4, requires_grad=True), torch.randn(2, 1, requires_grad=True)
        run(lambda x, w: F.linear(x[:, :, 1:2], w) * 2)(x, w).square().sum().backward()
        gradients.append((x.grad, w.grad))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_empty_tensors(rvv):
    check(rvv, lambda x: (x + 1, x.sum(0), x.sum()), torch.randn(0, 5))


@pytest.mark.parametrize("vlen", [128, 256, 1024])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64, torch.bfloat16], ids=str)
def test_rows_of_every_length_are_folded_whole_and_nan_wins_wherever_it_is(vlen, dtype, rvv, monkeypatch):
    """Lengths around whole strips; the same length with a NaN in its first, its last and a middle place."""
    monkeypatch.setenv("TORCH_RVV_VLEN", str(vlen))
    function = rvv(lambda x: (x.amax(1), x.amin(1), x.sum(1), (x * x).sum(1)), dynamic=True)
    for n in (1, 2, 31, 32, 33, 63, 64, 65, 127, 128, 256, 257, 1000):
        x = (torch.randint(-8, 9, (5, n), generator=torch.Generator().manual_seed(n)) / 2).to(dtype)
        x[1, 0] = x[2, -1] = x[3, n // 2] = float("nan")
        x[4, n // 3] = -float("inf")
        wanted = (x.amax(1), x.amin(1), x.double().sum(1), (x.double() ** 2).sum(1))
        for ours, theirs in zip(function(x), wanted, strict=True):
            torch.testing.assert_close(ours, theirs.to(dtype), equal_nan=True, rtol=0, atol=0)


@pytest.mark.parametrize("vlen", [128, 512, 1024])
def test_one_binary_is_right_at_every_vlen(vlen, rvv, monkeypatch):
    monkeypatch.setenv("TORCH_RVV_VLEN", str(vlen))
    x = torch.randn(33, 517)
    check(
        rvv, lambda x: (x.softmax(1), x.argmax(1), x.var(0), x.t().exp().contiguous(), x.abs().cumsum(1)), x, ulps=512
    )


@pytest.mark.parametrize("shape", [(2, 9000), (40000,)], ids=str)
def test_sums_along_a_long_row_are_one_program_s(rvv, shape):
    """Fused with what is before them; not in pieces, of which each would wait for the one before."""
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    check(rvv, lambda x: (x * 2).cumsum(-1), x, ulps=512)
    check(rvv, lambda x: x.softmax(-1).cumsum(-1), x, ulps=512)


@pytest.mark.parametrize("lmul", [1, 2, 4, 8])
def test_every_lmul_gives_the_same_results(lmul, rvv):
    x, i = torch.randn(9, 300), torch.arange(37)[None]
    options = {"lmul": lmul}
    check(
        rvv, lambda x: (x.softmax(1), x.double().sum(1), x.double().argmax(1), x.var(1)), x, ulps=512, options=options
    )
    check(rvv, lambda i: ((i * 2).sum(1), i.amax(1), i.double().exp()), i, options=options)


def test_sort_and_scans_with_a_function(rvv):
    x = torch.randn(5, 70)
    check(
        rvv,
        lambda x: (
            x.logcumsumexp(1),
            x.sort(1).values,
            x.double().sort(1, descending=True).indices,
            x.cummax(1).values,
        ),
        x,
        ulps=64,
    )
