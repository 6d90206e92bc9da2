"""LLVM's vector operations, as kernels of rollouts use them: candidates side by side in the lanes of a register.

Numba's loops cannot keep sums of many lanes in registers over a loop; LLVM's own vectors can, and it fits them to any
processor.
"""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from persim_gym.simulator.kernels.activations import TANH_DENOMINATOR, TANH_NUMERATOR

LANES = 16
REAL = ir.FloatType()
INT = ir.IntType(64)
WORD = ir.IntType(32)
VECTOR = ir.VectorType(REAL, LANES)
WORDS = ir.VectorType(WORD, LANES)
# half of tanh(x / 2) is x top(x^2) / below(x^2)
_TOP = tuple(float(p) / 4 ** (i + 1) for i, p in reversed(list(enumerate(TANH_NUMERATOR))))
_BELOW = (*(float(q) / 4 ** (i + 1) for i, q in reversed(list(enumerate(TANH_DENOMINATOR)))), 1.0)
_CONTRACT = ("contract",)  # a product and a sum may become one operation; NaN is not ruled out


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
    """As many values as `kind` has, from `data[start]` on."""
    loaded = builder.load(builder.bitcast(builder.gep(data, [start]), kind.as_pointer()))
    loaded.align = 4
    return loaded


def store_vector(builder: ir.IRBuilder, value: Any, data: Any, start: Any) -> None:
    """Writes the values of a vector to `data[start]` and behind."""
    builder.store(value, builder.bitcast(builder.gep(data, [start]), value.type.as_pointer()), align=4)


def multiply_add(builder: ir.IRBuilder, a: Any, b: Any, c: Any) -> Any:
    """Product of the first two, plus the third."""
    return builder.fadd(builder.fmul(a, b, flags=_CONTRACT), c, flags=_CONTRACT)


def maximum(builder: ir.IRBuilder, x: Any, least: Any) -> Any:
    """The larger one, ReLU for a least of 0. Comparisons with NaN are false: it stays."""
    return builder.select(builder.fcmp_ordered("<", x, least), least, x)


def emit_silu(builder: ir.IRBuilder, x: Any) -> Any:
    """SiLU, x times the logistic function, by the same fraction as `activation.logistic` in powers of x itself.

    Below -16 it stays at that value, 0 but for -2e-6: the fraction's own error times a very negative x is no small
    number. A NaN that the upper bound lets through as a number comes back in the last product.
    """
    high = float_constant(16.0, x.type)
    x = maximum(builder, x, float_constant(-16.0, x.type))
    y = builder.select(builder.fcmp_ordered("<", x, high), x, high)
    q = builder.fmul(y, y)
    top = builder.fmul(y, _polynomial(builder, q, _TOP))
    gate = builder.fadd(builder.fdiv(top, _polynomial(builder, q, _BELOW)), float_constant(0.5, x.type))
    return builder.fmul(x, gate)


def _polynomial(builder: ir.IRBuilder, q: Any, coefficients: Sequence[float]) -> Any:
    """Horner's rule, the highest power first."""
    value = float_constant(coefficients[0], q.type)
    for coefficient in coefficients[1:]:
        value = multiply_add(builder, value, q, float_constant(coefficient, q.type))
    return value
