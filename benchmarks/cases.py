"""The cases of the suites `kernels` and `gemm`: a function, its inputs, what counts as its work, and our limit.

Sizes are not powers of two, so that tails count. A case's name is its kind, and "/variant" where it has several.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch_rvv.benchmarks import handwritten

from torch_rvv.errors import OptionError

N = 10007
ROWS, COLUMNS = 1000, 1000
EMBEDDING_WIDTH = 300
MATMUL = (250, 270, 260)  # m, n, k
# Variants of the first four rows of the limits: computed in f32, so they may take this much more.
HALF_FACTORS = {"f16": (torch.float16, 1.3), "bf16": (torch.bfloat16, 2.0)}


@dataclass(frozen=True)
class Case:
    """One kernel. shape: of the main input. elements: what instructions are divided by. flops: floating-point
    operations that the function asks for, a function of the math library being one. limit: instructions an element, at
    most; None where none is set. suite: "kernels" or "gemm". geometry: of a convolution, its stride, padding and
    groups. kernel: what we compile in the function's stead, where a kernel written by hand is the case. inputs() makes
    the same tensors each time."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    function: Callable[..., Any]
    make: Callable[[torch.Generator], Sequence[torch.Tensor]]
    elements: int
    flops: int
    limit: float | None
    suite: str = "kernels"
    geometry: tuple[int, ...] = ()
    kernel: Callable[..., Any] | None = None

    @property
    def kind(self) -> str:
        return self.name.partition("/")[0]

    def inputs(self) -> list[torch.Tensor]:
        return list(self.make(torch.Generator().manual_seed(zlib.crc32(self.name.encode()))))

    @cached_property
    def bytes(self) -> int:
        """Of the inputs and the result: what must move at least."""
        inputs = self.inputs()
        return sum(t.numel() * t.element_size() for t in (*inputs, self.function(*inputs)))


CASES: dict[str, Case] = {}


def add(name: str, function: Callable[..., Any], make: Callable[..., Sequence[torch.Tensor]], limit: float | None,
        flops: float = 1.0, elements: int | None = None, suite: str = "kernels",
        geometry: tuple[int, ...] = (), kernel: Callable[..., Any] | None = None) -> None:  # fmt: skip
    """Register a case. flops: an element. elements: of the first input, if not given."""
    first = make(torch.Generator().manual_seed(0))[0]
    count = elements or first.numel()
    CASES[name] = Case(
        name, first.dtype, tuple(first.shape), function, make, count, round(flops * count), limit and round(limit, 4),
        suite, geometry, kernel,
    )  # fmt: skip


def _uniform(*shape: int, dtype: torch.dtype = torch.float32, low: float = -4.0, high: float = 4.0) -> Any:
    def make(generator: torch.Generator) -> torch.Tensor:
        return (torch.rand(*shape, generator=generator) * (high - low) + low).to(dtype)

    return make


def _inputs(*makers: Any) -> Callable[[torch.Generator], list[torch.Tensor]]:
    return lambda generator: [make(generator) for make in makers]


def _indices(count: int, below: int) -> Any:
    return lambda generator: torch.randint(0, below, (count,), generator=generator)


# name: (function, number of inputs, limit, flops an element, lowest input)
_POINTWISE: dict[str, tuple[Callable[..., Any], int, float, float, float]] = {
    "relu": (torch.relu, 1, 0.20, 1, -4.0),
    "add": (torch.add, 2, 0.20, 1, -4.0),
    "copy": (torch.clone, 1, 0.20, 0, -4.0),
    "exp": (torch.exp, 1, 1.2, 1, -4.0),
    "log": (torch.log, 1, 1.2, 1, 0.001),
    "sigmoid": (torch.sigmoid, 1, 1.2, 3, -4.0),
    "silu": (F.silu, 1, 1.2, 4, -4.0),
    "tanh": (torch.tanh, 1, 2.2, 1, -4.0),
    "gelu": (F.gelu, 1, 2.2, 5, -4.0),
    "sin": (torch.sin, 1, 2.2, 1, -4.0),
    "cos": (torch.cos, 1, 2.2, 1, -4.0),
}
_ROW: dict[str, Callable[..., Any]] = {
    "row_sum": lambda x: x.sum(-1),
    "row_max": lambda x: x.amax(-1),
    "row_mean": lambda x: x.mean(-1),
}


