"""The aten fallback: whole graphs with every kernel of theirs run in aten, against eager."""

from __future__ import annotations

import pytest
import sympy
import torch
from torch.nn import functional as F
from torch_rvv.runtime.fallback import AtenKernel, _Run
from torch_rvv.runtime.fallback_ops import REDUCTIONS
from torch_rvv.runtime.symbolic import Inconsistent, evaluate, solve

from torch_rvv.errors import KernelAssert, TorchRvvError

pytestmark = pytest.mark.board


@pytest.fixture
def aten(monkeypatch):
    """torch.compile for RVV with every kernel in aten."""
    monkeypatch.setenv("TORCH_RVV_FORCE_FALLBACK", "1")
    torch._dynamo.reset()

    def compile_(function, **keywords):
        return torch.compile(function, backend="rvv", **keywords)

    return compile_


def normal(*shape: int, seed: int = 0, **keywords) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), **keywords)


def whole(*shape: int, low: int, high: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(seed))


def tensors(result) -> list[torch.Tensor]:
    return [result] if isinstance(result, torch.Tensor) else [t for part in result for t in tensors(part)]


def check(aten, function, *inputs, tolerance=1e-4, dynamic=None):
    """Compile, run, compare the results and what became of the inputs."""
    ours, theirs = [t.clone() for t in inputs], [t.clone() for t in inputs]
    compiled = aten(function, dynamic=dynamic) if dynamic is not None else aten(function)
    with pytest.warns(UserWarning, match="runs in aten"):
        got = tensors(compiled(*ours)) + ours
    for a, b in zip(got, tensors(function(*theirs)) + theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance / 10, equal_nan=True)
    return compiled


def in_place(x):
    x.mul_(2).add_(1)
    return x[1:] - x[:-1]


def running_mean(x, w, mean):
    mean.mul_(0.9).add_(x.mean(0) * 0.1)
    return x * w + mean


def parts(x, y):
    x.add_(y)
    y.copy_(x * 2)
    z = x.clone()
    z[3:9] += 1
    return z * y


def batch_norm(x):
    mean, variance = torch.zeros(8), torch.ones(8)
    return F.batch_norm(x, mean, variance, training=True), mean, variance


@pytest.mark.parametrize(
    ("function", "inputs", "tolerance"),
    [
        (in_place, [normal(1000)], 1e-4),
        (running_mean, [normal(10, 16), normal(16), torch.zeros(16)], 1e-4),
        (parts, [normal(40).bfloat16(), normal(40, seed=1).bfloat16()], 2e-2),
        (batch_norm, [normal(4, 8, 6, 6)], 1e-4),
    ],
)
def test_what_is_changed_in_place_is_changed_and_read_as_it_was(function, inputs, tolerance, aten):
    check(aten, function, *inputs, tolerance=tolerance)


def test_verify_mode_knows_what_is_not_stored(monkeypatch):
    monkeypatch.setenv("TORCH_RVV_VERIFY", "1")
    torch._dynamo.reset()
    x, w, ours, theirs = normal(10, 16), normal(16), torch.zeros(16), torch.zeros(16)
    torch.testing.assert_close(torch.compile(running_mean, backend="rvv")(x, w, ours), running_mean(x, w, theirs))
    torch.testing.assert_close(ours, theirs)


def test_scans(aten):
    x = normal(9, 57)
    check(aten, lambda x: (x.cumsum(1), x.cumprod(0), x.cummax(1), x.logcumsumexp(1), x.flatten().cumsum(0)), x)


def test_sorts(aten):
    check(aten, lambda x: (x.sort(1), x.sort(0, descending=True), x.argsort(1), x.topk(3, 1)), normal(5, 40))


def test_reductions(aten):
    check(
        aten,
        lambda x: (x.softmax(1), x.logsumexp(0), x.var(0), torch.var_mean(x), x.prod(1), (x > 1).any(1), x.std()),
        normal(33, 400),
    )


