"""What kernels tell and ask the host while they run: device_print, and addresses of the host's memory."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl

from torch_rvv.errors import KernelAssert, KernelFault
from torch_rvv.plugin import printing

pytestmark = pytest.mark.board


@pytest.fixture(autouse=True)
def errors_are_errors(monkeypatch):
    monkeypatch.setenv("TORCH_RVV_FALLBACK", "error")


@triton.jit
def told(x, n):
    i = tl.arange(0, 4)
    tl.device_print("value", tl.load(x + i), n)
    tl.device_print("here")
    tl.device_print("code", n, hex=True)


def test_each_element_is_a_line_with_its_program_and_index(capsys):
    told[(2, 1, 1)](torch.tensor([1.5, -2.0, 0.0, 4.0]), -5)
    lines = capsys.readouterr().out.strip().split("\n")
    first = [line for line in lines if line.startswith("pid (0, 0, 0)")]
    assert first == [
        "pid (0, 0, 0) idx (0) value: (operand 0) 1.500000",
        "pid (0, 0, 0) idx (1) value: (operand 0) -2.000000",
        "pid (0, 0, 0) idx (2) value: (operand 0) 0.000000",
        "pid (0, 0, 0) idx (3) value: (operand 0) 4.000000",
        "pid (0, 0, 0) idx () value: (operand 1) -5",
        "pid (0, 0, 0) here",
        "pid (0, 0, 0) idx () code: 0xfffffffb",
    ]
    assert len(lines) == 14


@pytest.mark.parametrize(
    ("dtype", "signed", "data", "text"),
    [
        ("i8", True, b"\xff", "-1"), ("i8", False, b"\xff", "255"), ("bf16", False, b"\x80\x3f", "1.000000"),
        ("f16", False, b"\x00\x3c", "1.000000"), ("ptr", False, b"\x10" + bytes(7), "0x10"),
        ("i1", False, b"\x01", "1"),
    ],
)  # fmt: skip
def test_every_type_has_a_text(dtype, signed, data, text):
    row = {"prefix": "x", "operand": 0, "operands": 1, "dtype": dtype, "shape": [], "hex": False, "signed": signed}
    assert printing.lines(row, (1, 2, 3), data) == f"pid (1, 2, 3) idx () x: {text}\n"


@triton.jit
def much(x, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.device_print("x", tl.load(x + i))


def test_many_programs_print_much_and_nothing_is_lost(capsys):
    much[(64,)](torch.arange(64 * 512, dtype=torch.int32), BLOCK=512)
    lines = capsys.readouterr().out.strip().split("\n")
    assert sorted(int(line.rsplit(" ", 1)[1]) for line in lines) == list(range(64 * 512))


@triton.jit
def warned(x, n):
    tl.device_print("before", n)
    tl.device_assert(tl.load(x) > 0, "x is not positive")


@triton.jit
def lost(x, n):
    tl.device_print("before", n)
    tl.store(x + n.to(tl.int64) * 17179869184, 1.0)


def test_what_was_printed_before_an_assertion_or_a_fault_arrives(capsys):
    with pytest.raises(KernelAssert, match="x is not positive"):
        warned[(1,)](torch.zeros(1), 7, debug=True)
    assert "before: 7" in capsys.readouterr().out
    with pytest.raises(KernelFault):
        lost[(1,)](torch.zeros(1), 100)
    assert "before: 100" in capsys.readouterr().out


@triton.jit
def through(table, out, N: tl.constexpr):
    i, k = tl.arange(0, N), tl.program_id(0)
    p = tl.load(table + k).to(tl.pointer_type(tl.float32))
    value = tl.load(p + i)
    tl.store(out + k * N + i, value)
    tl.store(p + i, value * 2)


def test_pointers_in_memory_reach_tensors_of_this_process():
    tensors = [torch.randn(3000) for _ in range(5)]
    copies, out = [t.clone() for t in tensors], torch.zeros(5, 2048)
    through[(5,)](torch.tensor([t.data_ptr() for t in tensors]), out, 2048)
    assert torch.equal(out, torch.stack(copies)[:, :2048])
    for tensor, copy in zip(tensors, copies, strict=True):
        assert torch.equal(tensor[:2048], copy[:2048] * 2) and torch.equal(tensor[2048:], copy[2048:])


def test_a_tensor_that_is_argument_and_address_is_one():
    x = torch.randn(32)
    wanted = x * 2
    through[(1,)](torch.tensor([x.data_ptr()]), x, 32)
    assert torch.equal(x, wanted)


@triton.jit
def circular(x, slot, out):
    i = tl.arange(0, 16)
    tl.store(slot + i, (x + i).to(tl.int64))
    p = tl.load(slot + (15 - i)).to(tl.pointer_type(tl.float32))
    tl.store(out + i, tl.load(p))


def test_addresses_that_a_kernel_stores_are_those_of_this_process():
    x, slot, out = torch.randn(16), torch.zeros(16, dtype=torch.int64), torch.zeros(16)
    circular[(1,)](x, slot, out)
    assert slot.tolist() == [x.data_ptr() + 4 * k for k in range(16)] and torch.equal(out, x.flip(0))


def test_an_address_of_nothing_is_a_fault():
    with pytest.raises(KernelFault, match="SIGSEGV"):
        through[(1,)](torch.tensor([64]), torch.zeros(32), 32)


@triton.jit
def on_shared_pages(addresses, PAGES: tl.constexpr):
    out = tl.load(addresses).to(tl.pointer_type(tl.float32))
    own = tl.program_id(0) * 32 + tl.arange(0, 32)
    for page in range(PAGES):
        for _ in range(page * (7 + 6 * tl.program_id(0)) % 11 * 8):  # So that the threads drift apart.
            tl.store(out + own, tl.load(out + own) * 1)
        tl.store(out + page * 1024 + own, tl.load(out + page * 1024 + own) + 1)


def test_threads_that_meet_on_a_page_of_this_process_lose_nothing(monkeypatch):
    monkeypatch.setenv("TORCH_RVV_THREADS", "2")
    out = torch.zeros(300, 1024)
    on_shared_pages[(2,)](torch.tensor([out.data_ptr()]), PAGES=300)
    assert (out[:, :64] == 1).all() and not out[:, 64:].any()
