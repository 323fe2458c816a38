"""Which arguments of a launch share memory: by span, and by element for kernels that touch nothing in between."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch_rvv.runtime import record

from torch_rvv.plugin.driver import Launcher, interleaved, overlap

BASE = torch.arange(256.0).view(8, 32)
VIEWS = [
    lambda x: x[:, :16],
    lambda x: x[:, 16:],
    lambda x: x[:, 8:24],
    lambda x: x[1:7, :16],
    lambda x: x[:, ::2],
    lambda x: x[:, 1::2],
    lambda x: x[::2],
    lambda x: x[1::2],
    lambda x: x.t()[:16],
    lambda x: x.view(2, 4, 32)[:, 1:3],
    lambda x: x.view(2, 4, 32)[:, :, 5:9],
    lambda x: x.view(2, 4, 32)[1:, :, 1:5],
    lambda x: x.as_strided((4, 4), (3, 2)),
    lambda x: x.as_strided((4, 4), (3, 2), 1),
    lambda x: x[:1].expand(8, 32),
    lambda x: x[3],
]


def places(x):
    return {int(n) for n in x.storage_offset() + sum(
        torch.arange(size).reshape(-1, *[1] * (x.dim() - 1 - d)) * stride
        for d, (size, stride) in enumerate(zip(x.shape, x.stride(), strict=True))
    ).flatten()}  # fmt: skip


@pytest.mark.ir
def test_views_that_are_called_apart_have_no_element_in_common():
    apart = 0
    for one, other in itertools.product(VIEWS, repeat=2):
        a, b = one(BASE), other(BASE)
        if interleaved(a, b):
            assert not places(a) & places(b)
            apart += 1
        assert overlap([a, b], [0], views=True) >= bool(places(a) & places(b))
    assert apart >= 6  # Halves of rows, either order; and lines of two.


@pytest.mark.ir
def test_random_views():
    generator = torch.Generator().manual_seed(0)
    agree = 0
    for _ in range(300):
        sizes = torch.randint(1, 5, (3,), generator=generator).tolist()
        strides = torch.randint(0, 12, (3,), generator=generator).tolist()
        a, b = (BASE.as_strided(sizes, strides, int(torch.randint(0, 40, (), generator=generator))) for _ in range(2))
        shared = bool(places(a) & places(b))
        assert not (interleaved(a, b) and shared)
        agree += interleaved(a, b) == (not shared)
    assert agree > 100


@pytest.mark.ir
def test_what_a_kernel_of_the_users_may_touch_is_all_that_lies_between():
    halves = [BASE[:, :16], BASE[:, 16:]]
    assert overlap(halves, [0]) and not overlap(halves, [0], views=True)
    assert overlap([BASE[:, :17], BASE[:, 16:]], [1], views=True)


@pytest.mark.board
def test_parts_of_a_concatenation_need_no_second_version(monkeypatch):
    versions = []
    plain = Launcher._kernel
    monkeypatch.setattr(
        Launcher, "_kernel", lambda self, device, noalias: versions.append(noalias) or plain(self, device, noalias)
    )

    def function(x, y):
        both = torch.cat([x * 2, y + 1], -1)
        return both.flip(0), both

    x, y = torch.randn(7, 16), torch.randn(7, 16)
    with record.collecting():
        result = torch.compile(function, backend="rvv")(x, y)
    for got, want in zip(result, function(x, y), strict=True):
        assert torch.equal(got, want)
    assert versions and all(versions)