def _pointwise(suffix: str, dtype: torch.dtype, factor: float) -> None:
    for name, (function, count, limit, flops, low) in _POINTWISE.items():
        add(name + suffix, function, _inputs(*[_uniform(N, dtype=dtype, low=low)] * count), limit * factor, flops)
    for name, function in _ROW.items():
        add(name + suffix, function, _inputs(_uniform(ROWS, COLUMNS, dtype=dtype)), 0.25 * factor)


def _variants() -> None:
    _pointwise("", torch.float32, 1.0)
    add("cast", lambda x: x.half(), _inputs(_uniform(N)), 0.20, 0)
    add("cast/i32", lambda x: x.int(), _inputs(_uniform(N)), 0.20, 0)
    for suffix, (dtype, factor) in HALF_FACTORS.items():
        _pointwise("/" + suffix, dtype, factor)
        add("cast/" + suffix, lambda x: x.float(), _inputs(_uniform(N, dtype=dtype)), 0.20 * factor, 0)


def _rows() -> None:
    matrix, vector = _uniform(ROWS, COLUMNS), _uniform(COLUMNS)
    add("softmax", lambda x: torch.softmax(x, -1), _inputs(matrix), 1.6, 5)
    add("layer_norm", lambda x, w, b: F.layer_norm(x, (COLUMNS,), w, b), _inputs(matrix, vector, vector), 0.8, 8)
    add("rms_norm", lambda x, w: F.rms_norm(x, (COLUMNS,), w), _inputs(matrix, vector), 0.8, 5)
    add("cumsum", lambda x: x.cumsum(-1), _inputs(matrix), 1.5)
    add("cumsum/columns", lambda x: x.cumsum(0), _inputs(matrix), 0.5)
    add("argmax", lambda x: x.argmax(-1), _inputs(matrix), 0.5, 2)
    add("argsort", lambda x: x.argsort(dim=-1, stable=True), _inputs(_uniform(400, 100)), 14.0, 7)
    add("argsort/row", lambda x: x.argsort(dim=-1, stable=True), _inputs(_uniform(N)), 75.0, 14)
    channel, positive = _uniform(30), _uniform(30, low=0.1)
    add(
        "batch_norm_relu",
        lambda x, mean, var, w, b: F.relu(F.batch_norm(x, mean, var, w, b, training=False)),
        _inputs(_uniform(2, 30, 50, 50), channel, positive, channel, channel), 0.35, 5,
    )  # fmt: skip


def _movement() -> None:
    tokens, width, images = 301, EMBEDDING_WIDTH, _uniform(2, 33, 40, 50)
    add(
        "embedding", lambda ids, table: F.embedding(ids, table),
        _inputs(_indices(tokens, 1003), _uniform(1003, width)), 0.3, 0, tokens * width,
    )  # fmt: skip
    add("gather", lambda ids, x: x[ids], _inputs(_indices(N, N), _uniform(N)), 0.6, 0)
    add("transpose", lambda x: x.t().contiguous(), _inputs(_uniform(300, 500)), 0.4, 0)
    add("permute_021", lambda x: x.permute(0, 2, 1).contiguous(), _inputs(_uniform(5, 100, 300)), 0.4, 0)
    add("permute_0213", lambda x: x.permute(0, 2, 1, 3).contiguous(), _inputs(_uniform(3, 50, 12, 60)), 0.4, 0)
    add("nchw_nhwc", lambda x: x.permute(0, 2, 3, 1).contiguous(), _inputs(images), 0.4, 0)
    add("nchw_nhwc/back", lambda x: x.permute(0, 3, 1, 2).contiguous(), _inputs(_uniform(2, 40, 50, 33)), 0.4, 0)
    add("pixel_shuffle", lambda x: F.pixel_shuffle(x, 2), _inputs(_uniform(2, 36, 40, 50)), 0.5, 0)
    outputs = 2 * 16 * 30 * 40
    add("max_pool", lambda x: F.max_pool2d(x, 3, 2, 1), _inputs(_uniform(2, 16, 59, 79)), 3.0, 9, outputs)


