"""Whole rollouts of small models, one hidden layer and discrete actions, compiled: the hot path of planners.

Candidates that take the same action stand side by side in the lanes of vector registers, so that every weight is read
once for `LANES` of them and hidden units never leave the registers. `small_network` is that inner loop; batches of
environments use it too.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from persim_gym.parallel import Piece, run_pieces
from persim_gym.simulator.kernels.simd import (
    INT,
    LANES,
    VECTOR,
    broadcast,
    emit_silu,
    float_constant,
    index_constant,
    load_vector,
    maximum,
    multiply_add,
    store_vector,
)
from persim_gym.simulator.kernels.termination import compiled_rule, drop_finished, list_running
from persim_gym.simulator.kernels.walls import stop_columns
from persim_gym.task import Ends

MAX_CANDIDATES = 1024  # candidates rolled out together: their observations stay in a core's nearest cache


def rollout_small(
    obs: NDArray[np.float32],
    actions: NDArray[np.int64],
    live: NDArray[np.bool_],
    ends: Ends | None,
    weights: tuple[Any, ...],
    silu: bool,
) -> NDArray[np.float32]:
    """Observations that follow, step by step, by every member.

    Args:
        obs: Observations, [M, C, D].
        actions: Actions, [C, h].
        live: Which candidates of which members run, [M, C]; the others stay where they are.
        ends: Where one ends and stays; None for nowhere.
        weights: Of one agent, as `persim_gym.simulator.kernels.small_forward.predict_small` takes them with G = 1.
        silu: Whether hidden units are SiLU, not ReLU.

    Returns:
        [M, C, h, D + E], each component of each step contiguous in memory.
    """
    first, first_bias, last, last_bias, low, high, walls = weights
    members, candidates, size = obs.shape
    outs = len(low)
    out = np.empty((actions.shape[1], outs, members, candidates), dtype=np.float32)
    actions = np.ascontiguousarray(actions, dtype=np.int64)  # one layout, so that the kernel is compiled once
    obs = np.ascontiguousarray(obs, dtype=np.float32)
    rule = compiled_rule(ends)
    each, every = (0,) * size, (0,) * outs  # their lengths, D and D + E, are known to the compiler

    def run(piece: Piece) -> None:
        m, rows = piece
        layers = first[m], first_bias[m], last[0, m], last_bias[0, m]
        where = live[m, rows], rule
        _rollout_member(
            obs[m, rows], actions[rows], *where, *layers, low, high, walls, silu, each, every, out[:, :, m, rows]
        )

    run_pieces(run, members, candidates, MAX_CANDIDATES, LANES)
    return out.transpose(2, 3, 0, 1)


@njit(nogil=True, cache=True, error_model="numpy")
def _rollout_member(obs, actions, live, rule, w1, b1, w2, b2, least, most, walls, silu, each, every, out):  # type: ignore
    """One member's candidates through all steps; `out` is [h, D + E, C]. Returns the steps that candidates took."""
    candidates, steps = actions.shape
    size, outs = len(each), len(every)
    kinds = w2.shape[0]
    now = np.empty((size, candidates), dtype=np.float32)
    for c in range(candidates):
        for d in range(size):
            now[d, c] = obs[c, d]
    running = np.empty(candidates, dtype=np.int64)
    left, taken = list_running(live, obs, out, running), 0
    done = np.empty(candidates, dtype=np.uint8)
    order = np.empty(candidates, dtype=np.int64)
    start = np.empty(kinds + 1, dtype=np.int64)
    lanes = np.empty((size, LANES), dtype=np.float32)
    change = np.empty((outs, LANES), dtype=np.float32)
    for t in range(steps):
        taken += left
        if t and left < candidates:
            out[t] = out[t - 1]  # what follows overwrites candidates that run
        start[:] = 0
        for j in range(left):
            start[actions[running[j], t] + 1] += 1
        for a in range(kinds):
            start[a + 1] += start[a]
        filled = start.copy()
        for j in range(left):
            c = running[j]
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
                small_network(lanes, w1, b1, w2[a], change, each, every, silu)
                for d in range(outs):
                    shift, floor, ceiling = b2[a, d], least[d], most[d]
                    for i in range(count):
                        c = order[low + i]
                        following = change[d, i] + shift
                        if d < size:
                            following += lanes[d, i]
                        # Written so that a NaN stays one: both comparisons with it are false.
                        if following < floor:
                            following = floor
                        elif following > ceiling:
                            following = ceiling
                        if d < size:
                            now[d, c] = following
                        out[t, d, c] = following
        if len(walls[0]):
            stop_columns(walls, out[t], running, left)
            stop_columns(walls, now, running, left)
        if len(rule[0]):
            left = drop_finished(rule, out[t], running, left, done)
    return taken


def _network(typingctx, x, first, bias, last, out, each, every, silus):  # type: ignore
    """Sum over hidden units of outgoing weights times activation, [D + E, LANES], for LANES rows at once.

    `x` and `out` are float32 [D, LANES] and [D + E, LANES], `first` [D, H], `bias` [H], `last` [D + E, H]; all
    contiguous. `each` and `every` are tuples of D and D + E entries, `silus` says whether hidden units are SiLU.
    """
    signature = types.void(x, first, bias, last, out, each, every, silus)

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Sequence[Any]) -> Any:
        arrays = [
            context.make_array(k)(context, builder, a) for k, a in zip(signature.args[:5], arguments, strict=False)
        ]
        hidden = builder.extract_value(arrays[2].shape, 0)
        source, incoming, biases, outgoing, target = (array.data for array in arrays)

        def row(data: Any, d: int) -> Any:
            return builder.gep(data, [builder.mul(hidden, index_constant(d))], inbounds=True)

        heads = [row(incoming, d) for d in range(len(each))], biases, [row(outgoing, d) for d in range(len(every))]
        with builder.if_else(context.is_true(builder, types.boolean, arguments[7])) as (then, otherwise):
            with then:
                _emit_layers(builder, source, heads, target, hidden, emit_silu)
            with otherwise:
                _emit_layers(builder, source, heads, target, hidden, _relu)
        return context.get_dummy_value()

    return signature, emit


small_network: Any = intrinsic(_network)  # its type would be that of the function that emits it


def _relu(builder: ir.IRBuilder, x: Any) -> Any:
    return maximum(builder, x, float_constant(0.0))


def _emit_layers(
    builder: ir.IRBuilder,
    source: Any,
    weights: tuple[list[Any], Any, list[Any]],
    target: Any,
    hidden: Any,
    activate: Any,
) -> None:
    """The loop over hidden units; inputs and sums stay in registers. `weights` are rows over hidden units."""
    incoming, bias, outgoing = weights
    x = [load_vector(builder, source, index_constant(d * LANES)) for d in range(len(incoming))]
    sums = [cgutils.alloca_once(builder, VECTOR) for _ in outgoing]
    for total in sums:
        builder.store(float_constant(0.0), total)
    with cgutils.for_range(builder, hidden, intp=INT) as loop:

        def weight(row: Any) -> Any:
            return broadcast(builder, builder.load(builder.gep(row, [loop.index], inbounds=True)))

        unit = weight(bias)
        for part, row in zip(x, incoming, strict=True):
            unit = multiply_add(builder, part, weight(row), unit)
        unit = activate(builder, unit)
        for total, row in zip(sums, outgoing, strict=True):
            builder.store(multiply_add(builder, unit, weight(row), builder.load(total)), total)
    for d, total in enumerate(sums):
        store_vector(builder, builder.load(total), target, index_constant(d * LANES))
