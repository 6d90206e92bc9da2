"""Sigmoids in arithmetic that vectorises, where library calls do not: fractions of two polynomials."""

import numpy as np
from numba import njit

FAST_MATH = {"reassoc", "contract", "nsz", "arcp"}  # what compiled predictions may reorder; NaN is not ruled out
TANH_NUMERATOR = (
    np.float32(0.999999364),
    np.float32(0.129136675),
    np.float32(2.93885296e-3),
    np.float32(1.13104393e-5),
)
TANH_DENOMINATOR = (
    np.float32(0.462467667),
    np.float32(0.0237639378),
    np.float32(2.37031695e-4),
    np.float32(2.42389961e-7),
)
"""Powers of y^2, lowest first: tanh(y) is y top(y^2) / (1 + y^2 below(y^2)) for |y| < 8 to 3e-7, the largest
error being as small as it gets."""


@njit(fastmath=FAST_MATH, cache=True, nogil=True, error_model="numpy")
def logistic(x):  # type: ignore
    """The logistic function to 3e-7: half of one plus tanh of half the argument; saturated from 16 on."""
    half = np.float32(0.5)
    y = min(max(half * x, np.float32(-8.0)), np.float32(8.0))
    q = y * y
    top = TANH_NUMERATOR[0] + q * (TANH_NUMERATOR[1] + q * (TANH_NUMERATOR[2] + q * TANH_NUMERATOR[3]))
    below = TANH_DENOMINATOR[0] + q * (TANH_DENOMINATOR[1] + q * (TANH_DENOMINATOR[2] + q * TANH_DENOMINATOR[3]))
    return half + half * y * top / (np.float32(1.0) + q * below)


@njit(fastmath=True, cache=True, error_model="numpy")
def tanh(x):  # type: ignore
    """The hyperbolic tangent to about 1e-6, with which models are trained.

    Lambert's continued fraction, eight levels, for the half angle, and the double-angle formula; saturated from 8 on.
    """
    y = np.float32(0.5) * min(max(x, np.float32(-8.0)), np.float32(8.0))
    q = y * y
    top = y * (np.float32(2027025.0) + q * (np.float32(270270.0) + q * (np.float32(6930.0) + q * np.float32(36.0))))
    below = np.float32(2027025.0) + q * (np.float32(945945.0) + q * (np.float32(51975.0) + q * (np.float32(630.0) + q)))
    return np.float32(2.0) * top * below / (below * below + top * top)
