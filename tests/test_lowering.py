"""The lowering's text-to-text behaviour: no torch, no device."""

from __future__ import annotations

import pytest
from torch_rvv.lowering import contracts, llvm
from torch_rvv.lowering.linear import Atom, Dim, Linear, Poly
from torch_rvv.lowering.lmul import pressure
from torch_rvv.lowering.pipeline import lower
from torch_rvv.lowering.ttir import to_generic
from torch_rvv.lowering.ttir_to_linalg import ttir_to_linalg

from torch_rvv.errors import Declined, LoweringError
from torch_rvv.knobs import CodegenOptions

pytestmark = pytest.mark.ir


def linalg(body: str, arguments: str = "%p: !tt.ptr<f32>, %q: !tt.ptr<f32>, %n: i32", noalias: bool = True):
    """(linalg text, metadata) of a kernel whose body is given."""
    text = f"module {{\n tt.func public @k({arguments}) {{\n{body}\n tt.return\n }}\n}}"
    metadata: dict = {}
    result = ttir_to_linalg(text, metadata, CodegenOptions(noalias=noalias))
    contracts.check("linalg", result)
    return result, metadata


BLOCK = """
    %c256 = arith.constant 256 : i32
    %pid = tt.get_program_id x : i32
    %off = arith.muli %pid, %c256 : i32
    %r = tt.make_range {end = 256 : i32, start = 0 : i32} : tensor<256xi32>
    %o = tt.splat %off : i32 -> tensor<256xi32>
    %i = arith.addi %o, %r : tensor<256xi32>
    %ns = tt.splat %n : i32 -> tensor<256xi32>
    %m = arith.cmpi slt, %i, %ns : tensor<256xi32>
    %ps = tt.splat %p : !tt.ptr<f32> -> tensor<256x!tt.ptr<f32>>
    %qs = tt.splat %q : !tt.ptr<f32> -> tensor<256x!tt.ptr<f32>>
    %pp = tt.addptr %ps, %i : tensor<256x!tt.ptr<f32>>, tensor<256xi32>
    %qp = tt.addptr %qs, %i : tensor<256x!tt.ptr<f32>>, tensor<256xi32>
"""


def kinds(metadata):
    return sorted((a["op"], a["kind"]) for a in metadata["accesses"])


def test_a_mask_becomes_the_loop_bound():
    text, metadata = linalg(
        BLOCK
        + """
    %x = tt.load %pp, %m : tensor<256x!tt.ptr<f32>>
    %y = arith.addf %x, %x : tensor<256xf32>
    tt.store %qp, %y, %m : tensor<256x!tt.ptr<f32>>"""
    )
    assert text.count("linalg.generic") == 1 and "scf.if" not in text and "arith.minsi" in text
    assert kinds(metadata) == [("load", "unit"), ("store", "unit")]
    assert metadata["written"] == [1]


def test_a_load_whose_mask_is_not_the_stores_splits_the_row():
    text, metadata = linalg(
        BLOCK
        + """
    %c9 = arith.constant dense<9> : tensor<256xi32>
    %zero = arith.constant dense<0.0> : tensor<256xf32>
    %m2 = arith.cmpi sgt, %i, %c9 : tensor<256xi32>
    %x = tt.load %pp, %m2, %zero : tensor<256x!tt.ptr<f32>>
    tt.store %qp, %x, %m : tensor<256x!tt.ptr<f32>>"""
    )
    assert text.count("linalg.generic") == 2 and "scf.if" not in text
    assert kinds(metadata) == [("load", "unit"), ("store", "unit"), ("store", "unit")]


def test_a_load_whose_mask_is_no_bound_is_guarded():
    text, metadata = linalg(
        BLOCK
        + """
    %zero = arith.constant dense<0.0> : tensor<256xf32>
    %y = tt.load %qp, %m, %zero : tensor<256x!tt.ptr<f32>>
    %m2 = arith.cmpf ogt, %y, %zero : tensor<256xf32>
    %x = tt.load %pp, %m2, %zero : tensor<256x!tt.ptr<f32>>
    tt.store %qp, %x, %m : tensor<256x!tt.ptr<f32>>"""
    )
    assert "scf.if" in text and ("load", "unit") in kinds(metadata)


