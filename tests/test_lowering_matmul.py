"""Contractions as register-tiled kernels, text to text."""

from __future__ import annotations

import re

import pytest
import triton
import triton.language as tl
from test_lowering_language import PRODUCT
from torch_rvv.lowering import llvm
from torch_rvv.lowering.convert_dot import stays
from torch_rvv.lowering.pipeline import lower
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from torch_rvv.knobs import CodegenOptions
from torch_rvv.target import TARGETS

pytestmark = pytest.mark.ir


def vector(body: str, arguments: str = "%p: !tt.ptr<f32>, %q: !tt.ptr<f32>", target: str = "k1"):
    """(assembly, metadata) of a kernel whose body is given."""
    options = CodegenOptions(target=TARGETS[target])
    stages, metadata = lower(f"module {{\n tt.func public @k({arguments}) {{\n{body}\n tt.return\n }}\n}}", options)
    return llvm.to_assembly(stages["llvm"], options.target), metadata


def test_rows_share_a_vector_of_the_right_operand_and_accumulate_in_registers():
    asm, metadata = vector(PRODUCT.replace("ELEM", "f32"))
    (kernel,) = [n for n in metadata["nests"] if "rows" in n]
    # 16 columns of f32 are two registers at VLEN 256.
    assert kernel["lmul"] == 2 and kernel["rows"] == 8
    inner = asm.split("vfmacc.vf", 1)[1]
    assert inner.count("vfmacc.vf") >= 15 and "vfmul" not in asm


def test_a_right_operand_that_is_not_contiguous_is_copied_first():
    transposed = PRODUCT.replace("tt.dot %x, %x", "tt.dot %x, %xt").replace(
        "    %z = arith.constant",
        "    %xt = tt.trans %x {order = array<i32: 1, 0>} : tensor<16x16xELEM> -> tensor<16x16xELEM>\n"
        "    %z = arith.constant",
    )
    asm, metadata = vector(transposed.replace("ELEM", "f32"))
    assert any("rows" in n for n in metadata["nests"]) and "vlse32.v" in asm


@pytest.mark.parametrize(
    ("apart", "depth", "nbytes", "expected"),
    [
        (3136, 64, 4, True),  # Rows of an image of 56 x 56, as convolutions of 1 x 1 have them.
        (-3136, 64, 4, True),
        (3136, 512, 4, False),
        (512, 128, 4, False),  # Four lines that start a row, of 64.
        (512, 8, 4, True),
        (130, 160, 4, False),  # The cache would hold nothing else.
        (130, 128, 4, True),
        (1, 500, 8, True),
    ],
)
def test_rows_that_stay_in_the_cache(apart, depth, nbytes, expected):
    assert stays(apart, depth, nbytes) is expected


def test_another_body_is_an_ordinary_nest():
    _, metadata = vector(
        """
    %l = tt.make_range {end = 16 : i32, start = 0 : i32} : tensor<16xi32>
    %ps = tt.splat %p : !tt.ptr<f32> -> tensor<16x!tt.ptr<f32>>
    %pp = tt.addptr %ps, %l : tensor<16x!tt.ptr<f32>>, tensor<16xi32>
    %x = tt.load %pp : tensor<16x!tt.ptr<f32>>
    %y = arith.mulf %x, %x : tensor<16xf32>
    tt.store %pp, %y : tensor<16x!tt.ptr<f32>>"""
    )
    assert metadata["nests"] and not any("rows" in n for n in metadata["nests"])


