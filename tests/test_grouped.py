"""Products of groups whose sizes are known at run time only, in the forms of torch's grouped_mm."""

from __future__ import annotations

import pytest
import torch
from test_gemm import BF16, F32, TOLERANCE
from torch_rvv.runtime import record

import torch_rvv

pytestmark = pytest.mark.board
grouped_mm = torch.nn.functional.grouped_mm


def compiled(*args, options=None):
    torch._dynamo.reset()
    with record.collecting() as graphs:
        out = torch.compile(lambda *a: grouped_mm(*a[:2], offs=a[2]), backend="rvv", options=options)(*args)
    return out, graphs


def reference(a, b, ends):
    """In f64, group by group."""
    a, b = a.double(), b.double()
    begins = [0, *ends[:-1]]
    pairs = list(zip(begins, ends, strict=True))
    if b.dim() == 3:
        return torch.cat([a[low:high] @ b[g] for g, (low, high) in enumerate(pairs)])
    if a.dim() == 3:
        return torch.cat([a[g] @ b[:, low:high] for g, (low, high) in enumerate(pairs)], 1)
    return torch.stack([a[:, low:high] @ b[low:high] for low, high in pairs])


def close(ours, wanted):
    assert ours.shape == wanted.shape
    assert (ours.double() - wanted).abs().max() <= TOLERANCE[BF16] * wanted.abs().max()


def some(*shape):
    return torch.randn(*shape).to(BF16)


# Groups that are empty, of one row, and longer than a block of rows.
ENDS = [3, 3, 4, 80, 96]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (lambda: some(96, 40), lambda: some(5, 40, 136)),
        (lambda: some(96, 40), lambda: some(5, 136, 40).transpose(1, 2)),
        (lambda: some(96, 304), lambda: some(5, 304, 24)),
        (lambda: some(5, 24, 40), lambda: some(40, 96)),
        (lambda: some(24, 96), lambda: some(96, 136)),
        (lambda: some(96, 24).t(), lambda: some(96, 136)),
    ],
    ids=["rows", "rows, transposed", "long rows", "columns", "steps", "steps, transposed"],
)
def test_each_form(a, b):
    torch.manual_seed(0)
    a, b = a(), b()
    out, (graph,) = compiled(a, b, torch.tensor(ENDS, dtype=torch.int32))
    assert not graph.extern and all(k.compiled for k in graph.kernels)
    close(out, reference(a, b, ENDS))


def test_two_batches_are_a_plain_product():
    torch.manual_seed(0)
    a, b = some(3, 16, 40), some(3, 40, 24)
    torch._dynamo.reset()
    with record.collecting() as graphs:
        out = torch.compile(lambda a, b: grouped_mm(a, b), backend="rvv")(a, b)
    assert not any(g.extern for g in graphs)
    close(out, a.double() @ b.double())


def test_sizes_of_groups_may_change_from_call_to_call():
    torch.manual_seed(0)
    a, b = some(32, 16), some(3, 16, 24)
    torch._dynamo.reset()
    function = torch.compile(lambda a, b, o: grouped_mm(a, b, offs=o), backend="rvv")
    for ends in ([0, 0, 32], [32, 32, 32], [7, 20, 32]):
        close(function(a, b, torch.tensor(ends, dtype=torch.int32)), reference(a, b, ends))


def test_gradients():
    torch.manual_seed(0)
    a, b = some(96, 40).requires_grad_(), some(5, 40, 24).requires_grad_()
    out, graphs = compiled(a, b, torch.tensor(ENDS, dtype=torch.int32))
    with record.collecting() as backward:
        ours = torch.autograd.grad(out.sum(), (a, b))
    assert not any(g.extern for g in (*graphs, *backward))
    exact = [t.detach().double().requires_grad_() for t in (a, b)]
    for one, wanted in zip(ours, torch.autograd.grad(reference(*exact, ENDS).sum(), exact), strict=True):
        close(one, wanted)


def test_what_stays_in_aten_is_said():
    a, b, ends = some(32, 16), some(3, 16, 24), torch.tensor([7, 20, 32], dtype=torch.int32)
    report = torch_rvv.explain(lambda a, b, o: grouped_mm(a, b, offs=o), a, b, ends, options={"gemm": "aten"})
    assert report.extern and 'options={"gemm": "aten"}' in str(report)


@pytest.mark.parametrize("dtype", [F32, BF16], ids=str)
def test_the_operator_of_transformers_and_its_gradients(dtype):
    """Mixtures of experts: no group at all for one of them, and rows that belong to none."""
    pytest.importorskip("transformers.integrations.moe")
    product = torch.ops.transformers.grouped_mm_fallback
    torch.manual_seed(0)
    a, b = torch.randn(96, 40).to(dtype).requires_grad_(), torch.randn(5, 40, 136).to(dtype).requires_grad_()
    ends = [3, 3, 4, 80, 90]
    torch._dynamo.reset()
    with record.collecting() as graphs:
        out = torch.compile(lambda a, b, ends: product(a, b, ends), backend="rvv")(a, b, torch.tensor(ends))
        weights = torch.randn_like(out)
        ours = torch.autograd.grad((out * weights).sum(), [a, b])
    exact = [t.detach().double().requires_grad_() for t in (a, b)]
    wanted = torch.cat([reference(*exact, ends), torch.zeros(6, 136)])
    theirs = torch.autograd.grad((wanted * weights).sum(), exact)
    assert not any(g.extern for g in graphs) and not out[90:].any()
    for mine, other in zip([out, *ours], [wanted, *theirs], strict=True):
        assert mine.shape == other.shape and (mine.double() - other).abs().max() <= TOLERANCE[dtype] * other.abs().max()
