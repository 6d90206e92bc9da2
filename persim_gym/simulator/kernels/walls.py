"""Bounds and walls inside compiled predictions, applied as soon as a next observation is known."""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray


class WallArrays(NamedTuple):
    """The W walls of a model (`persim_gym.simulator.model.walls` says what a wall is).

    Attributes:
        component: Component of the observation that each stops, [W].
        upper: Whether it stops values from above, [W].
        bound: Where it stands, [W].
        sets: What a touch sets each component to, infinite where it leaves one alone, [W, D].
    """

    component: NDArray[np.int64]
    upper: NDArray[np.bool_]
    bound: NDArray[np.float32]
    sets: NDArray[np.float32]


@njit(cache=True, nogil=True, error_model="numpy")
def clip(value, low, high):  # type: ignore
    """A value within its bounds. A NaN stays one: both comparisons with it are false."""
    return low if value < low else (high if value > high else value)


@njit(error_model="numpy")
def stop_columns(walls, next_obs, columns, count):  # type: ignore
    """Applies walls in place to some columns of next observations.

    Args:
        walls: `WallArrays`.
        next_obs: Next observations, each a column, [D or more, C].
        columns: Indices of columns; those behind the first `count` do not count.
        count: How many count.
    """
    for k in range(len(walls.component)):
        row, bound = next_obs[walls.component[k]], walls.bound[k]
        for j in range(count):
            c = columns[j]
            if row[c] >= bound if walls.upper[k] else row[c] <= bound:
                for d in range(walls.sets.shape[1]):
                    if walls.sets[k, d] < np.inf and next_obs[d, c] == next_obs[d, c]:  # a NaN stays one
                        next_obs[d, c] = walls.sets[k, d]