ROW = """
    %l = tt.make_range {end = 512 : i32, start = 0 : i32} : tensor<512xi32>
    %r = tt.make_range {end = DEPTH : i32, start = 0 : i32} : tensor<DEPTHxi32>
    %re = tt.expand_dims %r {axis = 1 : i32} : tensor<DEPTHxi32> -> tensor<DEPTHx1xi32>
    %le = tt.expand_dims %l {axis = 0 : i32} : tensor<512xi32> -> tensor<1x512xi32>
    %w = arith.constant dense<512> : tensor<DEPTHx1xi32>
    %o = arith.muli %re, %w : tensor<DEPTHx1xi32>
    %ob = tt.broadcast %o : tensor<DEPTHx1xi32> -> tensor<DEPTHx512xi32>
    %lb = tt.broadcast %le : tensor<1x512xi32> -> tensor<DEPTHx512xi32>
    %ol = arith.addi %ob, %lb : tensor<DEPTHx512xi32>
    %ps = tt.splat %p : !tt.ptr<f32> -> tensor<DEPTHx512x!tt.ptr<f32>>
    %pp = tt.addptr %ps, %ol : tensor<DEPTHx512x!tt.ptr<f32>>, tensor<DEPTHx512xi32>
    %x = tt.load %pp : tensor<DEPTHx512x!tt.ptr<f32>>
    %qs = tt.splat %q : !tt.ptr<f32> -> tensor<DEPTHx1x!tt.ptr<f32>>
    %qp = tt.addptr %qs, %re : tensor<DEPTHx1x!tt.ptr<f32>>, tensor<DEPTHx1xi32>
    %y = tt.load %qp : tensor<DEPTHx1x!tt.ptr<f32>>
    %yb = tt.broadcast %y : tensor<DEPTHx1xf32> -> tensor<DEPTHx512xf32>
    %z = arith.mulf %x, %yb : tensor<DEPTHx512xf32>
    %s = "tt.reduce"(%z) <{axis = 0 : i32}> ({
    ^bb0(%a: f32, %b: f32):
      %c = arith.addf %a, %b : f32
      tt.reduce.return %c : f32
    }) : (tensor<DEPTHx512xf32>) -> tensor<512xf32>
    %ts = tt.splat %t : !tt.ptr<f32> -> tensor<512x!tt.ptr<f32>>
    %tp = tt.addptr %ts, %l : tensor<512x!tt.ptr<f32>>, tensor<512xi32>
    tt.store %tp, %s : tensor<512x!tt.ptr<f32>>
"""


def test_a_row_times_a_matrix_reads_sixteen_rows_in_one_pass_and_a_shallow_one_does_not():
    arguments = "%p: !tt.ptr<f32>, %q: !tt.ptr<f32>, %t: !tt.ptr<f32>"
    asm, metadata = vector(ROW.replace("DEPTH", "64"), arguments)
    assert any(n.get("rows") == 1 and n["lmul"] == 8 for n in metadata["nests"])
    assert asm.count("vfmadd.vf") + asm.count("vfmacc.vf") == 16
    asm, metadata = vector(ROW.replace("DEPTH", "4"), arguments)
    assert not any(n["lmul"] == 8 and "rows" in n for n in metadata["nests"])


def test_integers_accumulate_in_32_bits():
    body = PRODUCT.replace("dense<0.0> : tensor<16x16xf32>", "dense<0> : tensor<16x16xi32>")
    body = body.replace("-> tensor<16x16xf32>", "-> tensor<16x16xi32>").replace("!tt.ptr<f32>", "!tt.ptr<i32>")
    asm, metadata = vector(body.replace("ELEM", "i8"), "%p: !tt.ptr<i8>, %q: !tt.ptr<i32>")
    assert any("rows" in n for n in metadata["nests"]) and "vwmacc.vx" in asm


def test_float16_is_widened_by_the_multiplication_where_the_machine_can():
    body = PRODUCT.replace("ELEM", "f16")
    arguments = "%p: !tt.ptr<f16>, %q: !tt.ptr<f32>"
    asm, metadata = vector(body, arguments)
    assert any("rows" in n for n in metadata["nests"]) and "vfwmacc.vf" in asm and "vfwcvt" not in asm
    asm, metadata = vector(body, arguments, target="rv64gcv")
    assert any("rows" in n for n in metadata["nests"]) and "vfwmacc" not in asm and "vfmacc.vf" in asm


def test_a_depth_that_is_known_at_run_time_only():
    """for k = 0 to n: acc += p[:, k:k+16] @ p[k:k+16, :], columns and rows beyond n masked off."""
    body = PRODUCT.replace("ELEM", "f32")
    start, end = body.index("    %x = tt.load"), body.index("    %qs")
    loop = """
    %zero = arith.constant 0 : i32
    %step = arith.constant 16 : i32
    %none = arith.constant dense<0.0> : tensor<16x16xf32>
    %d = scf.for %k = %zero to %n step %step iter_args(%acc = %none) -> (tensor<16x16xf32>) : i32 {
      %left = arith.subi %n, %k : i32
      %ls = tt.splat %left : i32 -> tensor<1x16xi32>
      %mc = arith.cmpi slt, %over, %ls : tensor<1x16xi32>
      %mcb = tt.broadcast %mc : tensor<1x16xi1> -> tensor<16x16xi1>
      %lr = tt.splat %left : i32 -> tensor<16x1xi32>
      %mr = arith.cmpi slt, %down, %lr : tensor<16x1xi32>
      %mrb = tt.broadcast %mr : tensor<16x1xi1> -> tensor<16x16xi1>
      %x = tt.load %pp, %mcb, %none : tensor<16x16x!tt.ptr<f32>>
      %y = tt.load %pp, %mrb, %none : tensor<16x16x!tt.ptr<f32>>
      %next = tt.dot %x, %y, %acc, inputPrecision = tf32 : tensor<16x16xf32> * tensor<16x16xf32> -> tensor<16x16xf32>
      scf.yield %next : tensor<16x16xf32>
    }
"""
    asm, metadata = vector(body[:start] + loop + body[end:], "%p: !tt.ptr<f32>, %q: !tt.ptr<f32>, %n: i32")
    assert any("rows" in n for n in metadata["nests"]) and "vfmul" not in asm


