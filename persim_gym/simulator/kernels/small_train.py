"""Compiled training steps of small models: one hidden layer and discrete actions.

A batch goes forward and back in micro-batches. Their matrix products keep tiles of the results in registers; what lies
between them are loops that write one array each, with the hidden units inside, so that the compiler vectorises them.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from persim_gym.simulator.kernels.activations import tanh
from persim_gym.simulator.kernels.adam import AdamState, adam_step, adam_tables
from persim_gym.simulator.kernels.factor_table import different_agents, fetch_rows, pack_rows, store_rows
from persim_gym.simulator.kernels.gemm import NARROW_COLUMNS, multiply_narrow, multiply_wide

# Transitions of a micro-batch: so many activations stay in a core's nearest caches.
MICRO_BATCH = 32


class SmallTraining(NamedTuple):
    """Sizes of a small model, and how it is trained.

    Attributes:
        obs_dim: D.
        extra_dim: E.
        hidden: Hidden units, a multiple of `WIDE_COLUMNS`.
        rank: R.
        n_actions: Number of actions.
        silu: Whether hidden units are SiLU, not ReLU.
        batch: Transitions of a step.
        pull: Weight of the squared distance of an agent's latent factor to the shared one, float32.
        interaction: Weight of the squared interaction of agents and actions, float32.
        sparse: Whether a step touches the latent factors of its batch's agents only; `adam.py` says how.
    """

    obs_dim: int
    extra_dim: int
    hidden: int
    rank: int
    n_actions: int
    silu: bool
    batch: int
    pull: np.float32
    interaction: np.float32
    sparse: bool


class SmallParameters(NamedTuple):
    """Parameters of a small model but for the agents' own factors, or their gradients: views of one flat vector.

    Attributes:
        first: First layer of the state encoder, the bias last, [D + 1, H].
        last: Its last layer, [(D + E) * R, H].
        last_bias: The bias of that, [(D + E) * R].
        agent_bias: The shared factor, which is added to every agent's own, [R].
        action: Factor of each action, [actions, R].
        action_bias: What is added to each of these, [R].
    """

    first: NDArray[np.float32]
    last: NDArray[np.float32]
    last_bias: NDArray[np.float32]
    agent_bias: NDArray[np.float32]
    action: NDArray[np.float32]
    action_bias: NDArray[np.float32]


class _Scratch(NamedTuple):
    """Work space of a micro-batch of b transitions; W is (D + E) * R, rounded up to `NARROW_COLUMNS`.

    Attributes:
        last: The last layer, hidden units first, [H, W].
        x: Observations, and 1 last, by which the bias is multiplied, [b, D + 1].
        units: What goes into hidden units, and then what comes out, [b, H].
        slope: SiLU's slope there, [b, H].
        unit_grad: Gradient of the hidden units, [b, H].
        v: State factors, [b, W].
        v_grad: Their gradient, [b, W].
        product: Of an agent's and an action's factor, [R].
        product_grad: Its gradient, [R].
    """

    last: NDArray[np.float32]
    x: NDArray[np.float32]
    units: NDArray[np.float32]
    slope: NDArray[np.float32]
    unit_grad: NDArray[np.float32]
    v: NDArray[np.float32]
    v_grad: NDArray[np.float32]
    product: NDArray[np.float32]
    product_grad: NDArray[np.float32]


@njit(nogil=True, fastmath=True, cache=True, error_model="numpy")
def train_steps(weights, factors, data, order, rates, count, training):  # type: ignore
    """One member's steps of Adam, in place; returns the sum of their losses.

    Args:
        weights: `AdamState` of all parameters but the agents' own factors, one behind the other as in
            `SmallParameters`, float32 [P].
        factors: `AdamState` of the agents' own factors, float32 [N, R].
        data: Transitions: agent, action, scaled observation and scaled change, float32 [K, 2 + D + D + E].
        order: Rows of the data in the order of their use, [S * batch].
        rates: Learning rates, float64 [S].
        count: Steps made before.
        training: `SmallTraining`.
    """
    batch, sparse = training.batch, training.sparse
    tables = adam_tables(rates, count)
    gradient = np.zeros_like(weights.value)
    parameters, gradients = _views(weights.value, training), _views(gradient, training)
    scratch = _scratch(training)
    rows = np.empty((batch, data.shape[1]), dtype=np.float32)
    where = np.empty(batch, dtype=np.int64)  # row of each transition's factor in `own`
    # Factors that a step may change: all, or with `sparse` copies of those of the batch's agents.
    own, table = factors, factors.value
    if sparse:
        shape = batch, training.rank
        own = AdamState(np.empty(shape, np.float32), np.empty(shape, np.float32), np.empty(shape, np.float32))
        table = pack_rows(factors)
    own_gradient = np.zeros_like(own.value)
    flat = AdamState(own.value.reshape(-1), own.first.reshape(-1), own.second.reshape(-1))
    touched = np.empty(batch, dtype=np.int64)  # the batch's agents, each once
    place = np.zeros(len(table) if sparse else 0, dtype=np.int32)
    different = 0
    total = 0.0
    for step in range(len(rates)):
        gradient[:] = 0.0
        own_gradient[:] = 0.0
        for b in range(batch):
            rows[b] = data[order[step * batch + b]]
        if sparse:
            different = different_agents(rows, place, where, touched)
            fetch_rows(table, touched[:different], own, step, tables)
        else:
            for b in range(batch):
                where[b] = int(rows[b, 0])
        total += _batch_gradient(rows, where, own.value, parameters, own_gradient, gradients, training, scratch) / batch
        adam_step(weights, gradient, tables.size[step + 1], tables.epsilon[step + 1])
        adam_step(flat, own_gradient.reshape(-1), tables.size[step + 1], tables.epsilon[step + 1])
        if sparse:
            store_rows(table, touched[:different], own, step + 1)
    if sparse:
        fetch_rows(table, np.arange(len(table)), factors, len(rates), tables)
    return total


@njit(nogil=True, cache=True)
def _views(flat, training):  # type: ignore
    """`SmallParameters` of a flat vector."""
    hidden, rank = training.hidden, training.rank
    outs = (training.obs_dim + training.extra_dim) * rank
    last = (training.obs_dim + 1) * hidden
    last_bias = last + outs * hidden
    agent_bias = last_bias + outs
    action = agent_bias + rank
    action_bias = action + training.n_actions * rank
    return SmallParameters(
        flat[:last].reshape(training.obs_dim + 1, hidden),
        flat[last:last_bias].reshape(outs, hidden),
        flat[last_bias:agent_bias],
        flat[agent_bias:action],
        flat[action:action_bias].reshape(training.n_actions, rank),
        flat[action_bias:],
    )


@njit(nogil=True, cache=True)
def _scratch(training):  # type: ignore
    """Work space of one member's training."""
    rows, hidden = min(MICRO_BATCH, training.batch), training.hidden
    outs = (training.obs_dim + training.extra_dim) * training.rank
    width = -(-outs // NARROW_COLUMNS) * NARROW_COLUMNS
    return _Scratch(
        np.zeros((hidden, width), dtype=np.float32),
        np.ones((rows, training.obs_dim + 1), dtype=np.float32),
        np.empty((rows, hidden), dtype=np.float32),
        np.empty((rows, hidden), dtype=np.float32),
        np.empty((rows, hidden), dtype=np.float32),
        np.zeros((rows, width), dtype=np.float32),
        np.zeros((rows, width), dtype=np.float32),
        np.empty(training.rank, dtype=np.float32),
        np.empty(training.rank, dtype=np.float32),
    )


@njit(nogil=True, fastmath=True, cache=True, error_model="numpy")
def _batch_gradient(rows, where, own, parameters, own_gradient, gradients, training, scratch):  # type: ignore
    """Adds a batch's gradients to `own_gradient` and `gradients`; returns its summed squared error.

    Args:
        rows: Transitions, as `train_steps` takes them, [batch, 2 + D + D + E].
        where: Row of each transition's factor in `own`, [batch].
        own: Agents' own factors, [at least as many as are different, R].
        parameters: `SmallParameters`.
        own_gradient: Gradient of `own`, of the same shape.
        gradients: `SmallParameters`.
        training: `SmallTraining`.
        scratch: `_Scratch`.
    """
    d_size, hidden, outs, silu = training.obs_dim, training.hidden, len(parameters.last_bias), training.silu
    x, v, v_grad, width = scratch.x, scratch.v, scratch.v_grad, scratch.v.shape[1]
    for o in range(outs):
        for h in range(hidden):
            scratch.last[h, o] = parameters.last[o, h]
    error = 0.0
    for start in range(0, len(rows), MICRO_BATCH):
        some = rows[start : start + MICRO_BATCH]
        used = len(some)
        units, slope, unit_grad = scratch.units[:used], scratch.slope[:used], scratch.unit_grad[:used]
        for b in range(used):
            x[b, :d_size] = some[b, 2 : 2 + d_size]
            v[b, :outs] = parameters.last_bias
        multiply_wide(x, (d_size + 1, 1), parameters.first, units, False)
        _activate_units(units.reshape(-1), slope.reshape(-1), unit_grad.reshape(-1), silu)
        multiply_narrow(units, (hidden, 1), scratch.last, v[:used], True)
        error += _error_gradient(some, where[start:], own, parameters, own_gradient, gradients, training, scratch)
        if training.interaction > 0:
            _interaction_gradient(
                rows, start, where[start:], own, parameters, own_gradient, gradients, training, scratch
            )
        multiply_wide(v_grad, (1, width), units, gradients.last, True)
        multiply_wide(v_grad, (width, 1), parameters.last, unit_grad, False)
        _activate_backward(unit_grad.reshape(-1), units.reshape(-1), slope.reshape(-1), silu)
        multiply_wide(x, (1, d_size + 1), unit_grad, gradients.first, True)
    return error


@njit(fastmath=True, cache=True, error_model="numpy")
def _error_gradient(rows, where, own, parameters, own_gradient, gradients, training, scratch):  # type: ignore
    """Predictions of a micro-batch, from its state factors; returns its summed squared error.

    Fills the gradient of the state factors, and adds those of all other factors and of the last bias. Arguments as
    `_batch_gradient`'s.
    """
    d_size, rank = training.obs_dim, training.rank
    scale, pull_scale = np.float32(2.0 / training.batch), np.float32(2.0 * training.pull / training.batch)
    action, agent_bias, action_bias = parameters.action, parameters.agent_bias, parameters.action_bias
    v, v_grad, uw, uw_grad = scratch.v, scratch.v_grad, scratch.product, scratch.product_grad
    error = 0.0
    for b in range(len(rows)):
        row = rows[b]
        n, a = where[b], int(row[1])
        for r in range(rank):
            uw[r] = (own[n, r] + agent_bias[r]) * (action[a, r] + action_bias[r])
            uw_grad[r] = 0.0
        for d in range(len(row) - 2 - d_size):
            predicted = np.float32(0.0)
            for r in range(rank):
                predicted += v[b, d * rank + r] * uw[r]
            residual = predicted - row[2 + d_size + d]
            error += residual * residual
            residual *= scale
            for r in range(rank):
                v_grad[b, d * rank + r] = residual * uw[r]
                uw_grad[r] += residual * v[b, d * rank + r]
        for r in range(rank):
            gu, gw = uw_grad[r] * (action[a, r] + action_bias[r]), uw_grad[r] * (own[n, r] + agent_bias[r])
            own_gradient[n, r] += gu + pull_scale * own[n, r]
            gradients.agent_bias[r] += gu
            gradients.action[a, r] += gw
            gradients.action_bias[r] += gw
        for o in range(len(gradients.last_bias)):
            gradients.last_bias[o] += v_grad[b, o]
    return error


@njit(fastmath=True, cache=True, error_model="numpy")
def _interaction_gradient(rows, start, where, own, parameters, own_gradient, gradients, training, scratch):  # type: ignore
    """Adds the gradients of the squared interaction of agents and actions in a micro-batch, from its state factors.

    A transition's interaction is what the action of the batch's next one would change beyond what it changes for the
    shared factor. The micro-batch begins at `start` in `rows`; other arguments as `_batch_gradient`'s.
    """
    rank, action = training.rank, parameters.action
    scale = np.float32(2.0 * training.interaction / training.batch)
    v, v_grad, du, du_grad = scratch.v, scratch.v_grad, scratch.product, scratch.product_grad
    for b in range(min(MICRO_BATCH, len(rows) - start)):
        n, a = where[b], int(rows[start + b, 1])
        other = int(rows[(start + b + 1) % len(rows), 1])
        if other == a:
            continue
        for r in range(rank):
            du[r] = own[n, r] * (action[other, r] - action[a, r])
            du_grad[r] = 0.0
        for o in range(0, len(gradients.last_bias), rank):
            crossed = np.float32(0.0)
            for r in range(rank):
                crossed += v[b, o + r] * du[r]
            crossed *= scale
            for r in range(rank):
                v_grad[b, o + r] += crossed * du[r]
                gradients.last_bias[o + r] += crossed * du[r]
                du_grad[r] += crossed * v[b, o + r]
        for r in range(rank):
            own_gradient[n, r] += du_grad[r] * (action[other, r] - action[a, r])
            gradients.action[other, r] += du_grad[r] * own[n, r]
            gradients.action[a, r] -= du_grad[r] * own[n, r]


@njit(fastmath=True, cache=True, error_model="numpy")
def _activate_units(units, slope, gate, silu):  # type: ignore
    """Turns what goes into hidden units into what comes out, and fills in SiLU's slope; `gate` is work space."""
    one, half = np.float32(1.0), np.float32(0.5)
    if silu:
        for i in range(len(units)):
            gate[i] = half + half * tanh(half * units[i])  # the logistic function
        for i in range(len(units)):
            slope[i] = gate[i] * (one + units[i] * (one - gate[i]))
        for i in range(len(units)):
            units[i] *= gate[i]
    else:
        for i in range(len(units)):
            units[i] = max(units[i], np.float32(0.0))


@njit(fastmath=True, cache=True, error_model="numpy")
def _activate_backward(unit_grad, units, slope, silu):  # type: ignore
    """Turns the gradient of what comes out of hidden units into that of what went in."""
    if silu:
        for i in range(len(unit_grad)):
            unit_grad[i] *= slope[i]
    else:
        for i in range(len(unit_grad)):
            unit_grad[i] = unit_grad[i] if units[i] > 0 else np.float32(0.0)
