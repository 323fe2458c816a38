"""PyTorch's operators: the samples of its own database, compiled, against what eager PyTorch makes of them.

One cell an operator and dtype. A table of its own: it takes half an hour a dtype, `make operators`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch.testing._internal.common_methods_invocations import op_db
from torch.utils._pytree import tree_leaves, tree_map

from tests.conformance.harness import BF16, BOOL, F16, F32, I64, NAMES, add

DTYPES = (F32, I64, BOOL, F16, BF16, torch.complex64)
SAMPLES = 5
# Results that are random or undefined, what only CUDA has, and views of more memory than a copy has.
LEFT_OUT = (
    "bernoulli", "cauchy", "dropout", "empty", "exponential", "geometric", "log_normal", "multinomial", "normal",
    "poisson", "rand", "rrelu", "uniform", "jiterator", "as_strided.partial_views",
)  # fmt: skip
# Whose results say where values were: of several that are alike, which one is anybody's choice.
ORDERED = ("argsort", "sort", "topk", "kthvalue", "median", "nanmedian", "mode")
TOLERANCE = {F32: 2e-5, torch.complex64: 2e-5, F16: 2e-3, BF16: 2e-2}


def _copy(tree: Any) -> Any:
    """The same arguments in other memory, with their strides."""
    return tree_map(lambda x: x.clone() if isinstance(x, torch.Tensor) else x, tree)


def _samples(op: Any, dtype: torch.dtype) -> list[tuple[Any, Any, Any]]:
    """(input, arguments, keywords) of some of an operator's samples, from the first to the last, that eager takes."""
    torch.manual_seed(0)
    every = list(op.sample_inputs("cpu", dtype, requires_grad=False))
    if len(every) > SAMPLES:
        every = [every[n * (len(every) - 1) // (SAMPLES - 1)] for n in range(SAMPLES)]
    held = [(s.input, s.args, s.kwargs) for s in every]
    return [s for s in held if all(_plain(x) for x in _tensors(s)) and all(map(_plain, _tensors(_call(op, s))))]


def _call(op: Any, sample: tuple[Any, Any, Any]) -> Any:
    given, arguments, keywords = _copy(sample)
    return op(given, *arguments, **keywords)


def _plain(x: torch.Tensor) -> bool:
    return x.layout == torch.strided and not x.is_quantized


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [x.detach() for x in tree_leaves(tree) if isinstance(x, torch.Tensor)]


def _agree(op: Any, samples: list[tuple[Any, Any, Any]]) -> Iterator[str]:
    """Compile a call with each sample as one graph: what is wrong with its results."""
    torch._dynamo.reset()
    compiled = torch.compile(lambda held: [op(x, *a, **k) for x, a, k in held], backend="rvv", dynamic=False)
    for sample, found in zip(samples, compiled(_copy(samples)), strict=True):
        for x, y in zip(_tensors(found), _tensors(_call(op, sample)), strict=True):
            most = TOLERANCE.get(y.dtype)
            try:
                torch.testing.assert_close(
                    x.resolve_conj().resolve_neg(), y.resolve_conj().resolve_neg(),
                    rtol=most, atol=most, equal_nan=True,
                )  # fmt: skip
            except AssertionError as error:
                nearer = y.dtype in (F16, BF16) and _nearer(op, sample, found, most)
                if not (nearer or (op.name in ORDERED and _other_of_alike(sample, x, y))):
                    shapes = [tuple(t.shape) for t in _tensors(sample)]
                    yield f"shapes {shapes}, {sample[2]}: {' '.join(str(error).split())}"


def _other_of_alike(sample: tuple[Any, Any, Any], ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    """Whether two results are places of values that are alike, in rows along some dimension of the input."""
    x = sample[0]
    if ours.dtype != I64 or ours.shape != theirs.shape:
        return False
    for dim in range(x.dim()):
        places = [t if t.dim() == x.dim() else t.unsqueeze(dim) for t in (ours, theirs)]
        if all(n == m for d, (n, m) in enumerate(zip(places[0].shape, x.shape, strict=True)) if d != dim):
            values = [x.gather(dim, t.clamp(0, x.shape[dim] - 1)) for t in places]
            if bool((ours >= 0).all()) and torch.equal(*(v.double().nan_to_num(1e300) for v in values)):
                return True
    return False


def _nearer(op: Any, sample: tuple[Any, Any, Any], found: Any, most: float | None) -> bool:
    """Whether all results are as near to those in double precision as eager PyTorch's, which rounds to halves more
    often."""
    wide = tree_map(lambda x: x.double() if isinstance(x, torch.Tensor) and x.is_floating_point() else x, sample)
    best = _tensors(_call(op, wide))
    for ours, theirs, exact in zip(_tensors(found), _tensors(_call(op, sample)), best, strict=True):
        errors = [(x.double() - exact).abs().nan_to_num(nan=0.0, posinf=float("inf")) for x in (ours, theirs)]
        allowed = errors[1] + (most or 0.0) * (1 + exact.abs()).nan_to_num()
        if bool((ours.isnan() != exact.isnan()).any()) or bool((errors[0] > allowed).any()):
            return False
    return True


def _run(op: Any, dtype: torch.dtype) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        samples = _samples(op, dtype)
        wrong = list(_agree(op, samples)) if samples else []
    assert not wrong, "; ".join(wrong)


for _op in op_db:
    _name = f"{_op.name}.{_op.variant_test_name}" if _op.variant_test_name else _op.name
    for _dtype in DTYPES:
        if _dtype in _op.supported_dtypes("cpu") and not any(word in _name for word in LEFT_OUT):
            add("operators", _name, NAMES.get(_dtype, "c64"), lambda op=_op, dtype=_dtype: _run(op, dtype))
