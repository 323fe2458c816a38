"""Random PyTorch functions, compiled whole, against eager float64: `python -m tests.fuzz.graphs --count 300`.

    v2 = torch.matmul(v0, x3) / 4        each line is a rule's: it picks earlier values whose shapes fit, and is kept
    v3 = v2.cumsum(-1)                   if what it gives is finite and small
    return [v2, v3]                      all that nothing else reads

Where the kernels are right and what is around them is not: views of results, operands of one element, gradients that
are added up. Every second program is trained: its gradients count as results. A program that goes wrong loses the lines
that do not matter, and is written to build/fuzz.
"""

from __future__ import annotations

import argparse
import ast
import math
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

SIZES = (1, 1, 2, 3, 4, 5, 8, 16, 17, 33, 40)
LARGEST, MOST = 60_000, 1e3  # elements of a value, and the largest of them
# How much less exact than eager float32 a result may be, and what counts as none; of its largest element.
FACTOR, EXACT = 30.0, 3e-5
LEAST_SCALE = 1e-2


@dataclass(frozen=True)
class Input:
    """A tensor of normal numbers, or of indices below a number. turned: with its last two dimensions swapped."""

    name: str
    shape: tuple[int, ...]
    turned: bool = False
    below: int = 0

    def make(self, seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed + int(self.name[1:]))
        if self.below:
            return torch.randint(self.below, self.shape, generator=generator)
        values = torch.randn(self.shape, generator=generator, dtype=torch.float64)
        return values.mT if self.turned else values


@dataclass(frozen=True)
class Function:
    """lines: assignments, (name, expression) each."""

    seed: int
    inputs: tuple[Input, ...]
    lines: tuple[tuple[str, str], ...]

    @property
    def trained(self) -> bool:
        return self.seed % 2 == 1

    def results(self) -> list[str]:
        """What no other line reads."""
        read = self.read()
        return [name for name, _ in self.lines if name not in read]

    def read(self) -> set[str]:
        """The names of what is read."""
        nodes = (node for _, expression in self.lines for node in ast.walk(ast.parse(expression)))
        return {node.id for node in nodes if isinstance(node, ast.Name)}

    def text(self) -> str:
        head = f"def function({', '.join(i.name for i in self.inputs)}):"
        body = [f"    {name} = {expression}" for name, expression in self.lines]
        return "\n".join([head, *body, f"    return [{', '.join(self.results())}]"]) + "\n"

    def compiled(self) -> Callable[..., list[torch.Tensor]]:
        """As Python runs it."""
        names: dict[str, Any] = {"torch": torch, "F": F}
        exec(compile(self.text(), f"<fuzz {self.seed}>", "exec"), names)
        return names["function"]


# -- generation


class Unfit(Exception):
    """A rule finds no values that it could take."""


@dataclass
class Maker:
    """The values so far, in float64, by name."""

    random: random.Random
    seed: int
    values: dict[str, torch.Tensor] = field(default_factory=dict)
    inputs: list[Input] = field(default_factory=list)

    def add(self, shape: Sequence[int], turned: bool = False, below: int = 0) -> str:
        """A new input."""
        made = Input(f"x{len(self.inputs)}", tuple(shape), turned, below)
        self.inputs.append(made)
        self.values[made.name] = made.make(self.seed)
        return made.name

    def pick(self, fits: Callable[[torch.Tensor], bool] = lambda t: True, rank: int = 0) -> tuple[str, torch.Tensor]:
        """A value of at least so many dimensions, rather one of the last."""
        found = [n for n, t in self.values.items() if t.is_floating_point() and t.dim() >= rank and fits(t)]
        if not found:
            raise Unfit
        name = self.random.choice(found[-3:] if self.random.random() < 0.6 else found)
        return name, self.values[name]

    def axis(self, t: torch.Tensor) -> int:
        return self.random.randrange(-t.dim(), t.dim())


def _broadcasts(a: torch.Tensor, b: torch.Tensor) -> bool:
    try:
        return torch.broadcast_shapes(a.shape, b.shape).numel() <= LARGEST
    except RuntimeError:
        return False


