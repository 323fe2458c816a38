"""Reports: what is read from machine code, from records, and what the command prints."""

from __future__ import annotations

import json
import struct

import pytest
import torch
from torch_rvv.runtime.record import GraphRecord, KernelRecord

import torch_rvv
from torch_rvv import cli
from torch_rvv.errors import LoweringError
from torch_rvv.explain import Report
from torch_rvv.innerloops import innermost
from torch_rvv.machinecode import count

# What an assembler makes of them.
CODE = {
    "vsetvli t0, a0, e32, m4, ta, ma": (0x0D2572D7, 4),
    "vsetvli t0, a0, e32, m8, ta, ma": (0x0D3572D7, 4),
    "vsetivli zero, 4, e8, mf8, ta, ma": (0xCC527057, 4),
    "vsetvli t0, a0, e16, mf2, ta, ma": (0x0CF572D7, 4),
    "vsetvl t0, a0, a1": (0x80B572D7, 4),
    "vle32.v v8, (a0)": (0x02056407, 4),
    "vse64.v v8, (a1)": (0x0205F427, 4),
    "vlse32.v v8, (a0), a1": (0x0AB56407, 4),
    "vluxei64.v v8, (a0), v16": (0x07057407, 4),
    "vs8r.v v8, (sp)": (0xE2810427, 4),
    "vl8re8.v v8, (sp)": (0xE2810407, 4),
    "vfmacc.vv v8, v16, v24": (0xB3881457, 4),
    "vadd.vi v8, v8, 1": (0x0280B457, 4),
    "flw fa0, 0(a0)": (0x00052507, 4),
    "c.fsd fa0, 0(a1)": (0xA188, 2),
    "fadd.s fa0, fa0, fa1": (0x00B57553, 4),
    "addi a0, a0, 2000": (0x7D050513, 4),
    "c.addi a0, 1": (0x0505, 2),
    "c.nop": (0x0001, 2),
    "vl8re32.v v8, (a0)": (0xE2856407, 4),
    "vs8r.v v8, (a1)": (0xE2858427, 4),
    "addi a0, sp, 16": (0x01010513, 4),
    "vs4r.v v8, (a0)": (0x62850427, 4),
    "c.addi4spn a1, sp, 16": (0x080C, 2),
    "vs4r.v v8, (a1)": (0x62858427, 4),
    "add a0, sp, a2": (0x00C10533, 4),
    "c.mv a3, a0": (0x86AA, 2),
    "c.add a4, a3": (0x9736, 2),
    "vs1r.v v8, (a4)": (0x02870427, 4),
    "ld a0, 0(a0)": (0x00053503, 4),
    "vs1r.v v8, (a0)": (0x02850427, 4),
    "c.li a0, 1": (0x4505, 2),
}


def assembled(*instructions: str) -> bytes:
    """An ELF file with just these instructions in .text."""
    code = b"".join(word.to_bytes(length, "little") for word, length in (CODE[i] for i in instructions))
    names = b"\0.text\0.shstrtab\0"
    start = 64 + len(code) + len(names)

    def section(name: int, kind: int, at: int, size: int) -> bytes:
        return struct.pack("<IIQQQQIIQQ", name, kind, 0, 0, at, size, 0, 0, 1, 0)

    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 1, 243, 1, 0, 0, start, 0, 64, 0, 0, 64, 3, 2)
    sections = section(0, 0, 0, 0) + section(1, 1, 64, len(code)) + section(7, 3, 64 + len(code), len(names))
    return header + code + names + sections


@pytest.mark.ir
@pytest.mark.parametrize(
    ("instructions", "expected"),
    [
        (["vsetvli t0, a0, e32, m4, ta, ma"], {"vector": 1, "vsetvl": 1, "lmul": {"4"}}),
        (
            ["vsetivli zero, 4, e8, mf8, ta, ma", "vsetvli t0, a0, e16, mf2, ta, ma"],
            {"vsetvl": 2, "lmul": {"1/8", "1/2"}},
        ),
        (["vsetvl t0, a0, a1"], {"vector": 1, "vsetvl": 1, "lmul": set()}),
        (["vle32.v v8, (a0)", "vse64.v v8, (a1)"], {"vector": 2, "vector_loads": 1, "vector_stores": 1, "spills": 0}),
        (["vlse32.v v8, (a0), a1", "vluxei64.v v8, (a0), v16"], {"strided": 1, "indexed": 1, "vector_loads": 2}),
        (["vs8r.v v8, (sp)", "vl8re8.v v8, (sp)"], {"spills": 1, "vector": 2}),
        (["vl8re32.v v8, (a0)", "vs8r.v v8, (a1)"], {"spills": 0, "vector": 2}),
        (["addi a0, sp, 16", "vs4r.v v8, (a0)", "c.addi4spn a1, sp, 16", "vs4r.v v8, (a1)"], {"spills": 2}),
        (["add a0, sp, a2", "c.mv a3, a0", "c.add a4, a3", "vs1r.v v8, (a4)"], {"spills": 1}),
        (["addi a0, sp, 16", "ld a0, 0(a0)", "vs1r.v v8, (a0)"], {"spills": 0}),
        (["addi a0, sp, 16", "c.li a0, 1", "vs1r.v v8, (a0)"], {"spills": 0}),
        (["vfmacc.vv v8, v16, v24", "vadd.vi v8, v8, 1"], {"vector": 2, "scalar": 0}),
        (["flw fa0, 0(a0)", "c.fsd fa0, 0(a1)", "fadd.s fa0, fa0, fa1"], {"vector": 0, "scalar": 3}),
        (["c.addi a0, 1", "addi a0, a0, 2000", "c.nop"], {"vector": 0, "scalar": 3, "total": 3}),
    ],
)
def test_machine_code_is_counted(instructions, expected):
    counts = count(assembled(*instructions))
    assert {name: getattr(counts, name) for name in expected} == expected


