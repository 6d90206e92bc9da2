"""Compiled training steps of small models: one hidden layer and discrete actions.

A batch goes forward and back in micro-batches. Their matrix products keep tiles of the results in registers; what lies
between them are loops that write one array each, with the hidden units inside, so that the compiler vectorises them.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from persim_gym.simulator.kernels.activations import tanh
from persim_gym.simulator.kernels.adam import AdamState, AdamTables, adam_step
from persim_gym.simulator.kernels.factor_table import different_agents, fetch_rows, pack_rows, store_rows
from persim_gym.simulator.kernels.gemm import NARROW_COLUMNS, multiply_narrow, multiply_wide

# Transitions of a micro-batch: so many activations stay in a core's nearest caches.
MICRO_BATCH = 32


class SmallTraining(NamedTuple):
    """Sizes of a small model, and how it is trained.

    Attributes:
        hidden: Hidden units, a multiple of `WIDE_COLUMNS`.
        silu: Whether hidden units are SiLU, not ReLU.
        batch: Transitions of a step.
        pull: Weight of the squared distance of an agent's latent factor to the shared one.
        interaction: Weight of the squared interaction of agents and actions.
        sparse: Whether a step touches the latent factors of its batch's agents only (`sparse_adam.py` explains how).
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
    """Parameters of a small model but for the agents' own factors, or their gradients: views of one flat vector."""

    first: NDArray[np.float32]  # [D + 1, H], the bias last
    last: NDArray[np.float32]  # [(D + E) * R, H]
    last_bias: NDArray[np.float32]  # [(D + E) * R]
    agent_bias: NDArray[np.float32]  # [R], the shared factor, to which every agent's own is added
    action: NDArray[np.float32]  # [actions, R]
    action_bias: NDArray[np.float32]  # [R]


class _Scratch(NamedTuple):
    """Work space of a micro-batch of b transitions; W is (D + E) * R, rounded up to `NARROW_COLUMNS`."""

    last: NDArray[np.float32]  # [H, W], the last layer, hidden units first
    x: NDArray[np.float32]  # [b, D + 1], observations, and 1 last, by which the bias is multiplied
    units: NDArray[np.float32]  # [b, H], what goes into hidden units, and then what comes out
    slope: NDArray[np.float32]  # [b, H], SiLU's slope there
    unit_grad: NDArray[np.float32]  # [b, H]
    v: NDArray[np.float32]  # [b, W], state factors
    v_grad: NDArray[np.float32]  # [b, W]
    product: NDArray[np.float32]  # [R], the product of two factors
    product_grad: NDArray[np.float32]  # [R]


def train_steps(
    weights: AdamState,
    factors: AdamState,
    data: NDArray[np.float32],
    order: NDArray[np.int64],
    tables: AdamTables,
    training: SmallTraining,
) -> float:
    """One member's steps of Adam, in place; returns the sum of their losses.

    Args:
        weights: All parameters but the agents' own factors, one behind the other as in `SmallParameters`, [P].
        factors: The agents' own factors, [N, R].
        data: Transitions: agent, action, scaled observation and scaled change, [K, 2 + D + D + E].
        order: Rows of the data in the order of their use, [S * batch].
        tables: Of the S steps.
        training: Sizes, and how to train.
    """
    gradient = np.zeros_like(weights.value)
    parameters, gradients = _views(weights.value, training), _views(gradient, training)
    scratch, steps = _scratch(training), len(tables.size) - 1
    if not training.sparse:
        given = factors, factors.value
    else:  # a step changes copies of the factors of its batch's agents
        shape = training.batch, training.rank
        given = AdamState(*(np.empty(shape, dtype=np.float32) for _ in range(3))), pack_rows(factors)
    total: float = _train_steps(
        weights, gradient, parameters, gradients, *given, data, order, tables, training, scratch
    )
    if training.sparse:
        fetch_rows(given[1], np.arange(len(factors.value)), factors, steps, tables)
    return total


def _views(flat: NDArray[np.float32], training: SmallTraining) -> SmallParameters:
    """`SmallParameters` of a flat vector."""
    t, outs = training, (training.obs_dim + training.extra_dim) * training.rank
    shapes = (t.obs_dim + 1, t.hidden), (outs, t.hidden), (outs,), (t.rank,), (t.n_actions, t.rank), (t.rank,)
    parts = np.split(flat, np.cumsum([np.prod(shape) for shape in shapes])[:-1])
    return SmallParameters(*(part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)))


