"""Attention block by block, as Triton kernels that a compiled graph launches: no matrix of scores in memory.

    forward           a block of queries walks over the keys, with running maxima and sums (Milakov and Gimelshein 2018;
                      Dao et al. 2022)
    query_gradient    the same walk, scores from the saved log-sums
    key_gradient      a block of keys walks over the queries of all heads that share it

Blocks that lie wholly inside carry no masks; the last ones, and those on the diagonal of a causal product, do.
BIAS: 0 none, 1 a mask (bool), 2 added to the scaled scores. WHOLE: all blocks of queries are full. Tensors are
(B, H, L, E) of any strides but the last.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch._inductor.runtime.runtime_utils import next_power_of_2

from torch_rvv.launch import block, launch

# Rows of queries and of keys in a block: scores fill an eighth of the L2 cache.
ROWS, COLUMNS = 128, 128


@triton.jit
def _rows(pointer, i, row, count, E: tl.constexpr, EP: tl.constexpr, MASKED: tl.constexpr):
    """Rows i of a matrix, (rows, EP), zero beyond its count of rows and its width E."""
    d = tl.arange(0, EP)
    at = pointer + i[:, None] * row + d[None, :]
    if MASKED:
        values = tl.load(at, mask=(i[:, None] < count) & (d[None, :] < E), other=0.0)
    elif EP != E:
        values = tl.load(at, mask=d[None, :] < E, other=0.0)
    else:
        values = tl.load(at)
    return values


@triton.jit
def _columns(pointer, j, row, count, E: tl.constexpr, EP: tl.constexpr, MASKED: tl.constexpr):
    """The same turned round: (EP, rows)."""
    d = tl.arange(0, EP)
    at = pointer + j[None, :] * row + d[:, None]
    if MASKED:
        values = tl.load(at, mask=(j[None, :] < count) & (d[:, None] < E), other=0.0)
    elif EP != E:
        values = tl.load(at, mask=d[:, None] < E, other=0.0)
    else:
        values = tl.load(at)
    return values


@triton.jit
def _biased(scores, bias, i, j, bias_row, rows, columns, SCALE: tl.constexpr, BIAS: tl.constexpr,
            BIAS_COLUMN: tl.constexpr):  # fmt: skip
    """Scores scaled, with what is added to them."""
    if BIAS == 0:
        result = scores
    else:
        at = bias + i[:, None] * bias_row + j[None, :] * BIAS_COLUMN
        more = tl.load(at, mask=(i[:, None] < rows) & (j[None, :] < columns), other=0)
        if BIAS == 1:
            result = tl.where(more, scores * SCALE, -float("inf"))
        else:
            result = scores * SCALE + more.to(tl.float32)
    return result


@triton.jit
def _seen(scores, i, j, columns, CAUSAL: tl.constexpr):
    """Minus infinity where there is no key, or one that the query may not see."""
    seen = j[None, :] < columns
    if CAUSAL:
        seen = seen & (i[:, None] >= j[None, :])
    return tl.where(seen, scores, float("-inf"))


@triton.jit
def _walk(queries, k, v, bias, k_row, v_row, bias_row, i, first, length, keys, highest, weight, total,
          SCALE: tl.constexpr, E: tl.constexpr, EP: tl.constexpr, V: tl.constexpr, VP: tl.constexpr,
          CAUSAL: tl.constexpr, BIAS: tl.constexpr, BIAS_COLUMN: tl.constexpr, BK: tl.constexpr,
          MASKED: tl.constexpr):  # fmt: skip
    """One block of keys: (highest, weight, total) brought up to date."""
    j = first + tl.arange(0, BK)
    scores = tl.dot(queries, _columns(k, j, k_row, keys, E, EP, MASKED))
    scores = _biased(scores, bias, i, j, bias_row, length, keys, SCALE, BIAS, BIAS_COLUMN)
    if MASKED:
        scores = _seen(scores, i, j, keys, CAUSAL)
    factor: tl.constexpr = 1.0 if BIAS else SCALE
    new = tl.maximum(highest, tl.max(scores, 1))
    least = tl.where(new > float("-inf"), new, 0.0) if MASKED or BIAS else new
    power = tl.exp((scores - least[:, None]) * factor)
    shrink = tl.exp((highest - least) * factor)
    weight = weight * shrink + tl.sum(power, 1)
    values = _rows(v, j, v_row, keys, V, VP, MASKED).to(tl.float32)
    return new, weight, tl.dot(power, values, total * shrink[:, None])


@triton.jit
def attention_forward(
    q, k, v, bias, out, logsum,
    q_batch, q_head, q_row, k_batch, k_head, k_row, v_batch, v_head, v_row, bias_batch, bias_head, bias_row,
    o_batch, o_head, o_row, length, keys,
    HEADS: tl.constexpr, GROUP: tl.constexpr, SCALE: tl.constexpr, E: tl.constexpr, EP: tl.constexpr,
    V: tl.constexpr, VP: tl.constexpr, CAUSAL: tl.constexpr, BIAS: tl.constexpr, BIAS_COLUMN: tl.constexpr,
    BQ: tl.constexpr, BK: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    """out = softmax(q @ k.T * SCALE + bias) @ v and the log-sums of each row."""
    batch, head, start = tl.program_id(1) // HEADS, tl.program_id(1) % HEADS, tl.program_id(0) * BQ
    k += batch * k_batch + head // GROUP * k_head
    v += batch * v_batch + head // GROUP * v_head
    if BIAS:
        bias += batch * bias_batch + head * bias_head
    i = start + tl.arange(0, BQ)
    queries = _rows(q + batch * q_batch + head * q_head, i, q_row, length, E, EP, not WHOLE)
    highest = tl.full((BQ,), float("-inf"), tl.float32)
    weight = tl.zeros((BQ,), tl.float32)
    total = tl.zeros((BQ, VP), tl.float32)
    end = min(start + BQ, keys) if CAUSAL else keys
    whole = (min(start, keys) if CAUSAL else keys) // BK * BK
    for first in range(0, whole, BK):
        highest, weight, total = _walk(
            queries, k, v, bias, k_row, v_row, bias_row, i, first, length, keys, highest, weight, total,
            SCALE, E, EP, V, VP, CAUSAL, BIAS, BIAS_COLUMN, BK, False,
        )  # fmt: skip
    for first in range(whole, end, BK):
        highest, weight, total = _walk(
            queries, k, v, bias, k_row, v_row, bias_row, i, first, length, keys, highest, weight, total,
            SCALE, E, EP, V, VP, CAUSAL, BIAS, BIAS_COLUMN, BK, True,
        )  # fmt: skip
    rows, d = i < length, tl.arange(0, VP)
    tl.store(logsum + tl.program_id(1) * length + i, highest * (1.0 if BIAS else SCALE) + tl.log(weight), mask=rows)
    share = 1.0 / tl.where(weight == 0.0, 1.0, weight)
    at = out + batch * o_batch + head * o_head + i[:, None] * o_row + d[None, :]
    tl.store(at, (total * share[:, None]).to(out.dtype.element_ty), mask=rows[:, None] & (d[None, :] < V))


@triton.jit
def _weights(queries, keys_turned, bias, logsum, i, j, bias_row, length, keys, SCALE: tl.constexpr,
             CAUSAL: tl.constexpr, BIAS: tl.constexpr, BIAS_COLUMN: tl.constexpr):  # fmt: skip
    """The softmax again, from its log-sums: zero in rows beyond the last, and in rows that are masked off."""
    scores = _biased(tl.dot(queries, keys_turned), bias, i, j, bias_row, length, keys, SCALE, BIAS, BIAS_COLUMN)
    if not BIAS:
        scores = scores * SCALE
    sums = tl.load(logsum + i, mask=i < length, other=float("-inf"))
    sums = tl.where(sums > float("-inf"), sums, float("inf"))
    return tl.exp(_seen(scores, i, j, keys, CAUSAL) - sums[:, None])


@triton.jit
def attention_query_gradient(
    q, k, v, bias, grad, logsum, delta, dq,
    q_batch, q_head, q_row, k_batch, k_head, k_row, v_batch, v_head, v_row, bias_batch, bias_head, bias_row,
    g_batch, g_head, g_row, d_batch, d_head, d_row, length, keys,
    HEADS: tl.constexpr, GROUP: tl.constexpr, SCALE: tl.constexpr, E: tl.constexpr, EP: tl.constexpr,
    V: tl.constexpr, VP: tl.constexpr, CAUSAL: tl.constexpr, BIAS: tl.constexpr, BIAS_COLUMN: tl.constexpr,
    BQ: tl.constexpr, BK: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    """dq = (p * (grad @ v.T - delta)) @ k * SCALE"""
    batch, head, start = tl.program_id(1) // HEADS, tl.program_id(1) % HEADS, tl.program_id(0) * BQ
    k += batch * k_batch + head // GROUP * k_head
    v += batch * v_batch + head // GROUP * v_head
    if BIAS:
        bias += batch * bias_batch + head * bias_head
    i = start + tl.arange(0, BQ)
    rows = i < length
    queries = _rows(q + batch * q_batch + head * q_head, i, q_row, length, E, EP, not WHOLE)
    dy = _rows(grad + batch * g_batch + head * g_head, i, g_row, length, V, VP, not WHOLE)
    dots = tl.load(delta + tl.program_id(1) * length + i, mask=rows, other=0.0)
    total = tl.zeros((BQ, EP), tl.float32)
    for first in range(0, min(start + BQ, keys) if CAUSAL else keys, BK):
        j = first + tl.arange(0, BK)
        p = _weights(queries, _columns(k, j, k_row, keys, E, EP, True), bias, logsum + tl.program_id(1) * length, i,
                     j, bias_row, length, keys, SCALE, CAUSAL, BIAS, BIAS_COLUMN)  # fmt: skip
        dp = tl.dot(dy, _columns(v, j, v_row, keys, V, VP, True))
        total = tl.dot(p * (dp - dots[:, None]), _rows(k, j, k_row, keys, E, EP, True).to(tl.float32), total)
    d = tl.arange(0, EP)
    at = dq + batch * d_batch + head * d_head + i[:, None] * d_row + d[None, :]
    tl.store(at, (total * SCALE).to(dq.dtype.element_ty), mask=rows[:, None] & (d[None, :] < E))


@triton.jit
def attention_key_gradient(
    q, k, v, bias, grad, logsum, delta, dk, dv,
    q_batch, q_head, q_row, k_batch, k_head, k_row, v_batch, v_head, v_row, bias_batch, bias_head, bias_row,
    g_batch, g_head, g_row, dk_batch, dk_head, dk_row, dv_batch, dv_head, dv_row, length, keys,
    HEADS: tl.constexpr, GROUP: tl.constexpr, SCALE: tl.constexpr, E: tl.constexpr, EP: tl.constexpr,
    V: tl.constexpr, VP: tl.constexpr, CAUSAL: tl.constexpr, BIAS: tl.constexpr, BIAS_COLUMN: tl.constexpr,
    BQ: tl.constexpr, BK: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    """dv = p.T @ grad and dk = (p * (grad @ v.T - delta)).T @ q * SCALE, over all heads that share the keys."""
    shared: tl.constexpr = HEADS // GROUP
    batch, kv, start = tl.program_id(1) // shared, tl.program_id(1) % shared, tl.program_id(0) * BK
    j = start + tl.arange(0, BK)
    k += batch * k_batch + kv * k_head
    v += batch * v_batch + kv * v_head
    turned = _columns(k, j, k_row, keys, E, EP, True)
    values = _columns(v, j, v_row, keys, V, VP, True)
    total_k, total_v = tl.zeros((BK, EP), tl.float32), tl.zeros((BK, VP), tl.float32)
    for member in range(0, GROUP):
        head = kv * GROUP + member
        row = (batch * HEADS + head) * length
        here = bias + batch * bias_batch + head * bias_head if BIAS else bias
        for first in range(start // BQ * BQ if CAUSAL else 0, length, BQ):
            i = first + tl.arange(0, BQ)
            queries = _rows(q + batch * q_batch + head * q_head, i, q_row, length, E, EP, not WHOLE)
            dy = _rows(grad + batch * g_batch + head * g_head, i, g_row, length, V, VP, not WHOLE)
            dots = tl.load(delta + row + i, mask=i < length, other=0.0)
            p = _weights(queries, turned, here, logsum + row, i, j, bias_row, length, keys, SCALE, CAUSAL, BIAS,
                         BIAS_COLUMN)  # fmt: skip
            total_v = tl.dot(tl.trans(p), dy.to(tl.float32), total_v)
            ds = p * (tl.dot(dy, values) - dots[:, None])
            total_k = tl.dot(tl.trans(ds), queries.to(tl.float32), total_k)
    there = j[:, None] < keys
    d, c = tl.arange(0, EP), tl.arange(0, VP)
    at = dk + batch * dk_batch + kv * dk_head + j[:, None] * dk_row + d[None, :]
    tl.store(at, (total_k * SCALE).to(dk.dtype.element_ty), mask=there & (d[None, :] < E))
    at = dv + batch * dv_batch + kv * dv_head + j[:, None] * dv_row + c[None, :]
    tl.store(at, total_v.to(dv.dtype.element_ty), mask=there & (c[None, :] < V))


# -- launches, in a graph that is being traced


def _plain_rows(t: Tensor) -> Tensor:
    """A tensor whose rows are contiguous."""
    return t if t.stride(-1) == 1 or t.shape[-1] == 1 else t.contiguous()


def _empty(like: Tensor, width: int) -> Tensor:
    """(B, H, L, width) as aten makes it: heads beside each other in a row."""
    b, h, rows, _ = like.shape
    return torch.empty((b, rows, h, width), dtype=like.dtype, device=like.device).transpose(1, 2)


def _strides(**tensors: Tensor) -> dict[str, Any]:
    return {
        f"{name}_{axis}": t.stride(n) for name, t in tensors.items() for n, axis in enumerate(("batch", "head", "row"))
    }


def _bias(mask: Tensor | None, query: Tensor, key: Tensor) -> tuple[dict[str, Any], dict[str, Any], int]:
    """(tensor, strides, BIAS) of a mask, broadcast."""
    if mask is None:
        return {}, dict.fromkeys(("bias_batch", "bias_head", "bias_row"), 0), 0
    wide = mask.expand(query.shape[0], query.shape[1], query.shape[2], key.shape[2])
    return {"bias": wide}, _strides(bias=wide), 1 if mask.dtype == torch.bool else 2


def _constants(query: Tensor, key: Tensor, value: Tensor, bias: dict[str, Any], kind: int, causal: bool,
               scale: float) -> dict[str, Any]:  # fmt: skip
    e, v, rows = query.shape[-1], value.shape[-1], block(query.shape[2], ROWS)
    found = {
        "HEADS": query.shape[1], "GROUP": query.shape[1] // key.shape[1], "SCALE": scale,
        "E": e, "EP": max(16, next_power_of_2(e)), "V": v, "VP": max(16, next_power_of_2(v)),
        "CAUSAL": causal, "BIAS": kind, "BIAS_COLUMN": int(bias["bias"].stride(-1)) if bias else 0,
        "BQ": rows, "BK": block(key.shape[2], COLUMNS),
        "WHOLE": isinstance(query.shape[2], int) and query.shape[2] % rows == 0,
    }  # fmt: skip
    return found if bias else {**found, "bias": None}


def forward(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool,
            scale: float) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(output (B, H, L, V), log-sums (B, H, L) in f32)."""
    query, key, value = map(_plain_rows, (query, key, value))
    bias, strides, kind = _bias(mask, query, key)
    constants = _constants(query, key, value, bias, kind, causal, scale)
    b, heads, length, _ = query.shape
    out = _empty(query, value.shape[-1])
    logsum = torch.empty((b, heads, length), dtype=torch.float32, device=query.device)
    grid = (-(-length // constants["BQ"]), b * heads, 1)
    done = launch(
        attention_forward, grid, {"q": query, "k": key, "v": value, **bias, "out": out, "logsum": logsum},
        {**_strides(q=query, k=key, v=value, o=out), **strides, "length": length, "keys": key.shape[2]}, constants,
        ["out", "logsum"],
    )  # fmt: skip
    return done["out"], done["logsum"]


def backward(grad: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, logsum: Tensor,
             mask: Tensor | None, causal: bool, scale: float) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of query, key and value."""
    grad, query, key, value = map(_plain_rows, (grad, query, key, value))
    delta = (grad.float() * out.float()).sum(-1).contiguous()
    bias, strides, kind = _bias(mask, query, key)
    constants = _constants(query, key, value, bias, kind, causal, scale)
    b, heads, length, e = query.shape
    keys = key.shape[2]
    tensors = {"q": query, "k": key, "v": value, **bias, "grad": grad, "logsum": logsum.contiguous(), "delta": delta}
    numbers = {**_strides(q=query, k=key, v=value, g=grad), **strides, "length": length, "keys": keys}
    dq, dk, dv = _empty(query, e), _empty(key, e), _empty(value, value.shape[-1])
    grid = (-(-length // constants["BQ"]), b * heads, 1)
    one = launch(
        attention_query_gradient, grid, {**tensors, "dq": dq}, {**numbers, **_strides(d=dq)}, constants, ["dq"]
    )
    grid = (-(-keys // constants["BK"]), b * key.shape[1], 1)
    two = launch(
        attention_key_gradient, grid, {**tensors, "dk": dk, "dv": dv}, {**numbers, **_strides(dk=dk, dv=dv)},
        constants, ["dk", "dv"],
    )  # fmt: skip
    return one["dq"], two["dk"], two["dv"]
