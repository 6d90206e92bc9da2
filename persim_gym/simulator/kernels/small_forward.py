"""The compiled prediction of small models: one hidden layer and discrete actions.

At these sizes calling tensor operations costs many times their arithmetic. Loops write one array each, and run over
the hidden units inside, so that the compiler vectorises them.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from persim_gym.simulator.kernels.activations import FAST_MATH, logistic
from persim_gym.simulator.kernels.walls import stop_row


def predict_small(
    obs: NDArray[np.float32],
    action: NDArray[np.int64],
    which: NDArray[np.int64],
    weights: tuple[Any, ...],
    silu: bool,
) -> NDArray[np.float32]:
    """Next observations by every member, on one thread; run planners side by side in processes.

    Args:
        obs: Observations, [M, C, D]; columns past D are ignored.
        action: Actions, [C].
        which: Index of each row's agent among the G that are folded into the last layer, [C].
        weights: First layer [M, D, H] and [M, H], folded last layer [G, M, actions, D + E, H] and
            [G, M, actions, D + E], lowest and highest prediction [D + E], and walls
            (`persim_gym.simulator.model.walls`).
        silu: Whether hidden units are SiLU, not ReLU.

    Returns:
        [M, C, D + E].
    """
    obs = np.ascontiguousarray(obs)  # one layout, so that the kernel is compiled once
    action = np.ascontiguousarray(action, dtype=np.int64)
    first, first_bias, last, last_bias, low, high, walls = weights
    out = np.empty((*obs.shape[:2], len(low)), dtype=np.float32)
    predict_small_rows(obs, action, which, first, first_bias, last, last_bias, low, high, walls, silu, out)
    return out


@njit(fastmath=FAST_MATH, cache=True, error_model="numpy")
def predict_small_rows(obs, action, which, w1, b1, w2, b2, low, high, walls, silu, out):  # type: ignore
    """As `predict_small`, compiled: fills `out`, [M, C, D + E]."""
    d_size, hidden = w1.shape[1], w1.shape[2]
    outs = out.shape[2]
    candidates = obs.shape[1]
    act = np.empty(hidden, dtype=np.float32)
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
                act[h] *= logistic(act[h])
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
        if len(walls[0]):
            stop_row(walls, out[m, c])
