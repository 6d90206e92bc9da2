"""Compiled kernels of small models: one hidden layer and discrete actions.

At these sizes calling tensor operations costs many times their arithmetic. Loops write one array each, and run over
the hidden units inside, so that the compiler vectorises them.
"""

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from persim_gym.simulator.sparse import BETA1, BETA2, fetch_rows, lazy_tables, pack_rows, store_rows, unpack_rows


def predict(
    obs: NDArray[np.float32],
    action: NDArray[np.int64],
    which: NDArray[np.int64],
    weights: tuple[NDArray[np.float32], ...],
    silu: bool,
) -> NDArray[np.float32]:
    """Next observations by every member, on one thread; run planners side by side in processes.

    Args:
        obs: Observations, [M, C, D]; columns past D are ignored.
        action: Actions, [C].
        which: Index of each row's agent among the G that are folded into the last layer, [C].
        weights: First layer [M, D, H] and [M, H], folded last layer [G, M, actions, D + E, H] and
            [G, M, actions, D + E], lowest and highest prediction [D + E].
        silu: Whether hidden units are SiLU, not ReLU.

    Returns:
        [M, C, D + E].
    """
    obs = np.ascontiguousarray(obs)  # one layout, so that the kernel is compiled once
    action = np.ascontiguousarray(action, dtype=np.int64)
    first, first_bias, last, last_bias, low, high = weights
    out = np.empty((*obs.shape[:2], len(low)), dtype=np.float32)
    _predict(obs, action, which, first, first_bias, last, last_bias, low, high, silu, out)
    return out


@njit(fastmath={"reassoc", "contract", "nsz", "arcp"}, cache=True, error_model="numpy")  # NaN is not ruled out
def _predict(obs, action, which, w1, b1, w2, b2, low, high, silu, out):  # type: ignore
    d_size, hidden = w1.shape[1], w1.shape[2]
    outs = out.shape[2]
    candidates = obs.shape[1]
    half = np.float32(0.5)
    act = np.empty(hidden, dtype=np.float32)
    gate = np.empty(hidden, dtype=np.float32)
    for row in range(obs.shape[0] * candidates):
        m = row // candidates
        c = row - m * candidates
        a = action[c]
        bias, first, last, last_bias = b1[m], w1[m], w2[which[c], m, a], b2[which[c], m, a]
        x = obs[m, c, 0]
        for h in range(hidden):
            act[h] = bias[h] + x * first[0, h]
        for d in range(1, d_size):
            x = obs[m, c, d]
            for h in range(hidden):
                act[h] += x * first[d, h]
        if silu:
            for h in range(hidden):
                gate[h] = half + half * _tanh(half * act[h])
            for h in range(hidden):
                act[h] *= gate[h]
        else:
            for h in range(hidden):
                act[h] = np.float32(0.0) if act[h] < 0 else act[h]
        for d in range(outs):
            following = last_bias[d]
            for h in range(hidden):
                following += act[h] * last[d, h]
            if d < d_size:
                following += obs[m, c, d]
            # Written so that a NaN stays one: both comparisons with it are false.
            if following < low[d]:
                following = low[d]
            elif following > high[d]:
                following = high[d]
            out[m, c, d] = following


@njit(parallel=True, fastmath=True, cache=True, error_model="numpy")
def train_epoch(theta, moments, factor, factor_moments, losses, order, rates, data, sizes, pull, silu, sparse):  # type: ignore
    """Some steps of every member; see `CompiledTraining.epoch` for the arguments."""
    for m in prange(theta.shape[0]):
        losses[m] = _member(
            theta[m],
            moments[0, m],
            moments[1, m],
            factor[m],
            factor_moments[0, m],
            factor_moments[1, m],
            order[m],
            rates,
            data,
            sizes,
            pull,
            silu,
            sparse,
        )


