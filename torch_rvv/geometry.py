"""How the taps of a filter walk over an image: the sizes of convolutions, and the zeros around images.

Images are (N, C, pixels...), in 1 to 3 dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Geometry:
    """How the taps of a filter walk over an image, a number a dimension."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    @staticmethod
    def of(
        weight: Tensor, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], groups: int
    ) -> Geometry:
        d = weight.dim() - 2
        strides, paddings, dilations = (tuple(v) * d if len(v) == 1 else tuple(v) for v in (stride, padding, dilation))
        return Geometry(strides, paddings, dilations, groups)

    def reach(self, kernel: Sequence[int]) -> list[int]:
        """From the first tap to the last, in each dimension."""
        return [(k - 1) * step + 1 for k, step in zip(kernel, self.dilation, strict=True)]

    def results(self, image: Sequence[int], kernel: Sequence[int]) -> list[int]:
        """The size of the result of an image as it is, without its padding."""
        return self.pixels([n + 2 * p for n, p in zip(image, self.padding, strict=True)], kernel)

    def pixels(self, image: Sequence[int], kernel: Sequence[int]) -> list[int]:
        """The size of the result of an image that has its padding."""
        return [(n - reach) // s + 1 for n, reach, s in zip(image, self.reach(kernel), self.stride, strict=True)]


def described(what: str, x: Tensor, weight: Tensor) -> str:
    """A convolution in the words of `explain`."""
    return f"{what} {'x'.join(map(str, x.shape))} * {'x'.join(map(str, weight.shape))}"


def padded(x: Tensor, before: Sequence[int], after: Sequence[int]) -> Tensor:
    """With so many zeros around; negative ones cut off."""
    pads = [p for pair in zip(reversed(before), reversed(after), strict=True) for p in pair]
    return F.pad(x, pads) if any(pads) else x
