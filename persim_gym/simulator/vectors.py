"""LLVM's vector operations, as kernels of rollouts use them: candidates side by side in the lanes of a register.

Numba's loops cannot keep sums of many lanes in registers over a loop; LLVM's own vectors can, and it fits them to any
processor.
"""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

LANES = 16
REAL = ir.FloatType()
INT = ir.IntType(64)
WORD = ir.IntType(32)
VECTOR = ir.VectorType(REAL, LANES)
WORDS = ir.VectorType(WORD, LANES)
_CONTRACT = ("contract",)  # a product and a sum may become one operation; NaN is not ruled out


def whole(value: int) -> Any:
    """An integer, as an index."""
    return ir.Constant(INT, value)


def constant(value: float) -> Any:
    """A number in every lane."""
    return ir.Constant(VECTOR, [value] * LANES)


def word(value: int) -> Any:
    """32 bits in every lane."""
    return ir.Constant(WORDS, [value] * LANES)


def spread(builder: ir.IRBuilder, value: Any, kind: Any = VECTOR) -> Any:
    """A value in every lane of a vector of type `kind`."""
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(WORD, 0))
    every = ir.Constant(ir.VectorType(WORD, kind.count), [0] * kind.count)
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), every)


def load(builder: ir.IRBuilder, data: Any, start: Any, kind: Any = VECTOR) -> Any:
    """As many values as `kind` has, from `data[start]` on."""
    loaded = builder.load(builder.bitcast(builder.gep(data, [start]), kind.as_pointer()))
    loaded.align = 4
    return loaded


def store(builder: ir.IRBuilder, value: Any, data: Any, start: Any) -> None:
    """Writes the values of a vector to `data[start]` and behind."""
    builder.store(value, builder.bitcast(builder.gep(data, [start]), value.type.as_pointer()), align=4)


def add_product(builder: ir.IRBuilder, a: Any, b: Any, c: Any) -> Any:
    """Product of the first two, plus the third."""
    return builder.fadd(builder.fmul(a, b, flags=_CONTRACT), c, flags=_CONTRACT)


def at_least(builder: ir.IRBuilder, x: Any, least: Any) -> Any:
    """The larger one, ReLU for a least of 0. Comparisons with NaN are false: it stays."""
    return builder.select(builder.fcmp_ordered("<", x, least), least, x)


def silu(builder: ir.IRBuilder, x: Any) -> Any:
    """SiLU, x times the logistic function, from the same continued fraction as `kernels.tanh` of x / 2.

    With tanh(x / 4) = top / below it is x (top + below)^2 / (2 (top^2 + below^2)).
    """
    high = constant(16.0)
    y = at_least(builder, x, constant(-16.0))
    y = builder.select(builder.fcmp_ordered(">", y, high), high, y)
    y = builder.fmul(y, constant(0.25))
    q = builder.fmul(y, y)
    top = builder.fmul(y, _polynomial(builder, q, (36.0, 6930.0, 270270.0, 2027025.0)))
    below = _polynomial(builder, q, (1.0, 630.0, 51975.0, 945945.0, 2027025.0))
    both = builder.fadd(top, below)
    squares = add_product(builder, top, top, builder.fmul(below, below))
    gate = builder.fdiv(builder.fmul(both, both), squares)
    return builder.fmul(builder.fmul(x, constant(0.5)), gate)


def _polynomial(builder: ir.IRBuilder, q: Any, coefficients: Sequence[float]) -> Any:
    """Horner's rule, the highest power first."""
    value = constant(coefficients[0])
    for coefficient in coefficients[1:]:
        value = add_product(builder, value, q, constant(coefficient))
    return value
