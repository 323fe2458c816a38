"""Operations that move elements: broadcast, reshape, permute, join, split, cat, gather, flip."""

from __future__ import annotations

import torch

from tests.conformance.harness import BF16, BOOL, E4M3, F16, F32, F64, I8, I32, I64, NUMBERS, case, kernel, same, values

FAMILY = "shapes"
SOME = (F32, F64, F16, BF16, I8, I32, I64)


def check(dtype: torch.dtype, shape: tuple[int, ...], body: str, wanted, exact: bool = True) -> None:
    """Run `body`, which makes y of x (of a shape), and compare y, flat, with wanted(x)."""
    x = values(dtype, *shape)
    result = wanted(x)
    out = torch.zeros(result.numel(), dtype=result.dtype)
    text = (
        f"x = tl.reshape(tl.load(xp + tl.arange(0, {x.numel()})), {list(shape)})\n{body}\n"
        f"tl.store(op + tl.arange(0, {result.numel()}), tl.reshape(y, [{result.numel()}]))"
    )
    kernel("xp, op", text)[(1,)](x, out)
    same(out, result.flatten(), exact=exact)


def table(feature, shape, body, wanted, dtypes=SOME) -> None:
    case(FAMILY, feature, *dtypes)(lambda dtype: check(dtype, shape, body, wanted))


table("reshape_2d_3d", (8, 32), "y = tl.reshape(x, [4, 2, 32])", lambda x: x)
table(
    "reshape_split_columns",
    (8, 32),
    "y = tl.trans(tl.reshape(x, [8, 8, 4]), 1, 0, 2)",
    lambda x: x.view(8, 8, 4).transpose(0, 1),
)
table("view", (8, 32), "y = tl.view(x, [256])", lambda x: x, (F32, I32))
table("ravel", (8, 32), "y = tl.ravel(x)", lambda x: x, (F32, I32))
table(
    "expand_dims",
    (32,),
    "y = tl.expand_dims(tl.expand_dims(x, 0), -1) + tl.zeros((4, 32, 2), x.dtype)",
    lambda x: x[None, :, None].expand(4, 32, 2),
)
table("broadcast_to", (32,), "y = tl.broadcast_to(x[:, None], (32, 8))", lambda x: x[:, None].expand(32, 8))
table("broadcast_pair", (32,), "a, y = tl.broadcast(x[:, None], x[None, :])", lambda x: x[None, :].expand(32, 32))
table("trans_2d", (8, 32), "y = tl.trans(x)", lambda x: x.t(), (*NUMBERS, E4M3))
table("permute_3d", (2, 8, 16), "y = tl.permute(x, (2, 0, 1))", lambda x: x.permute(2, 0, 1))
table("permute_021", (2, 8, 16), "y = tl.permute(x, 0, 2, 1)", lambda x: x.permute(0, 2, 1))
table("permute_4d", (2, 4, 8, 4), "y = tl.permute(x, (3, 1, 0, 2))", lambda x: x.permute(3, 1, 0, 2))
table(
    "permute_5d", (2, 4, 2, 4, 2), "y = tl.permute(x, (4, 2, 0, 3, 1))", lambda x: x.permute(4, 2, 0, 3, 1), (F32, I32)
)
table("trans_of_trans", (8, 32), "y = tl.trans(tl.trans(x) + 1) * 2", lambda x: (x + 1) * 2, (F32, I32))
table("join", (32,), "y = tl.join(x, x + 1)", lambda x: torch.stack([x, x + 1], -1))
table("join_2d", (8, 16), "y = tl.join(x, x * 2)", lambda x: torch.stack([x, x * 2], -1))
table("split", (32, 2), "a, b = tl.split(x)\ny = a - b * 2", lambda x: x[:, 0] - x[:, 1] * 2)
table(
    "split_of_join", (32,), "a, b = tl.split(tl.join(x, x + 3))\ny = b * 2 - a", lambda x: (x + 3) * 2 - x, (F32, I32)
)
table("interleave", (32,), "y = tl.interleave(x, -x)", lambda x: torch.stack([x, -x], -1))
table("cat", (32,), "y = tl.cat(x, x + 1, can_reorder=True)", lambda x: torch.cat([x, x + 1]))
table("flip", (64,), "y = tl.flip(x, 0)", lambda x: x.flip(0))
table("flip_rows", (8, 16), "y = tl.flip(x, 0)", lambda x: x.flip(0))
table("flip_columns", (8, 16), "y = tl.flip(x, 1)", lambda x: x.flip(1), (F32, I32))
table("gather", (64,), "y = tl.gather(x, (tl.arange(0, 64) * 7) % 64, 0)", lambda x: x[(torch.arange(64) * 7) % 64])
table("gather_axis_0", (8, 16), "y = tl.gather(x, (tl.arange(0, 4)[:, None] * 3 + tl.arange(0, 16)[None, :]) % 8, 0)",
      lambda x: torch.gather(x, 0, (torch.arange(4)[:, None] * 3 + torch.arange(16)) % 8))  # fmt: skip