@njit(fastmath=True, cache=True, error_model="numpy")
def _member(  # type: ignore
    theta, first, second, factor, factor_first, factor_second, order, rates, data, sizes, pull, silu, sparse
):
    """One member's steps; returns its summed loss. Every row is carried forward and back before the next.

    With `sparse`, a step touches the latent factors of its batch's agents only, as `sparse.py` explains.
    """
    d_size, e_size, hidden, rank, n_agents, n_actions, batch, count = sizes
    o_size = d_size + e_size
    outs = o_size * rank
    o1 = d_size * hidden
    o2 = o1 + hidden
    o3 = o2 + outs * hidden
    o4 = o3 + outs
    o5 = o4 + rank
    o6 = o5 + n_actions * rank
    grad = np.zeros_like(theta)
    w1, gw1 = theta[:o1].reshape(d_size, hidden), grad[:o1].reshape(d_size, hidden)
    b1, gb1 = theta[o1:o2], grad[o1:o2]
    w2, gw2 = theta[o2:o3].reshape(outs, hidden), grad[o2:o3].reshape(outs, hidden)
    b2, gb2 = theta[o3:o4], grad[o3:o4]
    shared, g_shared = theta[o4:o5], grad[o4:o5]
    table, g_table = theta[o5:o6].reshape(n_actions, rank), grad[o5:o6].reshape(n_actions, rank)
    common, g_common = theta[o6:], grad[o6:]
    step_size, epsilon, tail, tail_epsilon, powers = lazy_tables(rates, count)
    # Factors that a step may change and their moments: all, or with `sparse` copies of those of the batch's agents.
    where = np.empty(batch, dtype=np.int64)  # row of each transition's factor among them
    touched = np.empty(batch, dtype=np.int64)  # whose they are
    memory = pack_rows(factor, factor_first, factor_second, tail, tail_epsilon) if sparse else factor
    now = np.empty((batch, rank), dtype=np.float32) if sparse else factor
    now_first = np.empty((batch, rank), dtype=np.float32) if sparse else factor_first
    now_second = np.empty((batch, rank), dtype=np.float32) if sparse else factor_second
    g_factor = np.zeros_like(now)
    one, half = np.float32(1.0), np.float32(0.5)
    act = np.empty(hidden, dtype=np.float32)
    slope = np.empty(hidden, dtype=np.float32)
    gate = np.empty(hidden, dtype=np.float32)
    back = np.empty(hidden, dtype=np.float32)
    v = np.empty(outs, dtype=np.float32)
    gv = np.empty(outs, dtype=np.float32)
    u = np.empty(rank, dtype=np.float32)
    w = np.empty(rank, dtype=np.float32)
    guw = np.empty(rank, dtype=np.float32)
    scale = np.float32(2.0 / batch)
    pull_scale = np.float32(2.0 * pull / batch)
    rows = np.empty((batch, data.shape[1]), dtype=np.float32)
    total = 0.0
    different = 0
    for step in range(len(rates)):
        grad[:] = 0.0
        g_factor[:] = 0.0
        error = 0.0
        for b in range(batch):  # all reads first: their cache misses then overlap
            rows[b] = data[order[step * batch + b]]
        if sparse:
            different = fetch_rows(
                memory, rows, where, touched, now, now_first, now_second, step, tail, tail_epsilon, powers
            )
        else:
            for b in range(batch):
                where[b] = int(rows[b, 0])
        for b in range(batch):
            row = rows[b]
            n, a = where[b], int(row[1])
            for h in range(hidden):
                act[h] = b1[h]
            for d in range(d_size):
                x = row[2 + d]
                for h in range(hidden):
                    act[h] += x * w1[d, h]
            if silu:
                for h in range(hidden):
                    gate[h] = half + half * _tanh(half * act[h])  # the logistic function
                for h in range(hidden):
                    slope[h] = gate[h] * (one + act[h] * (one - gate[h]))
                for h in range(hidden):
                    act[h] *= gate[h]
            else:
                for h in range(hidden):
                    slope[h] = one if act[h] > 0 else np.float32(0.0)
                for h in range(hidden):
                    act[h] *= slope[h]
            for o in range(outs):
                total_o = b2[o]
                for h in range(hidden):
                    total_o += act[h] * w2[o, h]
                v[o] = total_o
            for r in range(rank):
                u[r] = now[n, r] + shared[r]
                w[r] = table[a, r] + common[r]
                guw[r] = 0.0
            for d in range(o_size):
                predicted = np.float32(0.0)
                for r in range(rank):
                    predicted += v[d * rank + r] * u[r] * w[r]
                residual = predicted - row[2 + d_size + d]
                error += residual * residual
                residual *= scale
                for r in range(rank):
                    gv[d * rank + r] = residual * u[r] * w[r]
                    guw[r] += residual * v[d * rank + r]
            for r in range(rank):
                g_factor[n, r] += guw[r] * w[r] + pull_scale * now[n, r]
                g_shared[r] += guw[r] * w[r]
                g_table[a, r] += guw[r] * u[r]
                g_common[r] += guw[r] * u[r]
            for h in range(hidden):
                back[h] = 0.0
            for o in range(outs):
                g = gv[o]
                gb2[o] += g
                for h in range(hidden):
                    back[h] += g * w2[o, h]
                for h in range(hidden):  # one array written a loop: the compiler then vectorises
                    gw2[o, h] += g * act[h]
            for h in range(hidden):
                back[h] *= slope[h]
            for h in range(hidden):
                gb1[h] += back[h]
            for d in range(d_size):
                x = row[2 + d]
                for h in range(hidden):
                    gw1[d, h] += x * back[h]
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
            store_rows(memory, touched, different, now, now_first, now_second, step + 1, tail, tail_epsilon)
    if sparse:
        unpack_rows(memory, factor, factor_first, factor_second, len(rates), tail, tail_epsilon, powers)
    return total


@njit(fastmath=True, cache=True, error_model="numpy")
def _adam(theta, grad, first, second, size, epsilon):  # type: ignore
    keep1, add1 = np.float32(BETA1), np.float32(1.0 - BETA1)
    keep2, add2 = np.float32(BETA2), np.float32(1.0 - BETA2)
    for i in range(len(theta)):
        first[i] = keep1 * first[i] + add1 * grad[i]
    for i in range(len(theta)):
        second[i] = keep2 * second[i] + add2 * grad[i] * grad[i]
    for i in range(len(theta)):
        theta[i] -= size * first[i] / (np.sqrt(second[i]) + epsilon)


@njit(fastmath=True, cache=True, error_model="numpy")
def _tanh(x):  # type: ignore
    """The hyperbolic tangent to about 1e-6, in arithmetic that vectorises where a library call does not.

    Lambert's continued fraction, eight levels, for the half angle, and the double-angle formula; saturated from 8 on.
    """
    y = np.float32(0.5) * min(max(x, np.float32(-8.0)), np.float32(8.0))
    q = y * y
    top = y * (np.float32(2027025.0) + q * (np.float32(270270.0) + q * (np.float32(6930.0) + q * np.float32(36.0))))
    below = np.float32(2027025.0) + q * (np.float32(945945.0) + q * (np.float32(51975.0) + q * (np.float32(630.0) + q)))
    return np.float32(2.0) * top * below / (below * below + top * top)
