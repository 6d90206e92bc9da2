"""One compiled step of many environments of a small model: its members' predictions, and what they come to.

A row is one environment: an observation, an action and an agent. Rows of the same agent and action share their weights,
so they are gathered into tiles, one row in each lane of a vector register; rows too few for a tile are predicted one by
one. The two sum over hidden units in different orders and agree to float32 rounding, not bit for bit.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from persim_gym.simulator.kernels.activations import FAST_MATH
from persim_gym.simulator.kernels.simd import LANES
from persim_gym.simulator.kernels.small_forward import SmallWeights, predict_small_rows, small_network, sort_by_key
from persim_gym.simulator.kernels.walls import WallArrays, clip, stop_columns

# A tile of fewer rows takes longer than the rows do one by one.
MIN_TILE_ROWS = 8


def step_small(
    obs: NDArray[np.float32],
    action: NDArray[np.int64],
    which: NDArray[np.int64],
    member: NDArray[np.int64],
    weights: SmallWeights,
    unit: NDArray[np.float32],
    reach: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """One step of every row of a small model, on one thread.

    Args:
        obs: Observations, [B, D or D + E], contiguous; columns past D are ignored.
        action: Actions, [B], contiguous.
        which: Index of each row's agent among the G of `weights`, [B].
        member: Member that predicts each row, -1 for the mean of all, [B].
        weights: The model bound to its agents.
        unit: See `combine_members`.
        reach: See `combine_members`.

    Returns:
        As `combine_members`.
    """
    dims = (0,) * weights.first.shape[1], (0,) * len(weights.low)  # see `small_network`
    plain = (*weights[:-2], tuple(weights.walls), weights.silu)  # is taken over 0.7 µs faster than a NamedTuple
    result: tuple[NDArray[np.float32], NDArray[np.float64]]
    result = _step_small(obs, action, which, member, plain, unit, reach, *dims)
    return result


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
    result: tuple[NDArray[np.float32], NDArray[np.float64]] = _combine(each, obs, member, unit, reach)
    return result


@njit(cache=True, nogil=True, error_model="numpy")
def _step_small(obs, action, which, member, weights, unit, reach, in_dims, out_dims):  # type: ignore
    """As `step_small`, compiled; `weights` are the values of `SmallWeights`."""
    first, first_bias, last, last_bias, low, high, walls, silu = weights
    weights = SmallWeights(first, first_bias, last, last_bias, low, high, WallArrays(*walls), silu)
    members, rows, outs = len(first), len(obs), len(out_dims)
    each = np.empty((members, outs, rows), dtype=np.float32)
    single = np.arange(rows)
    if rows >= MIN_TILE_ROWS:
        single = _predict_tiles(obs, action, which, weights, in_dims, out_dims, each)
    if len(single):
        x = np.empty((members, len(single), len(in_dims)), dtype=np.float32)
        for m in range(members):
            for i in range(len(single)):
                for d in range(len(in_dims)):
                    x[m, i, d] = obs[single[i], d]
        out = np.empty((members, len(single), outs), dtype=np.float32)
        predict_small_rows(x, action[single], which[single], weights, out)
        for m in range(members):
            for i in range(len(single)):
                for d in range(outs):
                    each[m, d, single[i]] = out[m, i, d]
    if len(walls[0]):
        for m in range(members):
            stop_columns(weights.walls, each[m], np.arange(rows), rows)
    return _combine(each, obs, member, unit, reach)


@njit(cache=True, nogil=True, error_model="numpy")
def _predict_tiles(obs, action, which, weights, in_dims, out_dims, each):  # type: ignore
    """Predicts rows that fill tiles into `each`, [M, D + E, B]; returns the rows that are left."""
    first, first_bias, all_last, all_last_bias, all_low, all_high, _, silu = weights
    agents, members, n_actions = all_last.shape[:3]
    rows = np.arange(len(obs))
    order, starts = np.empty_like(rows), np.empty(agents * n_actions + 2, dtype=np.int64)
    sort_by_key(rows, which * n_actions + action, order, starts)
    tile = np.empty((len(in_dims), LANES), dtype=np.float32)
    change = np.empty((len(out_dims), LANES), dtype=np.float32)
    left = 0
    for pair in range(agents * n_actions):
        g, a = pair // n_actions, pair % n_actions
        begin, end = starts[pair], starts[pair + 1]
        while end - begin >= MIN_TILE_ROWS:
            width = min(end - begin, LANES)
            for d in range(len(in_dims)):
                for j in range(LANES):
                    tile[d, j] = obs[order[begin + min(j, width - 1)], d]  # spare lanes repeat the last row
            for m in range(members):
                last, last_bias = all_last[g, m, a], all_last_bias[g, m, a]
                small_network(tile, first[m], first_bias[m], last, change, in_dims, out_dims, silu)
                for d in range(len(out_dims)):
                    bias, low, high = last_bias[d], all_low[d], all_high[d]
                    for j in range(width):
                        following = change[d, j] + bias
                        if d < len(in_dims):
                            following += tile[d, j]
                        each[m, d, order[begin + j]] = clip(following, low, high)
            begin += width
        for k in range(begin, end):
            rows[left] = order[k]
            left += 1
    return rows[:left]


@njit(fastmath=FAST_MATH, cache=True, nogil=True, error_model="numpy")
def _combine(each, obs, member, unit, reach):  # type: ignore
    """As `combine_members`, compiled. Rows come last inside, and loops write one array each, so that they vectorise."""
    members, outs, width = each.shape
    d_size = len(unit)
    before = np.zeros((outs, width), dtype=np.float32)
    for j in range(width):
        for d in range(d_size):
            before[d, j] = obs[j, d]
    following = np.empty((outs, width), dtype=np.float32)
    spread = np.empty(width, dtype=np.float32)
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
            now, old = each[m, d], before[d]
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
            following[d, j] = before[d, j] if spread[j] == infinite else following[d, j]
    return following.T.copy(), spread.astype(np.float64)