def test_constant_division_splits_the_loop_and_stays_structured():
    text, metadata = linalg(
        BLOCK
        + """
    %c100 = arith.constant dense<100> : tensor<256xi32>
    %c7 = arith.constant dense<7> : tensor<256xi32>
    %row = arith.divsi %i, %c100 : tensor<256xi32>
    %col = arith.remsi %i, %c100 : tensor<256xi32>
    %scaled = arith.muli %col, %c7 : tensor<256xi32>
    %at = arith.addi %scaled, %row : tensor<256xi32>
    %tp = tt.addptr %ps, %at : tensor<256x!tt.ptr<f32>>, tensor<256xi32>
    %x = tt.load %tp, %m : tensor<256x!tt.ptr<f32>>
    tt.store %qp, %x, %m : tensor<256x!tt.ptr<f32>>"""
    )
    assert "scf.for" in text
    assert kinds(metadata) == [("load", "strided"), ("store", "unit")]


def test_a_quotient_or_rest_that_is_a_value_is_the_index_of_a_split_loop():
    body = """
    %c100 = arith.constant dense<100> : tensor<256xi32>
    %row = arith.divsi %i, %c100 : tensor<256xi32>
    %col = arith.remsi %i, %c100 : tensor<256xi32>
    %twice = arith.addi %row, %row : tensor<256xi32>
    %at = arith.addi %col, %twice : tensor<256xi32>
    %tp = tt.addptr %ps, %at : tensor<256x!tt.ptr<f32>>, tensor<256xi32>
    %x = tt.load %tp, %m : tensor<256x!tt.ptr<f32>>
    %f = arith.sitofp %col : tensor<256xi32> to tensor<256xf32>
    %y = arith.addf %x, %f : tensor<256xf32>
    tt.store %qp, %y, %m : tensor<256x!tt.ptr<f32>>"""
    split, _ = linalg(BLOCK + body)
    assert "arith.remsi" not in split and "scf.for" in split
    whole, _ = linalg(BLOCK + body.replace("dense<100>", "dense<4>"))
    assert "arith.remsi" in whole, "loops of four are not worth a split, and the value is computed"


def test_an_index_read_from_memory_is_a_gather_and_says_why():
    _, metadata = linalg(
        BLOCK.replace("!tt.ptr<f32>, %q", "!tt.ptr<f32>, %q")
        + """
    %idx = tt.splat %t : !tt.ptr<i32> -> tensor<256x!tt.ptr<i32>>
    %ip = tt.addptr %idx, %i : tensor<256x!tt.ptr<i32>>, tensor<256xi32>
    %at = tt.load %ip, %m : tensor<256x!tt.ptr<i32>>
    %gp = tt.addptr %ps, %at : tensor<256x!tt.ptr<f32>>, tensor<256xi32>
    %x = tt.load %gp, %m : tensor<256x!tt.ptr<f32>>
    tt.store %qp, %x, %m : tensor<256x!tt.ptr<f32>>""",
        "%p: !tt.ptr<f32>, %q: !tt.ptr<f32>, %n: i32, %t: !tt.ptr<i32>",
    )
    gather = next(a for a in metadata["accesses"] if a["kind"] == "gather")
    assert gather["why"] == "index read from memory" and gather["arg"] == 0


REDUCE = """
    %s = "tt.reduce"(%v) <{axis = 0 : i32}> ({
    ^bb0(%a: f32, %b: f32):
      %c = arith.addf %a, %b : f32
      tt.reduce.return %c : f32
    }) : (tensor<256xf32>) -> f32
    tt.store %q, %s : !tt.ptr<f32>"""


