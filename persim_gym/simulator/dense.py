"""One dense layer over the lanes of a vector, compiled; its inner sums in float32 or in pairs of bfloat16.

Rows are kept in lanes: activations are [inputs, LANES], so that one weight is multiplied by LANES of them and nothing
is ever transposed. Where the processor multiplies bfloat16, two inputs share a 32-bit word and one instruction adds
both of their products to a float32 sum.
"""

from collections.abc import Callable
from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from persim_gym.simulator.vectors import (
    INT,
    LANES,
    VECTOR,
    WORDS,
    add_product,
    at_least,
    load,
    silu,
    spread,
    store,
    whole,
    word,
)

UNITS = 8  # outputs that are summed at once, a register each


def multiplies_pairs() -> bool:
    """Whether this processor multiplies vectors of bfloat16."""
    return bool(llvmlite.binding.get_host_cpu_features().get("avx512bf16"))


def padded(outputs: int) -> int:
    """The number of outputs as `dense` takes it: a multiple of `UNITS`."""
    return -(-outputs // UNITS) * UNITS


def packed(weight: NDArray[np.float32], pairs: bool) -> NDArray[Any]:
    """Weights as `dense` reads them.

    Args:
        weight: [..., inputs, outputs]; inputs even with `pairs`, outputs a multiple of `UNITS`.
        pairs: Whether to round to bfloat16, two inputs a word.

    Returns:
        float32 [..., inputs * outputs], or int32 [..., inputs * outputs / 2].
    """
    values: NDArray[Any] = np.ascontiguousarray(weight)
    if pairs:
        bits = values.view(np.uint32)
        near = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16  # to the nearest, ties to even
        values = (near[..., 0::2, :] | (near[..., 1::2, :] << 16)).view(np.int32)
    *lead, inputs, outputs = values.shape
    blocks = values.reshape(*lead, inputs, outputs // UNITS, UNITS).swapaxes(-3, -2)
    return np.ascontiguousarray(blocks).reshape(*lead, inputs * outputs)


class _BFloat(ir.types.Type):  # type: ignore[misc]
    """The type that llvmlite does not know."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


_PAIRS = ir.VectorType(_BFloat(), 2 * LANES)


@intrinsic
def dense(typingctx, x, weights, offset, biases, start, out, inputs, outputs, least, silus):  # type: ignore
    """A layer of LANES rows: [inputs, LANES] to [outputs, LANES].

    Args of the compiled function:
        x: Inputs, contiguous; float32 values, or int32 words of two bfloat16.
        weights: As `packed` returns them, the same kind as `x`.
        offset: Where this layer's weights start.
        biases: float32.
        start: Where this layer's biases start.
        out: Outputs, contiguous; float32 values, or int32 words of two bfloat16.
        inputs: Values or words of `x` a lane.
        outputs: Number of outputs, a multiple of `UNITS`.
        least: Outputs are no smaller: 0 for ReLU, minus infinity for none.
        silus: Whether the activation is SiLU instead.
    """
    signature = types.void(x, weights, offset, biases, start, out, inputs, outputs, least, silus)

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        def data(i: int) -> Any:
            return context.make_array(signature.args[i])(context, builder, arguments[i]).data

        source, target = data(0), data(5)
        weights, biases = builder.gep(data(1), [arguments[2]]), builder.gep(data(3), [arguments[4]])
        pairs, packs = (signature.args[i].dtype == types.int32 for i in (0, 5))
        floor = spread(builder, arguments[8])
        activations: list[Callable[[Any], Any]] = [lambda x: silu(builder, x), lambda x: at_least(builder, x, floor)]
        with builder.if_else(context.is_true(builder, types.boolean, arguments[9])) as branches:
            for branch, activate in zip(branches, activations, strict=True):
                with branch:
                    inputs, outputs = arguments[6:8]
                    _emit_blocks(builder, source, weights, biases, target, inputs, outputs, pairs, packs, activate)
        return context.get_dummy_value()

    return signature, emit


def _emit_blocks(
    builder: ir.IRBuilder,
    source: Any,
    weights: Any,
    biases: Any,
    target: Any,
    inputs: Any,
    outputs: Any,
    pairs: bool,
    packs: bool,
    activate: Callable[[Any], Any],
) -> None:
    """The loop over blocks of `UNITS` outputs, whose sums stay in registers."""
    sums = [cgutils.alloca_once(builder, VECTOR) for _ in range(UNITS)]
    with cgutils.for_range(builder, builder.udiv(outputs, whole(UNITS)), intp=INT) as block:
        first = builder.mul(block.index, whole(UNITS))
        for u, total in enumerate(sums):
            bias = builder.load(builder.gep(biases, [builder.add(first, whole(u))]))
            builder.store(spread(builder, bias), total)
        base = builder.mul(first, inputs)
        with cgutils.for_range(builder, inputs, intp=INT) as loop:
            x = load(builder, source, builder.mul(loop.index, whole(LANES)), WORDS if pairs else VECTOR)
            where = builder.add(base, builder.mul(loop.index, whole(UNITS)))
            for u, total in enumerate(sums):
                weight = builder.load(builder.gep(weights, [builder.add(where, whole(u))]))
                add = _add_pairs if pairs else _add_values
                builder.store(add(builder, x, weight, builder.load(total)), total)
        results = [activate(builder.load(total)) for total in sums]
        if packs:
            results = [_joined(builder, *results[u : u + 2]) for u in range(0, UNITS, 2)]
            first = builder.udiv(first, whole(2))
        for i, result in enumerate(results):
            store(builder, result, target, builder.mul(builder.add(first, whole(i)), whole(LANES)))


def _add_values(builder: ir.IRBuilder, x: Any, weight: Any, total: Any) -> Any:
    return add_product(builder, x, spread(builder, weight), total)


def _add_pairs(builder: ir.IRBuilder, x: Any, weight: Any, total: Any) -> Any:
    kind = ir.FunctionType(VECTOR, [VECTOR, _PAIRS, _PAIRS])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512bf16.dpbf16ps.512")
    both = builder.bitcast(spread(builder, weight, WORDS), _PAIRS)
    return builder.call(function, [total, builder.bitcast(x, _PAIRS), both])


def _joined(builder: ir.IRBuilder, low: Any, high: Any) -> Any:
    """Two float32 vectors as one of words, each rounded to bfloat16."""
    low = builder.lshr(_rounded(builder, low), word(16))
    return builder.or_(low, builder.and_(_rounded(builder, high), word(0xFFFF0000)))


def _rounded(builder: ir.IRBuilder, value: Any) -> Any:
    """Bits whose upper half is the nearest bfloat16; NaN stays NaN."""
    bits = builder.bitcast(value, WORDS)
    odd = builder.and_(builder.lshr(bits, word(16)), word(1))
    near = builder.add(builder.add(bits, word(0x7FFF)), odd)
    return builder.select(builder.fcmp_unordered("uno", value, value), word(0x7FC00000), near)
