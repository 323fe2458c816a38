"""Text-to-text behaviour of what hand-written kernels use: blocks, products, branches between blocks, addresses."""

from __future__ import annotations

import re

import pytest
from test_lowering import BLOCK, kinds, linalg
from torch_rvv.lowering.collapse import collapse
from torch_rvv.lowering.linear import Atom, Dim, Linear, Poly

from torch_rvv.errors import Declined

pytestmark = pytest.mark.ir

MATRIX = "%p: !tt.ptr<f32>, %q: !tt.ptr<f32>, %m: i64, %n: i64, %s: i64, %i: i32"
BLOCK_POINTER = """
    %c0 = arith.constant 0 : i32
    %c1 = arith.constant 1 : i64
    %pid = tt.get_program_id x : i32
    %a = tt.make_tensor_ptr %p, [%m, %n], [%s, %c1], [%pid, %c0] {order = array<i32: 1, 0>} : <tensor<8x32xf32>>
    %b = tt.make_tensor_ptr %q, [%m, %n], [%s, %c1], [%pid, %c0] {order = array<i32: 1, 0>} : <tensor<8x32xf32>>
"""


def test_a_block_pointer_is_a_block_of_unit_stride_rows_with_loop_bounds():
    text, metadata = linalg(
        BLOCK_POINTER
        + """
    %x = tt.load %a {boundaryCheck = array<i32: 0, 1>, padding = 1 : i32} : !tt.ptr<tensor<8x32xf32>>
    tt.store %b, %x {boundaryCheck = array<i32: 0, 1>} : !tt.ptr<tensor<8x32xf32>>""",
        MATRIX,
    )
    assert kinds(metadata) == [("load", "unit"), ("store", "unit")]
    assert "scf.if" not in text and text.count("linalg.generic") == 1


def test_an_offset_that_may_be_negative_is_compared_for_each_element():
    moved = """
    %d = tt.advance %a, [%c0, %i] : <tensor<8x32xf32>>
    %x = tt.load %d {boundaryCheck = array<i32: 1>, padding = 2 : i32} : !tt.ptr<tensor<8x32xf32>>
    tt.store %b, %x : !tt.ptr<tensor<8x32xf32>>"""
    text, _ = linalg(BLOCK_POINTER + moved, MATRIX)
    assert "scf.if" in text and "0x7FC00000" in text


def test_a_block_pointer_that_a_loop_advances_is_not_carried():
    text, metadata = linalg(
        BLOCK_POINTER
        + """
    %c4 = arith.constant 4 : i32
    %z = arith.constant dense<0.0> : tensor<8x32xf32>
    %r:2 = scf.for %k = %c0 to %i step %c4 iter_args(%w = %a, %sum = %z)
        -> (!tt.ptr<tensor<8x32xf32>>, tensor<8x32xf32>) : i32 {
      %x = tt.load %w : !tt.ptr<tensor<8x32xf32>>
      %t = arith.addf %sum, %x : tensor<8x32xf32>
      %v = tt.advance %w, [%c0, %c4] : <tensor<8x32xf32>>
      scf.yield %v, %t : !tt.ptr<tensor<8x32xf32>>, tensor<8x32xf32>
    }
    tt.store %b, %r#1 : !tt.ptr<tensor<8x32xf32>>""",
        MATRIX,
    )
    assert "iter_args" not in text and ("load", "unit") in kinds(metadata)


def test_a_descriptor_argument_is_its_base_padding_sizes_and_strides():
    _, metadata = linalg(
        """
    %c0 = arith.constant 0 : i32
    %x = tt.descriptor_load %d[%c0, %c0] : !tt.tensordesc<tensor<8x32xf32>> -> tensor<8x32xf32>
    tt.descriptor_store %d[%c0, %c0], %x : !tt.tensordesc<tensor<8x32xf32>>, tensor<8x32xf32>""",
        "%d: !tt.tensordesc<tensor<8x32xf32>>, %m: i32, %n: i32, %s: i64, %t: i64",
    )
    assert metadata["signature"] == ["*fp32", "i1", "i32", "i32", "i64", "i64"]
    assert kinds(metadata) == [("load", "unit"), ("store", "unit")]


