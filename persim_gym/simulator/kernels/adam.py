"""Adam: one step, and what the closed form of many steps without a gradient needs.

`persim_gym.simulator.training.sparse_adam` explains that form; `keep` below is BETA1 / sqrt(BETA2).
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
LOG_BETA2 = float(np.log(BETA2))

# Steps without a gradient after which a first moment counts as zero: 0.9^400 is 5e-19.
FORGOTTEN_STEPS = 400


class AdamState(NamedTuple):
    """Parameters, first moments (decaying means of gradients) and second ones (of their squares), of one shape."""

    value: NDArray[np.float32]
    first: NDArray[np.float32]
    second: NDArray[np.float32]


class AdamTables(NamedTuple):
    """What S steps need, index 0 standing for what is before the first one.

    Attributes:
        size: Step sizes with bias correction, [S + 1].
        epsilon: Epsilons with bias correction, [S + 1].
        tail: Sums over j >= 1 of size[i + j] keep^j, [S + 1].
        tail_epsilon: Sums over j >= 1 of size[i + j] epsilon[i + j] (BETA1 / BETA2)^j, [S + 1].
        powers: Of BETA1, keep and BETA1 / BETA2, [3, FORGOTTEN_STEPS + 1]; the last are 0, so that all is forgotten.
        decay: Powers of BETA2, [S + 1].
    """

    size: NDArray[np.float32]
    epsilon: NDArray[np.float32]
    tail: NDArray[np.float64]
    tail_epsilon: NDArray[np.float64]
    powers: NDArray[np.float64]
    decay: NDArray[np.float32]


def is_sparse(n_agents: int, batch: int) -> bool:
    """Whether the table of agents is large enough, for the batch, that row-wise updates are the cheaper ones."""
    return n_agents > 32 * batch


@njit(cache=True)
def adam_tables(rates, count):  # type: ignore
    """`AdamTables` of steps with these learning rates, [S], after `count` steps before them."""
    steps = len(rates)
    size, epsilon = np.zeros(steps + 1, dtype=np.float32), np.zeros(steps + 1, dtype=np.float32)
    tail, tail_epsilon = np.zeros(steps + 1), np.zeros(steps + 1)
    powers = np.zeros((3, FORGOTTEN_STEPS + 1))
    keep, keep_epsilon = BETA1 / np.sqrt(BETA2), BETA1 / BETA2
    for i in range(1, steps + 1):
        debias = np.sqrt(1.0 - BETA2 ** (count + i))
        size[i] = rates[i - 1] * debias / (1.0 - BETA1 ** (count + i))
        epsilon[i] = EPSILON * debias
    for i in range(steps, 0, -1):
        tail[i - 1] = keep * (size[i] + tail[i])
        tail_epsilon[i - 1] = keep_epsilon * (np.float64(size[i]) * epsilon[i] + tail_epsilon[i])
    for k in range(FORGOTTEN_STEPS):
        powers[0, k], powers[1, k], powers[2, k] = BETA1**k, keep**k, keep_epsilon**k
    decay = np.exp(np.arange(steps + 1) * LOG_BETA2).astype(np.float32)
    return AdamTables(size, epsilon, tail, tail_epsilon, powers, decay)


@njit(fastmath=True, cache=True, error_model="numpy")
def adam_step(state, grad, size, epsilon):  # type: ignore
    """One step in place of an `AdamState`, [P], with its gradient, [P]; step size and epsilon with bias correction."""
    value, first, second = state
    keep1, add1 = np.float32(BETA1), np.float32(1.0 - BETA1)
    keep2, add2 = np.float32(BETA2), np.float32(1.0 - BETA2)
    for i in range(len(value)):
        first[i] = keep1 * first[i] + add1 * grad[i]
    for i in range(len(value)):
        second[i] = keep2 * second[i] + add2 * grad[i] * grad[i]
    for i in range(len(value)):
        value[i] -= size * first[i] / (np.sqrt(second[i]) + epsilon)
