"""What a loop body reads, and how often: patches, numbers by the dozen, pairs of half floats. IR text only."""

from __future__ import annotations

import pytest
from test_lowering import BLOCK, kinds, linalg
from torch_rvv.lowering.pipeline import lower

from torch_rvv.knobs import CodegenOptions

pytestmark = pytest.mark.ir


def patches(columns: int, rows: str):
    """The linalg of rows k of a block, those below `rows`: a filter's taps, 3 x 3 in images 30 wide and 900 apart."""
    shape = f"64x{columns}x"
    text, metadata = linalg(f"""
    %k = tt.make_range {{end = 64 : i32, start = 0 : i32}} : tensor<64xi32>
    %kc = tt.expand_dims %k {{axis = 1 : i32}} : tensor<64xi32> -> tensor<64x1xi32>
    %c3 = arith.constant dense<3> : tensor<64x1xi32>
    %c9 = arith.constant dense<9> : tensor<64x1xi32>
    %c30 = arith.constant dense<30> : tensor<64x1xi32>
    %c900 = arith.constant dense<900> : tensor<64x1xi32>
    {rows}
    %m = arith.cmpi slt, %kc, %end : tensor<64x1xi32>
    %mask = tt.broadcast %m : tensor<64x1xi1> -> tensor<{shape}i1>
    %image = arith.divsi %kc, %c9 : tensor<64x1xi32>
    %thirds = arith.divsi %kc, %c3 : tensor<64x1xi32>
    %row = arith.remsi %thirds, %c3 : tensor<64x1xi32>
    %column = arith.remsi %kc, %c3 : tensor<64x1xi32>
    %a = arith.muli %image, %c900 : tensor<64x1xi32>
    %b = arith.muli %row, %c30 : tensor<64x1xi32>
    %ab = arith.addi %a, %b : tensor<64x1xi32>
    %abc = arith.addi %ab, %column : tensor<64x1xi32>
    %n1 = tt.make_range {{end = {columns} : i32, start = 0 : i32}} : tensor<{columns}xi32>
    %nr = tt.expand_dims %n1 {{axis = 0 : i32}} : tensor<{columns}xi32> -> tensor<1x{columns}xi32>
    %nb = tt.broadcast %nr : tensor<1x{columns}xi32> -> tensor<{shape}i32>
    %from = tt.broadcast %abc : tensor<64x1xi32> -> tensor<{shape}i32>
    %at = arith.addi %from, %nb : tensor<{shape}i32>
    %c128 = arith.constant dense<128> : tensor<64x1xi32>
    %k128 = arith.muli %kc, %c128 : tensor<64x1xi32>
    %kb = tt.broadcast %k128 : tensor<64x1xi32> -> tensor<{shape}i32>
    %to = arith.addi %kb, %nb : tensor<{shape}i32>
    %ps = tt.splat %p : !tt.ptr<f32> -> tensor<{shape}!tt.ptr<f32>>
    %qs = tt.splat %q : !tt.ptr<f32> -> tensor<{shape}!tt.ptr<f32>>
    %pp = tt.addptr %ps, %at : tensor<{shape}!tt.ptr<f32>>, tensor<{shape}i32>
    %qp = tt.addptr %qs, %to : tensor<{shape}!tt.ptr<f32>>, tensor<{shape}i32>
    %x = tt.load %pp, %mask : tensor<{shape}!tt.ptr<f32>>
    tt.store %qp, %x, %mask : tensor<{shape}!tt.ptr<f32>>""")
    assert kinds(metadata) == [("load", "unit"), ("store", "unit")]
    return text


def test_rows_that_are_whole_quotients_of_quotients_become_loops_in_each_other():
    known = patches(32, "%end = arith.constant dense<27> : tensor<64x1xi32>")
    assert "remsi" not in known and "divsi" not in known and "scf.for" not in known
    assert ", ".join(['"parallel"'] * 4) in known
    for others in (
        patches(32, "%end = tt.splat %n : i32 -> tensor<64x1xi32>"),
        patches(32, "%end = arith.constant dense<28> : tensor<64x1xi32>"),
        patches(8, "%end = arith.constant dense<27> : tensor<64x1xi32>"),
    ):
        assert "remsi" in others, "no whole quotients, or no other lanes"


def weighted(count: int, noalias: bool = True, to: str = "%q"):
    """(linalg, vector level) of a sum of so many numbers, each times a vector."""
    numbers = "\n".join(
        f"""
    %c{i}_at = arith.constant {i} : i32
    %p{i} = tt.addptr %r_, %c{i}_at : !tt.ptr<f32>, i32
    %w{i} = tt.load %p{i} : !tt.ptr<f32>
    %s{i} = tt.splat %w{i} : f32 -> tensor<256xf32>
    %x{i} = tt.load %pp, %m : tensor<256x!tt.ptr<f32>>
    %y{i} = math.fma %x{i}, %s{i}, {f"%y{i - 1}" if i else "%x0"} : tensor<256xf32>"""
        for i in range(count)
    )
    body = (BLOCK + numbers + f"\n    tt.store %qp, %y{count - 1}, %m : tensor<256x!tt.ptr<f32>>").replace(
        "%q :", f"{to} :"
    )
    arguments = "%p: !tt.ptr<f32>, %q: !tt.ptr<f32>, %r_: !tt.ptr<f32>, %n: i32"
    text = f"module {{\n tt.func public @k({arguments}) {{\n{body}\n tt.return\n }}\n}}"
    stages, _ = lower(text, CodegenOptions(noalias=noalias))
    return stages["linalg"], stages["vector"]


