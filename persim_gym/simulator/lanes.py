"""Whole rollouts of small models, one hidden layer and discrete actions, compiled: the hot path of planners.

Candidates that take the same action stand side by side in the lanes of vector registers, so that every weight is read
once for `LANES` of them and hidden units never leave the registers. Numba's loops cannot say that; the inner loop is
therefore written in LLVM's own vector operations, which it fits to any processor.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from persim_gym.simulator.threads import Piece, run_pieces

LANES = 16
_CONTRACT = ("contract",)  # a product and a sum may become one operation; NaN is not ruled out
MOST = 512  # candidates rolled out together: their observations stay in a core's nearest cache


def rollout(
    obs: NDArray[np.float32],
    actions: NDArray[np.int64],
    records: NDArray[np.float32],
    heads: NDArray[np.float32],
    bounds: NDArray[np.float32],
    silu: bool,
) -> NDArray[np.float32]:
    """Observations that follow, step by step, by every member.

    Args:
        obs: Observations, [M, C, D].
        actions: Actions, [C, h].
        records: For each member, action and hidden unit its D incoming weights, bias and D outgoing weights,
            [M, actions, hidden, 2 D + 1].
        heads: Bias of the change, [M, actions, D].
        bounds: Lowest and highest observation, [2, D].
        silu: Whether hidden units are SiLU, not ReLU.

    Returns:
        [M, C, h, D], each component of each step contiguous in memory.
    """
    members, candidates, size = obs.shape
    out = np.empty((actions.shape[1], size, members, candidates), dtype=np.float32)
    actions = np.ascontiguousarray(actions, dtype=np.int64)  # one layout, so that the kernel is compiled once
    obs = np.ascontiguousarray(obs, dtype=np.float32)
    each = (0,) * size  # its length is the number of components, known to the compiler

    def run(piece: Piece) -> None:
        m, rows = piece
        _roll(obs[m, rows], actions[rows], records[m], heads[m], bounds, silu, each, out[:, :, m, rows])

    run_pieces(run, members, candidates, MOST)
    return out.transpose(2, 3, 0, 1)


def interleave(
    first: NDArray[np.float32], first_bias: NDArray[np.float32], last: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Joins layers into the records of `rollout`.

    Args:
        first: Incoming weights, [M, D, hidden].
        first_bias: [M, hidden].
        last: Outgoing weights, the agent and each action folded in, [M, actions, D, hidden].
    """
    shape = (*last.shape[:2], last.shape[3])
    incoming = np.broadcast_to(first.transpose(0, 2, 1)[:, None], (*shape, first.shape[1]))
    bias = np.broadcast_to(first_bias[:, None, :, None], (*shape, 1))
    return np.ascontiguousarray(np.concatenate([incoming, bias, last.transpose(0, 1, 3, 2)], axis=-1))


@njit(nogil=True, cache=True, error_model="numpy")
def _roll(obs, actions, records, heads, bounds, silu, each, out):  # type: ignore
    """One member's candidates through all steps; `out` is [h, D, C]."""
    candidates, steps = actions.shape
    size = len(each)
    kinds = records.shape[0]
    now = np.empty((size, candidates), dtype=np.float32)
    for c in range(candidates):
        for d in range(size):
            now[d, c] = obs[c, d]
    order = np.empty(candidates, dtype=np.int64)
    start = np.empty(kinds + 1, dtype=np.int64)
    lanes = np.empty((size, LANES), dtype=np.float32)
    change = np.empty((size, LANES), dtype=np.float32)
    for t in range(steps):
        start[:] = 0
        for c in range(candidates):
            start[actions[c, t] + 1] += 1
        for a in range(kinds):
            start[a + 1] += start[a]
        filled = start.copy()
        for c in range(candidates):
            a = actions[c, t]
            order[filled[a]] = c
            filled[a] += 1
        for a in range(kinds):
            for low in range(start[a], start[a + 1], LANES):
                count = min(LANES, start[a + 1] - low)
                for i in range(LANES):
                    c = order[low + min(i, count - 1)]  # spare lanes repeat the last candidate
                    for d in range(size):
                        lanes[d, i] = now[d, c]
                _lanes(lanes, records[a], change, each, silu)  # type: ignore[call-arg]
                for d in range(size):
                    shift, least, most = heads[a, d], bounds[0, d], bounds[1, d]
                    for i in range(count):
                        c = order[low + i]
                        following = lanes[d, i] + (change[d, i] + shift)
                        # Written so that a NaN stays one: both comparisons with it are false.
                        if following < least:
                            following = least
                        elif following > most:
                            following = most
                        now[d, c] = following
                        out[t, d, c] = following


