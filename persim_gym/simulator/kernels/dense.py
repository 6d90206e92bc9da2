"""One layer of a network for `LANES` inputs at once, compiled; its inner sums in float32 or in products of bytes.

Each lane of a vector register holds one candidate: activations are [units, LANES], so that one weight is multiplied by
`LANES` of them and nothing is ever transposed. Weights lie in blocks of `UNITS_PER_BLOCK` outputs, which are summed in
registers while the loop over the inputs runs.

Where the processor multiplies vectors of bytes, activations and weights are whole levels, a byte each, and a layer's
sums are whole numbers, without rounding. A 32-bit word holds the bytes of four inputs. The loop takes `INPUTS_PER_STEP`
inputs, two words, at a time: one instruction multiplies and adds up a word (AVX512-VNNI), or a few do both words and
add up four products in 16 bits on the way (AVX2), for which levels of weights are kept small enough.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.core.codegen import get_host_cpu_features
from numba.extending import intrinsic
from numpy.typing import NDArray

from persim_gym.simulator.kernels.simd import (
    INT,
    LANES,
    REAL,
    WORD,
    WORDS,
    broadcast,
    emit_silu,
    float_constant,
    index_constant,
    load_vector,
    maximum,
    multiply_add,
    store_vector,
    word_constant,
)

UNITS_PER_BLOCK = 8
INPUTS_PER_WORD = 4

# The inputs of a step in the order of their bytes: the first four share one word, the others the next.
INPUT_ORDER = (0, 1, 4, 5, 2, 3, 6, 7)
INPUTS_PER_STEP = len(INPUT_ORDER)
WORDS_PER_STEP = INPUTS_PER_STEP // INPUTS_PER_WORD

# Neighbouring inputs whose products AVX2 adds up in 16 bits: two bytes of either word.
SUMMED_BYTES = 4

# An activation's byte counts this many levels above the lowest one.
BYTE_LEVELS = 255

# The least range of activations: it is divided by.
_SMALLEST_RANGE = 1e-30

# Added to a small float32, this leaves the nearest whole number in its lowest bits.
_ROUNDING_SUMMAND = 2.0**23


class ByteProducts(NamedTuple):
    """How a processor multiplies vectors of bytes.

    Attributes:
        name: The instructions.
        lanes: Lanes of a register that they multiply.
        max_level_sum: The most that the levels of `SUMMED_BYTES` neighbouring weights may add up to, those above zero
            and those below, so that the sum of their products fits 16 bits; None where no sum is too large.
    """

    name: str
    lanes: int
    max_level_sum: int | None = None


VNNI = ByteProducts("AVX512-VNNI", lanes=16)
AVX2 = ByteProducts("AVX2", lanes=8, max_level_sum=2**15 // (BYTE_LEVELS + 1))


def cpu_features() -> frozenset[str]:
    """What this processor has and Numba may use (NUMBA_CPU_FEATURES and others)."""
    known = config.CPU_FEATURES  # type: ignore[attr-defined]
    return frozenset((get_host_cpu_features() if known is None else known).split(","))


def byte_products() -> ByteProducts | None:
    """How this processor multiplies vectors of bytes, if it does."""
    known = cpu_features()
    return VNNI if "+avx512vnni" in known else AVX2 if "+avx2" in known else None


def padded_width(outputs: int) -> int:
    """The number of outputs that `dense` computes for so many: whole blocks."""
    return -(-outputs // UNITS_PER_BLOCK) * UNITS_PER_BLOCK


def pack_weights(weight: NDArray[Any]) -> NDArray[Any]:
    """Weights in the order in which `dense` reads them: block by block, and in each input by input or word by word.

    Args:
        weight: [..., inputs, outputs], outputs a multiple of `UNITS_PER_BLOCK`; float32, or int8 with inputs a multiple
            of `INPUTS_PER_STEP`.

    Returns:
        float32 [..., inputs * outputs], or int32 [..., inputs * outputs / 4].
    """
    values = np.ascontiguousarray(weight)
    if values.dtype == np.int8:
        *lead, inputs, outputs = values.shape
        words = values.reshape(*lead, inputs // INPUTS_PER_STEP, INPUTS_PER_STEP, outputs)[..., INPUT_ORDER, :]
        words = words.reshape(*lead, inputs // INPUTS_PER_WORD, INPUTS_PER_WORD, outputs).swapaxes(-2, -1)
        values = np.ascontiguousarray(words).view("<i4")[..., 0]
    *lead, inputs, outputs = values.shape
    blocks = values.reshape(*lead, inputs, outputs // UNITS_PER_BLOCK, UNITS_PER_BLOCK).swapaxes(-3, -2)
    return np.ascontiguousarray(blocks).reshape(*lead, inputs * outputs)


@intrinsic
def dense(typingctx, x, lane_scales, weights, scales, biases, out, used_lanes, least, silu):  # type: ignore
    """A layer of up to `LANES` candidates.

    Args of the compiled function, whose arrays are contiguous:
        x: Inputs, [inputs, LANES]: float32 values, or the words of `quantize_activations`, [inputs / 4, LANES].
        lane_scales: What one level of a lane's bytes stands for, float32 [LANES]; not read where `x` are values.
        weights: As `pack_weights` returns them, the same kind as `x`; what follows this layer's is not read.
        scales: What one level of an output's weights stands for, float32 [outputs or more]; not read where `x` are
            values.
        biases: float32 [outputs or more].
        out: Receives the outputs, float32 [outputs, LANES], outputs a multiple of `UNITS_PER_BLOCK`.
        used_lanes: Lanes that are asked for, from the first on; what the others receive is not said.
        least: Outputs are no smaller: 0 for ReLU, minus infinity for none.
        silu: Whether the activation is SiLU instead.
    """
    signature = types.void(x, lane_scales, weights, scales, biases, out, used_lanes, least, silu)

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        arrays = [context.make_array(signature.args[i])(context, builder, arguments[i]) for i in range(6)]
        source, steps, *others, target = (array.data for array in arrays)
        layer = source, steps if signature.args[0].dtype == types.int32 else None, *others, target
        inputs, outputs = (builder.extract_value(arrays[i].shape, 0) for i in (0, 5))

        def floor(x: Any) -> Any:
            return maximum(builder, x, broadcast(builder, arguments[7], x.type))

        activations: list[Callable[[Any], Any]] = [partial(emit_silu, builder), floor]
        with builder.if_else(context.is_true(builder, types.boolean, arguments[8])) as branches:
            for branch, activate in zip(branches, activations, strict=True):
                with branch:
                    _emit_blocks(builder, layer, (inputs, outputs, arguments[6]), activate)
        return context.get_dummy_value()

    return signature, emit


def _emit_blocks(
    builder: ir.IRBuilder, layer: tuple[Any, ...], sizes: tuple[Any, Any, Any], activate: Callable[[Any], Any]
) -> None:
    """The loop over blocks of outputs.

    `layer` are the arrays of `dense` in its order, `lane_scales` being None where the inputs are values; `sizes` the
    values or words of the input, the outputs, and the lanes that are asked for.
    """
    inputs, outputs, used_lanes = sizes
    with cgutils.for_range(builder, builder.udiv(outputs, index_constant(UNITS_PER_BLOCK)), intp=INT) as block:
        first = builder.mul(block.index, index_constant(UNITS_PER_BLOCK))
        for units, lanes in _tiles(byte_products() if layer[1] is not None else None):
            asked_for = builder.icmp_signed(">", used_lanes, index_constant(lanes.start))
            with builder.if_then(asked_for, likely=True):
                _emit_tile(builder, layer, inputs, first, (units, lanes), activate)


def _tiles(products: ByteProducts | None) -> list[tuple[range, range]]:
    """Which outputs of a block and which lanes are summed at once: as many as registers hold beside what is added."""
    if products:  # each sum in one register, even of 256 bits where others have 512
        return [
            (range(UNITS_PER_BLOCK), range(start, start + products.lanes)) for start in range(0, LANES, products.lanes)
        ]
    units = UNITS_PER_BLOCK if "+avx512f" in cpu_features() else UNITS_PER_BLOCK // 2  # with 16 registers of 256 bits
    return [(range(start, start + units), range(LANES)) for start in range(0, UNITS_PER_BLOCK, units)]


def _emit_tile(
    builder: ir.IRBuilder,
    layer: tuple[Any, ...],
    inputs: Any,
    first: Any,
    tile: tuple[range, range],
    activate: Callable[[Any], Any],
) -> None:
    """The loop over the inputs for a tile, some outputs of a block and some lanes, whose sums stay in registers.

    `layer` is as in `_emit_blocks`, `inputs` the values or words of the input, and `first` the block's first output.
    """
    source, lane_scales, weights, scales, biases, target = layer
    units, lanes = tile
    of_bytes, reals = lane_scales is not None, ir.VectorType(REAL, len(lanes))
    kind, add, at_once = (
        (ir.VectorType(WORD, len(lanes)), _add_bytes, WORDS_PER_STEP) if of_bytes else (reals, _add_real, 1)
    )

    def plus(index: Any, constant: int) -> Any:
        return builder.add(index, index_constant(constant))

    def times(index: Any, constant: int) -> Any:
        return builder.mul(index, index_constant(constant))

    def of_output(values: Any, u: int) -> Any:
        return broadcast(builder, builder.load(builder.gep(values, [plus(first, u)])), reals)

    sums = [cgutils.alloca_once(builder, kind) for _ in units]
    for u, total in zip(units, sums, strict=True):
        builder.store(word_constant(0, kind) if of_bytes else of_output(biases, u), total)
    base = builder.mul(first, inputs)
    with cgutils.for_range(builder, builder.udiv(inputs, index_constant(at_once)), intp=INT) as loop:
        rows = [plus(times(loop.index, at_once), k) for k in range(at_once)]
        x = [load_vector(builder, source, plus(times(row, LANES), lanes.start), kind) for row in rows]
        places = [builder.add(base, times(row, UNITS_PER_BLOCK)) for row in rows]
        for u, total in zip(units, sums, strict=True):
            held = [builder.load(builder.gep(weights, [plus(place, u)])) for place in places]
            w = [broadcast(builder, weight, kind) for weight in held]
            builder.store(add(builder, x, w, builder.load(total)), total)
    for u, total in zip(units, sums, strict=True):
        result = builder.load(total)
        if of_bytes:
            real = builder.fmul(builder.sitofp(result, reals), of_output(scales, u))
            scale = load_vector(builder, lane_scales, index_constant(lanes.start), reals)
            result = multiply_add(builder, real, scale, of_output(biases, u))
        store_vector(builder, activate(result), target, plus(times(plus(first, u), LANES), lanes.start))


def _add_real(builder: ir.IRBuilder, x: Sequence[Any], w: Sequence[Any], total: Any) -> Any:
    """In each lane, a sum plus a product."""
    return multiply_add(builder, x[0], w[0], total)


def _add_bytes(builder: ir.IRBuilder, x: Sequence[Any], w: Sequence[Any], total: Any) -> Any:
    """In each lane, a sum plus the products of the bytes of two words."""
    if byte_products() == VNNI:
        for one, other in zip(x, w, strict=True):
            total = _call(builder, "llvm.x86.avx512.vpdpbusd.512", total.type, total, one, other)
        return total
    singles, pairs = (ir.VectorType(ir.IntType(bits), total.type.count * 32 // bits) for bits in (8, 16))
    one, other = (
        _call(builder, "llvm.x86.avx2.pmadd.ub.sw", pairs, *(builder.bitcast(v, singles) for v in both))
        for both in zip(x, w, strict=True)
    )
    added = _call(builder, "llvm.x86.avx2.pmadd.wd", total.type, builder.add(one, other), word_constant(1, pairs))
    return builder.add(total, added)


def _call(builder: ir.IRBuilder, name: str, result: Any, *arguments: Any) -> Any:
    """Calls an instruction of the processor by LLVM's name for it."""
    kind = ir.FunctionType(result, [a.type for a in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


@intrinsic
def quantize_activations(typingctx, values, words, lane_scales, lowest):  # type: ignore
    """What a layer made, as the next one takes it.

    Args of the compiled function, whose arrays are contiguous:
        values: Activations, float32 [count, LANES], count a multiple of `INPUTS_PER_STEP`.
        words: Receives them: float32 as they are, [count, LANES], or int32 words of four bytes, [count / 4, LANES]. A
            byte is the nearest of 256 levels between `lowest` and the largest activation of its lane.
        lane_scales: Receives the distance between two levels, float32 [LANES]; NaN in lanes that hold what is not
            finite.
        lowest: A number that no activation is below.
    """
    signature = types.void(values, words, lane_scales, lowest)

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        arrays = [context.make_array(signature.args[i])(context, builder, arguments[i]) for i in range(3)]
        source, target, scales = (array.data for array in arrays)
        count = builder.extract_value(arrays[0].shape, 0)
        if signature.args[1].dtype == types.int32:
            _emit_bytes(builder, source, target, scales, count, broadcast(builder, arguments[3]))
        else:
            with cgutils.for_range(builder, count, intp=INT) as loop:
                place = builder.mul(loop.index, index_constant(LANES))
                store_vector(builder, load_vector(builder, source, place), target, place)
        return context.get_dummy_value()

    return signature, emit


def _emit_bytes(builder: ir.IRBuilder, source: Any, target: Any, scales: Any, count: Any, lowest: Any) -> None:
    """Two loops over the activations: the first finds the largest of each lane, the second fills the words."""

    def values_at(index: Any) -> Any:
        return load_vector(builder, source, builder.mul(index, index_constant(LANES)))

    zero = float_constant(0.0)
    top, wrong = cgutils.alloca_once_value(builder, lowest), cgutils.alloca_once_value(builder, zero)
    with cgutils.for_range(builder, count, intp=INT) as loop:
        value = values_at(loop.index)
        builder.store(maximum(builder, value, builder.load(top)), top)  # forgets a NaN that a number follows
        builder.store(multiply_add(builder, value, zero, builder.load(wrong)), wrong)  # 0, or NaN for good
    extent = maximum(builder, builder.fsub(builder.load(top), lowest), float_constant(_SMALLEST_RANGE))
    extent = builder.fadd(extent, builder.load(wrong))
    store_vector(builder, builder.fmul(extent, float_constant(1 / BYTE_LEVELS)), scales, index_constant(0))
    levels_per_unit = builder.fdiv(float_constant(float(BYTE_LEVELS)), extent)
    with cgutils.for_range(builder, builder.udiv(count, index_constant(INPUTS_PER_STEP)), intp=INT) as loop:
        first = builder.mul(loop.index, index_constant(INPUTS_PER_STEP))
        for place in range(WORDS_PER_STEP):
            word = word_constant(0)
            for k, i in enumerate(INPUT_ORDER[place * INPUTS_PER_WORD : (place + 1) * INPUTS_PER_WORD]):
                above = builder.fsub(values_at(builder.add(first, index_constant(i))), lowest)
                level = multiply_add(builder, above, levels_per_unit, float_constant(_ROUNDING_SUMMAND))
                level = builder.and_(builder.bitcast(level, WORDS), word_constant(BYTE_LEVELS))
                word = builder.or_(word, builder.shl(level, word_constant(8 * k)))
            at = builder.add(builder.mul(loop.index, index_constant(WORDS_PER_STEP)), index_constant(place))
            store_vector(builder, word, target, builder.mul(at, index_constant(LANES)))
