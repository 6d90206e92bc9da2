"""Compiled predictions of small models: one hidden layer and discrete actions.

At these sizes calling a tensor operation costs many times its arithmetic, so one compiled call does everything. There
are two ways to compute, which agree to float32 rounding:

- `predict_small` takes one observation after the other, each with an agent and an action of its own. Its loops run over
  hidden units and write one array each, so that the compiler vectorises them.
- `small_network` takes `LANES` observations at once that share one agent and action, one in each lane of a vector
  register. Every weight is read once for all of them, and hidden units never leave the registers. `sort_by_key` gathers
  what shares its weights.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from persim_gym.simulator.kernels.activations import FAST_MATH, logistic
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
from persim_gym.simulator.kernels.walls import WallArrays, clip, stop_columns


class SmallWeights(NamedTuple):
    """A small model bound to G agents: scaling, agents and actions are folded into its two layers.

    Attributes:
        first: Weights of the first layer, [M, D, H].
        first_bias: Its biases, [M, H].
        last: Weights of the last layer for each agent and action, [G, M, actions, D + E, H]; what comes out is the
            change of the observation and the E quantities beside it.
        last_bias: Its biases, [G, M, actions, D + E].
        low: Lowest prediction, [D + E].
        high: Highest prediction, [D + E].
        walls: What stops predictions at once.
        silu: Whether hidden units are SiLU, not ReLU.
    """

    first: NDArray[np.float32]
    first_bias: NDArray[np.float32]
    last: NDArray[np.float32]
    last_bias: NDArray[np.float32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    walls: WallArrays
    silu: bool


def predict_small(
    obs: NDArray[np.float32], action: NDArray[np.int64], which: NDArray[np.int64], weights: SmallWeights
) -> NDArray[np.float32]:
    """Next observations by every member, on one thread; run planners side by side in processes.

    Args:
        obs: Observations, [M, C, D]; columns past D are ignored.
        action: Actions, [C].
        which: Index of each row's agent among the G of `weights`, [C].
        weights: The model bound to its agents.

    Returns:
        [M, C, D + E].
    """
    obs = np.ascontiguousarray(obs)  # one layout, so that the kernel is compiled once
    action = np.ascontiguousarray(action, dtype=np.int64)
    out = np.empty((len(weights.first), len(action), len(weights.low)), dtype=np.float32)
    predict_small_rows(obs, action, which, weights, out)
    return out


@njit(fastmath=FAST_MATH, cache=True, error_model="numpy")
def predict_small_rows(obs, action, which, weights, out):  # type: ignore
    """As `predict_small`, compiled: fills `out`, [M, C, D + E]."""
    all_first, all_first_bias, all_last, all_last_bias, low, high, walls, silu = weights  # here: not for each row anew
    d_size, hidden = all_first.shape[1:]
    members, candidates, outs = out.shape
    units = np.empty(hidden, dtype=np.float32)
    for row in range(members * candidates):
        m = row // candidates
        c = row - m * candidates
        g, a = which[c], action[c]
        first, bias, last, last_bias = all_first[m], all_first_bias[m], all_last[g, m, a], all_last_bias[g, m, a]
        x = obs[m, c, 0]
        for h in range(hidden):
            units[h] = bias[h] + x * first[0, h]
        for d in range(1, d_size):
            x = obs[m, c, d]
            for h in range(hidden):
                units[h] += x * first[d, h]
        if silu:
            for h in range(hidden):
                units[h] *= logistic(units[h])
        else:
            for h in range(hidden):
                units[h] = np.float32(0.0) if units[h] < 0 else units[h]
        for d in range(outs):
            following = last_bias[d]
            for h in range(hidden):
                following += units[h] * last[d, h]
            if d < d_size:
                following += obs[m, c, d]
            out[m, c, d] = clip(following, low[d], high[d])
    if len(walls.component):
        for m in range(members):
            stop_columns(walls, out[m].T, np.arange(candidates), candidates)


@njit(cache=True, nogil=True, error_model="numpy")
def sort_by_key(items, keys, order, starts):  # type: ignore
    """Sorts items by key, in one pass over them; items of one key stay in their order.

    Args:
        items: Indices into `keys`.
        keys: Key of each, 0..K-1.
        order: Receives the items, sorted.
        starts: Receives where the items of each key begin in `order`, and at K where the last ones end, [K + 2].
    """
    starts[:] = 0
    for item in items:
        starts[keys[item] + 2] += 1
    for key in range(2, len(starts)):
        starts[key] += starts[key - 1]
    for item in items:  # what follows a key's start moves on with each of its items, up to the start of the next key
        place = keys[item] + 1
        order[starts[place]] = item
        starts[place] += 1


def _network(typingctx, x, first, bias, last, out, in_dims, out_dims, silu):  # type: ignore
    """Both layers without the last bias, for the observations of `LANES` candidates.

    Args of the compiled function, whose arrays are contiguous float32:
        x: Observations, a candidate in each lane, [D, LANES].
        first: Weights of the first layer, [D, H].
        bias: Its biases, [H].
        last: Weights of the last layer, [D + E, H].
        out: Receives what the last layer makes of them, [D + E, LANES].
        in_dims: A tuple of D zeros: its length is known to the compiler.
        out_dims: A tuple of D + E zeros.
        silu: Whether hidden units are SiLU, not ReLU.
    """
    signature = types.void(x, first, bias, last, out, in_dims, out_dims, silu)

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Sequence[Any]) -> Any:
        arrays = [
            context.make_array(k)(context, builder, a) for k, a in zip(signature.args[:5], arguments, strict=False)
        ]
        hidden = builder.extract_value(arrays[2].shape, 0)
        source, incoming, biases, outgoing, target = (array.data for array in arrays)

        def row(data: Any, d: int) -> Any:
            return builder.gep(data, [builder.mul(hidden, index_constant(d))], inbounds=True)

        rows_in, rows_out = (
            [row(incoming, d) for d in range(len(in_dims))],
            [row(outgoing, d) for d in range(len(out_dims))],
        )
        with builder.if_else(context.is_true(builder, types.boolean, arguments[7])) as (then, otherwise):
            with then:
                _emit_layers(builder, source, (rows_in, biases, rows_out), target, hidden, emit_silu)
            with otherwise:
                _emit_layers(builder, source, (rows_in, biases, rows_out), target, hidden, _emit_relu)
        return context.get_dummy_value()

    return signature, emit


small_network: Any = intrinsic(_network)  # its type would be that of the function that emits it


def _emit_relu(builder: ir.IRBuilder, x: Any) -> Any:
    return maximum(builder, x, float_constant(0.0))


def _emit_layers(
    builder: ir.IRBuilder,
    source: Any,
    weights: tuple[list[Any], Any, list[Any]],
    target: Any,
    hidden: Any,
    activate: Any,
) -> None:
    """The loop over hidden units, in which inputs and sums stay in registers.

    `weights` are those that lead from each component of the observation to the hidden units, the biases of these, and
    the weights that lead from them to each output.
    """
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
