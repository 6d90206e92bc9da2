"""Compiled kernels that step many rows at once: predictions of small models, and what the ensemble makes of them.

Rows of the same agent and action share their last layer, so they are gathered into tiles whose lanes are rows; rows
that are left over go one by one. A tile sums over hidden units in another order than a single row does, so that the
two agree to float32 rounding, not bit for bit.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from persim_gym.simulator.kernels.activations import FAST_MATH
from persim_gym.simulator.kernels.simd import LANES
from persim_gym.simulator.kernels.small_forward import predict_small_rows
from persim_gym.simulator.kernels.small_rollout import small_network
from persim_gym.simulator.kernels.walls import stop_columns

MIN_TILE_ROWS = 8  # rows that make a tile worth its while


def step_small(
    obs: NDArray[np.float32],
    action: NDArray[np.int64],
    which: NDArray[np.int64],
    member: NDArray[np.int64],
    weights: tuple[Any, ...],
    silu: bool,
    unit: NDArray[np.float32],
    reach: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """One step of every row of a small model, on one thread.

    Args:
        obs: Observations, [B, D or D + E], contiguous; columns past D are ignored.
        action: Actions, [B], contiguous.
        which: Index of each row's agent, [B].
        member: Member that predicts each row, -1 for the mean of all, [B].
        weights: As `persim_gym.simulator.kernels.small_forward.predict_small` takes them.
        silu: Whether hidden units are SiLU, not ReLU.
        unit: See `combine_members`.
        reach: See `combine_members`.

    Returns:
        As `combine_members`.
    """
    w1, low = weights[0], weights[4]
    following: NDArray[np.float32] = np.empty((len(obs), len(low)), dtype=np.float32)
    spread: NDArray[np.float64] = np.empty(len(obs))
    sizes = (0,) * w1.shape[1], (0,) * len(low)  # their lengths, D and D + E, are known to the compiler
    _step_small(obs, action, which, member, weights, silu, unit, reach, following, spread, *sizes)
    return following, spread


def combine_members(
    each: NDArray[np.float32],
    obs: NDArray[np.float32],
    member: NDArray[np.int64],
    unit: NDArray[np.float32],
    reach: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """What the members' predictions come to.

    Args:
        each: Predictions, rows last, [M, D + E, B].
        obs: Observations before the step, [B, D or D + E]; columns past D are ignored.
        member: Member that predicts each row, -1 for the mean of all, [B].
        unit: Unit of the spread, [D].
        reach: Largest change of an observation, or size of a quantity beside it, that is believed, finite, [D + E].

    Returns:
        Predictions, [B, D + E]: the old observation and zeros where any member's is not finite or out of reach; and the
        root mean square over dimensions of the standard deviation over members, [B], infinite there.
    """
    following: NDArray[np.float32] = np.empty(each.shape[1:], dtype=np.float32)
    spread: NDArray[np.float32] = np.empty(len(obs), dtype=np.float32)
    before = np.zeros(each.shape[1:], dtype=np.float32)
    before[: len(unit)] = obs[:, : len(unit)].T
    _combine(each, before, member, unit, reach, following, spread)
    return np.ascontiguousarray(following.T), spread.astype(np.float64)


@njit(cache=True, nogil=True, error_model="numpy")
def _step_small(obs, action, which, member, weights, silu, unit, reach, after, spread, sizes, out_sizes):  # type: ignore
    """Sorts rows by (agent, action), predicts tiles of them and what is left over, then combines all."""
    w1, b1, w2, b2, low, high, walls = weights
    members, d_size = w1.shape[:2]
    rows, n_actions, outs = obs.shape[0], w2.shape[2], w2.shape[3]
    order, starts = _sorted(which, action, w2.shape[0], n_actions)
    x = np.zeros((outs, rows), dtype=np.float32)
    for k in range(rows):
        for d in range(d_size):
            x[d, k] = obs[order[k], d]
    each = np.empty((members, outs, rows), dtype=np.float32)
    left, rest = np.empty(rows, dtype=np.int64), 0
    lanes, change = np.empty((d_size, LANES), dtype=np.float32), np.empty((outs, LANES), dtype=np.float32)
    for key in range(len(starts) - 1):
        begin, end = starts[key], starts[key + 1]
        g, a = key // n_actions, key % n_actions
        while end - begin >= MIN_TILE_ROWS:
            width = min(end - begin, LANES)
            for d in range(d_size):
                for j in range(LANES):  # spare lanes repeat the last row
                    lanes[d, j] = x[d, begin + min(j, width - 1)]
            for m in range(members):
                small_network(lanes, w1[m], b1[m], w2[g, m, a], change, sizes, out_sizes, silu)
                for d in range(outs):
                    bias = b2[g, m, a, d]
                    for j in range(width):
                        each[m, d, begin + j] = _within(x[d, begin + j] + (change[d, j] + bias), low[d], high[d])
            begin += width
        for k in range(begin, end):
            left[rest] = k
            rest += 1
    if rest:
        left = left[:rest]
        some = order[left]
        single = np.empty((members, rest, d_size), dtype=np.float32)
        for m in range(members):
            single[m] = obs[some, :d_size]
        out = np.empty((members, rest, outs), dtype=np.float32)
        predict_small_rows(single, action[some], which[some], w1, b1, w2, b2, low, high, walls, silu, out)
        for m in range(members):
            for k in range(rest):
                for d in range(outs):
                    each[m, d, left[k]] = out[m, k, d]
    if len(walls[0]):
        tiled = np.arange(rows)
        for m in range(members):
            stop_columns(walls, each[m], tiled, rows)
    _combine_rows(order, each, x, member, unit, reach, np.empty((outs, rows), dtype=np.float32), after, spread)


@njit(cache=True, nogil=True, error_model="numpy")
def _sorted(which, action, agents, n_actions):  # type: ignore
    """Rows in the order of (agent, action), and where each such pair begins."""
    rows, pairs = len(which), agents * n_actions
    order = np.arange(rows)
    starts = np.zeros(pairs + 1, dtype=np.int64)
    if rows < MIN_TILE_ROWS:  # no tiles: all are left over
        starts[pairs] = rows
        return order, starts[pairs - 1 :]
    for row in range(rows):
        starts[which[row] * n_actions + action[row] + 1] += 1
    for pair in range(1, pairs + 1):
        starts[pair] += starts[pair - 1]
    place = starts[:-1].copy()
    for row in range(rows):
        pair = which[row] * n_actions + action[row]
        order[place[pair]] = row
        place[pair] += 1
    return order, starts


@njit(cache=True, nogil=True, error_model="numpy")
def _within(value, low, high):  # type: ignore
    """Written so that a NaN stays one: both comparisons with it are false."""
    return low if value < low else (high if value > high else value)


@njit(cache=True, nogil=True, error_model="numpy")
def _combine_rows(some, each, x, member, unit, reach, out, following, spread):  # type: ignore
    """Combines the rows `some`, whose predictions `each` holds, and puts the result where they belong."""
    width = len(some)
    apart = np.empty(width, dtype=np.float32)
    _combine(each, x, member[some], unit, reach, out, apart)
    for j in range(width):
        spread[some[j]] = apart[j]
        for d in range(x.shape[0]):
            following[some[j], d] = out[d, j]


@njit(fastmath=FAST_MATH, cache=True, nogil=True, error_model="numpy")
def _combine(each, x, member, unit, reach, following, spread):  # type: ignore
    """As `combine_members`, with rows last: x and following are [D, B]. Loops write one array each."""
    members, outs, width = each.shape
    d_size = len(unit)
    share = np.float32(1.0 / members)
    largest, infinite = np.float32(3.4028235e38), np.float32(np.inf)
    mean = np.empty(width, dtype=np.float32)
    excess = np.zeros(width, dtype=np.float32)
    total = np.zeros(width, dtype=np.float32)
    for d in range(outs):
        mean[:] = each[0, d]
        for m in range(1, members):  # as differences, so that the mean of predictions at a bound is not rounded past it
            now, base = each[m, d], each[0, d]
            for j in range(width):
                mean[j] += share * (now[j] - base[j])
        scale = share / (np.float32(d_size) * unit[d] * unit[d]) if d < d_size else np.float32(0.0)
        limit = np.float32(1.0) / reach[d]
        for m in range(members):
            now, old = each[m, d], x[d]
            for j in range(width):
                total[j] += scale * (now[j] - mean[j]) * (now[j] - mean[j])
            for j in range(width):
                size = limit * abs(now[j] - old[j])
                excess[j] = excess[j] if size <= np.float32(1.0) else infinite  # NaN is not smaller than 1
        for j in range(width):
            following[d, j] = mean[j]
        for m in range(members):
            now = each[m, d]
            for j in range(width):
                following[d, j] = now[j] if member[j] == m else following[d, j]
    for j in range(width):
        spread[j] = np.sqrt(total[j]) if excess[j] == 0 and total[j] <= largest else infinite
    for d in range(outs):
        for j in range(width):
            following[d, j] = x[d, j] if spread[j] == infinite else following[d, j]