def test_a_mask_of_two_joined_dims_bounds_both():
    """sum over 8 x 4 of what lies below 7 and 3, reduced as 32 in a row."""
    text, metadata = linalg(
        """
    %r = tt.make_range {end = 8 : i32, start = 0 : i32} : tensor<8xi32>
    %s = tt.make_range {end = 4 : i32, start = 0 : i32} : tensor<4xi32>
    %re = tt.expand_dims %r {axis = 1 : i32} : tensor<8xi32> -> tensor<8x1xi32>
    %se = tt.expand_dims %s {axis = 0 : i32} : tensor<4xi32> -> tensor<1x4xi32>
    %seven = arith.constant dense<7> : tensor<8x1xi32>
    %three = arith.constant dense<3> : tensor<1x4xi32>
    %a = arith.cmpi slt, %re, %seven : tensor<8x1xi32>
    %b = arith.cmpi slt, %se, %three : tensor<1x4xi32>
    %ab = tt.broadcast %a : tensor<8x1xi1> -> tensor<8x4xi1>
    %bb = tt.broadcast %b : tensor<1x4xi1> -> tensor<8x4xi1>
    %m = arith.andi %ab, %bb : tensor<8x4xi1>
    %rb = tt.broadcast %re : tensor<8x1xi32> -> tensor<8x4xi32>
    %w = arith.constant dense<38> : tensor<8x4xi32>
    %o = arith.muli %rb, %w : tensor<8x4xi32>
    %sb = tt.broadcast %se : tensor<1x4xi32> -> tensor<8x4xi32>
    %i = arith.addi %o, %sb : tensor<8x4xi32>
    %ps = tt.splat %p : !tt.ptr<f32> -> tensor<8x4x!tt.ptr<f32>>
    %pp = tt.addptr %ps, %i : tensor<8x4x!tt.ptr<f32>>, tensor<8x4xi32>
    %none = arith.constant dense<0.0> : tensor<8x4xf32>
    %x = tt.load %pp, %m, %none : tensor<8x4x!tt.ptr<f32>>
    %y = arith.mulf %x, %x : tensor<8x4xf32>
    %z = arith.select %m, %y, %none : tensor<8x4xi1>, tensor<8x4xf32>
    %flat = tt.reshape %z : tensor<8x4xf32> -> tensor<32xf32>
    %sum = "tt.reduce"(%flat) <{axis = 0 : i32}> ({
    ^bb0(%u: f32, %v: f32):
      %t = arith.addf %u, %v : f32
      tt.reduce.return %t : f32
    }) : (tensor<32xf32>) -> f32
    tt.store %q, %sum : !tt.ptr<f32>"""
    )
    assert "scf.if" not in text and "arith.select" not in text
    assert ("load", "unit") in kinds(metadata) and "strides: [38, 1]" in text


def test_a_reduction_with_masked_identity_is_a_shorter_loop():
    text, _ = linalg(
        BLOCK
        + """
    %zero = arith.constant dense<0.0> : tensor<256xf32>
    %x = tt.load %pp, %m : tensor<256x!tt.ptr<f32>>
    %v = arith.select %m, %x, %zero : tensor<256xi1>, tensor<256xf32>"""
        + REDUCE
    )
    assert '"reduction"' in text and "arith.select" not in text and "scf.if" not in text


def test_a_reduction_whose_mask_hides_another_value_keeps_the_select():
    text, _ = linalg(
        BLOCK
        + """
    %one = arith.constant dense<1.0> : tensor<256xf32>
    %x = tt.load %pp, %m, %one : tensor<256x!tt.ptr<f32>>
    %v = arith.select %m, %x, %one : tensor<256xi1>, tensor<256xf32>"""
        + REDUCE
    )
    assert "arith.select" in text


LARGEST = """
    %x = tt.load %pp, %m : tensor<256x!tt.ptr<f32>>
    %c = arith.constant dense<OTHER> : tensor<256xf32>
    %more = arith.cmpf ogt, %x, %c : tensor<256xf32>
    %nan = arith.cmpf une, %x, %x : tensor<256xf32>
    %mask = arith.ori %more, %nan : tensor<256xi1>
    %y = arith.select %mask, %x, %c : tensor<256xi1>, tensor<256xf32>
    tt.store %qp, %y, %m : tensor<256x!tt.ptr<f32>>"""


def test_a_comparison_with_a_number_or_a_nan_is_one_comparison():
    text, _ = linalg(BLOCK + LARGEST.replace("OTHER", "6.0"))
    assert "predicate = 9" in text and "arith.ori" not in text


