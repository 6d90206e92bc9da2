"""The compiled prediction of small models: one hidden layer and discrete actions.

At these sizes calling tensor operations costs many times their arithmetic. Loops write one array each, and run over
the hidden units inside, so that the compiler vectorises them.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray


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
                gate[h] = half + half * tanh(half * act[h])
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


@njit(fastmath=True, cache=True, error_model="numpy")
def tanh(x):  # type: ignore
    """The hyperbolic tangent to about 1e-6, in arithmetic that vectorises where a library call does not.

    Lambert's continued fraction, eight levels, for the half angle, and the double-angle formula; saturated from 8 on.
    """
    y = np.float32(0.5) * min(max(x, np.float32(-8.0)), np.float32(8.0))
    q = y * y
    top = y * (np.float32(2027025.0) + q * (np.float32(270270.0) + q * (np.float32(6930.0) + q * np.float32(36.0))))
    below = np.float32(2027025.0) + q * (np.float32(945945.0) + q * (np.float32(51975.0) + q * (np.float32(630.0) + q)))
    return np.float32(2.0) * top * below / (below * below + top * top)
