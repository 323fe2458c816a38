"""The kernel of the C ABI (runtime/include/torch_rvv.h): it unpacks the argument slots and runs a range of programs.

    func.func @k(%args: !llvm.ptr, %grid: !llvm.ptr, %begin: i64, %end: i64, %context: !llvm.ptr) -> i32
    →  for programs begin .. end-1: @k.program(arguments..., program ids, grid sizes, scratch, context)

It stops at the first program that gives another code than 0, and gives that.
"""

from __future__ import annotations

from collections.abc import Callable

from torch_rvv.lowering.writer import Writer


def entry(name: str, program: str, elems: list[str], carrier: Callable[[str], str]) -> list[str]:
    """The lines of the kernel function. elems: types of the kernel's arguments; carrier: the type that holds one."""
    w = Writer()
    w.lines.append(
        f"  func.func @{name}"
        "(%args: !llvm.ptr, %grid: !llvm.ptr, %begin: i64, %end: i64, %context: !llvm.ptr) -> i32 {"
    )
    w.depth = 2
    values = []
    for number, elem in enumerate(elems):
        slot = w.op(f"llvm.getelementptr %args[{number}] : (!llvm.ptr) -> !llvm.ptr, i64")
        kind = carrier(elem)
        if kind == "i1":
            byte = w.op(f"llvm.load {slot} : !llvm.ptr -> i8")
            values.append(w.op(f"arith.trunci {byte} : i8 to i1"))
        else:
            values.append(w.op(f"llvm.load {slot} : !llvm.ptr -> {kind}"))
    sizes = []
    for axis in range(3):
        pointer = w.op(f"llvm.getelementptr %grid[{axis}] : (!llvm.ptr) -> !llvm.ptr, i32")
        sizes.append(w.op(f"llvm.load {pointer} : !llvm.ptr -> i32"))
    wide = [w.op(f"arith.extui {s} : i32 to i64") for s in sizes]
    plane = w.op(f"arith.muli {wide[0]}, {wide[1]} : i64")
    scratch = w.op("llvm.load %context : !llvm.ptr -> !llvm.ptr")
    zero = w.op("arith.constant 0 : i32")
    one, one32 = w.op("arith.constant 1 : i64"), w.op("arith.constant 1 : i32")
    row = w.op(f"arith.divui %begin, {wide[0]} : i64")
    first = [
        w.op(f"arith.remui %begin, {wide[0]} : i64"), w.op(f"arith.remui {row}, {wide[1]} : i64"),
        w.op(f"arith.divui %begin, {plane} : i64"),
    ]  # fmt: skip
    # Program ids are counted: a division a program is slow, and no loop pass can see through it.
    starts = ["%begin", *(w.op(f"arith.trunci {v} : i64 to i32") for v in first), zero]
    names, ids = [w.fresh("p") for _ in starts], [w.fresh("p") for _ in starts]
    types = "i64, i32, i32, i32, i32"
    result = w.fresh("run")
    pairs = ", ".join(f"{n} = {s}" for n, s in zip(names, starts, strict=True))
    with w.block(f"{result}:5 = scf.while ({pairs}) : ({types}) -> ({types}) {{", "} do {"):
        more = w.op(f"arith.cmpi ult, {names[0]}, %end : i64")
        fine = w.op(f"arith.cmpi eq, {names[4]}, {zero} : i32")
        w.line(f"scf.condition({w.op(f'arith.andi {more}, {fine} : i1')}) {', '.join(names)} : {types}")
    arguments = ", ".join(f"{n}: {t}" for n, t in zip(ids, types.split(", "), strict=True))
    with w.block(f"^bb0({arguments}):"):
        p, x, y, z, _ = ids
        kinds = ", ".join([*(carrier(e) for e in elems), *["i32"] * 6, "!llvm.ptr", "!llvm.ptr"])
        done = w.op(
            f"func.call @{program}({', '.join([*values, x, y, z, *sizes, scratch, '%context'])}) : ({kinds}) -> i32"
        )
        following = []
        carry = one32
        for count, size in ((x, sizes[0]), (y, sizes[1])):
            up = w.op(f"arith.addi {count}, {carry} : i32")
            over = w.op(f"arith.cmpi eq, {up}, {size} : i32")
            following.append(w.op(f"arith.select {over}, {zero}, {up} : i32"))
            carry = w.op(f"arith.extui {over} : i1 to i32")
        following.append(w.op(f"arith.addi {z}, {carry} : i32"))
        w.line(f"scf.yield {w.op(f'arith.addi {p}, {one} : i64')}, {', '.join(following)}, {done} : {types}")
    w.line(f"func.return {result}#4 : i32")
    return [*w.lines, "  }"]
