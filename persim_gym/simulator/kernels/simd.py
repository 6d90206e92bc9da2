"""Vector instructions of the processor, emitted as LLVM code where Numba's own loops cannot be told to use them.

A vector register holds `LANES` float32 numbers side by side, one in each of its lanes, and one instruction works on all
of them. Rollouts put one candidate into each lane. Numba's loops cannot keep the running sums of many lanes in
registers; LLVM's own vectors can, and LLVM fits them to the width that a processor has.

Each function here takes the builder that it adds instructions to, and values that exist only once the code runs.
"""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from persim_gym.simulator.kernels.activations import TANH_DENOMINATOR, TANH_NUMERATOR

LANES = 16

# Types of LLVM: one float32, an index, one 32-bit word, and vectors of a float32 or a word in each lane.
REAL = ir.FloatType()
INT = ir.IntType(64)
WORD = ir.IntType(32)
VECTOR = ir.VectorType(REAL, LANES)
WORDS = ir.VectorType(WORD, LANES)

# The fraction of `activations` in powers of x^2 instead of (x / 2)^2, highest power first: tanh(x / 2) / 2 is
# x P(x^2) / Q(x^2).
_HALF_TANH_NUMERATOR = tuple(float(p) / 4 ** (i + 1) for i, p in reversed(list(enumerate(TANH_NUMERATOR))))
_HALF_TANH_DENOMINATOR = (*(float(q) / 4 ** (i + 1) for i, q in reversed(list(enumerate(TANH_DENOMINATOR)))), 1.0)

# A product and a sum may become one instruction. A NaN is never assumed away.
_CONTRACT = ("contract",)


def index_constant(value: int) -> Any:
    """An integer, as an index."""
    return ir.Constant(INT, value)


def float_constant(value: float, kind: Any = VECTOR) -> Any:
    """A number in every lane of a vector of type `kind`."""
    return ir.Constant(kind, [value] * kind.count)


def word_constant(value: int, kind: Any = WORDS) -> Any:
    """An integer in every lane of a vector of type `kind`."""
    return ir.Constant(kind, [value] * kind.count)


def broadcast(builder: ir.IRBuilder, value: Any, kind: Any = VECTOR) -> Any:
    """A value in every lane of a vector of type `kind`."""
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(WORD, 0))
    every = ir.Constant(ir.VectorType(WORD, kind.count), [0] * kind.count)
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), every)


def load_vector(builder: ir.IRBuilder, data: Any, start: Any, kind: Any = VECTOR) -> Any:
    """As many values as `kind` has lanes, from `data[start]` on."""
    loaded = builder.load(builder.bitcast(builder.gep(data, [start]), kind.as_pointer()))
    loaded.align = 4
    return loaded


def store_vector(builder: ir.IRBuilder, value: Any, data: Any, start: Any) -> None:
    """Writes the lanes of a vector to `data[start]` and behind."""
    builder.store(value, builder.bitcast(builder.gep(data, [start]), value.type.as_pointer()), align=4)


def multiply_add(builder: ir.IRBuilder, a: Any, b: Any, c: Any) -> Any:
    """The product of the first two, plus the third."""
    return builder.fadd(builder.fmul(a, b, flags=_CONTRACT), c, flags=_CONTRACT)


def maximum(builder: ir.IRBuilder, x: Any, least: Any) -> Any:
    """The larger of the two; ReLU for a least of 0. A NaN in `x` stays: comparisons with it are false."""
    return builder.select(builder.fcmp_ordered("<", x, least), least, x)


def emit_silu(builder: ir.IRBuilder, x: Any) -> Any:
    """SiLU, x times the logistic function, by the same fraction as `activations.logistic`.

    Below -16 it keeps the value that it has there, -2e-6, instead of going to 0: the fraction's own error times a very
    negative x would be no small number. The upper bound replaces a NaN by a number, but the last product restores it.
    """
    high = float_constant(16.0, x.type)
    x = maximum(builder, x, float_constant(-16.0, x.type))
    y = builder.select(builder.fcmp_ordered("<", x, high), x, high)
    q = builder.fmul(y, y)
    top = builder.fmul(y, _polynomial(builder, q, _HALF_TANH_NUMERATOR))
    half_tanh = builder.fdiv(top, _polynomial(builder, q, _HALF_TANH_DENOMINATOR))
    return builder.fmul(x, builder.fadd(half_tanh, float_constant(0.5, x.type)))


def _polynomial(builder: ir.IRBuilder, q: Any, coefficients: Sequence[float]) -> Any:
    """A polynomial by Horner's rule, coefficients from the highest power down."""
    value = float_constant(coefficients[0], q.type)
    for coefficient in coefficients[1:]:
        value = multiply_add(builder, value, q, float_constant(coefficient, q.type))
    return value
