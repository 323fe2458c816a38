"""Rows of a reduction side by side: which, how many, and what is left over."""

from __future__ import annotations

import pytest
from torch_rvv.lowering import jam
from torch_rvv.lowering.pipeline import lower
from torch_rvv.lowering.writer import Writer

from torch_rvv.knobs import CodegenOptions

pytestmark = pytest.mark.ir


def kernel(m: int, n: int, k: int = 256, bound: str = "", operation: str = "arith.mulf") -> str:
    """y[i, j] = sum over k of p[i, k] * q[j, k], i below the argument n where `bound` says so."""
    shape = f"{m}x{n}x{k}"
    i32, f32, pointers = (f"tensor<{shape}x{e}>" for e in ("i32", "f32", "!tt.ptr<f32>"))

    def axis(name: str, size: int, at: int) -> str:
        others = [a for a in range(3) if a != at]
        one = f"tensor<{size}xi32>"
        lines = [f"%{name}0 = tt.make_range {{end = {size} : i32, start = 0 : i32}} : {one}"]
        dims = [str(size)]
        for number, a in enumerate(others, 1):
            dims.insert(a, "1")
            two = f"tensor<{'x'.join(dims)}xi32>"
            lines.append(f"%{name}{number} = tt.expand_dims %{name}{number - 1} {{axis = {a} : i32}} : {one} -> {two}")
            one = two
        return "\n".join([*lines, f"%{name} = tt.broadcast %{name}2 : {one} -> {i32}"])

    def read(name: str, base: str, row: str) -> str:
        mask = f", %mask, %zero : {pointers}" if bound and base == "%p" else f" : {pointers}"
        return f"""
    %{name}s = arith.muli %{row}, %depth : {i32}
    %{name}o = arith.addi %{name}s, %k : {i32}
    %{name}b = tt.splat {base} : !tt.ptr<f32> -> {pointers}
    %{name}p = tt.addptr %{name}b, %{name}o : {pointers}, {i32}
    %{name} = tt.load %{name}p{mask}"""

    flat = f"{m}x{n}"
    return f"""module {{
    tt.func public @k(%p: !tt.ptr<f32>, %q: !tt.ptr<f32>, %t: !tt.ptr<f32>, %n: i32) {{
    {axis("i", m, 0)}
    {axis("j", n, 1)}
    {axis("k", k, 2)}
    %depth = arith.constant dense<{k}> : {i32}
    %zero = arith.constant dense<0.0> : {f32}
    %most = tt.splat %n : i32 -> {i32}
    %mask = arith.cmpi slt, %i, %most : {i32}
    {read("a", "%p", "i")}
    {read("b", "%q", "j")}
    %c = {operation} %a, %b : {f32}
    %d = arith.select %mask, %c, %zero : tensor<{shape}xi1>, {f32}
    %s = "tt.reduce"({"%d" if bound else "%c"}) <{{axis = 2 : i32}}> ({{
    ^bb0(%x: f32, %y: f32):
      %z = arith.addf %x, %y : f32
      tt.reduce.return %z : f32
    }}) : ({f32}) -> tensor<{flat}xf32>
    %r0 = tt.make_range {{end = {m} : i32, start = 0 : i32}} : tensor<{m}xi32>
    %r1 = tt.expand_dims %r0 {{axis = 1 : i32}} : tensor<{m}xi32> -> tensor<{m}x1xi32>
    %r2 = tt.broadcast %r1 : tensor<{m}x1xi32> -> tensor<{flat}xi32>
    %w = arith.constant dense<{n}> : tensor<{flat}xi32>
    %r = arith.muli %r2, %w : tensor<{flat}xi32>
    %l0 = tt.make_range {{end = {n} : i32, start = 0 : i32}} : tensor<{n}xi32>
    %l1 = tt.expand_dims %l0 {{axis = 0 : i32}} : tensor<{n}xi32> -> tensor<1x{n}xi32>
    %l = tt.broadcast %l1 : tensor<1x{n}xi32> -> tensor<{flat}xi32>
    %o = arith.addi %r, %l : tensor<{flat}xi32>
    %ts = tt.splat %t : !tt.ptr<f32> -> tensor<{flat}x!tt.ptr<f32>>
    %tp = tt.addptr %ts, %o : tensor<{flat}x!tt.ptr<f32>>, tensor<{flat}xi32>
    tt.store %tp, %s : tensor<{flat}x!tt.ptr<f32>>
    tt.return
    }}
    }}"""


def vector(text: str) -> tuple[str, dict]:
    asm, metadata = lower(text, CodegenOptions())
    return asm["vector"].partition("func.func @k(")[0], metadata


def test_four_rows_by_two_share_what_they_load():
    text, metadata = vector(kernel(4, 64))
    nest = next(n for n in metadata["nests"] if n["lmul"] == 2)
    assert nest["live"] <= 15
    loop = text[text.index("scf.while") :]
    assert loop[: loop.index("vector.reduction")].count("math.fma") == 2 * 8, "in whole strips, and in the short one"


def test_one_row_is_reduced_with_four_of_the_matrix():
    text, metadata = vector(kernel(1, 64))
    assert any(n["lmul"] == 4 for n in metadata["nests"])
    loop = text[text.index("scf.while") :]
    assert loop[: loop.index("vector.reduction")].count("math.fma") == 2 * 4


def test_rows_whose_number_is_known_when_it_runs_have_loops_for_what_is_left():
    whole, _ = vector(kernel(4, 64))
    bounded, _ = vector(kernel(4, 64, bound="n"))
    assert "arith.remui" not in whole and "arith.remui" in bounded
    assert bounded.count("scf.while") > whole.count("scf.while")


def test_a_body_that_is_costly_is_not_written_many_times():
    for operation, copies in (("arith.mulf", 8), ("math.powf", 4)):
        text, _ = vector(kernel(4, 64, operation=operation))
        loop = text[text.index("scf.while") :]
        assert loop[: loop.index("vector.reduction")].count("llvm.vp.load") == 2 * copies


def test_counts_are_divisors_or_powers_of_two():
    assert [jam._count(size, 4) for size in (1, 2, 3, 4, 6, 8, 9, 57, 64, 10)] == [1, 2, 3, 4, 3, 4, 3, 3, 4, 4]
    assert [jam._count(None, most) for most in (1, 2, 3, 4)] == [1, 2, 2, 4]


def test_regions_cover_a_nest_once():
    class Sizes:
        sizes = (7, "%size", 64)

    w = Writer()
    regions = jam.regions(w, Sizes(), {0: 4, 1: 2})
    assert [r.counts for r in regions] == [{0: 4, 1: 2}, {0: 4}, {1: 2}, {}]
    assert [set(r.begins) for r in regions] == [set(), {1}, {0}, {0, 1}]
    assert [set(r.ends) for r in regions] == [{0, 1}, {0}, {1}, set()]
    assert "arith.remui %size" in "\n".join(w.lines)
    assert [list(r.places()) for r in regions][3] == [{}] and regions[0].rows == 8 == len(list(regions[0].places()))
    (whole,) = jam.regions(Writer(), Sizes(), {2: 4})
    assert whole == jam.Region({2: 4})
