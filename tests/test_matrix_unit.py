"""int8 products on SpacemiT's matrix unit: in the code, and right where the worker emulates the instruction."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl
import triton.language.extra.smt as smt
from torch_rvv.runtime.build import compile_c
from torch_rvv.runtime.device import get_device

from torch_rvv.errors import DeviceError, OptionError
from torch_rvv.knobs import CodegenOptions
from torch_rvv.plugin.compiler import compiling
from torch_rvv.target import TARGETS, Target

pytestmark = [pytest.mark.board, pytest.mark.filterwarnings("ignore:tl.make_block_ptr")]
OPTIONS = CodegenOptions(target=TARGETS["k1-ime"])


@pytest.fixture(autouse=True)
def errors_are_errors(monkeypatch):
    monkeypatch.setenv("TORCH_RVV_FALLBACK", "error")
    torch.manual_seed(0)


@triton.jit
def packed(a, b, c, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    i, j = tl.program_id(0) * BM, tl.program_id(1) * BN
    left = tl.make_block_ptr(a, (M, K), (K, 1), (i, 0), (BM, BK), (1, 0))
    right = tl.make_block_ptr(b, (K, N), (N, 1), (0, j), (BK, BN), (1, 0))
    total = smt.view(tl.zeros((BM, BN), tl.int32), (0, 0), (BM, BN), (4, 4))
    for k in range(0, K, BK):
        x = smt.view(smt.descriptor_load(left, (0, k)), (0, 0), (BM, BK), (4, 8))
        y = smt.view(smt.descriptor_load(right, (k, 0)), (0, 0), (BK, BN), (8, 4))
        total = smt.dot(x, y, total)
    target = tl.make_block_ptr(c, (M, N), (N, 1), (i, j), (BM, BN), (1, 0))
    tl.store(target, smt.view(total, (0, 0), (BM, BN), (1, 1)), boundary_check=(0, 1))


@pytest.mark.parametrize("sizes", [(16, 16, 32), (32, 64, 64), (23, 41, 70)])
def test_packed_products_run_on_the_unit(sizes):
    m, n, k = sizes
    a, b = torch.randint(-128, 128, (m, k), dtype=torch.int8), torch.randint(-128, 128, (k, n), dtype=torch.int8)
    c = torch.zeros(m, n, dtype=torch.int32)
    with compiling(OPTIONS):
        compiled = packed[(triton.cdiv(m, 16), triton.cdiv(n, 16))](a, b, c, m, n, k, BM=16, BN=16, BK=32)
    assert "smt.vmadot" in compiled.asm["object"]
    assert torch.equal(c, a.int() @ b.int())


@triton.jit
def plain(a, b, c, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    i, j, k = tl.arange(0, M), tl.arange(0, N), tl.arange(0, K)
    x, y = tl.load(a + i[:, None] * K + k[None, :]), tl.load(b + k[:, None] * N + j[None, :])
    z = tl.dot(x, y, tl.full((M, N), 5, tl.int32), out_dtype=tl.int32)
    tl.store(c + i[:, None] * N + j[None, :], z * 2)


@pytest.mark.parametrize(("sizes", "taken"), [((8, 8, 16), True), ((4, 4, 8), True), ((2, 8, 8), False)])
def test_whole_tiles_are_taken_and_other_sizes_are_vector_code(sizes, taken):
    m, n, k = sizes
    a, b = torch.randint(-128, 128, (m, k), dtype=torch.int8), torch.randint(-128, 128, (k, n), dtype=torch.int8)
    c = torch.zeros(m, n, dtype=torch.int32)
    with compiling(OPTIONS):
        compiled = plain[(1,)](a, b, c, m, n, k)
    assert ("smt.vmadot" in compiled.asm["object"]) == taken
    assert torch.equal(c, (a.int() @ b.int() + 5) * 2)


def test_without_the_unit_nothing_names_it():
    a = torch.zeros(8, 16, dtype=torch.int8)
    compiled = plain[(1,)](a, a.t().contiguous(), torch.zeros(8, 8, dtype=torch.int32), 8, 8, 16)
    assert "vmadot" not in compiled.asm["object"] and "vwmacc" in compiled.asm["object"]


def test_a_board_without_the_unit_refuses_the_code(monkeypatch):
    monkeypatch.setenv("TORCH_RVV_VLEN", "512")
    a = torch.zeros(8, 16, dtype=torch.int8)
    with compiling(OPTIONS), pytest.raises(DeviceError, match="needs xsmtvdot"):
        plain[(1,)](a, a.t().contiguous(), torch.zeros(8, 8, dtype=torch.int32), 8, 8, 16)


def test_the_unit_belongs_to_one_vector_length():
    with pytest.raises(OptionError, match="the matrix unit|VLEN 1024|VLEN 256"):
        Target("odd", vlen=1024, matrix="ime")


SOURCE = """
#include "torch_rvv.h"
const torch_rvv_kernel_descriptor torch_rvv_descriptor = {
    TORCH_RVV_ABI_VERSION, 3, 128, 0, 0, "vmadot", "*i8,*i8,*i32", "rv64imafdcv_xsmtvdot"};
