"""SpacemiT's SMT extension."""

from __future__ import annotations

import pytest
import torch

from tests.conformance.harness import BF16, F16, F32, F64, I8, I32, case, kernel, values
from tests.conformance.products import close, operand, result

FAMILY = "smt"
GRID = "i, j = tl.arange(0, M), tl.arange(0, K)\nat = i[:, None] * K + j[None, :]\nv = tl.load(x + at)\n"


@case(FAMILY, "view_pack", F32, F64, F16, BF16, I8, I32)
def pack(dtype):
    x, out = values(dtype, 16, 32), torch.zeros(512, dtype=dtype)
    body = GRID + "p = smt.view(v, (0, 0), (M, K), (8, 4))\ntl.store(o + tl.arange(0, 512), tl.reshape(p, (512,)))"
    kernel("x, o, M: tl.constexpr, K: tl.constexpr", body)[(1,)](x, out, 16, 32)
    assert torch.equal(out, x.view(2, 8, 8, 4).permute(0, 2, 1, 3).flatten())


@case(FAMILY, "view_repack_unpack", F32, F16, I8)
def repack(dtype):
    x, out = values(dtype, 16, 32), torch.zeros(512, dtype=dtype)
    body = GRID + (
        "p = smt.view(smt.view(v, (0, 0), (M, K), (8, 4)), (0, 0), (M, K), (4, 16))\n"
        "p = smt.view(p, (0, 0), (M, K), (0, 0))\ntl.store(o + at, smt.view(p, (0, 0), (M, K), (1, 1)))"
    )
    kernel("x, o, M: tl.constexpr, K: tl.constexpr", body)[(1,)](x, out, 16, 32)
    assert torch.equal(out.view(16, 32), x)


@case(FAMILY, "view_slice", F32, I8)
def cut(dtype):
    for s in (0, 8, 12):
        x, out = values(dtype, 16, 32), torch.ones(8, 16, dtype=dtype)
        body = GRID + (
            "p = smt.view(v, (s, 16), (8, 16), (4, 8))\n"
            "tl.store(o + tl.arange(0, 8)[:, None] * 16 + tl.arange(0, 16)[None, :],"
            " smt.view(p, (0, 0), (8, 16), (1, 1)))"
        )
        kernel("x, o, s, M: tl.constexpr, K: tl.constexpr", body)[(1,)](x, out, s, 16, 32)
        wanted = torch.zeros(8, 16, dtype=dtype)
        wanted[: 16 - s] = x[s : s + 8, 16:]
        assert torch.equal(out, wanted)


@case(FAMILY, "view_ragged", F32, I8)
def ragged(dtype):
    x, out = values(dtype, 4, 8), torch.ones(256, dtype=dtype)
    body = GRID + "p = smt.view(v, (0, 0), (M, K), (16, 16))\ntl.store(o + tl.arange(0, 256), tl.reshape(p, (256,)))"
    kernel("x, o, M: tl.constexpr, K: tl.constexpr", body)[(1,)](x, out, 4, 8)
    wanted = torch.zeros(16, 16, dtype=dtype)
    wanted[:4, :8] = x
    assert torch.equal(out, wanted.flatten())


@case(FAMILY, "view_of_block_pointer", F32, F16)
def of_pointer(dtype):
    x, out = values(dtype, 20, 32), torch.zeros(16, 16, dtype=dtype)
    body = (
        "p = tl.make_block_ptr(x, (20, 32), (32, 1), (0, 0), (32, 32), (1, 0))\n"
        "q = tl.make_block_ptr(o, (16, 16), (16, 1), (0, 0), (16, 16), (1, 0))\n"
        "for s in range(2):\n    t = smt.view(smt.view(p, (s * 8 + 8, 8), (8, 16), (4, 8)), (0, 0), (8, 16), (1, 1))\n"
        "    tl.store(smt.view(q, (s * 8, 0), (8, 16), (1, 1)), t)"
    )
    kernel("x, o", body)[(1,)](x, out)
    wanted = torch.zeros(16, 16, dtype=dtype)
    wanted[:12] = x[8:20, 8:24]
    assert torch.equal(out, wanted)