def _products() -> None:
    m, n, k = MATMUL
    add("matmul", torch.mm, _inputs(_uniform(m, k), _uniform(k, n)), None, 2 * k, m * n)

    for name, dtype in _DTYPES.items():
        for m, n, k in ((128, 128, 128), (512, 512, 512), (1024, 1024, 1024)):
            _product(f"matmul/{m}x{n}x{k}{name}", torch.mm, (m, k), (k, n), dtype)
    for m, n, k in ((128, 128, 128), (512, 512, 512), (1024, 1024, 1024)):
        _product(f"int_mm/{m}x{n}x{k}", torch._int_mm, (m, k), (k, n), torch.int8, reach=128.0)
    for m, n, k in ((1, 4096, 4096), (8, 4096, 1024), (126, 127, 130)):
        _product(f"matmul/{m}x{n}x{k}", torch.mm, (m, k), (k, n))
    for m, n, k in ((256, 256, 256), (250, 260, 270)):
        _product(f"matmul/triton_{m}x{n}x{k}", torch.mm, (m, k), (k, n), kernel=handwritten.product)
    _product("linear/128x768x768", F.linear, (128, 768), (768, 768), n=768)
    for name, dtype in _DTYPES.items():
        _product(f"linear/1x4096x4096{name}", F.linear, (1, 4096), (4096, 4096), dtype, n=4096)
    _product("bmm/12x128x128x64", torch.bmm, (12, 128, 64), (12, 64, 128))
    for c, size, o, k, stride in ((3, 224, 64, 7, 2), (64, 56, 64, 1, 1), (64, 56, 64, 3, 1), (256, 56, 128, 1, 2),
                                  (128, 28, 128, 3, 1), (256, 14, 256, 3, 1), (512, 7, 512, 3, 1)):  # fmt: skip
        _convolution(f"conv/{c}x{size}x{size}_{o}x{k}x{k}s{stride}", c, size, o, k, stride)
    _convolution("conv/128x28x28_128x3x3s1g32", 128, 28, 128, 3, 1, 32)
    for c, size, stride in ((32, 112, 1), (96, 112, 2), (144, 56, 1), (384, 14, 1)):
        _convolution(f"depthwise/{c}x{size}x{size}s{stride}", c, size, c, 3, stride, c)
    for name, (h, length, keys, e) in {"1x12x128x64": (12, 128, 128, 64), "1x8x1x64_1024": (8, 1, 1024, 64)}.items():
        shapes = [(1, h, length, e), (1, h, keys, e), (1, h, keys, e)]
        inputs = _inputs(*(_uniform(*shape, low=-1.0, high=1.0) for shape in shapes))
        count = h * length * e
        add(f"attention/{name}", F.scaled_dot_product_attention, inputs, None, 4 * keys, count, "gemm")


def _convolution(name: str, c: int, size: int, o: int, k: int, stride: int, groups: int = 1) -> None:
    """A square convolution of one image, padded by half the kernel."""
    padding, depth = k // 2, c // groups * k * k
    count = o * ((size + 2 * padding - k) // stride + 1) ** 2
    inputs = _inputs(_uniform(1, c, size, size), _uniform(o, c // groups, k, k, low=-(depth**-0.5), high=depth**-0.5))
    add(
        name, lambda x, w: F.conv2d(x, w, None, stride, padding, 1, groups), inputs, None, 2 * depth, count, "gemm",
        (stride, padding, groups),
    )  # fmt: skip


_DTYPES = {"": torch.float32, "/f16": torch.float16, "/bf16": torch.bfloat16}


def _product(name: str, function: Callable[..., Any], a: tuple[int, ...], b: tuple[int, ...],
             dtype: torch.dtype = torch.float32, n: int | None = None, reach: float = 1.0,
             kernel: Callable[..., Any] | None = None) -> None:  # fmt: skip
    """A case of the suite gemm: a @ b, or with n rows in b a @ b.T, of numbers up to reach."""
    count = math.prod(a[:-1]) * (n or b[-1])
    inputs = _inputs(*(_uniform(*shape, dtype=dtype, low=-reach, high=reach) for shape in (a, b)))
    add(name, function, inputs, None, 2 * a[-1], count, "gemm", kernel=kernel)


_variants()
_rows()
_movement()
_products()


def select(names: str | None, suite: str = "kernels") -> list[Case]:
    """The cases of a suite by a comma-separated list of names; a kind's name means all of its variants. None: all.

    Raises OptionError for a name that is neither.
    """
    known = [c for c in CASES.values() if c.suite == suite]
    if not names:
        return known
    wanted = []
    for name in names.split(","):
        found = [c for c in known if name in (c.name, c.kind)]
        if not found:
            raise OptionError(
                f"Unknown case {name!r}", hint=f"Known: {', '.join(dict.fromkeys(c.kind for c in known))}."
            )
        wanted += found
    return list(dict.fromkeys(wanted))
