"""One dense layer over the lanes of a vector, compiled; its inner sums in float32 or in products of bytes.

Rows are kept in lanes: activations are [inputs, LANES], so that one weight is multiplied by LANES of them and nothing
is ever transposed. Where the processor multiplies bytes, four inputs share a 32-bit word and one instruction adds all
four of their products to an integer sum, which is exact.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.core.codegen import get_host_cpu_features
from numba.extending import intrinsic
from numpy.typing import NDArray

from persim_gym.simulator.vectors import (
    INT,
    LANES,
    VECTOR,
    WORDS,
    add_product,
    at_least,
    constant,
    load,
    silu,
    spread,
    store,
    whole,
    word,
)

UNITS = 8  # outputs that are summed at once, a register each
PER_WORD = 4  # bytes
LEVELS = 255  # of an unsigned byte, besides 0
_TINY = 1e-30  # a range of values that is divided by
_WHOLE = 2.0**23  # added to a small float32, leaves the nearest whole number in its lowest bits


def multiplies_bytes() -> bool:
    """Whether this processor multiplies vectors of bytes, and Numba may use it (NUMBA_CPU_FEATURES and others)."""
    features = config.CPU_FEATURES  # type: ignore[attr-defined]
    features = get_host_cpu_features() if features is None else features
    return "+avx512vnni" in features.split(",")


def padded(outputs: int) -> int:
    """The number of outputs as `dense` takes it: a multiple of `UNITS`."""
    return -(-outputs // UNITS) * UNITS


def packed(weight: NDArray[Any]) -> NDArray[Any]:
    """Weights as `dense` reads them.

    Args:
        weight: [..., inputs, outputs], outputs a multiple of `UNITS`; float32, or int8 with inputs a multiple of
            `PER_WORD`.

    Returns:
        float32 [..., inputs * outputs], or int32 [..., inputs * outputs / 4].
    """
    values = np.ascontiguousarray(weight)
    if values.dtype == np.int8:
        *lead, inputs, outputs = values.shape
        words = values.reshape(*lead, inputs // PER_WORD, PER_WORD, outputs).swapaxes(-2, -1)
        values = np.ascontiguousarray(words).view("<i4")[..., 0]
    *lead, inputs, outputs = values.shape
    blocks = values.reshape(*lead, inputs, outputs // UNITS, UNITS).swapaxes(-3, -2)
    return np.ascontiguousarray(blocks).reshape(*lead, inputs * outputs)


@intrinsic
def dense(typingctx, x, steps, weights, offset, scales, biases, start, out, inputs, outputs, least, silus):  # type: ignore
    """A layer of LANES rows: [inputs, LANES] to [outputs, LANES].

    Args of the compiled function:
        x: Inputs, contiguous; float32 values, or int32 words as `hand_over` makes them.
        steps: What one level of a lane's bytes stands for, float32 [LANES]; not read where `x` are values.
        weights: As `packed` returns them, the same kind as `x`.
        offset: Where this layer's weights start.
        scales: What one level of an output's weights stands for, float32; not read where `x` are values.
        biases: float32.
        start: Where this layer's scales and biases start.
        out: Outputs, contiguous, float32.
        inputs: Values or words of `x` a lane.
        outputs: Number of outputs, a multiple of `UNITS`.
        least: Outputs are no smaller: 0 for ReLU, minus infinity for none.
        silus: Whether the activation is SiLU instead.
    """
    signature = types.void(x, steps, weights, offset, scales, biases, start, out, inputs, outputs, least, silus)

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        def data(i: int) -> Any:
            return context.make_array(signature.args[i])(context, builder, arguments[i]).data

        of_bytes = signature.args[0].dtype == types.int32
        weights = builder.gep(data(2), [arguments[3]])
        scales, biases = (builder.gep(data(i), [arguments[6]]) for i in (4, 5))
        layer = data(0), load(builder, data(1), whole(0)) if of_bytes else None, weights, scales, biases, data(7)
        floor = spread(builder, arguments[10])
        activations: list[Callable[[Any], Any]] = [lambda x: silu(builder, x), lambda x: at_least(builder, x, floor)]
        with builder.if_else(context.is_true(builder, types.boolean, arguments[11])) as branches:
            for branch, activate in zip(branches, activations, strict=True):
                with branch:
                    _emit_blocks(builder, layer, arguments[8:10], activate)
        return context.get_dummy_value()

    return signature, emit


def _emit_blocks(
    builder: ir.IRBuilder, layer: tuple[Any, ...], sizes: tuple[Any, Any], activate: Callable[[Any], Any]
) -> None:
    """The loop over blocks of `UNITS` outputs, whose sums stay in registers."""
    source, step, weights, scales, biases, target = layer
    inputs, outputs = sizes
    of_bytes = step is not None
    kind, add = (WORDS, _add_bytes) if of_bytes else (VECTOR, _add_values)
    sums = [cgutils.alloca_once(builder, kind) for _ in range(UNITS)]
    with cgutils.for_range(builder, builder.udiv(outputs, whole(UNITS)), intp=INT) as block:
        first = builder.mul(block.index, whole(UNITS))

        def of_output(values: Any, u: int) -> Any:
            return spread(builder, builder.load(builder.gep(values, [builder.add(first, whole(u))])))

        for u, total in enumerate(sums):
            builder.store(word(0) if of_bytes else of_output(biases, u), total)
        base = builder.mul(first, inputs)
        with cgutils.for_range(builder, inputs, intp=INT) as loop:
            x = load(builder, source, builder.mul(loop.index, whole(LANES)), kind)
            where = builder.add(base, builder.mul(loop.index, whole(UNITS)))
            for u, total in enumerate(sums):
                weight = builder.load(builder.gep(weights, [builder.add(where, whole(u))]))
                builder.store(add(builder, x, weight, builder.load(total)), total)
        for u, total in enumerate(sums):
            result = builder.load(total)
            if of_bytes:
                real = builder.fmul(builder.sitofp(result, VECTOR), of_output(scales, u))
                result = add_product(builder, real, step, of_output(biases, u))
            store(builder, activate(result), target, builder.mul(builder.add(first, whole(u)), whole(LANES)))


def _add_values(builder: ir.IRBuilder, x: Any, weight: Any, total: Any) -> Any:
    return add_product(builder, x, spread(builder, weight), total)


def _add_bytes(builder: ir.IRBuilder, x: Any, weight: Any, total: Any) -> Any:
    kind = ir.FunctionType(WORDS, [WORDS, WORDS, WORDS])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512.vpdpbusd.512")
    return builder.call(function, [total, x, spread(builder, weight, WORDS)])


@intrinsic
def hand_over(typingctx, values, work, steps, count, lowest):  # type: ignore
    """What a layer made, as the next one takes it; `values` is float32 [count, LANES].

    Args of the compiled function:
        values: Float32, contiguous.
        work: Receives them, contiguous: float32 as they are, or int32 words of four bytes, each rounded to the nearest
            of 256 levels between `lowest` and the largest of its lane.
        steps: Receives the distance between two levels, float32 [LANES]; NaN in lanes that hold what is not finite.
        count: Number of values a lane, a multiple of `PER_WORD`.
        lowest: A number that none is below.
    """
    signature = types.void(values, work, steps, count, lowest)

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        source, target, steps = (
            context.make_array(k)(context, builder, a).data
            for k, a in zip(signature.args[:3], arguments[:3], strict=True)
        )
        if signature.args[1].dtype == types.int32:
            _emit_bytes(builder, source, target, steps, arguments[3], spread(builder, arguments[4]))
        else:
            with cgutils.for_range(builder, arguments[3], intp=INT) as loop:
                where = builder.mul(loop.index, whole(LANES))
                store(builder, load(builder, source, where), target, where)
        return context.get_dummy_value()

    return signature, emit


def _emit_bytes(builder: ir.IRBuilder, source: Any, target: Any, steps: Any, count: Any, lowest: Any) -> None:
    top, wrong = cgutils.alloca_once_value(builder, lowest), cgutils.alloca_once_value(builder, constant(0.0))
    with cgutils.for_range(builder, count, intp=INT) as loop:
        value = load(builder, source, builder.mul(loop.index, whole(LANES)))
        builder.store(at_least(builder, value, builder.load(top)), top)  # forgets a NaN that a number follows
        builder.store(add_product(builder, value, constant(0.0), builder.load(wrong)), wrong)  # 0, or NaN for good
    extent = at_least(builder, builder.fsub(builder.load(top), lowest), constant(_TINY))
    extent = builder.fadd(extent, builder.load(wrong))
    store(builder, builder.fmul(extent, constant(1 / LEVELS)), steps, whole(0))
    scale = builder.fdiv(constant(float(LEVELS)), extent)
    with cgutils.for_range(builder, builder.udiv(count, whole(PER_WORD)), intp=INT) as loop:
        first = builder.mul(loop.index, whole(PER_WORD))
        packed = word(0)
        for k in range(PER_WORD):
            value = load(builder, source, builder.mul(builder.add(first, whole(k)), whole(LANES)))
            level = add_product(builder, builder.fsub(value, lowest), scale, constant(_WHOLE))
            level = builder.and_(builder.bitcast(level, WORDS), word(LEVELS))
            packed = builder.or_(packed, builder.shl(level, word(8 * k)))
        store(builder, packed, target, builder.mul(loop.index, whole(LANES)))
