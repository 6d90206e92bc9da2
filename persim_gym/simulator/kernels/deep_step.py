"""Compiled parts of a step of deep models over many environment rows: what lies between NumPy's matrix products."""

import numpy as np
from numba import njit

from persim_gym.simulator.kernels.activations import FAST_MATH, logistic


@njit(fastmath=FAST_MATH, cache=True, nogil=True, error_model="numpy")
def activate_rows(x, bias, last, silu):  # type: ignore
    """Adds the bias to [features, rows] in place and, but for the last layer, activates."""
    zero = np.float32(0.0)
    for i in range(x.shape[0]):
        row, b = x[i], bias[i]
        if last:
            for j in range(len(row)):
                row[j] += b
        elif silu:
            for j in range(len(row)):
                value = row[j] + b
                row[j] = value * logistic(value)
        else:
            for j in range(len(row)):
                value = row[j] + b
                row[j] = zero if value < zero else value


@njit(fastmath=FAST_MATH, cache=True, nogil=True, error_model="numpy")
def contract_rows(v, w, factor, x, mean, low, high, start, each):  # type: ignore
    """Sum over ranks of v w u, [(D + E) * R, rows] and twice [R, rows], added to x, [D, rows].

    The block is the columns from `start` on of the factors of all rows, [R, B], and of all predictions, [D + E, B]:
    whole arrays are contiguous, whatever the number of rows, so that one compiled loop serves all of them.
    """
    rank, rows = w.shape
    change = np.empty(rows, dtype=np.float32)
    for r in range(rank):
        for j in range(rows):
            w[r, j] *= factor[r, start + j]
    for d in range(len(mean)):
        change[:] = mean[d]
        for r in range(rank):
            vr, wr = v[d * rank + r], w[r]
            for j in range(rows):
                change[j] += vr[j] * wr[j]
        if d < x.shape[0]:
            for j in range(rows):
                change[j] += x[d, j]
        for j in range(rows):
            following = change[j]
            each[d, start + j] = low[d] if following < low[d] else (high[d] if following > high[d] else following)