PRODUCT = """
    %c16 = arith.constant dense<16> : tensor<16x1xi32>
    %l = tt.make_range {end = 16 : i32, start = 0 : i32} : tensor<16xi32>
    %down = tt.expand_dims %l {axis = 1 : i32} : tensor<16xi32> -> tensor<16x1xi32>
    %rows = arith.muli %down, %c16 : tensor<16x1xi32>
    %over = tt.expand_dims %l {axis = 0 : i32} : tensor<16xi32> -> tensor<1x16xi32>
    %rb = tt.broadcast %rows : tensor<16x1xi32> -> tensor<16x16xi32>
    %ob = tt.broadcast %over : tensor<1x16xi32> -> tensor<16x16xi32>
    %at = arith.addi %rb, %ob : tensor<16x16xi32>
    %ps = tt.splat %p : !tt.ptr<ELEM> -> tensor<16x16x!tt.ptr<ELEM>>
    %pp = tt.addptr %ps, %at : tensor<16x16x!tt.ptr<ELEM>>, tensor<16x16xi32>
    %x = tt.load %pp : tensor<16x16x!tt.ptr<ELEM>>
    %z = arith.constant dense<0.0> : tensor<16x16xf32>
    %d = tt.dot %x, %x, %z, inputPrecision = tf32 : tensor<16x16xELEM> * tensor<16x16xELEM> -> tensor<16x16xf32>
    %qs = tt.splat %q : !tt.ptr<f32> -> tensor<16x16x!tt.ptr<f32>>
    %qp = tt.addptr %qs, %at : tensor<16x16x!tt.ptr<f32>>, tensor<16x16xi32>
    tt.store %qp, %d : tensor<16x16x!tt.ptr<f32>>"""


def test_a_product_of_plain_loads_reads_them_where_they_stand():
    text, _ = linalg(PRODUCT.replace("ELEM", "f32"), "%p: !tt.ptr<f32>, %q: !tt.ptr<f32>")
    assert text.count("math.fma") == 1 and text.count("memref.alloca") == 1


def test_bfloat16_operands_are_widened_before_the_product():
    text, _ = linalg(PRODUCT.replace("ELEM", "bf16"), "%p: !tt.ptr<bf16>, %q: !tt.ptr<f32>")
    body = text[text.index("math.fma") - 400 : text.index("math.fma")]
    assert "extf" not in body.split("^bb0")[-1] and text.count("arith.extf") == 2


def test_float16_operands_are_read_where_they_stand():
    text, _ = linalg(PRODUCT.replace("ELEM", "f16"), "%p: !tt.ptr<f16>, %q: !tt.ptr<f32>")
    assert text.count("memref.alloca") == 1
    assert text[: text.index("math.fma")].rpartition("^bb0")[2].count("arith.extf") == 2


def test_an_early_return_is_a_branch_around_the_rest():
    text, _ = linalg(
        BLOCK
        + """
    %c3 = arith.constant 3 : i32
    %c = arith.cmpi sgt, %n, %c3 : i32
    cf.cond_br %c, ^bb1, ^bb2
  ^bb1:
    tt.return
  ^bb2:
    %x = tt.load %pp, %m : tensor<256x!tt.ptr<f32>>
    tt.store %qp, %x, %m : tensor<256x!tt.ptr<f32>>"""
    )
    assert re.search(r"scf\.if .*\{[^}]*\} else \{(?s:.*)linalg\.generic", text)


def test_a_call_is_its_function():
    text = """
    %two = tt.call @twice__f32(%f) : (f32) -> f32
    tt.store %p, %two : !tt.ptr<f32>
    tt.return
  }
  tt.func private @twice__f32(%a: f32) -> f32 {
    %b = arith.addf %a, %a : f32
    tt.return %b : f32
  }
  tt.func private @unused() {"""
    result, _ = linalg(text, "%p: !tt.ptr<f32>, %f: f32")
    assert "call" not in result.replace("torch_rvv.check", "") and "arith.addf" in result


def test_pointers_chosen_from_two_tensors_are_addresses():
    text, metadata = linalg(
        BLOCK
        + """
    %c = arith.cmpi sgt, %i, %ns : tensor<256xi32>
    %w = arith.select %c, %pp, %qp : tensor<256xi1>, tensor<256x!tt.ptr<f32>>
    %x = tt.load %w : tensor<256x!tt.ptr<f32>>
    tt.store %qp, %x : tensor<256x!tt.ptr<f32>>"""
    )
    assert "memref<?xf32, 1>" in text and ("load", "gather") in kinds(metadata)
    assert metadata["addresses"] is False


def test_integers_that_become_pointers_are_told_to_the_launcher():
    _, metadata = linalg(
        """
    %w = tt.int_to_ptr %a : i64 -> !tt.ptr<f32>
    %x = tt.load %w : !tt.ptr<f32>
    tt.store %p, %x : !tt.ptr<f32>""",
        "%p: !tt.ptr<f32>, %a: i64",
    )
    assert metadata["addresses"] is True