table("gather_axis_1", (8, 16), "y = tl.gather(x, (tl.arange(0, 8)[:, None] * 3 + tl.arange(0, 8)[None, :]) % 16, 1)",
      lambda x: torch.gather(x, 1, (torch.arange(8)[:, None] * 3 + torch.arange(8)) % 16))  # fmt: skip
table("reduce_reshape_reshape_broadcast", (4, 8, 4),
      "s = tl.sum(x, 1)\ny = tl.broadcast_to(tl.reshape(tl.reshape(s, [16]), [4, 1, 4]), (4, 8, 4)) + x",
      lambda x: x.sum(1, dtype=x.dtype)[:, None, :] + x, (I32, I64))  # fmt: skip
table(
    "full_and_zeros",
    (32,),
    "y = x + tl.full((32,), 3, x.dtype) + tl.zeros((32,), x.dtype) + tl.zeros_like(x)",
    lambda x: x + 3,
)
table("arange_start", (32,), "y = x * 0 + tl.arange(32, 64).to(x.dtype)", lambda x: torch.arange(32, 64).to(x.dtype))
table("swizzle2d", (64,), "a, b = tl.swizzle2d(tl.arange(0, 8)[:, None], tl.arange(0, 8)[None, :], 8, 8, 4)\n"
"y = tl.ravel(a * 8 + b) + x * 0",
      lambda x: _swizzled().to(x.dtype), (I32,))  # fmt: skip
table("item", (1,), "y = tl.zeros((4,), x.dtype) + x.item()", lambda x: x.expand(4), (F32, I32))
table(
    "trans_in_loop",
    (16, 16),
    "y = x\nfor k in range(3):\n    y = tl.trans(y) + x",
    lambda x: ((x.t() + x).t() + x).t() + x,
    (I32, I64),
)
table(
    "bool_shapes",
    (8, 16),
    "y = tl.trans(tl.reshape(x > 0, [16, 8])).to(tl.int8)",
    lambda x: (x > 0).view(16, 8).t().to(I8),
    (F32, I32),
)
table(
    "bool_join",
    (32,),
    "y = tl.join(x > 0, x < 1).to(tl.int8)",
    lambda x: torch.stack([x > 0, x < 1], -1).to(I8),
    (F32,),
)


def _swizzled() -> torch.Tensor:
    i, j = torch.arange(8)[:, None], torch.arange(8)[None, :]
    flat = i * 8 + j
    group, rest = flat // 32, flat % 32
    return ((group * 4 + rest % 4) * 8 + rest // 4).flatten()


@case(FAMILY, "bool_where_after_reshape", BOOL)
def masks(dtype):
    x, out = values(BOOL, 64), torch.zeros(64, dtype=I32)
    body = (
        "i = tl.arange(0, 64)\nv = tl.reshape(tl.load(x + i).to(tl.int1), [8, 8])\n"
        "tl.store(o + i, tl.reshape(tl.where(tl.trans(v), 1, 2), [64]))"
    )
    kernel("x, o", body)[(1,)](x, out)
    assert torch.equal(out, torch.where(x.view(8, 8).t(), 1, 2).flatten().int())