@pytest.mark.ir
def test_what_is_not_an_object_is_refused():
    with pytest.raises(LoweringError, match="not an ELF file"):
        count(b"#!/bin/sh\n")


@pytest.mark.ir
def test_a_report_of_compiled_and_declined_kernels():
    gather = {"kind": "gather", "op": "load", "arg": 0, "why": "an index from memory", "where": "k.py:7"}
    unit = {"kind": "unit", "op": "store", "arg": 1, "why": "", "where": "k.py:9"}
    code = assembled("vsetvli t0, a0, e32, m8, ta, ma", "vle32.v v8, (a0)", "c.addi a0, 1")
    graph = GraphRecord(
        [
            KernelRecord(
                "good", metadata={"accesses": [gather, unit]}, binary=code, seconds=0.05, origins=["aten.add.Tensor"]
            ),
            KernelRecord("bad", compiled=False, reason="tt.histogram is not known", where="k.py:3"),
        ],
        {"aten.mm.out": 2},
    )
    report = Report.of([graph, GraphRecord([], {"aten.mm.out": 1})])
    text, data = str(report), json.loads(report.to_json())
    assert "1 of 2 kernels compiled; median lowering time 50 ms" in text
    assert "fell back: bad: tt.histogram is not known at k.py:3" in text
    assert "gather: good: load of argument 0: an index from memory (k.py:7)" in text
    assert "in aten: 3 x aten.mm.out" in text
    good, bad = data["kernels"]
    assert (good["vector"], good["lmul"], good["accesses"]) == (2, "8", {"gather": 1, "unit": 1})
    assert (bad["compiled"], bad["vector"], bad["where"]) == (False, 0, "k.py:3")
    assert data["extern"] == {"aten.mm.out": 3} and data["median_compile_ms"] == 50


@pytest.mark.ir
def test_a_report_of_nothing():
    assert "0 of 0 kernels compiled" in str(Report()) and json.loads(Report().to_json())["median_compile_ms"] is None


@pytest.mark.board
def test_explain_proves_vector_code_and_shows_the_gather():
    table, rows, w = torch.randn(64, 50), torch.randint(0, 50, (33,)), torch.randn(33, 2)
    model, aten = lambda t, r, w: torch.softmax(t[:, r], -1) @ w, {"gemm": "aten"}
    report = torch_rvv.explain(model, table, rows, w, options=aten)
    (row,) = report.rows
    assert row.compiled and row.vector > 10 and row.lmul and row.launches == 1 and row.compile_ms > 0
    assert row.accesses.get("gather") and row.gathers and "aten.index.Tensor" in row.origins
    assert any("mm" in name for name in report.extern) and "is left to aten" in str(report)
    report = torch_rvv.explain(model, table, rows, w)
    assert not report.extern and any(row.inner_fmas >= 8 for row in report.rows)


@pytest.mark.board
def test_the_command_reports_what_a_script_compiles(tmp_path, capsys):
    script, out = tmp_path / "script.py", tmp_path / "report.json"
    script.write_text(
        "import sys, torch\n"
        "f = torch.compile(lambda x: x.exp().sum(1), backend='rvv')\n"
        "print('sum', f(torch.zeros(3, int(sys.argv[1]))).tolist())\n"
    )
    assert cli.main(["explain", "--json", str(out), str(script), "5"]) == 0
    printed = capsys.readouterr().out
    assert "sum [5.0, 5.0, 5.0]" in printed and "1 of 1 kernels compiled" in printed
    assert json.loads(out.read_text())["kernels"][0]["vector"] > 0


@pytest.mark.ir
def test_the_multiply_adds_of_innermost_loops_are_counted():
    # An outer loop around an inner one, both closed by bne t0, zero: only the inner one's product counts.
    CODE["bne t0, zero, -4"] = (0xFE029EE3, 4)
    CODE["bne t0, zero, -12"] = (0xFE029AE3, 4)
    code = assembled("vfmacc.vv v8, v16, v24", "vfmacc.vv v8, v16, v24", "bne t0, zero, -4", "bne t0, zero, -12")
    assert [(loop.start, loop.end, loop.multiply_adds) for loop in innermost(code)] == [(4, 8, 1)]
