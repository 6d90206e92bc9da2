"""Compiled kernels that step many rows at once: predictions of small models, and what the ensemble makes of them.

Rows of the same agent and action share their last layer, so they are gathered into tiles whose lanes are rows, and
hidden units are walked outside; rows that are left over go one by one. A tile sums over hidden units in another order
than a single row does, so that the two agree to float32 rounding, not bit for bit.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from persim_gym.simulator.kernels import _predict

LANES = 128  # rows of a tile: their activations stay in the first-level cache
UNITS = 8  # hidden units that are walked at once
FEWEST = 8  # rows that make a tile worth its while

_P = (np.float32(0.999999364), np.float32(0.129136675), np.float32(2.93885296e-3), np.float32(1.13104393e-5))
_Q = (np.float32(0.462467667), np.float32(0.0237639378), np.float32(2.37031695e-4), np.float32(2.42389961e-7))

_FAST = {"reassoc", "contract", "nsz", "arcp"}  # NaN is not ruled out


def step_small(
    obs: NDArray[np.float32],
    action: NDArray[np.int64],
    which: NDArray[np.int64],
    member: NDArray[np.int64],
    weights: tuple[NDArray[np.float32], ...],
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
        weights: As `persim_gym.simulator.kernels.predict` takes them.
        silu: Whether hidden units are SiLU, not ReLU.
        unit: See `combine`.
        reach: See `combine`.

    Returns:
        As `combine`.
    """
    w1, b1, w2, b2, low, high = weights
    following: NDArray[np.float32] = np.empty((len(obs), len(low)), dtype=np.float32)
    spread: NDArray[np.float64] = np.empty(len(obs))
    _step_small(obs, action, which, member, w1, b1, w2, b2, low, high, silu, unit, reach, following, spread)
    return following, spread