@case(FAMILY, "dot", F32, F16, BF16, I8)
def dot(dtype):
    m, n, k = 23, 40, 50
    a, b, c = operand(dtype, m, k), operand(dtype, k, n, seed=1), torch.zeros(m, n, dtype=result(dtype)[0])
    body = (
        "p = tl.make_block_ptr(a, (M, K), (K, 1), (0, 0), (32, 16), (1, 0))\n"
        "q = tl.make_block_ptr(b, (K, N), (N, 1), (0, 0), (16, 64), (1, 0))\n"
        f"z = smt.view(tl.zeros((32, 64), {result(dtype)[1]}), (0, 0), (32, 64), (4, 8))\n"
        "for s in range(0, K, 16):\n    x = smt.view(smt.descriptor_load(p, (0, s)), (0, 0), (32, 16), (4, 8))\n"
        "    y = smt.view(smt.descriptor_load(q, (s, 0)), (0, 0), (16, 64), (8, 8))\n    z = smt.dot(x, y, z)\n"
        "tl.store(tl.make_block_ptr(c, (M, N), (N, 1), (0, 0), (32, 64), (1, 0)),"
        " smt.view(z, (0, 0), (32, 64), (1, 1)), boundary_check=(0, 1))"
    )
    kernel("a, b, c, M, N, K", body)[(1,)](a, b, c, m, n, k)
    close(c, a, b)


@case(FAMILY, "dot_columns_first", F32, F16, I8)
def columns_first(dtype):
    a, b, c = operand(dtype, 16, 32), operand(dtype, 32, 8, seed=1), torch.zeros(16, 8, dtype=result(dtype)[0])
    body = (
        "i, j, k = tl.arange(0, 16), tl.arange(0, 8), tl.arange(0, 32)\n"
        "x = smt.view(tl.load(a + i[:, None] * 32 + k[None, :]), (0, 0), (16, 32), (4, 8))\n"
        "y = smt.view(tl.load(b + k[None, :] * 8 + j[:, None]), (0, 0), (8, 32), (4, 8))\n"
        "z = smt.view(smt.dot(x, tl.permute(y, (0, 1, 2, 3))), (0, 0), (16, 8), (1, 1))\n"
        "tl.store(c + i[:, None] * 8 + j[None, :], z)"
    )
    kernel("a, b, c", body)[(1,)](a, b, c)
    close(c, a, b)


@case(FAMILY, "alloc_and_barriers", F32, F16)
def allocated(dtype):
    x, out = values(dtype, 32, 32), torch.zeros(32, 32, dtype=dtype)
    body = (
        "t = smt.alloc((32, 32), x.dtype.element_ty)\nc = smt.alloc_copies((8, 32), 2, x.dtype.element_ty, 'tcm')\n"
        "b = smt.mbarrier()\nbs = smt.mbarrier_copies(2)\nsmt.barrier_set_expect(b, smt.get_num_of_thread())\n"
        "smt.compile_hint(x, 'name', 1)\n"
        "smt.descriptor_load(tl.make_block_ptr(x, (32, 32), (32, 1), (0, 0), (32, 32), (1, 0)), (0, 0), t)\n"
        "for s in smt.parallel(0, 4, bind_sub_block=True):\n"
        "    tl.store(c[s % 2], tl.load(smt.view(t, (s * 8, 0), (8, 32), (1, 1))) * 2)\n    smt.barrier_arrive(b)\n"
        "    smt.barrier_wait(b)\n"
        "    tl.store(tl.make_block_ptr(o, (32, 32), (32, 1), (s * 8, 0), (8, 32), (1, 0)), tl.load(c[s % 2]))"
    )
    kernel("x, o", body)[(2,)](x, out)
    assert torch.equal(out, x * 2)


@case(FAMILY, "dependent_rounds_refused")
def dependent():
    with pytest.raises(Exception, match="must not depend on each other"):
        kernel("x, n", "t = 0.0\nfor s in smt.parallel(0, n):\n    t += s\ntl.store(x, t)")[(1,)](torch.zeros(1), 3)
