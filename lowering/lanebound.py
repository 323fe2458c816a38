"""Masks from comparisons of indices: a bound on the lane, narrow whatever the index's width.

    base + step*lane < u   ⇔   lane < ceil((u - base) / step)
    base - step*lane > u   ⇔   lane < ceil((base - u) / step)

One scalar is worked out a loop, and one comparison made with the lanes' numbers in 32 bits; i64 indices would take
registers twice as wide. Limits: equality, steps that are no small numbers and i32 indices, which may wrap around,
are compared lane by lane.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch_rvv.lowering.values import Value
    from torch_rvv.lowering.vector_body import Strip

_RELATIONS = {"predicate = 2": "<", "predicate = 3": "<=", "predicate = 4": ">", "predicate = 5": ">="}
_TURNED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
# base + step*lane ? u → (how lane and bound compare, 1 where equality is on the lower side)
_LANE_BOUND = {"<": ("slt", 0), "<=": ("slt", 1), ">": ("sgt", 1), ">=": ("sgt", 0)}
_SATURATED = 'llvm.call_intrinsic "llvm.ssub.sat"({}) : (i64, i64) -> i64'
_LARGEST_STEP = 1 << 20  # so that its product with a number of lanes is far from the end of i64


def lane_bound(strip: Strip, attr: str, args: list[Value], level: int) -> Value | None:
    """The mask of an arith.cmpi of a linear value and a uniform one; None to decline."""
    relation = _RELATIONS.get(attr.split(" : ")[0])
    if relation is None or strip.lanes is None or {a.kind for a in args} != {"linear", "uniform"}:
        return None
    linear, other = (args[0], args[1]) if args[0].kind == "linear" else (args[1], args[0])
    step = linear.step
    if linear.elem not in ("i64", "index") or not isinstance(step, int) or not 0 < abs(step) <= _LARGEST_STEP:
        return None
    # Each of the two turns < into >.
    turned = (args[1] is linear) != (step < 0)
    predicate, beyond = _LANE_BOUND[_TURNED[relation] if turned else relation]
    emit = strip.emitter(level)
    base, bound = (emit(f"arith.index_cast {v.name} : index to i64") if v.elem == "index" else v.name
                   for v in (linear, other))  # fmt: skip
    # Counted from the dimension's first element, not the strip's: all but one subtraction stands before the loop.
    place = emit(f"arith.index_cast {strip.iv} : index to i64") if strip.iv else ""
    if place:
        moved = emit(f"arith.muli {place}, {emit(f'arith.constant {step} : i64')} : i64")
        base = emit(f"arith.subi {base}, {moved} : i64")
    ends = f"{bound}, {base}" if step > 0 else f"{base}, {bound}"
    step = abs(step)
    # Indices are no numbers near the end of i64; what a kernel compares may be.
    subtract = "arith.subi {} : i64" if linear.elem == "index" else _SATURATED
    left = emit(subtract.format(ends))
    for limit, number in (("maxsi", -beyond), ("minsi", (2**31 - 1) * step - beyond)):
        left = emit(f"arith.{limit} {left}, {emit(f'arith.constant {number} : i64')} : i64")
    more = beyond + step - 1
    if more:
        left = emit(f"arith.addi {left}, {emit(f'arith.constant {more} : i64')} : i64")
    if step > 1:
        left = emit(f"arith.divui {left}, {emit(f'arith.constant {step} : i64')} : i64")
    if place:
        left = emit(f"arith.subi {left}, {place} : i64")
    # Signed, for which a vector compares with a scalar both ways: lane >= n is lane > n - 1.
    if predicate == "sgt":
        left = emit(f"arith.subi {left}, {emit('arith.constant 1 : i64')} : i64")
    count, kind = emit(f"arith.trunci {left} : i64 to i32"), strip.vector_type("i32")
    lane = strip._once(("lane", "i32"), 0, f'llvm.call_intrinsic "llvm.stepvector"() : () -> {kind}')
    splat = strip._once(("splat", count), level, f"vector.broadcast {count} : i32 to {kind}")
    mask = emit(f"arith.cmpi {predicate}, {lane}, {splat} : {kind}")
    return replace(linear, name=mask, elem="i1", level=level, kind="vector", step=0, step_level=0)