def combine(
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
def _step_small(obs, action, which, member, w1, b1, w2, b2, low, high, silu, unit, reach, after, spread):  # type: ignore
    """Sorts rows by (agent, action), then steps tiles of them and what is left over."""
    members, d_size = w1.shape[:2]
    rows, n_actions, outs = obs.shape[0], w2.shape[2], w2.shape[3]
    order = np.arange(rows)
    rest = rows if rows < FEWEST else 0
    if not rest:
        starts = np.zeros(w2.shape[0] * n_actions + 1, dtype=np.int64)
        for row in range(rows):
            starts[which[row] * n_actions + action[row] + 1] += 1
        for key in range(1, len(starts)):
            starts[key] += starts[key - 1]
        place = starts[:-1].copy()
        for row in range(rows):
            key = which[row] * n_actions + action[row]
            order[place[key]] = row
            place[key] += 1
        units = np.empty(UNITS * LANES, dtype=np.float32)
        held = np.empty((members + 2) * outs * LANES, dtype=np.float32)
        for key in range(len(starts) - 1):
            begin, end = starts[key], starts[key + 1]
            while end - begin >= FEWEST:
                width = min(end - begin, LANES)
                some = order[begin : begin + width]
                parts = held[: (members + 2) * outs * width].reshape(members + 2, outs, width)
                x, each = parts[members], parts[:members]
                g, a = key // n_actions, key % n_actions
                for j in range(width):
                    for d in range(outs):
                        x[d, j] = obs[some[j], d] if d < d_size else np.float32(0.0)
                act = units[: UNITS * width].reshape(UNITS, width)
                for m in range(members):
                    _tile(x, w1[m], b1[m], w2[g, m, a], b2[g, m, a], low, high, silu, act, each[m])
                _combine_rows(some, each, x, member, unit, reach, parts[members + 1], after, spread)
                begin += width
            for k in range(begin, end):  # left over: kept in front of `order`, whose rows are done
                order[rest] = order[k]
                rest += 1
    if rest:
        some = order[:rest]
        parts = np.zeros((members + 2, outs, rest), dtype=np.float32)
        x, each = parts[members], parts[:members]
        single = np.empty((members, rest, d_size), dtype=np.float32)
        out = np.empty((members, rest, outs), dtype=np.float32)
        for k in range(rest):
            for d in range(d_size):
                x[d, k] = obs[some[k], d]
                for m in range(members):
                    single[m, k, d] = x[d, k]
        _predict(single, action[some], which[some], w1, b1, w2, b2, low, high, silu, out)
        for m in range(members):
            for k in range(rest):
                for d in range(outs):
                    each[m, d, k] = out[m, k, d]
        _combine_rows(some, each, x, member, unit, reach, parts[members + 1], after, spread)


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


@njit(fastmath=_FAST, cache=True, nogil=True, error_model="numpy")
def _combine(each, x, member, unit, reach, following, spread):  # type: ignore
    """As `combine`, with rows last: x and following are [D, B]. Loops write one array each."""
    members, outs, width = each.shape
    d_size = len(unit)
    share = np.float32(1.0 / members)
    largest, infinite = np.float32(3.4028235e38), np.float32(np.inf)
    mean = np.empty(width, dtype=np.float32)
    excess = np.zeros(width, dtype=np.float32)
    total = np.zeros(width, dtype=np.float32)
    for d in range(outs):
        mean[:] = np.float32(0.0)
        for m in range(members):
            now = each[m, d]
            for j in range(width):
                mean[j] += share * now[j]
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


@njit(fastmath=_FAST, cache=True, nogil=True, error_model="numpy")
def logistic(x):  # type: ignore
    """The logistic function to 3e-7, in arithmetic that vectorises: half of one plus tanh of half the argument.

    tanh(y) is y P(y^2) / Q(y^2) for |y| < 8, fitted to the smallest largest error; saturated from there on.
    """
    half = np.float32(0.5)
    y = min(max(half * x, np.float32(-8.0)), np.float32(8.0))
    q = y * y
    top = _P[0] + q * (_P[1] + q * (_P[2] + q * _P[3]))
    below = _Q[0] + q * (_Q[1] + q * (_Q[2] + q * _Q[3]))
    return half + half * y * top / (np.float32(1.0) + q * below)


@njit(fastmath=_FAST, cache=True, nogil=True, error_model="numpy")
def _tile(x, w1, b1, w2, b2, low, high, silu, act, after):  # type: ignore
    """Predictions of rows x, [D + E, rows], by one member; the last E of x are zero, `act` is scratch."""
    d_size, hidden = w1.shape
    outs, width = x.shape
    zero = np.float32(0.0)
    flat = act.reshape(-1)
    odd = d_size % 2
    for d in range(outs):
        for j in range(width):
            after[d, j] = x[d, j] + b2[d]
    for start in range(0, hidden, UNITS):
        units = min(UNITS, hidden - start)
        for i in range(units):
            h = start + i
            bias, first = b1[h], w1[0, h]
            if odd:
                for j in range(width):
                    act[i, j] = bias + first * x[0, j]
            else:
                second = w1[1, h]
                for j in range(width):
                    act[i, j] = bias + first * x[0, j] + second * x[1, j]
            for d in range(2 - odd, d_size, 2):
                first, second = w1[d, h], w1[d + 1, h]
                for j in range(width):
                    act[i, j] += first * x[d, j] + second * x[d + 1, j]
        if silu:
            for k in range(units * width):
                flat[k] *= logistic(flat[k])
        else:
            for k in range(units * width):
                flat[k] = zero if flat[k] < zero else flat[k]
        for d in range(outs):
            if units == UNITS:  # all eight in one pass: `after` is then read and written once
                w = w2[d, start : start + UNITS]
                c0, c1, c2, c3, c4, c5, c6, c7 = w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7]
                for j in range(width):
                    after[d, j] += (c0 * act[0, j] + c1 * act[1, j] + c2 * act[2, j] + c3 * act[3, j]) + (
                        c4 * act[4, j] + c5 * act[5, j] + c6 * act[6, j] + c7 * act[7, j]
                    )
            else:
                for i in range(units):
                    c0 = w2[d, start + i]
                    for j in range(width):
                        after[d, j] += c0 * act[i, j]
    for d in range(outs):
        for j in range(width):  # written so that a NaN stays one: both comparisons with it are false
            value = after[d, j]
            after[d, j] = low[d] if value < low[d] else (high[d] if value > high[d] else value)
