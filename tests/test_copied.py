"""Right operands copied on the way: what is, and that products are the same to the last bit as with a copy before."""

from __future__ import annotations

import pytest
import torch
from test_dotloop import BODY, masked, moving, run, unmasked
from torch_rvv.lowering import copied
from torch_rvv.lowering.pipeline import lower

from torch_rvv.knobs import CodegenOptions
from torch_rvv.target import TARGETS


@pytest.mark.board
@pytest.mark.parametrize(
    "kernel, blocks, dtype, guard",
    [
        (moving, (64, 64, 16), torch.float32, "end"),
        (moving, (32, 16, 32), torch.float16, "start"),
        (masked, (32, 16, 32), torch.float32, "start"),
        (masked, (16, 128, 8), torch.float64, "end"),
        (unmasked, (64, 64, 16), torch.int8, "end"),
        (unmasked, (16, 128, 8), torch.float32, "start"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_products_are_the_same_as_with_a_copy_before_them(kernel, blocks, dtype, guard, monkeypatch, tmp_path):
    """Blocks inside and at the edges; rounds of one step and more; nothing is read or written beside the tensors."""
    monkeypatch.setenv("TORCH_RVV_FALLBACK", "error")
    monkeypatch.setenv("TORCH_RVV_GUARD", guard)
    generator, sizes = torch.Generator().manual_seed(0), [(130, 70, 33), (97, 289, 200)]
    for number, (m, k, n) in enumerate(sizes):
        k = -(-k // blocks[2]) * blocks[2] if kernel is unmasked else k
        a, b = (torch.randn(size, generator=generator) * 4 for size in ((m, k), (k, n)))
        a, b = a.to(dtype), b.to(dtype)
        on_the_way, _ = run(kernel, a, b, blocks, monkeypatch, tmp_path / f"way{number}", 128)
        with monkeypatch.context() as patch:
            patch.setattr(copied, "source", lambda *_: None)
            before, _ = run(kernel, a, b, blocks, monkeypatch, tmp_path / f"before{number}", 128)
        assert torch.equal(on_the_way, before)
        exact = a.double() @ b.double()
        torch.testing.assert_close(on_the_way.double(), exact, rtol=1e-3, atol=1e-2)


LOAD = "%y = tt.load %b : tensor<16x16x!tt.ptr<f32>>"
COMPUTED = LOAD.replace("%y", "%y0") + "\n    %y = arith.addf %y0, %y0 : tensor<16x16xf32>"


def nests(size: int = 32, load: str = LOAD) -> tuple[int, bool]:
    """(how many nests, whether a product copies) of a loop around a product of blocks of so many rows."""
    text = BODY.replace("EXTRA", "").replace("RESULT", "%d").replace("ROWS", "%aa").replace("STEP", "16")
    stages, metadata = lower(text.replace(LOAD, load).replace("16", str(size)), CodegenOptions(target=TARGETS["k1"]))
    loops = [loop.split("scf.yield")[0] for loop in stages["vector"].split("scf.for")]
    return len(metadata["nests"]), any("math.fma" in loop and "llvm.vp.store" in loop for loop in loops)


@pytest.mark.ir
def test_the_first_rows_of_a_product_copy_its_right_operand():
    count, copies = nests()
    assert copies and nests(load=COMPUTED) == (count + 1, False)


@pytest.mark.ir
def test_nothing_is_copied_for_one_block_of_rows():
    assert not nests(8)[1]