def test_a_print_hands_over_bytes_and_its_row_says_what_they_are():
    text, metadata = linalg(
        BLOCK
        + """
    tt.print " i: " {hex = false, isSigned = array<i32: 1, 0>} : %i, %n : tensor<256xi32>, i32"""
    )
    assert text.count("func.call @torch_rvv.print") == 2
    assert [(r["dtype"], r["shape"], r["signed"]) for r in metadata["prints"]] == [
        ("i32", [256], True),
        ("i32", [], False),
    ]
    assert metadata["prints"][0]["prefix"] == "i"


def test_a_combine_function_with_a_branch_is_a_select():
    text, _ = linalg(
        BLOCK
        + """
    %x = tt.load %pp : tensor<256x!tt.ptr<f32>>
    %s = "tt.reduce"(%x) <{axis = 0 : i32}> ({
    ^bb0(%a: f32, %b: f32):
      %c = arith.cmpf olt, %a, %b : f32
      %d = scf.if %c -> (f32) {
        %e = arith.mulf %a, %b : f32
        scf.yield %e : f32
      } else {
        scf.yield %a : f32
      }
      tt.reduce.return %d : f32
    }) : (tensor<256xf32>) -> f32
    tt.store %q, %s : !tt.ptr<f32>"""
    )
    assert "func.func private @combine0" in text and "arith.select" in text


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (
            '%y = tt.elementwise_inline_asm "vmv.v.v $0, $1" {constraints = "=vr,vr", packed_element = 1 : i32, '
            "pure = true} %i : tensor<256xi32> -> tensor<256xi32>",
            "vector registers",
        ),
        (
            "%x = tt.fp_to_fp %f, rounding = rtne : tensor<256xf32> -> tensor<256xf8E4M3FNUZ>",
            "a cast of f8E4M3FNUZ",
        ),
    ],
)
def test_what_has_no_form_is_declined(body, why):
    with pytest.raises(Declined, match=why):
        linalg(BLOCK + "%f = arith.sitofp %i : tensor<256xi32> to tensor<256xf32>\n" + body)


def test_dimensions_that_all_accesses_walk_through_as_one_are_joined():
    a, b, c = Dim(16), Dim(8), Dim(4)
    n = Poly.of(Atom("%n"))
    dense = Linear(Poly(0), {a: Poly(32), b: Poly(4), c: Poly(1)})
    found = collapse([a, b, c], [dense], {a: [n]}, (), ())
    (dim,) = found.dims
    assert dim.size == 512 and found.high[dim] == [n * Poly(8) * Poly(4)] and found.forms[0].coefs == {dim: Poly(1)}


def test_dimensions_are_kept_apart_by_gaps_bounds_reductions_and_indices():
    a, b = Dim(16), Dim(8)
    gap = Linear(Poly(0), {a: Poly(9), b: Poly(1)})
    dense = Linear(Poly(0), {a: Poly(8), b: Poly(1)})
    assert collapse([a, b], [gap], {}, (), ()).dims == [a, b]
    assert collapse([a, b], [dense], {b: [Poly(5)]}, (), ()).dims == [a, b]
    assert collapse([a, b], [dense], {}, {b}, ()).dims == [a, b]
    assert collapse([a, b], [dense], {}, (), {a}).dims == [a, b]


def test_reductions_along_different_axes_are_different_nests():
    text, _ = linalg(
        """
    %l = tt.make_range {end = 64 : i32, start = 0 : i32} : tensor<64xi32>
    %x = tt.reshape %l : tensor<64xi32> -> tensor<8x8xi32>
    %a = "tt.reduce"(%x) <{axis = 0 : i32}> ({
    ^bb0(%c: i32, %d: i32):
      %e = arith.addi %c, %d : i32
      tt.reduce.return %e : i32
    }) : (tensor<8x8xi32>) -> tensor<8xi32>
    %b = "tt.reduce"(%x) <{axis = 1 : i32}> ({
    ^bb0(%c: i32, %d: i32):
      %e = arith.addi %c, %d : i32
      tt.reduce.return %e : i32
    }) : (tensor<8x8xi32>) -> tensor<8xi32>
    %s = arith.addi %a, %b : tensor<8xi32>
    %m = tt.make_range {end = 8 : i32, start = 0 : i32} : tensor<8xi32>
    %ps = tt.splat %p : !tt.ptr<i32> -> tensor<8x!tt.ptr<i32>>
    %pp = tt.addptr %ps, %m : tensor<8x!tt.ptr<i32>>, tensor<8xi32>
    tt.store %pp, %s : tensor<8x!tt.ptr<i32>>""",
        "%p: !tt.ptr<i32>",
    )
    assert text.count('iterator_types = ["reduction", "parallel"]') == 1
    assert text.count('iterator_types = ["parallel", "reduction"]') == 1
