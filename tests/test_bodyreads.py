"""How a body's own loads move along a loop dimension, and which dimension is put in lanes for it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch_rvv.lowering import bodyreads
from torch_rvv.lowering.mlir import context, ir
from torch_rvv.lowering.nest import Nest, Operand, choose_dim, walk_body
from torch_rvv.lowering.values import View

KERNEL = """
func.func @k(%m: memref<?xf32>, %out: memref<?x?x?xf32>, %n: index, %b: i1) {{
  %c2 = arith.constant 2 : index
  %c44 = arith.constant 44 : index
  linalg.generic {{indexing_maps = [affine_map<(d0, d1, d2) -> (d0, d1, d2)>],
                  iterator_types = ["parallel", "parallel", "parallel"]}} outs(%out : memref<?x?x?xf32>) {{
  ^bb0(%o: f32):
    %i = linalg.index 0 : index
    %j = linalg.index 1 : index
    %k = linalg.index 2 : index
    {body}
    linalg.yield %x : f32
  }}
  return
}}"""
QUOTIENT = """
    %q = arith.divsi %i, %c2 : index
    %r = arith.muli %q, %c44 : index
    %s = arith.addi %r, %j : index
    %t = arith.muli %k, %n : index
    %at = arith.addi %s, %t : index
    %x = memref.load %m[%at] : memref<?xf32>"""
NARROW = """
    %w = arith.index_cast %j : index to i32
    %c3 = arith.constant -3 : i32
    %y = arith.muli %c3, %w : i32
    %z = arith.extsi %y : i32 to i64
    %v = arith.index_cast %z : i64 to index
    %at = arith.subi %v, %k : index
    %x = memref.load %m[%at] : memref<?xf32>"""
LOADED = """
    %f = memref.load %m[%j] : memref<?xf32>
    %g = arith.fptosi %f : f32 to i32
    %h = arith.index_cast %g : i32 to index
    %at = arith.addi %h, %k : index
    %x = scf.if %b -> f32 {
      %y = memref.load %m[%at] : memref<?xf32>
      scf.yield %y : f32
    } else {
      scf.yield %f : f32
    }"""


@pytest.mark.ir
@pytest.mark.parametrize(
    "body, wanted, chosen",
    [
        (QUOTIENT, [[None], [1], [bodyreads.FAR]], 1),
        (NARROW, [[0], [-3], [-1]], 0),
        (LOADED, [[0, 0], [1, None], [0, 1]], 0),
    ],
)
def test_steps_along_each_dimension(body, wanted, chosen):
    """And the dimension that they speak for, where what is stored moves alike along all."""
    with context(), ir.Location.unknown():
        module = ir.Module.parse(KERNEL.format(body=body))
        generic = next(op.operation for op in module.body.operations[0].regions[0].blocks[0].operations
                       if op.operation.name == "linalg.generic")  # fmt: skip
        block = generic.regions[0].blocks[0]
        out = Operand(View("%p", "f32", 0, (7, 7, 7), ("%a", "%b", "%c")), (0, 1, 2), block.arguments[0], output=True)
        nest = Nest([out], [64, 64, 64], set(), block, [64, 64, 64])
        operations = list(walk_body(block))
        assert [list(bodyreads.steps(nest, dim, operations)) for dim in range(3)] == wanted
        assert choose_dim(nest) == chosen


@pytest.mark.board
@pytest.mark.parametrize("shape", [(2, 16, 40, 44), (1, 4, 3, 5), (3, 9, 17, 1)], ids=str)
def test_pixels_from_channels(shape, rvv):
    x = torch.randn(shape)
    factor = 3 if shape[1] % 9 == 0 else 2
    assert torch.equal(rvv(lambda x: F.pixel_shuffle(x, factor))(x), F.pixel_shuffle(x, factor))