def _scratch(training: SmallTraining) -> _Scratch:
    """Work space of one member's training."""
    rows, hidden, rank = min(MICRO_BATCH, training.batch), training.hidden, training.rank
    width = -(-(training.obs_dim + training.extra_dim) * rank // NARROW_COLUMNS) * NARROW_COLUMNS
    shapes = (hidden, width), (rows, training.obs_dim + 1), *3 * [(rows, hidden)], *2 * [(rows, width)], rank, rank
    scratch = _Scratch(*(np.zeros(shape, dtype=np.float32) for shape in shapes))
    scratch.x[:, -1] = 1.0
    return scratch


@njit(nogil=True, fastmath=True, cache=True, error_model="numpy")
def _train_steps(  # type: ignore
    weights, gradient, parameters, gradients, own, table, data, order, tables, training, scratch
):
    """As `train_steps`, compiled.

    `own` are the factors that a step may change: all, or with `sparse` copies of those of its batch's agents, whose
    place is `table` then.
    """
    batch, sparse = training.batch, training.sparse
    rows = np.empty((batch, data.shape[1]), dtype=np.float32)
    where = np.empty(batch, dtype=np.int64)  # row of each transition's factor in `own`
    own_gradient = np.zeros_like(own.value)
    flat = AdamState(own.value.reshape(-1), own.first.reshape(-1), own.second.reshape(-1))
    touched = np.empty(batch, dtype=np.int64)  # the batch's agents, each once
    place = np.zeros(len(table) if sparse else 0, dtype=np.int32)
    different = 0
    total = 0.0
    for step in range(len(tables.size) - 1):
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
        size, epsilon = tables.size[step + 1], tables.epsilon[step + 1]
        adam_step(weights, gradient, size, epsilon)
        adam_step(flat, own_gradient.reshape(-1), size, epsilon)
        if sparse:
            store_rows(table, touched[:different], own, step + 1)
    return total


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
    turned, x, all_units, all_slope, all_unit_grad, v, v_grad, _, _ = scratch
    first, last, last_bias, _, _, _ = parameters
    width = v.shape[1]
    for o in range(outs):
        for h in range(hidden):
            turned[h, o] = last[o, h]
    error = 0.0
    for start in range(0, len(rows), MICRO_BATCH):
        some = rows[start : start + MICRO_BATCH]
        used = len(some)
        units, slope, unit_grad = all_units[:used], all_slope[:used], all_unit_grad[:used]
        for b in range(used):
            x[b, :d_size] = some[b, 2 : 2 + d_size]
            v[b, :outs] = last_bias
        multiply_wide(x, (d_size + 1, 1), first, units, False)
        _activate_units(units.reshape(-1), slope.reshape(-1), unit_grad.reshape(-1), silu)
        multiply_narrow(units, (hidden, 1), turned, v[:used], True)
        error += _error_gradient(some, where[start:], own, parameters, own_gradient, gradients, training, scratch)
        if training.interaction > 0:
            _interaction_gradient(
                rows, start, where[start:], own, parameters, own_gradient, gradients, training, scratch
            )
        multiply_wide(v_grad, (1, width), units, gradients.last, True)
        multiply_wide(v_grad, (width, 1), last, unit_grad, False)
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
    _, _, _, agent_bias, action, action_bias = parameters
    _, _, last_bias_grad, agent_bias_grad, action_grad, action_bias_grad = gradients
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
            agent_bias_grad[r] += gu
            action_grad[a, r] += gw
            action_bias_grad[r] += gw
        for o in range(len(last_bias_grad)):
            last_bias_grad[o] += v_grad[b, o]
    return error


@njit(fastmath=True, cache=True, error_model="numpy")
def _interaction_gradient(rows, start, where, own, parameters, own_gradient, gradients, training, scratch):  # type: ignore
    """Adds the gradients of the squared interaction of agents and actions in a micro-batch, from its state factors.

    A transition's interaction is what the action of the batch's next one would change beyond what it changes for the
    shared factor. The micro-batch begins at `start` in `rows`; other arguments as `_batch_gradient`'s.
    """
    rank, action, action_grad, last_bias_grad = training.rank, parameters.action, gradients.action, gradients.last_bias
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
        for o in range(0, len(last_bias_grad), rank):
            crossed = np.float32(0.0)
            for r in range(rank):
                crossed += v[b, o + r] * du[r]
            crossed *= scale
            for r in range(rank):
                v_grad[b, o + r] += crossed * du[r]
                last_bias_grad[o + r] += crossed * du[r]
                du_grad[r] += crossed * v[b, o + r]
        for r in range(rank):
            own_gradient[n, r] += du_grad[r] * (action[other, r] - action[a, r])
            action_grad[other, r] += du_grad[r] * own[n, r]
            action_grad[a, r] -= du_grad[r] * own[n, r]


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
