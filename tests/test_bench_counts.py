"""The measuring instrument on small programs whose counts and cycles are known beforehand."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch_rvv.benchmarks import cycles
from torch_rvv.benchmarks.blocks import Block, basic_blocks
from torch_rvv.benchmarks.emulate import NATIVE, Profile, profile_program
from torch_rvv.benchmarks.instructions import CLASSES, classify, falls_through, vtype_after, words
from torch_rvv.runtime.build import compile_c

from torch_rvv.errors import DeviceError
from torch_rvv.machinecode import text_section

CPU = "-mcpu=baseline_rv64+v+zvl256b+zba+zbb+zbs+zfh+zvfh"

ASSEMBLY = {
    "add a0, a1, a2": "int", "mv a0, a1": "int", "addi sp, sp, -16": "int", "li a0, 5": "int", "mul a0, a1, a2": "int",
    "fadd.s fa0, fa1, fa2": "fp", "fmadd.s fa0, fa1, fa2, fa3": "fp", "fcvt.s.w fa0, a0": "fp",
    "lw a0, 0(a1)": "load", "ld ra, 8(sp)": "load", "flw fa0, 0(a1)": "load", "lbu a0, 3(a1)": "load",
    "sw a0, 0(a1)": "store", "sd ra, 8(sp)": "store", "fsd fa0, 8(sp)": "store",
    "beqz a0, .": "branch", "blt a0, a1, .": "branch", "j .": "branch", "ret": "branch", "jalr a0": "branch",
    "csrr a0, vlenb": "system", "fence": "system", "amoadd.w a0, a1, (a2)": "system",
    "vsetvli t0, a0, e32, m8, ta, ma": "vset", "vsetivli x0, 4, e16, mf2, ta, ma": "vset", "vsetvl t0, a0, a1": "vset",
    "vle32.v v8, (a0)": "vload_unit", "vle8.v v8, (a0), v0.t": "vload_unit", "vse64.v v8, (a0)": "vstore_unit",
    "vlse32.v v8, (a0), a1": "vload_strided", "vsse16.v v8, (a0), a1": "vstore_strided",
    "vluxei32.v v8, (a0), v16": "vload_indexed", "vsoxei64.v v8, (a0), v16": "vstore_indexed",
    "vlseg3e32.v v8, (a0)": "vload_segment", "vssseg2e32.v v8, (a0), a1": "vstore_segment",
    "vl8re32.v v8, (a0)": "vload_whole", "vs2r.v v8, (a0)": "vstore_whole", "vlm.v v0, (a0)": "vload_whole",
    "vfmacc.vv v8, v16, v24": "vfma", "vfnmsub.vf v8, fa0, v16": "vfma", "vfwmacc.vf v8, fa0, v16": "vfma",
    "vmacc.vx v8, a0, v16": "vfma", "vwmaccu.vv v8, v16, v17": "vfma",
    "vfadd.vv v8, v16, v24": "varith", "vfdiv.vf v8, v16, fa0": "varith", "vadd.vi v8, v16, 3": "varith",
    "vmv.v.i v8, 0": "varith", "vmerge.vvm v8, v16, v24, v0": "varith", "vfmax.vv v8, v16, v24": "varith",
    "vmul.vv v8, v16, v24": "varith", "vmv.x.s a0, v8": "varith", "vmflt.vv v0, v8, v16": "varith",
    "vredsum.vs v8, v16, v24": "vreduce", "vfredusum.vs v8, v16, v24": "vreduce", "vfredmax.vs v8, v16, v24": "vreduce",
    "vfwredosum.vs v8, v16, v24": "vreduce", "vwredsum.vs v8, v16, v24": "vreduce",
    "vrgather.vv v8, v16, v24": "vpermute", "vslideup.vi v8, v16, 1": "vpermute",
    "vslide1down.vx v8, v16, a0": "vpermute", "vfslide1up.vf v8, v16, fa0": "vpermute",
    "vcompress.vm v8, v16, v24": "vpermute", "vrgatherei16.vv v8, v16, v24": "vpermute",
    "vfcvt.x.f.v v8, v16": "vconvert", "vfwcvt.f.f.v v8, v16": "vconvert", "vzext.vf2 v8, v16": "vconvert",
    "vmand.mm v0, v8, v16": "vmask", "vmsbf.m v8, v16": "vmask", "vid.v v8": "vmask",
}  # fmt: skip


def assemble(lines: list[str], folder: Path) -> bytes:
    """The bits of some assembly lines, one after another."""
    source, made = folder / "lines.s", folder / "lines.o"
    source.write_text(".text\n.option norelax\n" + "\n".join(lines) + "\n")
    compile_c([source], made, ("-c", CPU))
    return text_section(made.read_bytes())


@pytest.mark.ir
def test_classes(tmp_path):
    code = assemble(list(ASSEMBLY), tmp_path)
    found = [classify(word, size) for word, size in words(code)][: len(ASSEMBLY)]
    assert dict(zip(ASSEMBLY, found, strict=True)) == ASSEMBLY
    assert set(found) <= set(CLASSES)


@pytest.mark.ir
def test_vtype_and_flow(tmp_path):
    lines = [
        "vsetvli t0, a0, e32, m8, ta, ma",
        "vsetivli x0, 4, e16, mf2, ta, ma",
        "vsetvl t0, a0, a1",
        "add a0, a1, a2",
    ]
    code = list(words(assemble(lines, tmp_path)))
    assert [vtype_after(*w, before=5) for w in code[:4]] == [2 * 8 + 3, 1 * 8 + 7, 64, 5]
    flow = {"beqz a0, .": True, "j .": False, "ret": False, "jalr a0": False, "jal .": False, "add a0, a0, a0": True}
    found = [falls_through(*w) for w in words(assemble(list(flow), tmp_path))]
    assert found[: len(flow)] == list(flow.values())


@pytest.mark.ir
def test_blocks_are_cut_at_jump_targets_and_joined_again():
    nop, add, loop = b"\x01\x00", b"\x33\x05\xb5\x00", b"\xe3\x1e\x05\xfe"  # c.nop; add a0, a0, a1; bnez a0, -4
    first = Block(0x100, nop + add + loop, 0, 1)  # falls into the loop at 0x102
    again = Block(0x102, add + loop, 0, 9)
    after = Block(0x10A, nop, 0, 1)
    blocks = basic_blocks([first, again, after])
    assert [(b.address, b.count, b.code) for b in blocks] == [
        (0x100, 1, nop), (0x102, 10, add + loop), (0x10A, 1, nop),
    ]  # fmt: skip
    assert basic_blocks([Block(0, nop, 0, 3), Block(2, add, 0, 3)]) == [Block(0, nop + add, 64, 3)]
    with pytest.raises(ValueError, match="within an instruction"):
        list(words(add[:2]))


@pytest.mark.ir
def test_blocks_keep_the_vtype_that_they_need(tmp_path):
    code = assemble(["vsetivli x0, 8, e32, m1, ta, ma", "vfadd.vv v8, v8, v8", "add a0, a1, a2"], tmp_path)[:12]
    vset, use, scalar = code[:4], code[4:8], code[8:]
    # As the emulator has it: a piece ends at each vsetvl. The first turn of the loop comes with another vtype.
    pieces = [Block(0, vset, 64, 1), Block(0, vset, 16, 9), Block(4, use + scalar, 16, 10)]
    assert basic_blocks(pieces) == [Block(0, vset + use + scalar, 64, 10)]
    # Code that runs under two vtypes stays apart, and what leads to a use takes over what that needs.
    assert basic_blocks([Block(0, use, 16, 3), Block(0, use, 19, 3)]) == [Block(0, use, 16, 3), Block(0, use, 19, 3)]
    assert basic_blocks([Block(0, scalar, 9, 2), Block(4, use, 9, 2)]) == [Block(0, scalar + use, 9, 2)]


PROGRAM = r"""
#include "markers.h"
#include <stdint.h>
static float x[64], y[64];
int main(void) {
  COUNT_STACK();
  COUNT_START();
  __asm__ volatile(
    "li t0, 10\n\t"                             /* 10 turns of 8 instructions on 8 lanes */
    "1: vsetivli x0, 8, e32, m1, ta, ma\n\t"
    "vle32.v v8, (%0)\n\t"
    "vle32.v v9, (%1)\n\t"
    "vfmacc.vv v9, v8, v8\n\t"
    "vse32.v v9, (%1)\n\t"
    "sd t0, -64(sp)\n\t"
    "addi t0, t0, -1\n\t"
    "bnez t0, 1b\n\t"
    "addi t1, sp, -256\n\t"
    "vs2r.v v8, (t1)\n\t"                        /* a spill: one store and one load */
    "vl2re8.v v8, (t1)\n\t"
    :: "r"(x), "r"(y) : "t0", "t1", "memory");
  COUNT_STOP();
  __asm__ volatile("addi t0, t0, 1" ::: "t0");   /* not counted */
  return 0;
}
"""


@pytest.fixture(scope="module")
def micro(tmp_path_factory):
    folder = tmp_path_factory.mktemp("micro")
    source, program = folder / "micro.c", folder / "micro"
    source.write_text(PROGRAM)
    compile_c([source], program, (CPU, f"-I{NATIVE}"))
    return str(program)


@pytest.mark.board
def test_counts_of_a_known_program(micro):
    profile = profile_program([micro], vlen=256)
    classes = profile.classes()
    assert {c: n for c, n in classes.items() if c not in ("int",)} == {
        "vset": 10, "vload_unit": 20, "vfma": 10, "vstore_unit": 10, "store": 10, "branch": 10,
        "vstore_whole": 1, "vload_whole": 1,
    }  # fmt: skip
    # li, ten addi, addi t1; the compiler may form the two addresses between the markers.
    assert 12 <= classes["int"] <= 16
    assert profile.instructions == classes.total() and profile.vector_instructions == 52
    assert profile.spills == {"vector": 2, "scalar": 10}
    assert len(profile.regions) == 1 and profile.regions[0].instructions == profile.instructions
    assert profile.memory["load_bytes"] == 20 * 32 + 64 and profile.memory["store_bytes"] == 10 * (32 + 8) + 64
    loop = max(profile.blocks(), key=lambda b: b.count)
    assert loop.count == 10 and sum(1 for _ in words(loop.code)) == 8
    assert sum(b.count * len(list(words(b.code))) for b in profile.blocks()) == profile.instructions


@pytest.mark.board
def test_counts_are_exact(micro):
    first, second = (profile_program([micro], vlen=256) for _ in range(2))
    assert first.classes() == second.classes() and first.spills == second.spills
    assert [(b.code, b.vtype, b.count) for b in first.blocks()] == [(b.code, b.vtype, b.count) for b in second.blocks()]


# Code, SEW, LMUL → (throughput bound, cycles of one in a long row), from LLVM's tables for the core: two issued a
# cycle, fadd.s takes 4, vfmacc at LMUL 1 takes 5 and its unit is busy for LMUL, vle32 at LMUL 8 and vadd.vv 16.
E32 = 2 * 8
KNOWN = {
    ("add a0, a1, a2; add a3, a4, a5; add t0, t1, t2; add t3, t4, t5", 64): (2, 2),
    ("add a0, a0, a2; add a0, a0, a2", 64): (1, 2),
    ("fadd.s fa0, fa0, fa2", 64): (1, 4),
    ("vfmacc.vv v8, v9, v10", E32 + 0): (1, 5),
    ("vfmacc.vv v8, v16, v24", E32 + 2): (4, 5),
    ("vfmacc.vv v8, v16, v24; vfmacc.vv v12, v16, v24", E32 + 2): (8, 8),
    ("vle32.v v8, (a0)", E32 + 3): (16, 16),
    ("vle32.v v8, (a0)", E32 + 0): (3, 3),
    ("vadd.vv v8, v16, v24", E32 + 3): (16, 16),
    ("vsetivli x0, 8, e32, m1, ta, ma; vfmacc.vv v8, v9, v10", E32 + 3): (1, 5),
}


@pytest.mark.ir
def test_cycles_of_known_code(tmp_path, mca):
    blocks = []
    for text, vtype in KNOWN:
        lines = text.split("; ")
        code = assemble(lines, tmp_path)
        size = sum(s for _, s in list(words(code))[: len(lines)])
        blocks.append((code[:size], vtype))
    for (text, vtype), found, (bound, estimate) in zip(KNOWN, cycles.block_cycles(blocks), KNOWN.values(), strict=True):
        assert found.bound == pytest.approx(bound, abs=0.51), (text, vtype)
        assert found.estimate == pytest.approx(estimate, rel=0.05), (text, vtype)


@pytest.mark.ir
def test_cycles_weigh_blocks_by_their_count(tmp_path, mca):
    code = assemble(["fadd.s fa0, fa0, fa2"], tmp_path)[:4]
    one, many = (
        cycles.cycles_of([Block(0, code, 64, 1)]),
        cycles.cycles_of([Block(0, code, 64, 7), Block(8, code, 64, 3)]),
    )
    assert many.bound == pytest.approx(10 * one.bound) and many.estimate == pytest.approx(10 * one.estimate)
    assert cycles.cycles_of([]) == cycles.Cycles(0, 0)
    with pytest.raises(ValueError, match="disassembled"):
        cycles.disassemble([bytes.fromhex("0b000000")])


@pytest.mark.ir
def test_memory_cycles():
    # 1.6 GHz and 7 GB/s: 64 bytes take 64 / 4.375 cycles.
    assert cycles.memory_cycles({"l2_misses": 3, "l2_writebacks": 1}) == pytest.approx(4 * 64 / 4.375)


CACHES = r"""
#include "markers.h"
#include <stdint.h>
#include <stdlib.h>
static volatile char memory[1 << 20] __attribute__((aligned(64)));
static void touch(long bytes, int times) {
  for (int t = 0; t < times; t++)
    for (long i = 0; i < bytes; i += 64) (void)memory[i];
}
int main(void) {
  touch(16 << 10, 1);
  COUNT_STACK(); COUNT_START(); touch(16 << 10, 10); COUNT_STOP();
  touch(256 << 10, 1);
  COUNT_STACK(); COUNT_START(); touch(256 << 10, 2); COUNT_STOP();
  COUNT_STACK(); COUNT_START(); touch(1 << 20, 2); COUNT_STOP();
  return 0;
}
"""


@pytest.fixture(scope="module")
def caches(tmp_path_factory):
    folder = tmp_path_factory.mktemp("caches")
    (folder / "caches.c").write_text(CACHES)
    compile_c([folder / "caches.c"], folder / "caches", (f"-I{NATIVE}",))
    return str(folder / "caches")


@pytest.mark.board
def test_lines_that_move_in_the_caches(caches):
    fits_l1, fits_l2, fits_none = profile_program([caches], vlen=256).regions
    assert fits_l1.memory["loads"] >= 2560 and fits_l1.memory["l1_misses"] < 30
    assert 8192 <= fits_l2.memory["l1_misses"] < 8300 and fits_l2.memory["l2_misses"] < 100
    # Least recently used keeps nothing of a stream longer than the cache; only the 256 KiB before are there.
    # Lines that are written back are those of the start-up.
    assert 28672 <= fits_none.memory["l2_misses"] < 28900 and fits_none.memory["l2_writebacks"] < 1000
    assert cycles.memory_cycles(fits_none.memory) == pytest.approx(28672 * 64 / 4.375, rel=0.02)


@pytest.mark.board
def test_each_pair_of_markers_has_counts_of_its_own(caches):
    profile = profile_program([caches], vlen=256)
    first, second, third = (r.classes()["load"] for r in profile.regions)
    assert first >= 10 * 256 and second >= 2 * 4096 and third >= 2 * 16384
    assert profile.classes()["load"] == first + second + third
    assert profile.memory["loads"] == sum(r.memory["loads"] for r in profile.regions)


@pytest.mark.board
def test_programs_that_fail_or_do_not_end(tmp_path):
    source, program = tmp_path / "bad.c", tmp_path / "bad"
    source.write_text(
        "#include <stdio.h>\nint main(int n, char **v) {\n"
        '  if (n > 1) for (;;) v[0][0]++;\n  fputs("oh", stderr);\n  return 3;\n}\n'
    )
    compile_c([source], program)
    with pytest.raises(DeviceError, match=r"failed \(3\): oh"):
        profile_program([str(program)], vlen=256)
    with pytest.raises(DeviceError, match="(?s)did not end within 1 s.*TORCH_RVV_BENCH_TIMEOUT"):
        profile_program([str(program), "on"], vlen=256, timeout=1.0)


@pytest.mark.ir
def test_a_profile_as_text():
    first = "block 100 16 3 0100\nspill vector 2\nmemory loads 7\nend\n"
    profile = Profile.read(first + "block 100 16 1 0100\nspill vector 1\nmemory loads 1\nend\n")
    assert [r.instructions for r in profile.regions] == [3, 1] and profile.instructions == 4
    assert profile.spills == {"vector": 3} and profile.memory == {"loads": 8}
    assert profile.blocks() == [Block(0x100, b"\x01\x00", 64, 4)]
