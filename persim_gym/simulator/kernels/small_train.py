"""Compiled training steps of small models: one hidden layer and discrete actions.

A step's products run over blocks of rows, with tiles of the results in registers; what lies between them are loops that
write one array each, with the hidden units inside, so that the compiler vectorises them.
"""

import numpy as np
from numba import njit

from persim_gym.simulator.kernels.activations import tanh
from persim_gym.simulator.kernels.adam import _adam, lazy_tables
from persim_gym.simulator.kernels.factor_table import (
    different_agents,
    fetch_rows,
    pack_rows,
    store_rows,
)
from persim_gym.simulator.kernels.gemm import NARROW_COLUMNS, multiply_narrow, multiply_wide

# So many rows are carried forward and back together: their activations stay in a core's nearest caches.
BLOCK_ROWS = 32
UNKNOWN_TARGET = np.float32(1e38)
"""Stands for a target that is not known: compiled code that may reorder sums does not see a NaN."""


@njit(nogil=True, fastmath=True, cache=True, error_model="numpy")
def train_steps(  # type: ignore
    theta,
    first,
    second,
    factor,
    factor_first,
    factor_second,
    order,
    rates,
    data,
    sizes,
    pull,
    interaction,
    silu,
    sparse,
):
    """One member's steps; returns its summed loss. See `CompiledTraining.epoch` for the arguments.

    With `sparse`, a step touches the latent factors of its batch's agents only, as `sparse.py` explains.
    """
    d_size, e_size, hidden, rank, n_actions, batch, count = sizes
    o_size = d_size + e_size
    outs = o_size * rank
    o1 = (d_size + 1) * hidden
    o2 = o1 + outs * hidden
    o3 = o2 + outs
    o4 = o3 + rank
    o5 = o4 + n_actions * rank
    grad = np.zeros_like(theta)
    w1, gw1 = theta[:o1].reshape(d_size + 1, hidden), grad[:o1].reshape(d_size + 1, hidden)  # The bias comes last.
    w2, gw2 = theta[o1:o2].reshape(outs, hidden), grad[o1:o2].reshape(outs, hidden)
    b2, gb2 = theta[o2:o3], grad[o2:o3]
    shared, g_shared = theta[o3:o4], grad[o3:o4]
    table, g_table = theta[o4:o5].reshape(n_actions, rank), grad[o4:o5].reshape(n_actions, rank)
    common, g_common = theta[o5:], grad[o5:]
    step_size, epsilon, tail, tail_epsilon, powers, decay = lazy_tables(rates, count)
    tables = tail, tail_epsilon, powers, decay
    # Factors that a step may change and their moments: all, or with `sparse` copies of those of the batch's agents.
    where = np.empty(batch, dtype=np.int64)  # Row of each transition's factor among them.
    touched = np.empty(batch, dtype=np.int64)  # The agents that they are of.
    place = np.zeros(len(factor) if sparse else 0, dtype=np.int32)  # Room for `different_agents`.
    memory = pack_rows(factor, factor_first, factor_second) if sparse else factor
    now = np.empty((batch, rank), dtype=np.float32) if sparse else factor
    now_first = np.empty((batch, rank), dtype=np.float32) if sparse else factor_first
    now_second = np.empty((batch, rank), dtype=np.float32) if sparse else factor_second
    adam_rows = now, now_first, now_second
    g_factor = np.zeros_like(now)
    block = min(BLOCK_ROWS, batch)
    # Like w2, with hidden units first.
    turned = np.zeros((hidden, -(-outs // NARROW_COLUMNS) * NARROW_COLUMNS), dtype=np.float32)
    x = np.ones((block, d_size + 1), dtype=np.float32)  # The last column multiplies the bias.
    act = np.empty((block, hidden), dtype=np.float32)
    slope = np.empty((block, hidden), dtype=np.float32)
    back = np.empty((block, hidden), dtype=np.float32)
    v = np.zeros((block, turned.shape[1]), dtype=np.float32)
    gv = np.zeros((block, turned.shape[1]), dtype=np.float32)
    uw = np.empty(rank, dtype=np.float32)
    guw = np.empty(rank, dtype=np.float32)
    scale = np.float32(2.0 / batch)
    pull_scale = np.float32(2.0 * pull / batch)
    cross_scale = np.float32(2.0 * interaction / batch)
    rows = np.empty((batch, data.shape[1]), dtype=np.float32)
    total = 0.0
    different = 0
    for step in range(len(rates)):
        grad[:] = 0.0
        g_factor[:] = 0.0
        error = 0.0
        for o in range(outs):
            for h in range(hidden):
                turned[h, o] = w2[o, h]
        for b in range(batch):
            rows[b] = data[order[step * batch + b]]
        if sparse:
            different = different_agents(rows, place, where, touched)
            fetch_rows(memory, touched[:different], adam_rows, step, tables)
        else:
            for b in range(batch):
                where[b] = int(rows[b, 0])
        for start in range(0, batch, block):
            used = min(block, batch - start)
            for b in range(used):
                x[b, :d_size] = rows[start + b, 2 : 2 + d_size]
                v[b, :outs] = b2
            multiply_wide(x, d_size + 1, 1, w1, act[:used], False)
            _activate_block(act[:used].reshape(-1), slope[:used].reshape(-1), back[:used].reshape(-1), silu)
            multiply_narrow(act, hidden, 1, turned, v[:used], True)
            error += _contract_block(
                rows[start : start + used],
                where[start:],
                v,
                (now, shared, table, common),
                d_size,
                gv,
                gb2,
                (g_factor, g_shared, g_table, g_common),
                scale,
                pull_scale,
                uw,
                guw,
            )
            if interaction > 0:
                _cross(rows, start, used, where, v, (now, table), gv, gb2, (g_factor, g_table), cross_scale, uw, guw)
            multiply_wide(gv, 1, gv.shape[1], act[:used], gw2, True)
            multiply_wide(gv, gv.shape[1], 1, w2, back[:used], False)
            _through_activation(back[:used].reshape(-1), act.reshape(-1), slope.reshape(-1), silu)
            multiply_wide(x, 1, d_size + 1, back[:used], gw1, True)
        total += error / batch
        size = step_size[step + 1]
        _adam(theta, grad, first, second, size, epsilon[step + 1])
        _adam(
            now.reshape(-1),
            g_factor.reshape(-1),
            now_first.reshape(-1),
            now_second.reshape(-1),
            size,
            epsilon[step + 1],
        )
        if sparse:
            store_rows(memory, touched[:different], adam_rows, step + 1)
    if sparse:
        fetch_rows(memory, np.arange(len(factor)), (factor, factor_first, factor_second), len(rates), tables)
    return total


@njit(fastmath=True, cache=True, error_model="numpy")
def _contract_block(rows, where, v, factors, d_size, gv, gb2, gradients, scale, pull_scale, uw, guw):  # type: ignore
    """Predictions of a block, from the state factors `v`; returns its summed squared error.

    A target that is not known has neither error nor gradient. Fills `gv`, adds the gradients of all other factors and
    of the last bias; `uw` and `guw`, [R], are scratch.
    """
    now, shared, table, common = factors
    g_factor, g_shared, g_table, g_common = gradients
    rank = len(shared)
    error = 0.0
    for b in range(len(rows)):
        row = rows[b]
        n, a = where[b], int(row[1])
        for r in range(rank):
            uw[r] = (now[n, r] + shared[r]) * (table[a, r] + common[r])
            guw[r] = 0.0
        for d in range(len(row) - 2 - d_size):
            predicted = np.float32(0.0)
            for r in range(rank):
                predicted += v[b, d * rank + r] * uw[r]
            target = row[2 + d_size + d]
            residual = predicted - target
            if target >= UNKNOWN_TARGET:
                residual *= np.float32(0.0)
            error += residual * residual
            residual *= scale
            for r in range(rank):
                gv[b, d * rank + r] = residual * uw[r]
                guw[r] += residual * v[b, d * rank + r]
        for r in range(rank):
            gu, gw = guw[r] * (table[a, r] + common[r]), guw[r] * (now[n, r] + shared[r])
            g_factor[n, r] += gu + pull_scale * now[n, r]
            g_shared[r] += gu
            g_table[a, r] += gw
            g_common[r] += gw
        for o in range(len(gb2)):
            gb2[o] += gv[b, o]
    return error


@njit(fastmath=True, cache=True, error_model="numpy")
def _cross(rows, start, used, where, v, factors, gv, gb2, gradients, scale, du, gdu):  # type: ignore
    """Adds the gradients of the squared interaction of agents and actions in a block, from its state factors `v`.

    A transition's interaction is what the action of the batch's next one would change beyond what it changes for the
    shared factor. Arguments as `_contract_block`'s; du and gdu, [R], are scratch.
    """
    now, table = factors
    g_factor, g_table = gradients
    rank = len(du)
    for b in range(used):
        n, a = where[start + b], int(rows[start + b, 1])
        other = int(rows[(start + b + 1) % len(rows), 1])
        if other == a:
            continue
        for r in range(rank):
            du[r] = now[n, r] * (table[other, r] - table[a, r])
            gdu[r] = 0.0
        for o in range(0, len(gb2), rank):
            crossed = np.float32(0.0)
            for r in range(rank):
                crossed += v[b, o + r] * du[r]
            crossed *= scale
            for r in range(rank):
                gv[b, o + r] += crossed * du[r]
                gb2[o + r] += crossed * du[r]
                gdu[r] += crossed * v[b, o + r]
        for r in range(rank):
            g_factor[n, r] += gdu[r] * (table[other, r] - table[a, r])
            g_table[other, r] += gdu[r] * now[n, r]
            g_table[a, r] -= gdu[r] * now[n, r]


@njit(fastmath=True, cache=True, error_model="numpy")
def _activate_block(act, slope, gate, silu):  # type: ignore
    """Turns what goes into hidden units into what comes out, and fills in SiLU's slope; `gate` is scratch."""
    one, half = np.float32(1.0), np.float32(0.5)
    if silu:
        for i in range(len(act)):
            gate[i] = half + half * tanh(half * act[i])  # This is the logistic function.
        for i in range(len(act)):
            slope[i] = gate[i] * (one + act[i] * (one - gate[i]))
        for i in range(len(act)):
            act[i] *= gate[i]
    else:
        for i in range(len(act)):
            act[i] = max(act[i], np.float32(0.0))


@njit(fastmath=True, cache=True, error_model="numpy")
def _through_activation(back, act, slope, silu):  # type: ignore
    """Turns the gradient of what comes out of hidden units into that of what went in."""
    if silu:
        for i in range(len(back)):
            back[i] *= slope[i]
    else:
        for i in range(len(back)):
            back[i] = back[i] if act[i] > 0 else np.float32(0.0)