def test_extremes_take_the_first_of_equals_and_nan_before_any_number(aten):
    nan = float("nan")
    x = torch.tensor([[1.0, nan, 3.0, 3.0, nan], [2.0, 2.0, 1.0, 1.0, 2.0]])
    check(aten, lambda x: (x.argmax(1), x.argmin(1), x.argmax(), x.max(1), x.min(0), x.amax(0), x.amin(1)), x)


def test_an_index_over_several_dims_counts_as_the_view_does(aten):
    check(aten, lambda x: (x.permute(2, 0, 1).argmax(), x.argmin(0), x[:, :, 0].argmin(1)), normal(6, 5, 7))


@pytest.mark.parametrize("right", [False, True])
def test_searches_in_one_and_in_many_rows(right, aten):
    rows, x = normal(4, 9), normal(4, 50, seed=1)

    def run(rows, x):
        ordered = rows.sort(1).values
        return (
            torch.bucketize(x, ordered[0], right=right),
            torch.searchsorted(ordered, x, right=right),
            torch.searchsorted(rows, x, right=right, sorter=rows.argsort(1)),
        )

    check(aten, run, rows, x)


def test_gathers_and_scatters(aten):
    x, i, j = normal(50, 9), whole(33, low=0, high=50), whole(50, 4, low=0, high=9, seed=1)

    def run(x, i, j):
        out = torch.zeros(50, 9)
        added = out.index_add(0, i, x[:33]), out.scatter_add(1, j, x[:, :4])
        return x[i], x.gather(1, j), x[-(i % 50) - 1], *added, out.index_put((i,), x[:33] * 0 + 2.0)

    check(aten, run, x, i, j)


def test_an_index_out_of_bounds_is_an_error(aten):
    gather = aten(lambda x, i: x[i] + 1)
    with pytest.warns(UserWarning), pytest.raises(KernelAssert, match="index out of bounds"):
        gather(normal(10, 4), torch.tensor([1, 12]))


def test_pieces_padding_pooling_and_empty_tensors(aten):
    check(
        aten,
        lambda x: (
            torch.cat([x, x[:, :, :4] + 1], 2),
            F.pad(x, (1, 2, 3, 0), value=7.0),
            x.roll((2, -3), (2, 3)),
            F.max_pool2d(x, 3, 2, 1),
            F.interpolate(x, scale_factor=2.0, mode="bilinear"),
        ),
        normal(2, 3, 10, 13),
    )
    check(aten, lambda x, y: torch.cat([x, y], 1) + 1, normal(3, 1), torch.empty(3, 0))


def test_integers_and_their_divisions_by_zero_that_nobody_looks_at(aten):
    a, b, x = whole(100, low=-9, high=9), whole(100, low=-2, high=3, seed=1), normal(100)

    def run(a, b, x):
        c = torch.where(b == 0, 1, b)
        guarded = torch.where(b == 0, a, a // c), torch.where(b == 0, a, a % c), torch.fmod(a, c)
        shifted = a << b.abs(), a >> b.abs()
        return *guarded, *shifted, a.to(torch.int8) * 100, x.to(torch.int32), torch.remainder(x, c), a.prod()

    check(aten, run, a, b, x)


def test_half_floats_are_computed_in_single_precision_and_rounded_when_stored(aten):
    x = normal(33, 100).half()
    check(aten, lambda x: (x.sin() * 3, x.exp().sum(1), x.softmax(1), x.view(torch.int16) + 1), x, tolerance=2e-3)


def test_special_functions(aten):
    special = torch.special
    check(
        aten,
        lambda x: (
            special.i0(x), special.i1(x), special.ndtri(x.abs()), torch.lgamma(x), torch.digamma(x), torch.frexp(x),
            torch.polygamma(2, x.abs()), special.zeta(x.abs() + 2, x.abs() + 1), special.erfcx(x), torch.erfinv(x),
            torch.nextafter(x, x + 1), torch.hypot(x, x), torch.atan2(x, x + 1), torch.igamma(x.abs(), x.abs()),
            special.chebyshev_polynomial_t(x, 3), special.hermite_polynomial_h(x, 2), torch.copysign(x, -x),
        ),
        normal(200).clamp(-0.9, 0.9),
    )  # fmt: skip


def test_gradients_of_an_embedding_a_convolution_and_a_loss(aten):
    table, weight = normal(20, 3 * 64, requires_grad=True), normal(5, 3, 3, 3, seed=1, requires_grad=True)
    rows, target = whole(6, low=0, high=20), whole(6, low=0, high=5)

    def run(table, weight):
        image = F.embedding(rows, table).reshape(6, 3, 8, 8)
        image = F.max_pool2d(F.group_norm(F.conv2d(image, weight).relu(), 5), 2)
        return F.cross_entropy(image.mean((2, 3)), target)

    expected = torch.autograd.grad(run(table, weight), (table, weight))
    with pytest.warns(UserWarning, match="runs in aten"):
        ours = torch.autograd.grad(aten(run)(table, weight), (table, weight))
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6)