def test_more_numbers_than_registers_are_read_where_they_are_used_if_nothing_writes_them():
    many, in_loop = weighted(40)
    assert many.count("torch_rvv.unchanged") == 40 and in_loop.count("llvm.load volatile") >= 40
    few, outside = weighted(12)
    assert few.count("torch_rvv.unchanged") == 12 and "volatile" not in outside
    for text, vectors in (weighted(40, noalias=False), weighted(40, to="%r_")):
        assert "unchanged" not in text and "volatile" not in vectors


def dots(kind: str, rows: int = 4):
    """The assembly of sums of products of such numbers, widened to f32: a row each of a matrix and one vector."""
    shape = f"{rows}x256x"
    body = f"""
    %k = tt.make_range {{end = 256 : i32, start = 0 : i32}} : tensor<256xi32>
    %kr = tt.expand_dims %k {{axis = 0 : i32}} : tensor<256xi32> -> tensor<1x256xi32>
    %kb = tt.broadcast %kr : tensor<1x256xi32> -> tensor<{shape}i32>
    %i = tt.make_range {{end = {rows} : i32, start = 0 : i32}} : tensor<{rows}xi32>
    %ic = tt.expand_dims %i {{axis = 1 : i32}} : tensor<{rows}xi32> -> tensor<{rows}x1xi32>
    %c256 = arith.constant dense<256> : tensor<{rows}x1xi32>
    %i256 = arith.muli %ic, %c256 : tensor<{rows}x1xi32>
    %ib = tt.broadcast %i256 : tensor<{rows}x1xi32> -> tensor<{shape}i32>
    %at = arith.addi %ib, %kb : tensor<{shape}i32>
    %ps = tt.splat %p : !tt.ptr<{kind}> -> tensor<{shape}!tt.ptr<{kind}>>
    %xs = tt.splat %x : !tt.ptr<{kind}> -> tensor<{shape}!tt.ptr<{kind}>>
    %pp = tt.addptr %ps, %at : tensor<{shape}!tt.ptr<{kind}>>, tensor<{shape}i32>
    %xp = tt.addptr %xs, %kb : tensor<{shape}!tt.ptr<{kind}>>, tensor<{shape}i32>
    %a = tt.load %pp : tensor<{shape}!tt.ptr<{kind}>>
    %b = tt.load %xp : tensor<{shape}!tt.ptr<{kind}>>
    %aw = arith.extf %a : tensor<{shape}{kind}> to tensor<{shape}f32>
    %bw = arith.extf %b : tensor<{shape}{kind}> to tensor<{shape}f32>
    %ab = arith.mulf %aw, %bw : tensor<{shape}f32>
    %s = "tt.reduce"(%ab) <{{axis = 1 : i32}}> ({{
    ^bb0(%l: f32, %r: f32):
      %t = arith.addf %l, %r : f32
      tt.reduce.return %t : f32
    }}) : (tensor<{shape}f32>) -> tensor<{rows}xf32>
    %qs = tt.splat %q : !tt.ptr<f32> -> tensor<{rows}x!tt.ptr<f32>>
    %qp = tt.addptr %qs, %i : tensor<{rows}x!tt.ptr<f32>>, tensor<{rows}xi32>
    tt.store %qp, %s : tensor<{rows}x!tt.ptr<f32>>"""
    arguments = f"%p: !tt.ptr<{kind}>, %x: !tt.ptr<{kind}>, %q: !tt.ptr<f32>"
    stages, _ = lower(f"module {{\n tt.func public @k({arguments}) {{\n{body}\n tt.return\n }}\n}}", CodegenOptions())
    return stages["vector"]


def test_sums_of_products_of_half_floats_are_widened_by_the_instruction_that_adds_them():
    assert dots("f16").count("vfwmacc") >= 4


def test_sums_of_products_of_bf16_take_two_elements_of_a_word_at_a_time():
    text = dots("bf16")
    assert "vfwmacc" not in text and text.count("vector.scalable.insert") == 8
    rows = [part.count("llvm.load") for part in text.split("call @torch_rvv.here()")]
    assert rows[:4] == [2] * 4 and len(rows) == 5, "a row is read with what is done of the one before"
    assert "scalable.insert" not in dots("bf16", rows=1).split("scf.while")[0], "the short strip is widened"
