"""Walls inside compiled rollouts: what has gone past a bound is stopped at once."""

from typing import TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

WallArrays: TypeAlias = tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.float32], NDArray[np.float32]]
"""Walls as the kernels take them: component, whether it is an upper bound, and the bound, [W] each; what is set,
[W, D], infinite where it is not."""


@njit(error_model="numpy")
def stop_columns(walls, next_obs, some, count):  # type: ignore
    """As `stop`, of some columns of next observations with rows last, compiled.

    Args:
        walls: As `wall_arrays` makes them.
        next_obs: [D or more, C].
        some: Columns, the first `count` entries.
        count: How many.
    """
    component, upper, bound, sets = walls
    for k in range(len(component)):
        row, limit = next_obs[component[k]], bound[k]
        for j in range(count):
            c = some[j]
            if row[c] >= limit if upper[k] else row[c] <= limit:
                for d in range(sets.shape[1]):
                    if sets[k, d] < np.inf and next_obs[d, c] == next_obs[d, c]:  # a NaN stays one
                        next_obs[d, c] = sets[k, d]


@njit(error_model="numpy")
def stop_row(walls, next_obs):  # type: ignore
    """As `stop`, of one next observation [D or more], compiled."""
    component, upper, bound, sets = walls
    for k in range(len(component)):
        value = next_obs[component[k]]
        if value >= bound[k] if upper[k] else value <= bound[k]:
            for d in range(sets.shape[1]):
                if sets[k, d] < np.inf and next_obs[d] == next_obs[d]:  # a NaN stays one
                    next_obs[d] = sets[k, d]