def test_sizes_that_are_not_arguments_follow_from_the_tensors(aten):
    def run(x, y):
        turned = (x + y).transpose(1, 2).contiguous() * x.shape[1]
        return turned, torch.cat([x, x], 1), F.avg_pool2d(x[None], 2)[0], x.reshape(-1) / x.shape[0] ** 0.5

    compiled = check(aten, run, normal(3, 10, 37), normal(37, seed=1), dynamic=True)
    x, y = normal(5, 13, 22), normal(22)
    torch.testing.assert_close(compiled(x, y), run(x, y))


def test_one_kernel_for_tensors_of_different_shapes(aten):
    x, y, z = normal(6, 37), normal(4, 5, 6), normal(7)
    check(aten, lambda *all_: tuple(torch.relu(t) + 1 for t in all_), x, y, z, dynamic=True)


def test_sizes_from_equations():
    s, t = sympy.symbols("s t", integer=True, positive=True)
    quotient = sympy.Function("FloorDiv")
    assert solve([(s * t, 42), (t, 7)]) == {t: 7, s: 6}
    assert solve([(2 * s + 1, 11), (s * t, 0)]) == {s: 5, t: 0}
    assert solve([(s * t, 42)]) == {}
    assert solve([(quotient(s - 1, 2) + 1, 16), (s, 32)])[s] == 32
    found = solve([(quotient(s - 1, 2) + 1, 16), (quotient(s, 4), 8)])[s]
    assert evaluate(quotient(found - 1, 2) + 1, {}) == 16 and found // 4 == 8
    for equations in ([(2 * s, 7)], [(s, 3), (s + t, 5), (t, 1)], [(s, 3), (s, 4)]):
        with pytest.raises(Inconsistent):
            solve(equations)


def test_welford_and_softmax_parts_join_to_the_whole():
    x = normal(5, 64, dtype=torch.float64)
    pieces = [REDUCTIONS["welford_reduce"](p) for p in x.split(16, 1)]
    mean, m2, weight = REDUCTIONS["welford_combine"](*(torch.stack(p, 1) for p in zip(*pieces, strict=True)))
    torch.testing.assert_close((mean, m2 / weight), (x.mean(1), x.var(1, correction=0)))
    maxima, sums = zip(*(REDUCTIONS["online_softmax_reduce"](p) for p in x.split(16, 1)), strict=True)
    most, total = REDUCTIONS["online_softmax_reduce"](torch.stack(maxima, 1), torch.stack(sums, 1))
    torch.testing.assert_close(most + total.log(), x.logsumexp(1))


def test_an_operation_that_is_not_known_is_named():
    run = _Run(AtenKernel("triton_some_kernel", [], {}, []), {}, {})
    with pytest.raises(TorchRvvError, match="'halide_clamp'.*triton_some_kernel"):
        run.halide_clamp(1, 2, True)
    with pytest.raises(TorchRvvError, match="reduction 'median'"):
        run.reduction(torch.float32, torch.float32, "median", torch.zeros(3))