def _multiplies(a: torch.Tensor, b: torch.Tensor) -> bool:
    try:
        return torch.matmul(a, b).numel() <= LARGEST
    except RuntimeError:
        return False


def _two(m: Maker) -> tuple[str, str]:
    a, x = m.pick()
    return a, m.pick(partial(_broadcasts, x))[0]


def _unary(m: Maker) -> str:
    return m.random.choice(_UNARY).format(m.pick()[0])


_UNARY = (
    "torch.tanh({})", "torch.sigmoid({})", "torch.relu({})", "(-{})", "{}.clamp(-3, 3).exp()", "torch.sin({})",
    "F.silu({})", "F.gelu({})", "{}.square()", "{}.abs()", "({}.abs() + 0.1).sqrt()", "({}.abs() + 0.1).log()",
    "torch.erf({})", "F.softplus({})", "{}.clamp(-1, 0.7)", "F.hardswish({})", "({} * 0.3 + 1)",
)  # fmt: skip


def _binary(m: Maker) -> str:
    a, b = _two(m)
    return m.random.choice(
        (
            "({} + {})",
            "({} - {})",
            "({} * {})",
            "torch.maximum({}, {})",
            "torch.minimum({}, {})",
            "({} / ({}.abs() + 1))",
        )
    ).format(a, b)


def _matmul(m: Maker) -> str:
    a, x = m.pick(rank=1)
    b, _ = m.pick(lambda y: y.dim() > 0 and (_multiplies(x, y) or (y.dim() > 1 and _multiplies(x, y.mT))))
    other = b if _multiplies(x, m.values[b]) else f"{b}.mT"
    return f"(torch.matmul({a}, {other}) / {max(1, x.shape[-1]) ** 0.5:.3f})"


