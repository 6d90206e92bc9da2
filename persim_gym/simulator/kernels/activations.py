"""Sigmoids as fractions of two polynomials: arithmetic that vectorises, where calls of a library do not."""

import numpy as np
from numba import njit

# LLVM's fast-math flags of compiled predictions. Sums may be reordered, but a NaN is never assumed away.
FAST_MATH = {"reassoc", "contract", "nsz", "arcp"}

# For |y| < 8, tanh(y) is y P(y^2) / (1 + y^2 Q(y^2)) to 3e-7, the least largest error that these degrees allow.
# The coefficients of P and Q, lowest power first:
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


@njit(fastmath=FAST_MATH, cache=True, nogil=True, error_model="numpy")
def logistic(x):  # type: ignore
    """The logistic function to 3e-7, half of 1 + tanh(x / 2), as predictions use it; constant from |x| = 16 on."""
    half = np.float32(0.5)
    y = min(max(half * x, np.float32(-8.0)), np.float32(8.0))
    q = y * y
    p0, p1, p2, p3 = TANH_NUMERATOR
    q0, q1, q2, q3 = TANH_DENOMINATOR
    top = p0 + q * (p1 + q * (p2 + q * p3))
    bottom = q0 + q * (q1 + q * (q2 + q * q3))
    return half + half * y * top / (np.float32(1.0) + q * bottom)


@njit(fastmath=True, cache=True, error_model="numpy")
def tanh(x):  # type: ignore
    """The hyperbolic tangent to about 1e-6, as training uses it; constant from |x| = 8 on.

    Eight levels of Lambert's continued fraction for half the angle, and the double-angle formula.
    """
    y = np.float32(0.5) * min(max(x, np.float32(-8.0)), np.float32(8.0))
    q = y * y
    top = y * (np.float32(2027025.0) + q * (np.float32(270270.0) + q * (np.float32(6930.0) + q * np.float32(36.0))))
    bottom = np.float32(2027025.0) + q * (
        np.float32(945945.0) + q * (np.float32(51975.0) + q * (np.float32(630.0) + q))
    )
    return np.float32(2.0) * top * bottom / (bottom * bottom + top * top)
