"""What a backward graph works out again instead of reading it from memory.

PyTorch knows most views as such, but not `unfold`: the patches of a convolution, kernel times as large as the image,
would be saved for the gradient of its filter. And operators of ours are unknown to it.
"""

from __future__ import annotations

from functools import cache

import torch
from torch._functorch import partitioners

from torch_rvv import batchnorm  # noqa: F401  # Whose operator is named here.
from torch_rvv.runtime.context import placed

VIEWS = (torch.ops.aten.unfold,)
ELEMENTWISE = (torch.ops.torch_rvv.batch_norm,)


@cache
def register() -> None:
    """Tell the partitioner of forward and backward graphs, while a compile of ours is under way."""
    theirs = partitioners.get_default_op_list

    def get_default_op_list() -> partitioners.OpTypes:
        types = theirs()
        if placed():
            types.view_ops.update(VIEWS)
            for known in (types.recomputable_ops, types.fusible_ops):
                known.update((*VIEWS, *ELEMENTWISE))
        return types

    partitioners.get_default_op_list = get_default_op_list
