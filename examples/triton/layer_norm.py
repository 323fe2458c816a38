"""Layer norm, forward and backward; sums over rows for the weight's gradient are made in two stages, without locks."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from proof import compare, proof

GROUPS = 4


@triton.jit
def layer_norm(x, weight, bias, out, mean, rstd, columns, eps, BLOCK: tl.constexpr):
    row, j = tl.program_id(0), tl.arange(0, BLOCK)
    mask = j < columns
    value = tl.load(x + row * columns + j, mask=mask, other=0.0).to(tl.float32)
    average = tl.sum(value, 0) / columns
    centred = tl.where(mask, value - average, 0.0)
    scale = 1 / tl.sqrt(tl.sum(centred * centred, 0) / columns + eps)
    tl.store(mean + row, average)
    tl.store(rstd + row, scale)
    w, b = tl.load(weight + j, mask=mask), tl.load(bias + j, mask=mask)
    tl.store(out + row * columns + j, (centred * scale * w + b).to(out.dtype.element_ty), mask=mask)


@triton.jit
def layer_norm_backward(x, weight, grad, mean, rstd, dx, partial_dw, partial_db, rows, columns, BLOCK: tl.constexpr):
    group, j = tl.program_id(0), tl.arange(0, BLOCK)
    mask = j < columns
    w = tl.load(weight + j, mask=mask, other=0.0).to(tl.float32)
    dw, db = tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK,), tl.float32)
    for row in range(group, rows, tl.num_programs(0)):
        value = tl.load(x + row * columns + j, mask=mask, other=0.0).to(tl.float32)
        dy = tl.load(grad + row * columns + j, mask=mask, other=0.0).to(tl.float32)
        scale = tl.load(rstd + row)
        unit = tl.where(mask, (value - tl.load(mean + row)) * scale, 0.0)
        wdy = w * dy
        c1, c2 = tl.sum(unit * wdy, 0) / columns, tl.sum(wdy, 0) / columns
        tl.store(dx + row * columns + j, ((wdy - unit * c1 - c2) * scale).to(dx.dtype.element_ty), mask=mask)
        dw += dy * unit
        db += dy
    tl.store(partial_dw + group * columns + j, dw, mask=mask)
    tl.store(partial_db + group * columns + j, db, mask=mask)


@triton.jit
def sum_groups(partial, out, groups, columns, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    i, j = tl.arange(0, ROWS), tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = (i[:, None] < groups) & (j[None, :] < columns)
    total = tl.sum(tl.load(partial + i[:, None] * columns + j[None, :], mask=mask, other=0.0), 0)
    tl.store(out + j, total.to(out.dtype.element_ty), mask=j < columns)


def forward(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float = 1e-5):
    """(normalised rows, mean and reciprocal deviation of each, the compiled kernel)."""
    rows, columns = x.shape
    out, mean, rstd = torch.empty_like(x), torch.empty(rows), torch.empty(rows)
    block = triton.next_power_of_2(columns)
    compiled = layer_norm[(rows,)](x, weight, bias, out, mean, rstd, columns, eps, BLOCK=block)
    return out, mean, rstd, compiled


def backward(x: torch.Tensor, weight: torch.Tensor, grad: torch.Tensor, mean: torch.Tensor, rstd: torch.Tensor):
    """Gradients of x, weight and bias; the compiled kernel."""
    rows, columns = x.shape
    dx, groups, block = torch.empty_like(x), min(GROUPS, rows), triton.next_power_of_2(columns)
    parts = [torch.empty(groups, columns) for _ in range(2)]
    compiled = layer_norm_backward[(groups,)](x, weight, grad, mean, rstd, dx, *parts, rows, columns, BLOCK=block)
    sums = [torch.empty_like(weight) for _ in range(2)]
    for part, total in zip(parts, sums, strict=True):
        sum_groups[(triton.cdiv(columns, 128),)](part, total, groups, columns, ROWS=GROUPS, BLOCK=128)
    return dx, *sums, compiled


def main() -> None:
    for dtype, tolerance in ((torch.float32, 2e-6), (torch.float16, 2e-3), (torch.bfloat16, 2e-2)):
        for rows, columns in ((1, 32), (37, 781)):
            x, grad = torch.randn(rows, columns).to(dtype), torch.randn(rows, columns).to(dtype)
            weight, bias = torch.randn(columns).to(dtype), torch.randn(columns).to(dtype)
            out, mean, rstd, compiled = forward(x, weight, bias)
            exact = [t.double().requires_grad_() for t in (x, weight, bias)]
            wanted = torch.nn.functional.layer_norm(exact[0], (columns,), exact[1], exact[2])
            wanted.backward(grad.double())
            compare(f"layer_norm of {rows}x{columns} {dtype}", out, wanted.detach(), tolerance)
            *grads, compiled_backward = backward(x, weight, grad, mean, rstd)
            for name, ours, theirs in zip(("x", "weight", "bias"), grads, exact, strict=True):
                compare(f"layer_norm gradient of {name}, {rows}x{columns} {dtype}", ours, theirs.grad, tolerance)
    proof(compiled)
    proof(compiled_backward)


if __name__ == "__main__":
    main()
