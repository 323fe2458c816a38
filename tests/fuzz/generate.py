"""Writes random legal programs: every value is defined, in range and, where the result depends on it, exact.

A float that went through a reassociating operation (a sum, a product, a function) is not `exact`: it is not compared,
sorted or turned into an integer, for two right answers may differ in it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from tests.fuzz.program import Block, Program

SIZE = 4096
INTS = ("int8", "int16", "int32", "int64")
FLOATS = ("float16", "float32", "float64")
VLENS = (128, 256, 1024)
DTYPES = (*INTS, *FLOATS)


@dataclass(frozen=True)
class Var:
    """A name in the program. shape () is a scalar; bound: no element is larger (floats)."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    exact: bool = True
    bound: float = 4.0

    @property
    def floating(self) -> bool:
        return self.dtype in FLOATS


class Generator:
    """One program from one seed."""

    def __init__(self, seed: int):
        self.seed, self.random = seed, random.Random(seed)
        self.names = 0
        self.scope: list[list[Var]] = [[]]
        self.out: list[list[str | Block]] = [[]]
        self.inputs: list[str] = [self.random.choice(DTYPES) for _ in range(3)]
        self.outputs: list[str] = []
        self.depth = 0

    # -- small pieces

    def pick(self, options):
        return self.random.choice(list(options))

    def name(self) -> str:
        self.names += 1
        return f"v{self.names}"

    def emit(self, text: str | Block) -> None:
        self.out[-1].append(text)

    def define(self, text: str, dtype: str, shape: tuple[int, ...], exact: bool = True, bound: float = 4.0) -> Var:
        var = Var(self.name(), dtype, shape, exact, bound)
        self.emit(f"{var.name} = {text}")
        self.scope[-1].append(var)
        return var

    def visible(self, want: Callable[[Var], bool] = lambda v: True) -> list[Var]:
        return [v for level in self.scope for v in level if want(v)]

    def some(self, want: Callable[[Var], bool] = lambda v: True) -> Var | None:
        found = self.visible(want)
        return self.pick(found) if found else None

    def shape(self, most: int = 512) -> tuple[int, ...]:
        rank = self.pick((1, 1, 2, 2, 2, 3))
        while True:
            shape = tuple(self.pick((1, 2, 4, 8, 16, 32, 64, 128)[: 8 - 2 * (rank - 1)]) for _ in range(rank))
            total = 1
            for n in shape:
                total *= n
            if 2 <= total <= most:
                return shape

    def indices(self, shape: tuple[int, ...]) -> list[str]:
        """tl.arange along each axis, spread over the shape."""
        out = []
        for axis, n in enumerate(shape):
            where = ", ".join(":" if a == axis else "None" for a in range(len(shape)))
            out.append(f"tl.arange(0, {n})[{where}]" if len(shape) > 1 else f"tl.arange(0, {n})")
        return out

    def offset(self, shape: tuple[int, ...]) -> str:
        """An offset into SIZE elements for each element of a shape."""
        index, room, terms = self.indices(shape), SIZE // 2, []
        for text, n in zip(index, shape, strict=True):
            stride = self.random.randint(0 if n == 1 else 1, max(1, min(40, room // max(n, 1))))
            room -= stride * (n - 1)
            terms.append(f"{text} * {stride}")
        start = self.random.randint(0, max(room, 0))
        return " + ".join([*terms, str(start)])

    def dense(self, shape: tuple[int, ...]) -> str:
        terms, stride = [], 1
        for text, n in reversed(list(zip(self.indices(shape), shape, strict=True))):
            terms.append(f"{text} * {stride}")
            stride *= n
        return " + ".join(terms)

    def mask(self, shape: tuple[int, ...]) -> str:
        """A condition on the indices of a shape."""
        parts = []
        for text, n in zip(self.indices(shape), shape, strict=True):
            kind = self.random.randint(0, 3)
            if kind == 1:
                parts.append(f"({text} < {self.random.randint(0, n)})")
            elif kind == 2:
                parts.append(f"({text} % 3 != {self.random.randint(0, 2)})")
            elif kind == 3:
                parts.append(f"({text} < n{self.random.randint(0, 1)})")
        whole = " & ".join(parts) or f"({self.indices(shape)[0]} >= 0)"
        return f"tl.broadcast_to({whole}, {list(shape)})" if len(shape) > 1 else whole

    def of(self, v: Var, text: str, dtype: str) -> str:
        return text if v.dtype == dtype else f"{text}.to(tl.{dtype})"

    # -- statements

    def statement(self) -> None:
        kinds = [(w, f) for w, f in _WEIGHTS if self.depth < 2 or f not in _NESTED]
        chosen = self.random.choices([f for _, f in kinds], [w for w, _ in kinds])[0]
        chosen(self)

    def load(self) -> None:
        number = self.random.randint(0, 2)
        dtype, shape = self.inputs[number], self.shape()
        pointer = f"x{number} + {self.offset(shape)}"
        kind = self.random.randint(0, 2)
        if kind == 0:
            self.define(f"tl.load({pointer})", dtype, shape)
        else:
            other = ", other=1" if kind == 1 else ", other=0"
            self.define(f"tl.load({pointer}, mask={self.mask(shape)}{other})", dtype, shape)

    def load_block(self) -> None:
        number, shape = self.random.randint(0, 2), self.shape()
        sizes = [self.random.randint(max(1, n // 2), n * 2) for n in shape]
        strides, total = [], 1
        for n in reversed(sizes):
            strides.insert(0, total)
            total *= n
        if total > SIZE:
            return
        offsets = [self.random.randint(-n // 2, n) for n in shape]
        rank = len(shape)
        pointer = (
            f"tl.make_block_ptr(x{number}, {tuple(sizes)}, {tuple(strides)}, {tuple(offsets)}, {shape},"
            f" {tuple(reversed(range(rank)))})"
        )
        text = f'tl.load({pointer}, boundary_check={tuple(range(rank))}, padding_option="zero")'
        self.define(text, self.inputs[number], shape)

    def gather_load(self) -> None:
        at = self.some(lambda v: v.dtype in ("int32", "int64") and v.shape)
        if at is not None:
            number = self.random.randint(0, 2)
            self.define(f"tl.load(x{number} + (({at.name} % 512) + 512) % 512)", self.inputs[number], at.shape)

    def index(self) -> None:
        shape = self.shape()
        self.define(f"tl.broadcast_to({self.offset(shape)}, {list(shape)})", "int32", shape)

    def scalar(self) -> None:
        if self.random.random() < 0.5:
            self.define(f"n{self.random.randint(0, 1)} + {self.random.randint(-3, 9)}", "int32", ())
        else:
            v = self.some(lambda v: v.shape and not v.floating)
            if v is not None:
                self.define(f"tl.max({v.name}.to(tl.int64)) % 7 + tl.min({v.name}.to(tl.int64)) % 5", "int64", ())

    def partner(self, v: Var) -> str:
        """Another operand for v: a value of its type and shape, or a constant."""
        other = self.some(lambda o: o.shape == v.shape and o.dtype == v.dtype and o.exact >= v.exact)
        if other is not None and self.random.random() < 0.8:
            return other.name
        return str(self.random.randint(1, 3)) if not v.floating else self.pick(("0.5", "1.5", "-2.0"))

    def arithmetic(self) -> None:
        v = self.some()
        if v is None:
            return
        other = self.partner(v)
        if v.floating:
            text = self.pick(
                (f"({v.name} + {other}) * 0.5", f"({v.name} - {other}) * 0.5", f"{v.name} * {other} * 0.25")
            )
            self.define(text, v.dtype, v.shape, v.exact)
            return
        signs = ["+", "-", "*", "&", "|", "^"]
        text = f"{v.name} {self.pick(signs)} {other}"
        if self.random.random() < 0.2:
            text = self.pick(
                (f"{v.name} // 3", f"{v.name} % 7", f"{v.name} >> 2", f"{v.name} << 1", f"-{v.name}", f"~{v.name}")
            )
        self.define(text, v.dtype, v.shape)

    def divide(self) -> None:
        v = self.some(lambda v: not v.floating and bool(v.shape))
        if v is not None:
            other = self.partner(v)
            sign = self.pick(("//", "%"))
            if other in {w.name for w in self.visible()}:
                other = f"((({other}) & 15) + 1).to(tl.{v.dtype})"
            self.define(f"{v.name} {sign} {other}", v.dtype, v.shape)

    def compare(self) -> None:
        v = self.some(lambda v: v.exact and bool(v.shape))
        if v is not None:
            sign = self.pick(("<", "<=", ">", ">=", "==", "!="))
            yes, no = v.name, self.partner(v)
            text = f"tl.where({v.name} {sign} {self.partner(v)}, {yes}, {no})"
            self.define(self.of(Var("", "", ()), text, v.dtype), v.dtype, v.shape)

    def limit(self) -> None:
        v = self.some(lambda v: v.exact and bool(v.shape))
        if v is not None:
            self.define(
                f"tl.{self.pick(('maximum', 'minimum'))}({v.name}, {v.name} * 0 + {self.pick((-1, 0, 2))})",
                v.dtype,
                v.shape,
            )

    def function(self) -> None:
        v = self.some(lambda v: v.dtype in ("float32", "float64"))
        if v is not None:
            name = self.pick(("exp", "sin", "cos", "abs", "floor"))
            if name == "floor" and not v.exact:
                return
            argument = f"tl.minimum({v.name}, 1.0)" if name == "exp" else v.name
            self.define(f"tl.{name}({argument})", v.dtype, v.shape, v.exact and name in ("abs", "floor"))

    def cast(self) -> None:
        v = self.some(lambda v: v.exact)
        if v is None or not v.shape:
            return
        to = self.pick(DTYPES)
        if v.floating and to not in FLOATS:
            text = f"tl.floor({v.name}.to(tl.float32)).to(tl.{to})"
        elif not v.floating and to in FLOATS:
            text = f"({v.name} & 3).to(tl.{to})"
        else:
            text = f"{v.name}.to(tl.{to})"
        self.define(text, to, v.shape)

    def reduce(self) -> None:
        v = self.some(lambda v: len(v.shape) > 0)
        if v is None:
            return
        axis = self.random.randrange(len(v.shape))
        shape = v.shape[:axis] + v.shape[axis + 1 :]
        wide = {"int8": "int32", "int16": "int32"}.get(v.dtype, v.dtype)
        kind = self.pick(("sum", "max", "min", "argmax", "argmin", "xor", "custom"))
        if kind in ("argmax", "argmin") and v.exact:
            self.define(f"tl.{kind}({v.name}, {axis})", "int32", shape)
        elif kind == "xor" and not v.floating:
            self.define(f"tl.xor_sum({v.name}.to(tl.int32), {axis})", "int32", shape)
        elif kind == "custom":
            self.define(f"tl.reduce({v.name}, {axis}, larger)", v.dtype, shape, v.exact)
        elif kind in ("max", "min"):
            self.define(f"tl.{kind}({v.name}, {axis})", "float32" if v.dtype == "float16" else wide, shape, v.exact)
        elif v.floating:
            text = f"tl.sum({v.name}.to(tl.float32), {axis}) * {1 / v.shape[axis]}"
            self.define(text, "float32", shape, False)
        else:
            self.define(f"tl.sum({v.name}, {axis})", wide, shape)

    def scan(self) -> None:
        v = self.some(lambda v: bool(v.shape) and not v.floating and v.dtype in ("int32", "int64"))
        if v is not None:
            axis = self.random.randrange(len(v.shape))
            name = self.pick(("plus", "larger", "either"))
            self.define(
                f"tl.associative_scan({v.name}, {axis}, {name}, reverse={self.pick((False, True))})", v.dtype, v.shape
            )

    def move(self) -> None:
        v = self.some(lambda v: bool(v.shape))
        if v is None:
            return
        rank, total = len(v.shape), 1
        for n in v.shape:
            total *= n
        kind = self.pick(("trans", "reshape", "expand", "join", "split", "cat", "flip", "permute", "gather"))
        keep = {"exact": v.exact}
        if kind == "trans" and rank == 2:
            self.define(f"tl.trans({v.name})", v.dtype, v.shape[::-1], **keep)
        elif kind == "permute" and rank == 3:
            order = self.random.sample(range(3), 3)
            self.define(f"tl.permute({v.name}, {tuple(order)})", v.dtype, tuple(v.shape[i] for i in order), **keep)
        elif kind == "reshape":
            first = self.pick([k for k in (1, 2, 4, 8, 16, 32) if k <= total])
            self.define(f"tl.reshape({v.name}, [{first}, {total // first}])", v.dtype, (first, total // first), **keep)
        elif kind == "expand" and rank < 3 and total <= 128:
            self.define(
                f"tl.broadcast_to(tl.expand_dims({v.name}, {rank}), {[*v.shape, 4]})", v.dtype, (*v.shape, 4), **keep
            )
        elif kind == "join" and total <= 256:
            self.define(f"tl.join({v.name}, {v.name} + {v.name})", v.dtype, (*v.shape, 2), **keep)
        elif kind == "split" and rank > 1 and v.shape[-1] == 2:
            a, b = self.name(), self.name()
            self.emit(f"{a}, {b} = tl.split({v.name})")
            self.scope[-1] += [Var(a, v.dtype, v.shape[:-1], v.exact), Var(b, v.dtype, v.shape[:-1], v.exact)]
        elif kind == "cat" and rank == 1 and total <= 256:
            self.define(f"tl.cat({v.name}, {v.name} * 2, can_reorder=True)", v.dtype, (2 * total,), **keep)
        elif kind == "flip":
            self.define(f"tl.flip({v.name}, {self.random.randrange(rank)})", v.dtype, v.shape, **keep)
        elif kind == "gather" and rank == 1:
            self.define(f"tl.gather({v.name}, (tl.arange(0, {total}) * 5 + 1) % {total}, 0)", v.dtype, v.shape, **keep)

    def sort(self) -> None:
        v = self.some(lambda v: v.exact and len(v.shape) == 1 and v.shape[0] <= 32 and v.dtype in ("int32", "float32"))
        if v is not None:
            self.define(f"tl.sort({v.name}, descending={self.pick((True, False))})", v.dtype, v.shape)

    def dot(self) -> None:
        m, n, k = (self.pick((4, 8, 16)) for _ in range(3))
        parts = []
        for number, shape in ((0, (m, k)), (1, (k, n))):
            found = self.some(lambda v, shape=shape: v.shape == shape and v.dtype == "float32")
            parts.append(found.name if found else f"tl.load(x{number} + {self.offset(shape)}).to(tl.float32)")
        self.define(f"tl.dot({parts[0]}, {parts[1]}) * 0.01", "float32", (m, n), False)

    def product_loop(self) -> None:
        """A loop over blocks of K, whose addresses and masks continue each other, or just do not."""
        m, n, k = (self.pick((4, 8, 16)) for _ in range(3))
        rows, columns = self.name(), self.name()
        for name, size in ((rows, m), (columns, n)):
            wraps = (
                f"(tl.arange(0, {size}) + {self.pick(('n1', 'tl.program_id(0) * 4'))}) % (n0 + {self.pick((3, 12))})"
            )
            self.emit(f"{name} = {wraps if self.random.random() < 0.4 else f'tl.arange(0, {size})'}")
        acc, counter, depth = self.name(), self.name(), f"tl.arange(0, {k})"
        operands = []
        for number, (outer, left) in enumerate(((rows, True), (columns, False))):
            far, near = self.random.randint(1, 40), self.random.randint(1, 8)
            place, along = (
                (f"{outer}[:, None]", f"{depth}[None, :]") if left else (f"{outer}[None, :]", f"{depth}[:, None]")
            )
            block = self.pick((k, k, k, k - 1, k + 1, 0))
            step = f"({counter} * {block} + {along})"
            mask = self.pick(("", f"{step} < n1", f"{along} < n1 - {counter} * {k}", f"{along} < n0", f"{step} % 3 > 0",
                              f"({step} < n1) & ({place} < n0)"))  # fmt: skip
            text = f"tl.load(x{number} + {place} * {far} + {step} * {near}{f', mask={mask}, other=0' if mask else ''})"
            operands.append(f"{text}.to(tl.float32){self.pick(('', '', ' * 2 + 1', f' + {counter}'))}")
        head = f"for {counter} in range({self.pick(('0', '0', '1'))}, {self.pick(('n0', 'n0', '5'))}):"
        self.emit(f"{acc} = tl.zeros(({m}, {n}), tl.float32)")
        self.emit(Block(head, (f"{acc} = tl.dot({operands[0]}, {operands[1]}, {acc})",)))
        self.define(f"{acc} * 0.01", "float32", (m, n), False)

    def store_and_load(self) -> None:
        v = self.some(lambda v: bool(v.shape) and v.dtype == "int32")
        if v is None:
            return
        base = f"t + tl.program_id(0) * {SIZE}"
        self.emit(f"tl.store({base} + {self.dense(v.shape)}, {v.name}, mask={self.mask(v.shape)})")
        shape = self.shape()
        self.define(f"tl.load({base} + {self.offset(shape)})", "int32", shape)

    def atomic(self) -> None:
        v = self.some(lambda v: bool(v.shape) and v.dtype == "int32")
        if v is not None:
            base = f"t + tl.program_id(0) * {SIZE}"
            kind = self.pick(("add", "max", "xor", "and"))
            # The interpreter needs masks and values that are not views of others.
            dense = self.dense(v.shape)
            mask = f"({dense} >= 0) & {self.mask(v.shape)}"
            self.emit(f"tl.atomic_{kind}({base} + {dense}, {v.name} + 0, mask={mask})")

    # -- control flow

    def inside(self, head: str, count: int, first: list[str], last: Callable[[], list[str]]) -> None:
        self.depth += 1
        self.scope.append([])
        self.out.append(list(first))
        for _ in range(count):
            self.statement()
        self.out[-1] += last()
        body = self.out.pop()
        self.scope.pop()
        self.depth -= 1
        self.emit(Block(head, tuple(body)))

    def updates(self) -> Callable[[], list[str]]:
        """What a body does to variables from outside: a new value of the same type and shape."""
        targets = [v for v in (self.some(lambda v: v.exact) for _ in range(2)) if v is not None]

        def last() -> list[str]:
            out = []
            for v in dict.fromkeys(targets):
                new = self.some(lambda o, v=v: o.shape == v.shape and o.dtype == v.dtype and o.exact and o is not v)
                if new is None:
                    continue
                text = f"({v.name} + {new.name}) * 0.5" if v.floating else f"{v.name} ^ {new.name}"
                out.append(f"{v.name} = {text if self.random.random() < 0.6 else new.name}")
            return out

        return last

    def loop(self) -> None:
        bound = self.pick(("n0", "3", "n1 % 4"))
        counter = self.name()
        head = f"for {counter} in range({self.pick(('0', '1'))}, {bound}):"
        self.inside(head, self.random.randint(1, 4), [], self.updates())

    def while_loop(self) -> None:
        counter = self.name()
        self.emit(f"{counter} = n0")
        self.inside(f"while {counter} > 0:", self.random.randint(1, 3), [f"{counter} -= 2"], self.updates())

    def branch(self) -> None:
        scalar = self.some(lambda v: v.shape == () and not v.floating)
        condition = f"{scalar.name} > {self.random.randint(-1, 4)}" if scalar else f"n0 > {self.random.randint(0, 4)}"
        self.inside(f"if {condition}:", self.random.randint(1, 3), [], self.updates())

    def program(self) -> Program:
        """The whole program: statements, and stores of what they made."""
        for _ in range(self.random.randint(4, 14)):
            self.statement()
        kept = self.visible(lambda v: bool(v.shape))
        for v in self.random.sample(kept, min(4, len(kept))):
            number = len(self.outputs)
            self.outputs.append(v.dtype)
            self.emit(f"tl.store(o{number} + tl.program_id(0) * {SIZE} + {self.dense(v.shape)}, {v.name})")
        programs = self.random.randint(1, 2)
        arguments = [
            *((f"x{i}", d, SIZE) for i, d in enumerate(self.inputs)),
            ("t", "int32", SIZE * programs),
            *((f"o{i}", d, SIZE * programs) for i, d in enumerate(self.outputs)),
        ]
        scalars = [("n0", self.random.randint(0, 6)), ("n1", self.random.randint(0, 40))]
        return Program(
            self.seed, self.random.choice(VLENS), programs, tuple(arguments), tuple(scalars), tuple(self.out[0])
        )


G = Generator
_NESTED = {G.loop, G.while_loop, G.branch}
_WEIGHTS = [
    (9, G.load), (3, G.load_block), (2, G.gather_load), (2, G.index), (2, G.scalar), (9, G.arithmetic), (2, G.divide),
    (4, G.compare), (2, G.limit), (3, G.function), (4, G.cast), (6, G.reduce), (3, G.scan), (8, G.move), (1, G.sort),
    (2, G.dot), (2, G.product_loop), (3, G.store_and_load), (2, G.atomic), (3, G.loop), (1, G.while_loop),
    (3, G.branch),
]  # fmt: skip


def generate(seed: int) -> Program:
    """The program of a seed."""
    return Generator(seed).program()