int32_t vmadot(const uint64_t *args, const uint32_t grid[3], uint64_t begin, uint64_t end,
               const torch_rvv_context *context) {
  (void)grid, (void)begin, (void)end, (void)context;
  unsigned long before, after, types;
  __asm__ volatile(
      ".option push\\n.option arch, +v, +xsmtvdot\\nvsetivli zero, 16, e32, m2, ta, ma\\nvle32.v v30, (%5)\\n"
      "li %2, 32\\nvsetvli zero, %2, e8, m1, ta, ma\\nvle8.v v3, (%3)\\nvle8.v v29, (%4)\\n"
      "li %2, 13\\nvsetvli %0, %2, e16, m2, tu, mu\\ncsrr %2, vtype\\nMNEMONIC v30, v3, v29\\n"
      "csrr %1, vtype\\nsub %2, %2, %1\\ncsrr %1, vl\\n"
      "vsetivli zero, 16, e32, m2, ta, ma\\nvse32.v v30, (%5)\\n.option pop"
      : "=&r"(before), "=&r"(after), "=&r"(types)
      : "r"(args[0]), "r"(args[1]), "r"(args[2])
      : "memory");
  return before != 13 || after != 13 || types != 0;
}
"""


def _native(mnemonic: str, folder) -> bytes:
    """A kernel that runs one instruction, and returns 1 if vl or vtype changed."""
    source, built = folder / "vmadot.c", folder / "vmadot.so"
    source.write_text(SOURCE.replace("MNEMONIC", mnemonic))
    compile_c([source], built, ("-shared", "-fPIC"))
    return built.read_bytes()


@pytest.mark.parametrize(
    ("mnemonic", "left", "right"),
    [
        ("smt.vmadot", torch.int8, torch.int8), ("smt.vmadotu", torch.uint8, torch.uint8),
        ("smt.vmadotsu", torch.int8, torch.uint8), ("smt.vmadotus", torch.uint8, torch.int8),
    ],
)  # fmt: skip
def test_the_emulated_instruction_in_its_four_kinds(mnemonic, left, right, tmp_path):
    a, b = (torch.randint(0, 256, (4, 8), dtype=torch.uint8).view(d) for d in (left, right))
    c = torch.randint(-1000, 1000, (4, 4), dtype=torch.int32)
    wanted = c + a.int() @ b.int().t()
    device = get_device()
    held = [device.empty_strided(t.shape, t.stride(), t.dtype).copy_(t) for t in (a, b, c)]
    kernel = device.load(_native(mnemonic, tmp_path), "vmadot")
    assert device.launch(kernel, (1,), held) == 0 and torch.equal(held[2], wanted)
