"""Whole rollouts of small models, one hidden layer and discrete actions, compiled: the hot path of planners.

Candidates that take the same action stand side by side in the lanes of vector registers, so that every weight is read
once for `LANES` of them and hidden units never leave the registers.
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
from persim_gym.simulator.vectors import (
    INT,
    LANES,
    VECTOR,
    add_product,
    at_least,
    constant,
    load,
    silu,
    spread,
    store,
    whole,
)

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
        records: For each member, action and hidden unit its D incoming weights, bias and D + E outgoing weights,
            [M, actions, hidden, 2 D + E + 1].
        heads: Bias of the change, [M, actions, D + E].
        bounds: Lowest and highest observation, [2, D + E].
        silu: Whether hidden units are SiLU, not ReLU.

    Returns:
        [M, C, h, D + E], each component of each step contiguous in memory.
    """
    members, candidates, size = obs.shape
    outs = heads.shape[-1]
    out = np.empty((actions.shape[1], outs, members, candidates), dtype=np.float32)
    actions = np.ascontiguousarray(actions, dtype=np.int64)  # one layout, so that the kernel is compiled once
    obs = np.ascontiguousarray(obs, dtype=np.float32)
    each, every = (0,) * size, (0,) * outs  # their lengths, D and D + E, are known to the compiler

    def run(piece: Piece) -> None:
        m, rows = piece
        _roll(obs[m, rows], actions[rows], records[m], heads[m], bounds, silu, each, every, out[:, :, m, rows])

    run_pieces(run, members, candidates, MOST)
    return out.transpose(2, 3, 0, 1)


def interleave(
    first: NDArray[np.float32], first_bias: NDArray[np.float32], last: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Joins layers into the records of `rollout`.

    Args:
        first: Incoming weights, [M, D, hidden].
        first_bias: [M, hidden].
        last: Outgoing weights, the agent and each action folded in, [M, actions, D + E, hidden].
    """
    shape = (*last.shape[:2], last.shape[3])
    incoming = np.broadcast_to(first.transpose(0, 2, 1)[:, None], (*shape, first.shape[1]))
    bias = np.broadcast_to(first_bias[:, None, :, None], (*shape, 1))
    return np.ascontiguousarray(np.concatenate([incoming, bias, last.transpose(0, 1, 3, 2)], axis=-1))


@njit(nogil=True, cache=True, error_model="numpy")
def _roll(obs, actions, records, heads, bounds, silu, each, every, out):  # type: ignore
    """One member's candidates through all steps; `out` is [h, D + E, C]."""
    candidates, steps = actions.shape
    size, outs = len(each), len(every)
    kinds = records.shape[0]
    now = np.empty((size, candidates), dtype=np.float32)
    for c in range(candidates):
        for d in range(size):
            now[d, c] = obs[c, d]
    order = np.empty(candidates, dtype=np.int64)
    start = np.empty(kinds + 1, dtype=np.int64)
    lanes = np.empty((size, LANES), dtype=np.float32)
    change = np.empty((outs, LANES), dtype=np.float32)
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
                _lanes(lanes, records[a], change, each, every, silu)
                for d in range(outs):
                    shift, least, most = heads[a, d], bounds[0, d], bounds[1, d]
                    for i in range(count):
                        c = order[low + i]
                        following = change[d, i] + shift
                        if d < size:
                            following += lanes[d, i]
                        # Written so that a NaN stays one: both comparisons with it are false.
                        if following < least:
                            following = least
                        elif following > most:
                            following = most
                        if d < size:
                            now[d, c] = following
                        out[t, d, c] = following


@intrinsic
def _lanes(typingctx, x, records, out, each, every, silus):  # type: ignore
    """Sum over hidden units of outgoing weights times activation, [D + E, LANES], for LANES candidates at once.

    `x` and `out` are float32 [D, LANES] and [D + E, LANES], `records` [hidden, 2 D + E + 1]; all contiguous.
    """
    signature = types.void(x, records, out, each, every, silus)

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Sequence[Any]) -> Any:
        arrays = [
            context.make_array(k)(context, builder, a) for k, a in zip(signature.args[:3], arguments, strict=False)
        ]
        source, weights, target = (array.data for array in arrays)
        hidden = builder.extract_value(arrays[1].shape, 0)
        sizes = len(each), len(every)
        with builder.if_else(context.is_true(builder, types.boolean, arguments[5])) as (then, otherwise):
            with then:
                _emit_layers(builder, source, weights, target, hidden, *sizes, silu)
            with otherwise:
                _emit_layers(builder, source, weights, target, hidden, *sizes, _relu)
        return context.get_dummy_value()

    return signature, emit


def _relu(builder: ir.IRBuilder, x: Any) -> Any:
    return at_least(builder, x, constant(0.0))


def _emit_layers(
    builder: ir.IRBuilder, source: Any, weights: Any, target: Any, hidden: Any, size: int, outs: int, activate: Any
) -> None:
    """The loop over hidden units; inputs and sums stay in registers."""
    x = [load(builder, source, whole(d * LANES)) for d in range(size)]
    sums = [cgutils.alloca_once_value(builder, ir.Constant(VECTOR, [0.0] * LANES)) for _ in range(outs)]
    with cgutils.for_range(builder, hidden, intp=INT) as loop:
        base = builder.mul(loop.index, whole(size + outs + 1))

        def weight(i: int) -> Any:
            return spread(builder, builder.load(builder.gep(weights, [builder.add(base, whole(i))], inbounds=True)))

        unit = weight(size)
        for d in range(size):
            unit = add_product(builder, x[d], weight(d), unit)
        unit = activate(builder, unit)
        for d, total in enumerate(sums):
            builder.store(add_product(builder, unit, weight(size + 1 + d), builder.load(total)), total)
    for d, total in enumerate(sums):
        store(builder, builder.load(total), target, whole(d * LANES))