def test_a_right_operand_that_a_copy_would_lie_just_like_is_read_where_it_stands():
    for columns, copied in ((64, False), (128, True)):
        # 64 columns of a matrix of so many.
        body = TILE.replace("COLUMNS", str(columns))
        (product,) = vector(body, "%p: !tt.ptr<f32>, %q: !tt.ptr<f32>, %t: !tt.ptr<f32>")[1]["nests"]
        assert product["copies"] == copied


TILE = """
    %k = tt.make_range {end = 64 : i32, start = 0 : i32} : tensor<64xi32>
    %ke = tt.expand_dims %k {axis = 1 : i32} : tensor<64xi32> -> tensor<64x1xi32>
    %kf = tt.expand_dims %k {axis = 0 : i32} : tensor<64xi32> -> tensor<1x64xi32>
    %kb = tt.broadcast %kf : tensor<1x64xi32> -> tensor<64x64xi32>
    %w = arith.constant dense<COLUMNS> : tensor<64x1xi32>
    %o = arith.muli %ke, %w : tensor<64x1xi32>
    %ob = tt.broadcast %o : tensor<64x1xi32> -> tensor<64x64xi32>
    %at = arith.addi %ob, %kb : tensor<64x64xi32>
    %ps = tt.splat %p : !tt.ptr<f32> -> tensor<64x64x!tt.ptr<f32>>
    %pp = tt.addptr %ps, %at : tensor<64x64x!tt.ptr<f32>>, tensor<64x64xi32>
    %x = tt.load %pp : tensor<64x64x!tt.ptr<f32>>
    %qs = tt.splat %q : !tt.ptr<f32> -> tensor<64x64x!tt.ptr<f32>>
    %qp = tt.addptr %qs, %at : tensor<64x64x!tt.ptr<f32>>, tensor<64x64xi32>
    %y = tt.load %qp : tensor<64x64x!tt.ptr<f32>>
    %z = arith.constant dense<0.0> : tensor<64x64xf32>
    %d = tt.dot %x, %y, %z : tensor<64x64xf32> * tensor<64x64xf32> -> tensor<64x64xf32>
    %ts = tt.splat %t : !tt.ptr<f32> -> tensor<64x64x!tt.ptr<f32>>
    %tp = tt.addptr %ts, %at : tensor<64x64x!tt.ptr<f32>>, tensor<64x64xi32>
    tt.store %tp, %d : tensor<64x64x!tt.ptr<f32>>"""


@triton.jit
def rows_of(a, b, c, M: tl.constexpr, B: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    m, n, k = tl.program_id(0) * B + tl.arange(0, B), tl.arange(0, N), tl.arange(0, 512)
    x = tl.load(a + m[:, None] * K + k[None, :], mask=(m[:, None] < M) & (k[None, :] < K), other=0)
    y = tl.load(b + k[:, None] * N + n[None, :], mask=k[:, None] < K, other=0)
    tl.store(c + m[:, None] * N + n[None, :], tl.dot(x, y), mask=m[:, None] < M)


def loops(rows: int, depth: int = 32) -> int:
    """How many loops along the depth there are, of so many rows and sixteen columns: tiles of eight rows at LMUL 2."""
    signature = {"a": "*fp32", "b": "*fp32", "c": "*fp32"}
    constants = {"M": rows, "B": 256, "N": 16, "K": depth}
    source = ASTSource(rows_of, {**signature, **dict.fromkeys(constants, "constexpr")}, constants)
    text = triton.compile(source, target=GPUTarget("cpu", "k1", 1)).asm["vector"]
    return len(re.findall(r"scf.for .*vector<", text))


def test_rows_that_leave_nothing_have_no_loops_for_what_is_left():
    assert (loops(160), loops(161), loops(162)) == (1, 3, 2)


def test_steps_that_are_left_of_a_long_loop_are_a_loop():
    assert (loops(160, depth=257), loops(160, depth=264), loops(160, depth=128)) == (1, 2, 1)
