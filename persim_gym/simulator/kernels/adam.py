"""Adam's constants, and the closed form of its steps without a gradient."""

import numpy as np
from numba import njit

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # These are Adam's defaults.
LOG_BETA2 = float(np.log(BETA2))
FORGOTTEN_STEPS = 400  # After so many steps a first moment is zero: 0.9^400 is 5e-19.


def is_sparse(n_agents: int, batch: int) -> bool:
    """Whether the table of agents is large enough, for the batch, that row-wise updates are the cheaper ones."""
    return n_agents > 32 * batch


@njit(cache=True)
def lazy_tables(rates, count):  # type: ignore
    """What steps 1..S need, after `count` steps before them.

    Returns:
        Adam's step sizes and epsilons with bias correction, float32 [S + 1]; tails, float64 [S + 1]: sums over j >= 1
        of size[i + j] keep^j, and of size[i + j] epsilon[i + j] (BETA1 / BETA2)^j; the powers of BETA1, of keep and
        of BETA1 / BETA2, float64 [3, FORGOTTEN_STEPS + 1]; and those of BETA2, float32 [S + 1].
    """
    steps = len(rates)
    size, epsilon = np.zeros(steps + 1, dtype=np.float32), np.zeros(steps + 1, dtype=np.float32)
    tail, tail_epsilon = np.zeros(steps + 1), np.zeros(steps + 1)
    powers = np.zeros((3, FORGOTTEN_STEPS + 1))
    ratio, ratio_epsilon = BETA1 / np.sqrt(BETA2), BETA1 / BETA2
    for i in range(1, steps + 1):
        debias = np.sqrt(1.0 - BETA2 ** (count + i))
        size[i] = rates[i - 1] * debias / (1.0 - BETA1 ** (count + i))
        epsilon[i] = EPSILON * debias
    for i in range(steps, 0, -1):
        tail[i - 1] = ratio * (size[i] + tail[i])
        tail_epsilon[i - 1] = ratio_epsilon * (np.float64(size[i]) * epsilon[i] + tail_epsilon[i])
    for k in range(FORGOTTEN_STEPS):  # The last power is zero, so that a longer gap forgets all.
        powers[0, k], powers[1, k], powers[2, k] = BETA1**k, ratio**k, ratio_epsilon**k
    decay = np.exp(np.arange(steps + 1) * LOG_BETA2).astype(np.float32)
    return size, epsilon, tail, tail_epsilon, powers, decay


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
