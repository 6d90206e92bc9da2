"""Small matrix products inside compiled kernels, where calling a library costs more than the arithmetic.

A tile of the result stays in vector registers while the sum over `k` runs; Numba's own loops cannot keep it there.
"""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from persim_gym.simulator.kernels.simd import (
    INT,
    REAL,
    broadcast,
    index_constant,
    load_vector,
    multiply_add,
    store_vector,
)

WIDE_COLUMNS, NARROW_COLUMNS = 16, 8
"""Columns that a vector register holds; arrays are as wide as a multiple of it."""


@njit(cache=True, error_model="numpy")
def multiply_wide(a, a_rows, a_sum, b, out, add):  # type: ignore
    """A product into `out`, [rows, columns], columns a multiple of WIDE.

    Args:
        a: float32 array whose element of row i and summand k is at i * a_rows + k * a_sum.
        a_rows: See there.
        a_sum: See there.
        b: float32, C-contiguous, [summands, columns].
        out: float32, C-contiguous.
        add: Whether the product is added to what `out` holds.
    """
    rows, columns = out.shape
    pairs = columns // (2 * WIDE_COLUMNS) * 2 * WIDE_COLUMNS  # A tile has two vectors, or the one that is left.
    for column in range(0, pairs, 2 * WIDE_COLUMNS):
        row = 0
        while row + 4 <= rows:
            _multiply_tile(a, row * a_rows, a_rows, a_sum, b, column, out, row, add, _4, _2, _16)
            row += 4
        if row + 2 <= rows:
            _multiply_tile(a, row * a_rows, a_rows, a_sum, b, column, out, row, add, _2, _2, _16)
            row += 2
        if row < rows:
            _multiply_tile(a, row * a_rows, a_rows, a_sum, b, column, out, row, add, _1, _2, _16)
    if pairs < columns:
        for row in range(rows):
            _multiply_tile(a, row * a_rows, a_rows, a_sum, b, pairs, out, row, add, _1, _1, _16)


@njit(cache=True, error_model="numpy")
def multiply_narrow(a, a_rows, a_sum, b, out, add):  # type: ignore
    """As `multiply_wide`, for columns that are a multiple of NARROW."""
    rows, columns = out.shape
    for column in range(0, columns, NARROW_COLUMNS):
        row = 0
        while row + 8 <= rows:
            _multiply_tile(a, row * a_rows, a_rows, a_sum, b, column, out, row, add, _8, _1, _8)
            row += 8
        while row < rows:
            _multiply_tile(a, row * a_rows, a_rows, a_sum, b, column, out, row, add, _1, _1, _8)
            row += 1


_1, _2, _4, _8, _16 = ((0,) * n for n in (1, 2, 4, 8, 16))  # The compiler knows a tile's size by them.


@intrinsic
def _multiply_tile(typingctx, a, a_start, a_rows, a_sum, b, column, out, row, add, height, width, lanes):  # type: ignore
    """One tile, of `height` rows and `width` vectors of `lanes` columns, whose corner is at (row, column) of `out`."""
    arguments = (a, a_start, a_rows, a_sum, b, column, out, row, add, height, width, lanes)
    signature = types.void(*arguments)

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, values: Sequence[Any]) -> Any:
        arrays = {
            i: context.make_array(signature.args[i])(context, builder, values[i])
            for i, kind in enumerate(arguments)
            if isinstance(kind, types.Array)
        }
        left, right, target = (arrays[i].data for i in (0, 4, 6))
        start, rows, sums, first, corner = (
            context.cast(builder, values[i], signature.args[i], types.int64) for i in (1, 2, 3, 5, 7)
        )
        summands, columns = builder.extract_value(arrays[4].shape, 0), builder.extract_value(arrays[4].shape, 1)
        kind = ir.VectorType(REAL, len(lanes))
        offsets = [index_constant(j * len(lanes)) for j in range(len(width))]
        held = context.is_true(builder, types.boolean, values[8])
        places, totals = [], []
        for i in range(len(height)):
            begin = builder.add(builder.mul(builder.add(corner, index_constant(i)), columns), first)
            for offset in offsets:
                places.append(builder.add(begin, offset))
                before = builder.select(
                    held, load_vector(builder, target, places[-1], kind), ir.Constant(kind, [0.0] * len(lanes))
                )
                totals.append(cgutils.alloca_once_value(builder, before))
        with cgutils.for_range(builder, summands, intp=INT) as loop:
            begin = builder.add(first, builder.mul(loop.index, columns))
            vectors = [load_vector(builder, right, builder.add(begin, offset), kind) for offset in offsets]
            own = builder.add(start, builder.mul(loop.index, sums))
            for i in range(len(height)):
                place = builder.add(own, builder.mul(index_constant(i), rows))
                factor = broadcast(builder, builder.load(builder.gep(left, [place])), kind)
                for vector, total in zip(vectors, totals[i * len(width) : (i + 1) * len(width)], strict=True):
                    builder.store(multiply_add(builder, factor, vector, builder.load(total)), total)
        for place, total in zip(places, totals, strict=True):
            store_vector(builder, builder.load(total), target, place)
        return context.get_dummy_value()

    return signature, emit