@pytest.mark.parametrize("other", ["0x7FC00000", "0xFF800000"])
def test_a_comparison_with_what_may_be_a_nan_stays(other):
    text, _ = linalg(BLOCK + LARGEST.replace("OTHER", other))
    assert "predicate = 2" in text and "arith.ori" in text


def test_a_store_between_a_load_and_its_use_materialises_the_load():
    body = (
        BLOCK
        + """
    %x = tt.load %pp : tensor<256x!tt.ptr<f32>>
    tt.store %PTR, %x : tensor<256x!tt.ptr<f32>>
    %y = arith.addf %x, %x : tensor<256xf32>
    tt.store %qp, %y : tensor<256x!tt.ptr<f32>>"""
    )
    text, _ = linalg(body.replace("%PTR", "%pp"))
    assert "memref.alloca() : memref<256xf32>" in text
    other = body.replace("%PTR", "%qp")
    assert "memref.alloca() : memref<256xf32>" not in linalg(other)[0]
    assert "memref.alloca() : memref<256xf32>" in linalg(other, noalias=False)[0]


def test_neighbouring_stores_share_a_loop():
    text, _ = linalg(
        BLOCK
        + """
    %x = tt.load %pp, %m : tensor<256x!tt.ptr<f32>>
    %y = math.exp %x : tensor<256xf32>
    tt.store %qp, %y, %m : tensor<256x!tt.ptr<f32>>
    %ts = tt.splat %t : !tt.ptr<f32> -> tensor<256x!tt.ptr<f32>>
    %tp = tt.addptr %ts, %i : tensor<256x!tt.ptr<f32>>, tensor<256xi32>
    tt.store %tp, %x, %m : tensor<256x!tt.ptr<f32>>""",
        "%p: !tt.ptr<f32>, %q: !tt.ptr<f32>, %n: i32, %t: !tt.ptr<f32>",
    )
    assert text.count("linalg.generic") == 1 and text.count("math.exp") == 1


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("%d = arith.constant dense<[true, false]> : tensor<2xi1>", "not a list of numbers"),
        ("%z = tt.frobnicate %p : !tt.ptr<f32>", "no format for tt.frobnicate"),
        (
            '%e = tt.extern_elementwise %f {libname = "", libpath = "", pure = true, symbol = "__nv_x"} : (f32) -> f32',
            "__nv_x",
        ),
    ],
)
def test_what_is_not_known_is_declined(body, why):
    with pytest.raises(Declined, match=why):
        linalg(body, "%p: !tt.ptr<f32>, %f: f32")


def test_a_declined_operation_names_the_triton_source_line():
    text = """module {
 tt.func public @k(%p: !tt.ptr<f32>) {
  %d = arith.constant dense<[true, false]> : tensor<2xi1> loc("kernel.py":12:3)
  tt.return
 } }"""
    with pytest.raises(Declined) as caught:
        ttir_to_linalg(text, {}, CodegenOptions())
    assert caught.value.where == "kernel.py:12"


@pytest.mark.parametrize(
    ("text", "generic"),
    [
        ("%x = tt.splat %a : f32 -> tensor<4xf32>", '%x = "tt.splat"(%a) {} : (f32) -> (tensor<4xf32>)'),
        (
            "%x = tt.load %p, %m, %o evictionPolicy = evict_last : tensor<8x!tt.ptr<f32>> loc(#loc3)",
            '%x = "tt.load"(%p, %m, %o) {evictionPolicy = "evict_last"}'
            " : (tensor<8x!tt.ptr<f32>>, tensor<8xi1>, tensor<8xf32>) -> (tensor<8xf32>) loc(#loc3)",
        ),
        ('tt.assert %c, "a, b" : tensor<4xi1>', '"tt.assert"(%c) {message = "a, b"} : (tensor<4xi1>) -> ()'),
        ("%x = tt.get_program_id y : i32", '%x = "tt.get_program_id"() {axis = "y"} : () -> (i32)'),
    ],
)
def test_the_reader_makes_generic_form(text, generic):
    assert to_generic(text) == generic


