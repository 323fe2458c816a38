"""`triton.language.extra.smt`: packed tiles, scratch tiles, sub-block loops, barriers.

    a = smt.view(a, (s * SUB, 0), (SUB, K), (8, 8))      (M, K) → (SUB/8, K/8, 8, 8)
    acc = smt.dot(a, b, acc)                             stays packed: (SUB/8, N/8, 8, 8)
    c = smt.view(acc, (0, 0), (SUB, N), (1, 1))          back to (SUB, N)

Kernels written for SpacemiT's Triton import this module. Everything is expressed in Triton's own operations, which
the compiler sees through: packing is a way to index, not a copy that the user pays for. A program runs on one
thread, one sub-block after the other, so barriers have nothing to wait for.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import wraps
from typing import Any

import triton.language as tl
from triton.language.core import builtin
from triton.language.semantic import TritonSemantic

from torch_rvv.plugin import smt_loop

# Bytes of the memories that a scratch tile may be put in: a cluster's L2 cache, a core's tightly coupled memory.
STORAGE_BYTES = {"l2": 512 << 10, "tcm": 128 << 10}

parallel = smt_loop.parallel


def _plain(value: Any) -> Any:
    """A constexpr's value; tuples and lists of them as a list."""
    if isinstance(value, (tuple, list, tl.tuple)):
        return [_plain(v) for v in value]
    return value.value if isinstance(value, tl.constexpr) else value


def _is_block_pointer(value: Any) -> bool:
    return isinstance(value, tl.tensor) and value.type.is_ptr() and value.type.element_ty.is_block()


def _shape(value: Any) -> list[int]:
    block = value.type.element_ty if _is_block_pointer(value) else value.type
    return [int(_plain(n)) for n in block.shape]


def _load_block(pointer: Any, semantic: Any) -> Any:
    checks = tuple(range(len(_shape(pointer))))
    return tl.load(pointer, boundary_check=checks, padding_option="zero", _semantic=semantic)


def _unpacked(x: Any, semantic: Any) -> Any:
    """(M/m, K/k, m, k) → (M, K)."""
    if len(_shape(x)) == 2:
        return x
    rows, columns, m, k = _shape(x)
    flat = tl.permute(x, (0, 2, 1, 3), _semantic=semantic)
    return tl.reshape(flat, (rows * m, columns * k), _semantic=semantic)


