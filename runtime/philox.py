"""Triton's random numbers in aten: Philox 4x32 with ten rounds, bit for bit (Salmon et al., SC 2011)."""

from __future__ import annotations

import math
from typing import Any

import torch

_MASK = (1 << 32) - 1
_KEY_A, _KEY_B = 0x9E3779B9, 0xBB67AE85
_ROUND_A, _ROUND_B = 0xD2511F53, 0xCD9E8D57


def _high_low(a: torch.Tensor, b: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The two 32-bit halves of a 64-bit product of unsigned 32-bit numbers held in int64."""
    low16, high16 = a & 0xFFFF, a >> 16
    first, second = low16 * b, high16 * b
    total = first + ((second & 0xFFFF) << 16)
    return ((total >> 32) + (second >> 16)) & _MASK, total & _MASK


def philox(seed: Any, offset: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Four unsigned 32-bit numbers (in int64) for each offset."""
    seed = int(seed)
    key_a, key_b = seed & _MASK, (seed >> 32) & _MASK
    c0 = offset.to(torch.int64) & _MASK
    c1 = torch.zeros_like(c0)
    c2, c3 = c1, c1
    for _ in range(10):
        high_b, low_b = _high_low(c2, _ROUND_B)
        high_a, low_a = _high_low(c0, _ROUND_A)
        c0, c1, c2, c3 = high_b ^ c1 ^ key_a, low_b, high_a ^ c3 ^ key_b, low_a
        key_a, key_b = (key_a + _KEY_A) & _MASK, (key_b + _KEY_B) & _MASK
    return c0, c1, c2, c3


def _uniform(bits: torch.Tensor) -> torch.Tensor:
    signed = torch.where(bits >= 1 << 31, bits - (1 << 32), bits)
    signed = torch.where(signed < 0, -signed - 1, signed)
    return signed.to(torch.float32) * torch.tensor(4.6566127342e-10, dtype=torch.float32)


def rand(seed: Any, offset: torch.Tensor) -> torch.Tensor:
    """tl.rand: uniform in [0, 1), f32."""
    return _uniform(philox(seed, offset)[0])


def randn(seed: Any, offset: torch.Tensor) -> torch.Tensor:
    """tl.randn: normal by Box and Muller, f32."""
    first, second, _, _ = philox(seed, offset)
    u1 = torch.clamp(_uniform(first), min=1.0e-7)
    theta = torch.tensor(2 * math.pi, dtype=torch.float32) * _uniform(second)
    return torch.sqrt(-2.0 * torch.log(u1)) * torch.cos(theta)


def randint64(seed: Any, offset: torch.Tensor, low: Any, high: Any) -> torch.Tensor:
    """Inductor's randint64: an int64 in [low, high)."""
    r0, r1, _, _ = philox(seed, offset)
    size = torch.as_tensor(high) - torch.as_tensor(low)
    result = r0 | (r1 << 32)
    # Unsigned remainder of a 64-bit number held in int64.
    half = (result >> 1) & ((1 << 63) - 1)
    remainder = torch.remainder(torch.remainder(half, size) * 2 + (result & 1), size)
    remainder = torch.where(result >= 0, torch.remainder(result, size), remainder)
    return remainder + torch.as_tensor(low)
