"""Spaces in pieces by the masks of their reads: the same results as with masks, and when there are no pieces."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch_rvv.lowering import interior

WIDE = 64


@triton.jit
def padded_row(x, scale, out, m, n, before, BLOCK: tl.constexpr):
    """A row with zeros around it; the rest of it scaled by one number, which is read under the same mask."""
    d = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = (d - before >= 0) & (d - before < m)
    value = tl.load(x + d - before, inside, other=0.0) / tl.sqrt(tl.load(scale + d * 0, inside, other=0.0))
    tl.store(out + d, tl.where(inside, value, 0.0), d < n)


@triton.jit
def padded_image(x, bias, out, H, W, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """One pixel of zeros around each channel's image, which gets the channel's bias."""
    channel = tl.program_id(2)
    i = (tl.program_id(1) * ROWS + tl.arange(0, ROWS))[:, None]
    j = (tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS))[None, :]
    inside = (i - 1 >= 0) & (i - 1 < H) & (j - 1 >= 0) & (j - 1 < W)
    value = tl.load(x + channel * H * W + (i - 1) * W + (j - 1), inside, other=0.0)
    value += tl.load(bias + channel + i * 0 + j * 0, inside, other=0.0)
    stored = (i < H + 2) & (j < W + 2)
    tl.store(out + channel * (H + 2) * (W + 2) + i * (W + 2) + j, tl.where(inside, value, 0.0), stored)


@triton.jit
def beside(x, y, out, n, AT: tl.constexpr, BLOCK: tl.constexpr):
    """Two rows, one behind the other."""
    d = tl.arange(0, BLOCK)
    first = d < AT
    tl.store(out + d, tl.where(first, tl.load(x + d, first), tl.load(y + d - AT, (d >= AT) & (d < n))), d < n)


@triton.jit
def every_second(x, out, m, n, BLOCK: tl.constexpr):
    """The largest of three neighbours, at every second place."""
    d = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    most = tl.full((BLOCK,), float("-inf"), tl.float32)
    for tap in tl.static_range(3):
        at = 2 * d - 1 + tap
        most = tl.maximum(most, tl.load(x + at, (at >= 0) & (at < m), other=float("-inf")))
    tl.store(out + d, most, d < n)


@triton.jit
def pooled(x, out, H, W, R: tl.constexpr, C: tl.constexpr):
    """The largest of 3 by 3 neighbours, those beyond the image aside."""
    i = (tl.program_id(1) * R + tl.arange(0, R))[:, None]
    j = (tl.program_id(0) * C + tl.arange(0, C))[None, :]
    most = tl.full((R, C), float("-inf"), tl.float32)
    for tap in tl.static_range(9):
        u, v = i - 1 + tap // 3, j - 1 + tap % 3
        inside = (u >= 0) & (u < H) & (v >= 0) & (v < W)
        most = tl.maximum(most, tl.load(x + u * W + v, inside, other=float("-inf")))
    tl.store(out + i * W + j, most, (i < H) & (j < W))


@triton.jit
def between(x, out, low, high, n, BLOCK: tl.constexpr):
    d = tl.arange(0, BLOCK)
    inside = (d >= low) & (d < high)
    tl.store(out + d, tl.load(x + d, inside, other=-1.0) + tl.load(x + 2 * d, inside, other=-1.0), d < n)


@triton.jit
def behind_both(x, out, a, b, n, BLOCK: tl.constexpr):
    d = tl.arange(0, BLOCK)
    tl.store(out + d, tl.load(x + d, d >= a, other=-1.0) + tl.load(x + 2 * d, (d >= b), other=-1.0), d < n)


@triton.jit
def chosen_by_data(x, which, out, n, BLOCK: tl.constexpr):
    d = tl.arange(0, BLOCK)
    some = (tl.load(which + d, d < n, other=0) > 0) & (d > 0)
    tl.store(out + d, tl.load(x + d - 1, some, other=-1.0) + tl.load(x + d, some, other=-1.0), d < n)


@triton.jit
def shifted(x, out, n, BLOCK: tl.constexpr):
    d = tl.arange(0, BLOCK)
    tl.store(out + d, tl.load(x + d - 1, d > 0, other=0.0), d < n)


class Runs:
    """Launches a kernel; `pieces` counts what spaces were taken apart into."""

    def __init__(self, monkeypatch, folder):
        self.monkeypatch, self.folder, self.pieces = monkeypatch, folder, 0
        monkeypatch.setenv("TORCH_RVV_FALLBACK", "error")
        self.plain = interior.pieces

    def __call__(self, kernel, grid, *args, whole=False, **constants):
        self.pieces = 0

        def pieces(*args):
            found = [] if whole else self.plain(*args)
            self.pieces += len(found)
            return found

        self.monkeypatch.setattr(interior, "pieces", pieces)
        self.monkeypatch.setenv("TRITON_CACHE_DIR", str(self.folder / f"{kernel.fn.__name__}-{whole}"))
        kernel.device_caches.clear()
        kernel[grid](*args, **constants)


@pytest.fixture
def launch(monkeypatch, tmp_path):
    return Runs(monkeypatch, tmp_path)


def numbers(*shape, seed=0):
    """With a NaN, an infinity and a negative zero among them."""
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    for at, value in enumerate((float("nan"), float("inf"), -0.0)):
        x.view(-1)[at::11] = value
    return x


@pytest.mark.board
@pytest.mark.parametrize(
    "m, n, before", [(70, 72, 1), (1, 3, 1), (200, 200, 0), (30, 150, 90), (90, 64, 5), (64, 128, 64)]
)
def test_a_padded_row_is_right_wherever_its_blocks_begin(m, n, before, launch):
    x, scale = numbers(m), torch.tensor([0.7])
    outs = [torch.full((n + 1,), 9.0) for _ in range(2)]
    for out, whole in zip(outs, (False, True), strict=True):
        launch(padded_row, (triton.cdiv(n, WIDE),), x, scale, out, m, n, before, whole=whole, BLOCK=WIDE)
        assert launch.pieces == (0 if whole else 3)
    want = F.pad(x / scale.sqrt(), (before, max(n - m - before, 0)))[:n]
    torch.testing.assert_close(outs[0][:n], want, equal_nan=True)
    assert torch.equal(outs[0].view(torch.int32), outs[1].view(torch.int32))


@pytest.mark.board
@pytest.mark.parametrize("size", [(14, 14), (1, 1), (1, 40), (33, 2), (31, 70)], ids=str)
def test_a_padded_image_is_its_inner_part_and_four_borders(size, launch):
    x, bias = numbers(3, *size), torch.randn(3)
    out = torch.full((3, size[0] + 2, size[1] + 2), 9.0)
    launch(padded_image, (triton.cdiv(size[1] + 2, 32), triton.cdiv(size[0] + 2, 16), 3), x, bias, out, *size,
           ROWS=16, COLUMNS=32)  # fmt: skip
    assert launch.pieces == 3 + 3
    torch.testing.assert_close(out, F.pad(x + bias[:, None, None], (1, 1, 1, 1)), equal_nan=True)


@pytest.mark.board
@pytest.mark.parametrize("n", [1, 24, 25, 64])
def test_rows_behind_each_other_are_copied_without_masks(n, launch):
    x, y, out = numbers(24), numbers(40, seed=1), torch.full((64,), 9.0)
    launch(beside, (1,), x, y, out, n, AT=24, BLOCK=64)
    assert launch.pieces == 2
    want = torch.cat([x, y])[:n]
    torch.testing.assert_close(out[:n], want, equal_nan=True)
    assert bool((out[n:] == 9).all())


@pytest.mark.board
@pytest.mark.parametrize("m", [1, 2, 55, 128, 129])
def test_neighbours_at_every_second_place(m, launch):
    x, n = torch.randn(m), (m - 1) // 2 + 1
    out = torch.full((n,), 9.0)
    launch(every_second, (triton.cdiv(n, 16),), x, out, m, n, BLOCK=16)
    assert torch.equal(out, F.max_pool1d(x[None, None], 3, 2, 1)[0, 0])


@pytest.mark.board
@pytest.mark.parametrize("size", [(1, 1), (2, 33), (17, 64), (40, 70)], ids=str)
def test_reads_with_bounds_of_their_own_take_apart_rows_and_then_the_inner_part(size, launch):
    x, out = torch.randn(*size), torch.full(size, 9.0)
    launch(pooled, (triton.cdiv(size[1], 64), triton.cdiv(size[0], 16)), x, out, *size, R=16, C=64)
    assert torch.equal(out, F.max_pool2d(x[None], 3, 1, 1)[0])
    # Columns in three, of which the middle one has its rows in three.
    assert min(size) == 1 or launch.pieces == 3 + 3


@pytest.mark.board
@pytest.mark.parametrize("low, high", [(3, 20), (20, 3), (-5, 99), (0, 0), (50, 64), (80, 70), (-9, -3)])
def test_a_lower_and_an_upper_bound_may_be_in_any_order(low, high, launch):
    x, out, d = torch.randn(256), torch.empty(64), torch.arange(64)
    launch(between, (1,), x, out, low, high, 64, BLOCK=64)
    assert launch.pieces == 3
    assert torch.equal(out, torch.where((d >= low) & (d < high), x[:64] + x[:128:2], torch.tensor(-2.0)))


@pytest.mark.board
@pytest.mark.parametrize("a, b", [(3, 20), (20, 3), (-5, 99)])
def test_two_lower_bounds_in_unknown_order_stay_masks(a, b, launch):
    x, out, d = torch.randn(256), torch.empty(64), torch.arange(64)
    launch(behind_both, (1,), x, out, a, b, 64, BLOCK=64)
    assert launch.pieces == 0
    other = torch.tensor(-1.0)
    assert torch.equal(out, torch.where(d >= a, x[:64], other) + torch.where(d >= b, x[:128:2], other))


@pytest.mark.board
def test_long_bodies_are_not_written_again_and_again(launch, monkeypatch):
    monkeypatch.setattr(interior, "LINES", 40)
    x, out = torch.randn(17, 64), torch.empty(17, 64)
    launch(pooled, (1, 2), x, out, 17, 64, R=16, C=64)
    assert launch.pieces == 0
    assert torch.equal(out, F.max_pool2d(x[None], 3, 1, 1)[0])


@pytest.mark.board
def test_masks_of_data_stay_masks(launch):
    x, which, out = torch.randn(64), torch.arange(64) % 3, torch.empty(64)
    launch(chosen_by_data, (1,), x, which, out, 64, BLOCK=64)
    assert launch.pieces == 0
    want = torch.where(which > 0, x.roll(1) + x, torch.tensor(-2.0))
    assert torch.equal(out, want)


@pytest.mark.board
@pytest.mark.parametrize("block, pieces", [(32, 0), (64, 2)])
def test_one_masked_read_is_worth_pieces_in_long_rows_alone(block, pieces, launch):
    x, out = torch.randn(block), torch.empty(block)
    launch(shifted, (1,), x, out, block, BLOCK=block)
    assert launch.pieces == pieces
    assert torch.equal(out, F.pad(x, (1, 0))[:block])