def test_linear_forms():
    d, pid = Dim(64), Poly.of(Atom("pid", nonnegative=True))
    form = Linear(pid * Poly(64), {d: Poly(1)})
    assert form.nonnegative and form.affine
    quotient, rest = form.split(64)
    assert quotient == Linear(pid) and rest == Linear.of(d)
    assert (form - form) == Linear() and Linear.of(d).range() == (0, 63)


KERNEL = (
    BLOCK
    + """
    %x = tt.load %pp, %m : tensor<256x!tt.ptr<f32>>
    %y = arith.addf %x, %x : tensor<256xf32>
    tt.store %qp, %y, %m : tensor<256x!tt.ptr<f32>>"""
)


def lowered(body: str):
    """(the text of every level, assembly, metadata) of a kernel whose body is given."""
    text = f"module {{\n tt.func public @k(%p: !tt.ptr<f32>, %q: !tt.ptr<f32>, %n: i32) {{\n{body}\n tt.return\n }}\n}}"
    options = CodegenOptions()
    asm, metadata = lower(text, options)
    contracts.check("vector", asm["vector"])
    again, _ = lower(text, options)
    assert again["vector"] == asm["vector"], "lowering must be repeatable"
    return asm, llvm.to_assembly(asm["llvm"], options.target), metadata


def test_a_short_body_has_whole_strips_and_one_short_strip_behind_them():
    asm, assembly, metadata = lowered(KERNEL)
    assert metadata["lmul"] == 8 and asm["so"][:4] == b"\x7fELF"
    loop, _, rest = asm["vector"].rpartition("scf.if")
    assert "llvm.load" in loop and "llvm.store" in loop and "llvm.vp." not in loop
    assert rest.count("llvm.vp.load") == 1 == rest.count("llvm.vp.store")
    assert "vl8re32.v" in assembly and assembly.count("vle32.v") == 1 == assembly.count("vse32.v")


def test_a_long_body_is_written_once_and_its_strips_ask_for_their_length():
    asm, assembly, _ = lowered(KERNEL.replace("%y = arith.addf %x, %x", "%y = math.exp %x"))
    assert "scf.if" not in asm["vector"] and asm["vector"].count("get.vector.length") == 1
    assert assembly.count("vle32.v") == 1 == assembly.count("vse32.v")


def test_lmul_follows_from_the_vectors_that_live_at_once():
    few = ["%a = x : vector<[2]xf32>", "%b = f %a, %a : vector<[2]xf32>", "store %b"]
    many = [f"%v{i} = x : vector<[2]xf32>" for i in range(9)] + ["store " + ", ".join(f"%v{i}" for i in range(9))]
    assert pressure(few)[0] <= 3 and pressure(many)[0] >= 9


def test_a_level_that_breaks_its_contract_is_an_error():
    with pytest.raises(LoweringError, match="linalg level is not valid MLIR"):
        contracts.check("linalg", "module { nonsense }")
    with pytest.raises(LoweringError, match="do not belong at the vector level: memref.alloca"):
        contracts.check("vector", "module { func.func @f() { %0 = memref.alloca() : memref<4xf32>\n return } }")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("  %6 = fadd float %5, 1.1", "  %6 = fadd float %5, 0x3FF19999A0000000"),
        ("  %6 = fadd double %5, f0x3FF0000000000000", "  %6 = fadd double %5, 0x3FF0000000000000"),
        ("  %6 = fadd half %5, +inf", "  %6 = fadd half %5, 0xH7C00"),
        ("  %6 = add i32 %5, 7", "  %6 = add i32 %5, 7"),
    ],
)
def test_float_literals_are_rewritten_for_the_older_reader(line, expected):
    assert llvm._floats(line) == expected


def test_every_knob_is_documented_and_readable():
    from pathlib import Path

    from torch_rvv.knobs import Knobs

    text = (Path(__file__).parent.parent / "docs" / "knobs.md").read_text()
    for knob in Knobs.table():
        assert f"| `{knob.env}` |" in text and knob.help in text


