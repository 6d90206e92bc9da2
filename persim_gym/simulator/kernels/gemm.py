"""Small matrix products inside compiled kernels, where calling a library costs more than the arithmetic.

A tile of the result, a few rows and columns, stays in vector registers while the sum over the summands runs; Numba's
own loops cannot keep it there.
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

# Columns in a vector register. `multiply_wide` and `multiply_narrow` take arrays of whole multiples of them.
WIDE_COLUMNS, NARROW_COLUMNS = 16, 8


@njit(cache=True, error_model="numpy")
def multiply_wide(a, strides, b, out, add):  # type: ignore
    """Writes a matrix product into `out`, [rows, columns], columns a multiple of WIDE_COLUMNS.

    Args:
        a: float32 array that holds a matrix [rows, summands], in any order.
        strides: How many numbers apart the rows are in `a`, and how many the summands. Swapped, they transpose it.
        b: float32, C-contiguous, [summands, columns].
        out: float32, C-contiguous.
        add: Whether the product is added to what `out` holds.
    """
    rows, columns = out.shape
    in_pairs = columns // (2 * WIDE_COLUMNS) * 2 * WIDE_COLUMNS
    for column in range(0, in_pairs, 2 * WIDE_COLUMNS):
        row = 0
        while row + 4 <= rows:
            _multiply_tile(a, strides, b, out, (row, column), add, 4, 2, WIDE_COLUMNS)
            row += 4
        if row + 2 <= rows:
            _multiply_tile(a, strides, b, out, (row, column), add, 2, 2, WIDE_COLUMNS)
            row += 2
        if row < rows:
            _multiply_tile(a, strides, b, out, (row, column), add, 1, 2, WIDE_COLUMNS)
    if in_pairs < columns:
        for row in range(rows):
            _multiply_tile(a, strides, b, out, (row, in_pairs), add, 1, 1, WIDE_COLUMNS)


@njit(cache=True, error_model="numpy")
def multiply_narrow(a, strides, b, out, add):  # type: ignore
    """As `multiply_wide`, for columns that are a multiple of NARROW_COLUMNS."""
    rows, columns = out.shape
    for column in range(0, columns, NARROW_COLUMNS):
        row = 0
        while row + 8 <= rows:
            _multiply_tile(a, strides, b, out, (row, column), add, 8, 1, NARROW_COLUMNS)
            row += 8
        while row < rows:
            _multiply_tile(a, strides, b, out, (row, column), add, 1, 1, NARROW_COLUMNS)
            row += 1


@intrinsic(prefer_literal=True)
def _multiply_tile(typingctx, a, strides, b, out, corner, add, height, width, lanes):  # type: ignore
    """One tile of a product, from (row, column) `corner` on: `height` rows of `width` vectors of `lanes` columns each.

    These three are constants; other arguments are as `multiply_wide`'s.
    """
    signature = types.void(a, strides, b, out, corner, add, height, width, lanes)
    height, width, lanes = height.literal_value, width.literal_value, lanes.literal_value
    kind = ir.VectorType(REAL, lanes)

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, values: Sequence[Any]) -> Any:
        left, right, target = (context.make_array(signature.args[i])(context, builder, values[i]) for i in (0, 2, 3))
        row_stride, sum_stride, row, column = (
            context.cast(builder, builder.extract_value(values[i], k), signature.args[i][k], types.int64)
            for i in (1, 4)
            for k in (0, 1)
        )
        summands, columns = builder.extract_value(right.shape, 0), builder.extract_value(right.shape, 1)
        start = builder.mul(row, row_stride)
        add_to = context.is_true(builder, types.boolean, values[5])
        offsets = [index_constant(j * lanes) for j in range(width)]
        places, totals = [], []
        for i in range(height):
            begin = builder.add(builder.mul(builder.add(row, index_constant(i)), columns), column)
            for offset in offsets:
                places.append(builder.add(begin, offset))
                held = load_vector(builder, target.data, places[-1], kind)
                before = builder.select(add_to, held, ir.Constant(kind, [0.0] * lanes))
                totals.append(cgutils.alloca_once_value(builder, before))
        with cgutils.for_range(builder, summands, intp=INT) as loop:
            begin = builder.add(column, builder.mul(loop.index, columns))
            vectors = [load_vector(builder, right.data, builder.add(begin, offset), kind) for offset in offsets]
            own = builder.add(start, builder.mul(loop.index, sum_stride))
            for i in range(height):
                place = builder.add(own, builder.mul(index_constant(i), row_stride))
                factor = broadcast(builder, builder.load(builder.gep(left.data, [place])), kind)
                for vector, total in zip(vectors, totals[i * width : (i + 1) * width], strict=True):
                    builder.store(multiply_add(builder, factor, vector, builder.load(total)), total)
        for place, total in zip(places, totals, strict=True):
            store_vector(builder, builder.load(total), target.data, place)
        return context.get_dummy_value()

    return signature, emit