def _packed(x: Any, m: int, k: int, semantic: Any) -> Any:
    """(M, K) → (M/m, K/k, m, k)."""
    rows, columns = _shape(x)
    tiles = tl.reshape(x, (rows // m, m, columns // k, k), _semantic=semantic)
    return tl.permute(tiles, (0, 2, 1, 3), _semantic=semantic)


def _zero(offset: Any) -> bool:
    offset = _plain(offset)
    return isinstance(offset, int) and offset == 0


def _slice(x: Any, offsets: Sequence[Any], shape: Sequence[int], extent: Sequence[int], semantic: Any) -> Any:
    """`extent` rows and columns of a matrix from an offset on: zero beyond `shape`, or beyond the matrix."""
    rows, columns = _shape(x)
    if all(_zero(o) for o in offsets) and [rows, columns] == list(shape) == list(extent):
        return x
    index, inside = [], None
    for axis, (offset, n, limit, size) in enumerate(zip(offsets, shape, extent, (rows, columns), strict=True)):
        line = tl.arange(0, limit, _semantic=semantic)
        line = tl.expand_dims(line, 1 - axis, _semantic=semantic)
        line = tl.broadcast_to(line, tuple(extent), _semantic=semantic)
        at = semantic.add(line, semantic.to_tensor(offset), False)
        checks = [semantic.less_than(at, semantic.to_tensor(size))]
        if n != limit:
            checks.append(semantic.less_than(line, semantic.to_tensor(n)))
        if not isinstance(_plain(offset), int) or _plain(offset) < 0:
            checks.append(semantic.greater_equal(at, semantic.to_tensor(0)))
        for check in checks:
            inside = check if inside is None else semantic.and_(inside, check)
        index.append(at)
    flat_index = semantic.add(semantic.mul(index[0], semantic.to_tensor(columns), False), index[1], False)
    count = extent[0] * extent[1]
    flat = tl.reshape(x, (rows * columns,), _semantic=semantic)
    chosen = tl.gather(flat, tl.reshape(flat_index, (count,), _semantic=semantic), 0, _semantic=semantic)
    mask = tl.reshape(inside, (count,), _semantic=semantic)
    kept = tl.where(mask, chosen, tl.full((count,), 0, x.dtype, _semantic=semantic), _semantic=semantic)
    return tl.reshape(kept, tuple(extent), _semantic=semantic)


@builtin
def view(base, offsets, shape, packed_size, destination=None, _semantic=None):
    """A slice of a matrix as packed tiles.

    base: (M, K), packed (M/m, K/k, m, k), or a block pointer. offsets and shape: of the slice, in rows and columns.
    packed_size: (m, k) of the result; (1, 1): a matrix again; (0, 0): as base is. What lies beyond the matrix is
    zero. A block pointer viewed with (1, 1) stays one, for loads and stores, unless a loop handed it on: then
    its block is loaded. destination: a block pointer that
    the result is stored to as well.
    """
    shape, tile = _plain(shape), _plain(packed_size)
    if len(shape) != 2 or len(tile) != 2:
        raise ValueError(f"smt.view takes two rows-and-columns pairs, got shape {shape} and packed_size {tile}")
    offsets = list(offsets)
    if tile == [0, 0]:
        tile = _shape(base)[2:] if len(_shape(base)) == 4 else [1, 1]
    if _is_block_pointer(base):
        pointer = _subview(base, offsets, shape, _semantic)
        if pointer is not None and tile == [1, 1] and destination is None:
            return pointer
        matrix = _load_block(base if pointer is None else pointer, _semantic)
        offsets = offsets if pointer is None else [0, 0]
    else:
        matrix = _unpacked(base, _semantic)
    extent = [-(-n // t) * t for n, t in zip(shape, tile, strict=True)]
    matrix = _slice(matrix, offsets, shape, extent, _semantic)
    result = matrix if tile == [1, 1] else _packed(matrix, *tile, _semantic)
    if destination is not None:
        tl.store(destination, result, _semantic=_semantic)
    return result


def _subview(base: Any, offsets: Sequence[Any], shape: list[int], semantic: Any) -> Any | None:
    """A block pointer to a slice of another's block; None where the other came through a loop or a branch."""
    parts = getattr(base, "smt_parts", None)
    if parts is None or len(_shape(base)) != 2:
        return None
    pointer, sizes, strides, start, order = parts
    moved = [_sum(a, b, semantic) for a, b in zip(start, offsets, strict=True)]
    return tl.make_block_ptr(pointer, sizes, strides, tuple(moved), tuple(shape), order, _semantic=semantic)


def _sum(a: Any, b: Any, semantic: Any) -> Any:
    return semantic.add(semantic.to_tensor(_plain(a)), semantic.to_tensor(_plain(b)), False)


def _remembering(make: Any, advance: Any) -> tuple[Any, Any]:
    """Triton's makers of block pointers, whose results know what they were made of: IR values do not tell."""

    @wraps(make)
    def make_block_ptr(
        self: Any, base: Any, shape: Any, strides: Any, offsets: Any, block_shape: Any, order: Any
    ) -> Any:
        result = make(self, base, list(shape), list(strides), list(offsets), block_shape, order)
        result.smt_parts = (base, shape, strides, offsets, order)
        return result

    @wraps(advance)
    def advance_(self: Any, base: Any, offsets: Any) -> Any:
        result = advance(self, base, list(offsets))
        parts = getattr(base, "smt_parts", None)
        if parts is not None:
            moved = [_sum(a, b, self) for a, b in zip(parts[3], offsets, strict=True)]
            result.smt_parts = (*parts[:3], tuple(moved), parts[4])
        return result

    return make_block_ptr, advance_


TritonSemantic.make_block_ptr, TritonSemantic.advance = _remembering(
    TritonSemantic.make_block_ptr, TritonSemantic.advance
)


@builtin
def dot(a, b, out=None, _semantic=None):
    """The product of packed tiles (MB, KB, m, k) and (KB, NB, k, n), or (NB, KB, n, k): packed (MB, NB, m, n).

    Accumulates in float32 (int32 for int8, float64 for float64), or onto `out`, whose type the result has.
    Matrices that are not packed are multiplied as tl.dot does.
    """
    left, right = _shape(a), _shape(b)
    if len(left) != len(right) or len(left) not in (2, 4):
        raise ValueError(f"smt.dot takes two packed operands or two matrices, got shapes {left} and {right}")
    if len(left) == 4 and (left[1], left[3]) != (right[0], right[2]):
        if (left[1], left[3]) != (right[1], right[3]):
            raise ValueError(f"smt.dot cannot multiply packed shapes {left} and {right}")
        b = tl.permute(b, (1, 0, 3, 2), _semantic=_semantic)
        right = _shape(b)
    kind = tl.float32
    if a.dtype in (tl.int8, tl.uint8):
        kind = tl.int32
    elif a.dtype == tl.float64:
        kind = tl.float64
    if out is not None:
        kind = out.dtype
    acc = _unpacked(out, _semantic) if out is not None else None
    product = tl.dot(_unpacked(a, _semantic), _unpacked(b, _semantic), acc, out_dtype=kind, _semantic=_semantic)
    return product if len(left) == 2 else _packed(product, left[2], right[3], _semantic)


@builtin
def descriptor_load(base, offsets, destination=None, _semantic=None):
    """The block of a block pointer, some elements further; zero beyond the tensor's boundary.

    destination: a block pointer (of `alloc`) that the block is stored to as well.
    """
    if not _is_block_pointer(base):
        raise ValueError("smt.descriptor_load takes a block pointer (tl.make_block_ptr)")
    value = _load_block(tl.advance(base, tuple(offsets), _semantic=_semantic), _semantic)
    if destination is not None:
        tl.store(destination, value, _semantic=_semantic)
    return value


def _scratch(shape: list[int], kind: Any, storage: str, copies: int, semantic: Any) -> Any:
    """A pointer to scratch memory for some tiles."""
    if storage not in STORAGE_BYTES:
        raise ValueError(f"smt.alloc knows the memories {', '.join(STORAGE_BYTES)}, not {storage!r}")
    count = copies
    for n in shape:
        count *= n
    size = count * kind.primitive_bitwidth // 8
    if size > STORAGE_BYTES[storage]:
        raise ValueError(
            f"smt.alloc: {size} bytes of {storage} do not fit the {STORAGE_BYTES[storage]} that there are;"
            " take smaller tiles or fewer copies"
        )
    builder = semantic.builder
    bytes_ = builder.get_int64(size)
    address = builder.create_extern_elementwise("", "", "smt.alloc", [bytes_], builder.get_int64_ty(), False)
    return tl.cast(tl.tensor(address, tl.int64), tl.pointer_type(kind), _semantic=semantic)


def _block(pointer: Any, shape: list[int], semantic: Any) -> Any:
    strides: list[int] = []
    total = 1
    for n in reversed(shape):
        strides.insert(0, total)
        total *= n
    rank = len(shape)
    return tl.make_block_ptr(
        pointer, tuple(shape), tuple(strides), (0,) * rank, tuple(shape), tuple(reversed(range(rank))),
        _semantic=semantic,
    )  # fmt: skip


@builtin
def alloc(shape, type=tl.float32, storage="l2", _semantic=None):
    """A scratch tile of a program's own, as a block pointer. Not inside a loop.

    storage: "l2" (512 KiB) or "tcm" (128 KiB): where a tile should lie, and how large it may be.
    """
    shape, kind = _plain(shape), _plain(type)
    return _block(_scratch(shape, kind, _plain(storage), 1, _semantic), shape, _semantic)


class copies_type(tl.core.base_type):
    """The type of `alloc_copies`: a pointer and the shape of one tile."""

    def __init__(self, pointer: Any, shape: tuple[int, ...], count: int):
        self.pointer, self.shape, self.count = pointer, shape, count

    def __eq__(self, other: object) -> bool:
        return isinstance(other, copies_type) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((self.shape, self.count))

    def _unflatten_ir(self, handles: Any, cursor: int) -> tuple[Any, int]:
        pointer, cursor = self.pointer._unflatten_ir(handles, cursor)
        return tile_copies(pointer, self.shape, self.count), cursor

    def _flatten_ir_types(self, builder: Any, out: list[Any]) -> None:
        self.pointer._flatten_ir_types(builder, out)

    def mangle(self) -> str:
        return f"smt_copies_{self.pointer.mangle()}_{'x'.join(map(str, self.shape))}_{self.count}"


class tile_copies(tl.core.base_value):
    """Several scratch tiles; `copies[i]` is a block pointer to one, i known or not."""

    def __init__(self, pointer: Any, shape: tuple[int, ...], count: int):
        self.pointer, self.shape, self.count = pointer, shape, count
        self.type = copies_type(pointer.type, shape, count)

    def _flatten_ir(self, handles: Any) -> None:
        self.pointer._flatten_ir(handles)

    @builtin
    def __getitem__(self, index, _semantic=None):
        size = 1
        for n in self.shape:
            size *= n
        offset = _semantic.mul(_semantic.to_tensor(_plain(index)), _semantic.to_tensor(size), False)
        return _block(_semantic.add(self.pointer, offset, False), list(self.shape), _semantic)


@builtin
def alloc_copies(shape, copies=2, type=tl.float32, storage="l2", _semantic=None):
    """Several scratch tiles of one shape, to index."""
    shape, kind, count = _plain(shape), _plain(type), _plain(copies)
    return tile_copies(_scratch(shape, kind, _plain(storage), count, _semantic), tuple(shape), count)


@builtin
def mbarrier(count=1, _semantic=None):
    """A barrier between the sub-blocks of a program: they run one after the other, so it is always open."""
    return tl.full((), 0, tl.int32, _semantic=_semantic)


@builtin
def mbarrier_copies(copies, count=1, _semantic=None):
    """Several barriers, to index."""
    return tl.tuple([mbarrier(count, _semantic=_semantic) for _ in range(_plain(copies))])


@builtin
def barrier_set_expect(barrier, count, _semantic=None):
    """How many arrivals a barrier waits for."""


@builtin
def barrier_arrive(barrier, _semantic=None):
    """Tell a barrier that this sub-block is there."""


@builtin
def barrier_wait(barrier, *_, _semantic=None):
    """Wait for a barrier: those before have run."""


@builtin
def get_num_of_thread(_semantic=None):
    """The threads that a program runs on: one."""
    return tl.full((), 1, tl.int32, _semantic=_semantic)


@builtin
def compile_hint(ptr, name, val=None, _semantic=None):
    """An attribute for the compiler, which needs none."""


# Triton takes functions of its own modules for language, and looks for the source of all others.
for _function in (view, dot, descriptor_load, alloc, alloc_copies, mbarrier, mbarrier_copies, barrier_set_expect,
                  barrier_arrive, barrier_wait, get_num_of_thread, compile_hint, parallel):  # fmt: skip
    _function.__module__ = "triton.language.extra.smt"