SHARED = (
    BLOCK
    + """
    %zero = arith.constant dense<0.0> : tensor<256xf32>
    %x = tt.load %pp, %m : tensor<256x!tt.ptr<f32>>
    %e = math.FUNCTION %x : tensor<256xf32>
    %v = arith.select %m, %e, %zero : tensor<256xi1>, tensor<256xf32>
    %s = "tt.reduce"(%v) <{axis = 0 : i32}> ({
    ^bb0(%a: f32, %b: f32):
      %c = arith.addf %a, %b : f32
      tt.reduce.return %c : f32
    }) : (tensor<256xf32>) -> f32
    %ss = tt.splat %s : f32 -> tensor<256xf32>
    %y = arith.subf %e, %ss : tensor<256xf32>
    tt.store %qp, %y, %m : tensor<256x!tt.ptr<f32>>"""
)


def test_a_costly_value_that_two_loops_need_is_kept_and_a_cheap_one_is_not():
    text, _ = linalg(SHARED.replace("FUNCTION", "exp"))
    assert text.count("math.exp") == 1 and "memref.alloca() : memref<256xf32>" in text
    assert text.count("linalg.generic") == 2
    text, _ = linalg(SHARED.replace("FUNCTION", "absf"))
    assert text.count("math.absf") == 2 and "memref.alloca() : memref<256xf32>" not in text


def test_a_combine_function_with_an_effect_is_declined():
    with pytest.raises(Declined, match="tt.load in a function of single elements"):
        linalg(
            BLOCK
            + """
    %s = "tt.reduce"(%i) <{axis = 0 : i32}> ({
    ^bb0(%a: i32, %b: i32):
      %z = tt.load %p : !tt.ptr<f32>
      %c = arith.fptosi %z : f32 to i32
      tt.reduce.return %c : i32
    }) : (tensor<256xi32>) -> i32"""
        )


ROWS = """
    %c = arith.constant dense<64> : tensor<32x1xi32>
    %r = tt.make_range {end = 32 : i32, start = 0 : i32} : tensor<32xi32>
    %rows = tt.expand_dims %r {axis = 1 : i32} : tensor<32xi32> -> tensor<32x1xi32>
    %k = tt.make_range {end = 512 : i32, start = 0 : i32} : tensor<512xi32>
    %columns = tt.expand_dims %k {axis = 0 : i32} : tensor<512xi32> -> tensor<1x512xi32>
    %ps = tt.splat %p : !tt.ptr<f32> -> tensor<1x512x!tt.ptr<f32>>
    %pp = tt.addptr %ps, %columns : tensor<1x512x!tt.ptr<f32>>, tensor<1x512xi32>
    %x = tt.load %pp : tensor<1x512x!tt.ptr<f32>>
    %root = OPERATION %x : tensor<1x512xf32>
    %wide = tt.broadcast %root : tensor<1x512xf32> -> tensor<32x512xf32>
    %starts = arith.muli %rows, %c : tensor<32x1xi32>
    %a = tt.broadcast %starts : tensor<32x1xi32> -> tensor<32x512xi32>
    %b = tt.broadcast %columns : tensor<1x512xi32> -> tensor<32x512xi32>
    %at = arith.addi %a, %b : tensor<32x512xi32>
    %qs = tt.splat %q : !tt.ptr<f32> -> tensor<32x512x!tt.ptr<f32>>
    %qp = tt.addptr %qs, %at : tensor<32x512x!tt.ptr<f32>>, tensor<32x512xi32>
    %old = tt.load %qp : tensor<32x512x!tt.ptr<f32>>
    %y = arith.mulf %old, %wide : tensor<32x512xf32>
    tt.store %qp, %y : tensor<32x512x!tt.ptr<f32>>"""


@pytest.mark.parametrize("operation, outside", [("math.sqrt", True), ("math.absf", False)])
def test_what_costs_much_and_is_the_same_for_all_rows_stands_outside_of_their_loop(operation, outside):
    asm, _, _ = lowered(ROWS.replace("OPERATION", operation))
    before = asm["vector"].split(f'"{operation}"')[0]
    # Strips come first: one loop is open where the operation stands, and not two.
    loops = before.count("scf.while") + before.count("scf.for")
    assert (loops == 1) == outside, before