@intrinsic
def _lanes(typingctx, x, records, out, each, silu):  # type: ignore
    """Sum over hidden units of outgoing weights times activation, [D, LANES], for LANES candidates at once.

    `x` and `out` are float32 [D, LANES], `records` [hidden, 2 D + 1]; all contiguous.
    """
    signature = types.void(x, records, out, each, silu)

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Sequence[Any]) -> Any:
        arrays = [
            context.make_array(k)(context, builder, a) for k, a in zip(signature.args[:3], arguments, strict=False)
        ]
        source, weights, target = (array.data for array in arrays)
        hidden = builder.extract_value(arrays[1].shape, 0)
        with builder.if_else(context.is_true(builder, types.boolean, arguments[4])) as (then, otherwise):
            with then:
                _emit_layers(builder, source, weights, target, hidden, len(each), _silu)
            with otherwise:
                _emit_layers(builder, source, weights, target, hidden, len(each), _relu)
        return context.get_dummy_value()

    return signature, emit


_REAL = ir.FloatType()
_VECTOR = ir.VectorType(_REAL, LANES)
_INT = ir.IntType(64)


def _emit_layers(
    builder: ir.IRBuilder, source: Any, weights: Any, target: Any, hidden: Any, size: int, activate: Any
) -> None:
    """The loop over hidden units; inputs and sums stay in registers."""
    x = [_vector(builder, source, d).load() for d in range(size)]
    sums = [cgutils.alloca_once_value(builder, ir.Constant(_VECTOR, [0.0] * LANES)) for _ in range(size)]
    with cgutils.for_range(builder, hidden, intp=_INT) as loop:
        base = builder.mul(loop.index, ir.Constant(_INT, 2 * size + 1))

        def weight(i: int) -> Any:
            where = builder.gep(weights, [builder.add(base, ir.Constant(_INT, i))], inbounds=True)
            return _spread(builder, builder.load(where))

        unit = weight(size)
        for d in range(size):
            unit = _add_product(builder, x[d], weight(d), unit)
        unit = activate(builder, unit)
        for d in range(size):
            builder.store(_add_product(builder, unit, weight(size + 1 + d), builder.load(sums[d])), sums[d])
    for d in range(size):
        _vector(builder, target, d).store(builder.load(sums[d]))


class _vector:
    """Row d of an array [D, LANES]."""

    def __init__(self, builder: ir.IRBuilder, data: Any, d: int) -> None:
        row = builder.gep(data, [ir.Constant(_INT, d * LANES)])
        self.builder, self.where = builder, builder.bitcast(row, _VECTOR.as_pointer())

    def load(self) -> Any:
        loaded = self.builder.load(self.where)
        loaded.align = 4
        return loaded

    def store(self, value: Any) -> None:
        self.builder.store(value, self.where, align=4)


def _spread(builder: ir.IRBuilder, value: Any) -> Any:
    """A number in every lane."""
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    every = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(one, ir.Constant(_VECTOR, ir.Undefined), every)


def _constant(value: float) -> Any:
    return ir.Constant(_VECTOR, [value] * LANES)


def _add_product(builder: ir.IRBuilder, a: Any, b: Any, c: Any) -> Any:
    return builder.fadd(builder.fmul(a, b, flags=_CONTRACT), c, flags=_CONTRACT)


def _relu(builder: ir.IRBuilder, x: Any) -> Any:
    """Comparisons with NaN are false: it stays."""
    zero = _constant(0.0)
    return builder.select(builder.fcmp_ordered("<", x, zero), zero, x)


def _silu(builder: ir.IRBuilder, x: Any) -> Any:
    """SiLU, x times the logistic function, from the same continued fraction as `kernels._tanh` of x / 2.

    With tanh(x / 4) = top / below it is x (top + below)^2 / (2 (top^2 + below^2)).
    """
    low, high = _constant(-16.0), _constant(16.0)
    y = builder.select(builder.fcmp_ordered("<", x, low), low, x)
    y = builder.select(builder.fcmp_ordered(">", y, high), high, y)
    y = builder.fmul(y, _constant(0.25))
    q = builder.fmul(y, y)
    top = builder.fmul(y, _polynomial(builder, q, (36.0, 6930.0, 270270.0, 2027025.0)))
    below = _polynomial(builder, q, (1.0, 630.0, 51975.0, 945945.0, 2027025.0))
    both = builder.fadd(top, below)
    squares = _add_product(builder, top, top, builder.fmul(below, below))
    gate = builder.fdiv(builder.fmul(both, both), squares)
    return builder.fmul(builder.fmul(x, _constant(0.5)), gate)


def _polynomial(builder: ir.IRBuilder, q: Any, coefficients: Sequence[float]) -> Any:
    """Horner's rule, the highest power first."""
    value = _constant(coefficients[0])
    for coefficient in coefficients[1:]:
        value = _add_product(builder, value, q, _constant(coefficient))
    return value
