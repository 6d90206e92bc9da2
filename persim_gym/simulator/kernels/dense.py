"""One dense layer over the lanes of a vector, compiled; its inner sums in float32 or in products of bytes.

Rows are kept in lanes: activations are [inputs, LANES], so that one weight is multiplied by LANES of them and nothing
is ever transposed. Where the processor multiplies vectors of bytes, eight inputs share two 32-bit words. Their products
are added up exactly: by one instruction a word (AVX512-VNNI), or four of them in 16 bits first (AVX2), for which
weights are kept small enough.
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

UNITS = 8  # outputs whose weights lie side by side
PER_WORD = 4  # bytes
ORDER = (0, 1, 4, 5, 2, 3, 6, 7)  # of the inputs whose bytes share two words; all are added to a sum at once
PER_STEP = len(ORDER)
WORDS_A_STEP = PER_STEP // PER_WORD
SUMMED_BYTES = 4  # neighbouring inputs: two bytes of either word
_TINY = 1e-30  # a range of values that is divided by
_WHOLE = 2.0**23  # added to a small float32, leaves the nearest whole number in its lowest bits


class ByteProducts(NamedTuple):
    """How a processor multiplies vectors of bytes.

    Attributes:
        name: The instructions.
        lanes: Lanes of a register that they multiply.
        most: What the levels of `SUMMED_BYTES` weights may come to, above zero and below, where their products are
            added up in 16 bits; None where no sum is too large.
    """

    name: str
    lanes: int
    most: int | None = None


BYTE_LEVELS = 255  # of an input, besides 0
VNNI = ByteProducts("AVX512-VNNI", lanes=16)
AVX2 = ByteProducts("AVX2", lanes=8, most=2**15 // (BYTE_LEVELS + 1))


def cpu_features() -> frozenset[str]:
    """What this processor has and Numba may use (NUMBA_CPU_FEATURES and others)."""
    known = config.CPU_FEATURES  # type: ignore[attr-defined]
    return frozenset((get_host_cpu_features() if known is None else known).split(","))


def byte_products() -> ByteProducts | None:
    """How this processor multiplies vectors of bytes, if it does."""
    known = cpu_features()
    return VNNI if "+avx512vnni" in known else AVX2 if "+avx2" in known else None


def padded_width(outputs: int) -> int:
    """The number of outputs as `dense` takes it: a multiple of `UNITS`."""
    return -(-outputs // UNITS) * UNITS


def pack_weights(weight: NDArray[Any]) -> NDArray[Any]:
    """Weights as `dense` reads them.

    Args:
        weight: [..., inputs, outputs], outputs a multiple of `UNITS`; float32, or int8 with inputs a multiple of
            `PER_STEP`.

    Returns:
        float32 [..., inputs * outputs], or int32 [..., inputs * outputs / 4].
    """
    values = np.ascontiguousarray(weight)
    if values.dtype == np.int8:
        *lead, inputs, outputs = values.shape
        words = values.reshape(*lead, inputs // PER_STEP, PER_STEP, outputs)[..., ORDER, :]
        words = words.reshape(*lead, inputs // PER_WORD, PER_WORD, outputs).swapaxes(-2, -1)
        values = np.ascontiguousarray(words).view("<i4")[..., 0]
    *lead, inputs, outputs = values.shape
    blocks = values.reshape(*lead, inputs, outputs // UNITS, UNITS).swapaxes(-3, -2)
    return np.ascontiguousarray(blocks).reshape(*lead, inputs * outputs)


@intrinsic
def dense(typingctx, x, steps, weights, offset, scales, biases, start, out, inputs, outputs, rows, least, silus):  # type: ignore
    """A layer of up to LANES rows: [inputs, LANES] to [outputs, LANES].

    Args of the compiled function:
        x: Inputs, contiguous; float32 values, or int32 words as `quantize_activations` makes them.
        steps: What one level of a lane's bytes stands for, float32 [LANES]; not read where `x` are values.
        weights: As `pack_weights` returns them, the same kind as `x`.
        offset: Where this layer's weights start.
        scales: What one level of an output's weights stands for, float32; not read where `x` are values.
        biases: float32.
        start: Where this layer's scales and biases start.
        out: Outputs, contiguous, float32.
        inputs: Values or words of `x` a lane.
        outputs: Number of outputs, a multiple of `UNITS`.
        rows: Lanes that are asked for; what the others receive is not said.
        least: Outputs are no smaller: 0 for ReLU, minus infinity for none.
        silus: Whether the activation is SiLU instead.
    """
    signature = types.void(x, steps, weights, offset, scales, biases, start, out, inputs, outputs, rows, least, silus)

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        def data(i: int) -> Any:
            return context.make_array(signature.args[i])(context, builder, arguments[i]).data

        of_bytes = signature.args[0].dtype == types.int32
        weights = builder.gep(data(2), [arguments[3]])
        scales, biases = (builder.gep(data(i), [arguments[6]]) for i in (4, 5))
        layer = data(0), data(1) if of_bytes else None, weights, scales, biases, data(7)

        def floor(x: Any) -> Any:
            return maximum(builder, x, broadcast(builder, arguments[11], x.type))

        activations: list[Callable[[Any], Any]] = [partial(emit_silu, builder), floor]
        with builder.if_else(context.is_true(builder, types.boolean, arguments[12])) as branches:
            for branch, activate in zip(branches, activations, strict=True):
                with branch:
                    _emit_blocks(builder, layer, arguments[8:11], activate)
        return context.get_dummy_value()

    return signature, emit


def _emit_blocks(
    builder: ir.IRBuilder, layer: tuple[Any, ...], sizes: tuple[Any, Any, Any], activate: Callable[[Any], Any]
) -> None:
    """The loop over blocks of `UNITS` outputs."""
    with cgutils.for_range(builder, builder.udiv(sizes[1], index_constant(UNITS)), intp=INT) as block:
        first = builder.mul(block.index, index_constant(UNITS))
        for units, lanes in _tiles(byte_products() if layer[1] is not None else None):
            asked_for = builder.icmp_signed(">", sizes[2], index_constant(lanes.start))
            with builder.if_then(asked_for, likely=True):
                _emit_tile(builder, layer, sizes[0], first, units, lanes, activate)


def _tiles(products: ByteProducts | None) -> list[tuple[range, range]]:
    """Which outputs and lanes of a block are summed at once: as many as registers hold beside what is added."""
    if products:  # each sum in one register, even of 256 bits where others have 512
        return [(range(UNITS), range(start, start + products.lanes)) for start in range(0, LANES, products.lanes)]
    units = UNITS if "+avx512f" in cpu_features() else UNITS // 2  # there are 16 registers of 256 bits
    return [(range(start, start + units), range(LANES)) for start in range(0, UNITS, units)]


def _emit_tile(
    builder: ir.IRBuilder,
    layer: tuple[Any, ...],
    inputs: Any,
    first: Any,
    units: range,
    lanes: range,
    activate: Callable[[Any], Any],
) -> None:
    """The loop over the inputs of some outputs and lanes, whose sums stay in registers."""
    source, steps, weights, scales, biases, target = layer
    of_bytes, reals = steps is not None, ir.VectorType(REAL, len(lanes))
    kind, add, at_once = (
        (ir.VectorType(WORD, len(lanes)), _add_bytes, WORDS_A_STEP) if of_bytes else (reals, _add_real, 1)
    )

    def of_output(values: Any, u: int) -> Any:
        return broadcast(builder, builder.load(builder.gep(values, [builder.add(first, index_constant(u))])), reals)

    sums = [cgutils.alloca_once(builder, kind) for _ in units]
    for u, total in zip(units, sums, strict=True):
        builder.store(word_constant(0, kind) if of_bytes else of_output(biases, u), total)
    base = builder.mul(first, inputs)
    with cgutils.for_range(builder, builder.udiv(inputs, index_constant(at_once)), intp=INT) as loop:
        rows = [
            builder.add(builder.mul(loop.index, index_constant(at_once)), index_constant(k)) for k in range(at_once)
        ]
        x = [
            load_vector(
                builder, source, builder.add(builder.mul(row, index_constant(LANES)), index_constant(lanes.start)), kind
            )
            for row in rows
        ]
        places = [builder.add(base, builder.mul(row, index_constant(UNITS))) for row in rows]
        for u, total in zip(units, sums, strict=True):
            held = [builder.load(builder.gep(weights, [builder.add(place, index_constant(u))])) for place in places]
            w = [broadcast(builder, weight, kind) for weight in held]
            builder.store(add(builder, x, w, builder.load(total)), total)
    for u, total in zip(units, sums, strict=True):
        result = builder.load(total)
        if of_bytes:
            real = builder.fmul(builder.sitofp(result, reals), of_output(scales, u))
            result = multiply_add(
                builder, real, load_vector(builder, steps, index_constant(lanes.start), reals), of_output(biases, u)
            )
        place = builder.add(
            builder.mul(builder.add(first, index_constant(u)), index_constant(LANES)), index_constant(lanes.start)
        )
        store_vector(builder, activate(result), target, place)


def _add_real(builder: ir.IRBuilder, x: Sequence[Any], w: Sequence[Any], total: Any) -> Any:
    """A sum and a product, a lane each."""
    return multiply_add(builder, x[0], w[0], total)


def _add_bytes(builder: ir.IRBuilder, x: Sequence[Any], w: Sequence[Any], total: Any) -> Any:
    """A sum and the products of the bytes of two words, a lane each."""
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
    kind = ir.FunctionType(result, [a.type for a in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


@intrinsic
def quantize_activations(typingctx, values, work, steps, count, lowest):  # type: ignore
    """What a layer made, as the next one takes it; `values` is float32 [count, LANES].

    Args of the compiled function:
        values: Float32, contiguous.
        work: Receives them, contiguous: float32 as they are, or int32 words of four bytes, each rounded to the nearest
            of 256 levels between `lowest` and the largest of its lane.
        steps: Receives the distance between two levels, float32 [LANES]; NaN in lanes that hold what is not finite.
        count: Number of values a lane, a multiple of `PER_STEP`.
        lowest: A number that none is below.
    """
    signature = types.void(values, work, steps, count, lowest)

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        source, target, steps = (
            context.make_array(k)(context, builder, a).data
            for k, a in zip(signature.args[:3], arguments[:3], strict=True)
        )
        if signature.args[1].dtype == types.int32:
            _emit_bytes(builder, source, target, steps, arguments[3], broadcast(builder, arguments[4]))
        else:
            with cgutils.for_range(builder, arguments[3], intp=INT) as loop:
                where = builder.mul(loop.index, index_constant(LANES))
                store_vector(builder, load_vector(builder, source, where), target, where)
        return context.get_dummy_value()

    return signature, emit


def _emit_bytes(builder: ir.IRBuilder, source: Any, target: Any, steps: Any, count: Any, lowest: Any) -> None:
    top, wrong = cgutils.alloca_once_value(builder, lowest), cgutils.alloca_once_value(builder, float_constant(0.0))
    with cgutils.for_range(builder, count, intp=INT) as loop:
        value = load_vector(builder, source, builder.mul(loop.index, index_constant(LANES)))
        builder.store(maximum(builder, value, builder.load(top)), top)  # forgets a NaN that a number follows
        builder.store(
            multiply_add(builder, value, float_constant(0.0), builder.load(wrong)), wrong
        )  # 0, or NaN for good
    extent = maximum(builder, builder.fsub(builder.load(top), lowest), float_constant(_TINY))
    extent = builder.fadd(extent, builder.load(wrong))
    store_vector(builder, builder.fmul(extent, float_constant(1 / BYTE_LEVELS)), steps, index_constant(0))
    scale = builder.fdiv(float_constant(float(BYTE_LEVELS)), extent)
    with cgutils.for_range(builder, builder.udiv(count, index_constant(PER_STEP)), intp=INT) as loop:
        first = builder.mul(loop.index, index_constant(PER_STEP))
        for place in range(WORDS_A_STEP):
            pack_weights = word_constant(0)
            for k, i in enumerate(ORDER[place * PER_WORD : (place + 1) * PER_WORD]):
                value = load_vector(
                    builder, source, builder.mul(builder.add(first, index_constant(i)), index_constant(LANES))
                )
                level = multiply_add(builder, builder.fsub(value, lowest), scale, float_constant(_WHOLE))
                level = builder.and_(builder.bitcast(level, WORDS), word_constant(BYTE_LEVELS))
                pack_weights = builder.or_(pack_weights, builder.shl(level, word_constant(8 * k)))
            at = builder.add(builder.mul(loop.index, index_constant(WORDS_A_STEP)), index_constant(place))
            store_vector(builder, pack_weights, target, builder.mul(at, index_constant(LANES)))