def _linear(m: Maker) -> str:
    wide = m.random.choice((1, 2, 7, 16, 33, 64))
    a, x = m.pick(lambda t: 0 < t.numel() // t.shape[-1] * wide <= LARGEST if t.dim() and t.numel() else False)
    arguments = [a, m.add((wide, x.shape[-1])), *([m.add((wide,))] if m.random.random() < 0.5 else [])]
    return f"(F.linear({', '.join(arguments)}) / {x.shape[-1] ** 0.5:.3f})"


def _reduce(m: Maker) -> str:
    kind = m.random.choice(("sum", "mean", "amax", "amin", "var", "logsumexp", "norm"))
    a, x = m.pick(rank=1)
    dim, kept = m.axis(x), m.random.random() < 0.5
    if kind == "var" and x.shape[dim] < 2:
        raise Unfit
    return f"{a}.{kind}(dim={dim}, keepdim={kept})"


def _reduce_all(m: Maker) -> str:
    return f"{m.pick()[0]}.{m.random.choice(('mean', 'max', 'min', 'sum'))}()"


def _along(m: Maker) -> str:
    a, x = m.pick(rank=1)
    kind = m.random.choice(
        ("torch.softmax({}, {})", "torch.log_softmax({}, {})", "({}.cumsum({}) / 8)", "{}.tanh().cumprod({})",
         "{}.logcumsumexp({})", "{}.cummax({})[0]", "{}.flip({})")
    )  # fmt: skip
    return kind.format(a, m.axis(x))


def _norm(m: Maker) -> str:
    a, x = m.pick(lambda t: t.shape[-1] > 1 if t.dim() else False)
    if m.random.random() < 0.5:
        return f"F.layer_norm({a}, ({x.shape[-1]},))"
    weight = m.add((x.shape[-1],))
    return f"({a} * torch.rsqrt({a}.square().mean(-1, keepdim=True) + 1e-3) * {weight})"


def _view(m: Maker) -> str:
    a, x = m.pick(rank=1)
    order = list(range(x.dim()))
    m.random.shuffle(order)
    forms = [
        f"{a}.permute({order})", f"{a}.permute({order}).contiguous()", f"{a}.reshape(-1, {x.shape[-1]})",
        f"{a}.flatten()", f"{a}.squeeze()", f"{a}.roll({m.random.randrange(-3, 4)}, {m.axis(x)})",
        f"{a}[..., None]", f"{a}[None].expand(3, *{tuple(x.shape)})",
        *(f"{a}.unflatten({d}, ({n}, -1))" for d in range(x.dim()) for n in (2, 4) if x.shape[d] % n == 0),
    ]  # fmt: skip
    return m.random.choice(forms)


def _part(m: Maker) -> str:
    a, x = m.pick(rank=1)
    dim = m.random.randrange(x.dim())
    first = m.random.randrange(x.shape[dim])
    if m.random.random() < 0.3:
        return f"{a}.select({dim}, {first})"
    end, step = m.random.randrange(first, x.shape[dim]) + 1, m.random.choice((1, 1, 2, 3))
    return f"{a}[{':, ' * dim}{first}:{end}:{step}]"


def _join(m: Maker) -> str:
    a, x = m.pick(rank=1)
    dim = m.random.randrange(x.dim())
    alike = lambda t: [*t.shape[:dim], *t.shape[dim + 1 :]] == [*x.shape[:dim], *x.shape[dim + 1 :]]  # noqa: E731
    b, y = m.pick(lambda t: t.dim() == x.dim() and alike(t))
    if y.shape == x.shape and m.random.random() < 0.3:
        return f"torch.stack([{a}, {b}], {dim})"
    return f"torch.cat([{a}, {b}], {dim})"


def _pad(m: Maker) -> str:
    a, x = m.pick(rank=1)
    sizes = [m.random.randrange(3) for _ in range(2 * m.random.randint(1, min(2, x.dim())))]
    return f"F.pad({a}, {sizes}, value={m.random.choice((0.0, 1.5))})"


def _index(m: Maker) -> str:
    a, x = m.pick(rank=1)
    dim = m.random.randrange(x.dim())
    if m.random.random() < 0.5:
        return f"{a}.index_select({dim}, {m.add((m.random.choice((1, 3, 9)),), below=x.shape[dim])})"
    index = m.add(x.shape, below=x.shape[dim])
    if m.random.random() < 0.5:
        return f"{a}.gather({dim}, {index})"
    return f"(torch.zeros_like({a}).scatter_add({dim}, {index}, {a}) / {x.shape[dim]})"


def _masked(m: Maker) -> str:
    a, x = m.pick(rank=2)
    return m.random.choice(
        (f"torch.tril({a}, {m.random.randrange(-1, 2)})", f"torch.triu({a})",
         f"{a}.masked_fill(torch.ones({tuple(x.shape[-2:])}, dtype=torch.bool).triu(1), -2.0)")
    )  # fmt: skip


def _convolution(m: Maker) -> str:
    a, x = m.pick(lambda t: t.dim() in (3, 4) and min(t.shape[2:]) >= 3 and t.numel() <= 20_000)
    kernel, channels = m.random.choice((1, 3)), x.shape[1]
    groups = m.random.choice((1, channels, math.gcd(channels, 4)))
    wide = groups * m.random.choice((1, 1, 4)) if groups > 1 else m.random.choice((1, 4, 8))
    weight = m.add((wide, channels // groups, *[kernel] * (x.dim() - 2)))
    stride, padding = m.random.choice((1, 2)), m.random.choice((0, 1))
    return f"(F.conv{x.dim() - 2}d({a}, {weight}, stride={stride}, padding={padding}, groups={groups}) / 3)"


def _image(m: Maker) -> str:
    """An image, a new one if there is none."""
    try:
        return m.pick(lambda t: t.dim() == 4 and min(t.shape[2:]) >= 3)[0]
    except Unfit:
        return m.add((m.random.choice((1, 2)), m.random.choice((1, 3, 6)), *(m.random.randint(3, 20) for _ in "hw")))


def _pool(m: Maker) -> str:
    kernel, stride = (m.random.randint(1, 4) for _ in "ks")
    padding = m.random.randint(0, kernel // 2)
    ceil, padded = m.random.random() < 0.2, m.random.random() < 0.5
    return m.random.choice(
        (f"F.max_pool2d({{}}, {kernel}, {stride}, {padding}, 1, {ceil})",
         f"F.avg_pool2d({{}}, {kernel}, {stride}, {padding}, {ceil}, {padded})", "F.adaptive_avg_pool2d({}, 2)")
    ).format(_image(m))  # fmt: skip


def _resize(m: Maker) -> str:
    mode = m.random.choice(("nearest", "nearest-exact", "bilinear", "bicubic"))
    corners = f", align_corners={m.random.random() < 0.3}" if mode[0] == "b" else ""
    size = f"({m.random.randint(1, 24)}, {m.random.randint(1, 24)})"
    how = m.random.choice(("scale_factor=2", "scale_factor=4", "scale_factor=(3, 1)", f"size={size}"))
    return f'F.interpolate({_image(m)}, {how}, mode="{mode}"{corners})'


def _batch_norm(m: Maker) -> str:
    a = _image(m)
    channels = m.values[a].shape[1]
    mean, var, *affine = (m.add((channels,)) for _ in range(4))
    return f"F.batch_norm({a}, {mean}.detach(), {var}.detach().square() + 0.5, {', '.join(affine)})"


def _depthwise(m: Maker) -> str:
    a = _image(m)
    kernel, stride, padding = m.random.choice((1, 2, 3, 5)), m.random.choice((1, 2)), m.random.choice((0, 1, 2))
    channels = m.values[a].shape[1]
    weight = m.add((channels, 1, kernel, kernel))
    return f"(F.conv2d({a}, {weight}, stride={stride}, padding={padding}, groups={channels}) / {kernel})"


def _scaled_softmax(m: Maker) -> str:
    a, x = m.pick(rank=1)
    return f"torch.softmax({a}{m.random.choice((' * 0.3', ' / 4', ' * -1.5'))}, {m.axis(x)})"


def _attention(m: Maker) -> str:
    a, _ = m.pick(lambda t: t.dim() in (3, 4) and t.shape[-2] < 50)
    return f"F.scaled_dot_product_attention({a}, {a}, {a}, is_causal={m.random.random() < 0.5})"


def _ordered(m: Maker) -> str:
    # Of inputs only: two values that differ by rounding may change places.
    names = [i.name for i in m.inputs if not i.below and i.shape]
    if not names:
        raise Unfit
    a = m.random.choice(names)
    x = m.values[a]
    dim = m.axis(x)
    return m.random.choice(
        (f"{a}.sort({dim})[0]", f"{a}.topk({min(2, x.shape[dim])}, {dim})[0]", f"{a}.median({dim})[0]")
    )


RULES: tuple[Callable[[Maker], str], ...] = (
    _unary, _unary, _binary, _binary, _matmul, _linear, _reduce, _reduce_all, _along, _norm, _view, _view, _part,
    _join, _pad, _index, _masked, _convolution, _pool, _resize, _batch_norm, _depthwise, _attention, _scaled_softmax,
    _ordered,
)  # fmt: skip


def generate(seed: int) -> Function:
    """The function of a seed."""
    choice = random.Random(seed)
    m = Maker(choice, seed)
    sizes = [choice.choice(SIZES) for _ in range(4)]
    for _ in range(choice.randint(2, 4)):
        shape = [choice.choice(sizes) for _ in range(choice.choice((0, 1, 2, 2, 3, 3, 4)))]
        while torch.Size(shape).numel() > LARGEST // 3:
            shape.pop()
        m.add(shape, turned=len(shape) > 1 and choice.random() < 0.2)
    lines: list[tuple[str, str]] = []
    wanted = choice.randint(2, 9)
    for _ in range(80):
        held = len(m.inputs)
        try:
            expression = choice.choice(RULES)(m)
            value = eval(expression, {"torch": torch, "F": F}, m.values)
        except (Unfit, RuntimeError, ValueError, IndexError):
            value = None
        if (
            value is None
            or not 0 < value.numel() <= LARGEST
            or not bool(value.isfinite().all() & (value.abs() < MOST).all())
        ):
            for extra in m.inputs[held:]:
                del m.values[extra.name]
            del m.inputs[held:]
            continue
        lines.append((f"v{len(lines)}", expression))
        m.values[lines[-1][0]] = value
        if len(lines) == wanted:
            break
    return Function(seed, tuple(m.inputs), tuple(lines))


# -- judgement


def _run(function: Callable[..., Any], values: Sequence[torch.Tensor], trained: bool) -> list[torch.Tensor]:
    """Its results, and with training the gradients of their sum, each element weighted otherwise."""
    values = [v.detach().clone().as_strided(v.shape, v.stride()) if v.is_floating_point() else v for v in values]
    floats = [v.requires_grad_(trained) for v in values if v.is_floating_point()]
    with torch.set_grad_enabled(trained):
        results = function(*values)
    if trained and any(r.requires_grad for r in results):
        # No ramp, whose sum is as good as nothing and whose partial sums are large.
        weights = [torch.cos(torch.arange(r.numel()).double() * 1.7).reshape(r.shape).to(r.dtype) for r in results]
        sum((r * w).sum() for r, w in zip(results, weights, strict=True)).backward()
        results = [*results, *(torch.zeros(()) if v.grad is None else v.grad for v in floats)]
    return [r.detach() for r in results]


def judge(function: Function) -> str | None:
    """What is wrong with a function as it is compiled; None for nothing."""
    plain = function.compiled()
    exact = [i.make(function.seed) for i in function.inputs]
    single = [t.float() if t.is_floating_point() else t for t in exact]
    wanted, eager = (_run(plain, values, function.trained) for values in (exact, single))
    torch._dynamo.reset()
    try:
        ours = _run(torch.compile(plain, backend="rvv"), single, function.trained)
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    names = [*function.results(), *(f"the gradient of {i.name}" for i in function.inputs if not i.below)]
    for name, found, right, near in zip(names, ours, wanted, eager, strict=False):
        if found.shape != right.shape:
            return f"{name} has the shape {tuple(found.shape)}, not {tuple(right.shape)}"
        scale = max(LEAST_SCALE, float(right.abs().max()))
        error, theirs = (float((t.double() - right).abs().max()) / scale for t in (found, near))
        if not error <= max(FACTOR * theirs, EXACT):
            return f"{name} is wrong by {error:.1e}, in eager by {theirs:.1e}"
    return None


def shrink(function: Function, wrong: Callable[[Function], str | None] = judge) -> Function:
    """The function without the lines that it is wrong without."""
    for name, _ in reversed(function.lines):
        smaller = replace(function, lines=tuple(line for line in function.lines if line[0] != name))
        if not smaller.lines or name in (read := smaller.read()):
            continue
        smaller = replace(smaller, inputs=tuple(i for i in function.inputs if i.name in read))
        if wrong(smaller):
            function = smaller
    return function


def _finding(seed: int) -> tuple[int, str | None, str]:
    function = generate(seed)
    if not function.lines or (message := judge(function)) is None:
        return seed, None, ""
    return seed, message, shrink(function).text()


def run(count: int, seed: int, jobs: int) -> Iterator[tuple[int, str | None, str]]:
    """(seed, what is wrong or None, the smallest function found that is)."""
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_finding, range(seed, seed + count))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.graphs", description=__doc__)
    parser.add_argument("--count", type=int, default=300, help="functions")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first; the next has the next")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    arguments = parser.parse_args()
    wrong = 0
    for seed, message, text in run(arguments.count, arguments.seed, arguments.jobs):
        if message is not None:
            wrong += 1
            folder = Path("build", "fuzz")
            folder.mkdir(parents=True, exist_ok=True)
            (path := folder / f"graph_{seed}.py").write_text(f"# {message}\n{text}")
            print(f"seed {seed}, {path}: {message}", flush=True)
    print(f"{arguments.count} functions, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
