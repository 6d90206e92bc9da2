"""Walls: bounds where one component of the observation stops and at once sets others, found in logged data.

MountainCar's track ends at a wall that takes all of a car's speed. Few transitions meet it, and each is a jump: a
smooth model spreads it over all states, and pays for it everywhere. Exact repeats of an extreme give such a bound away.
What moves freely is then learned from the other transitions alone, and the wall is applied to what is predicted. In the
theory of hybrid systems a wall is a guard with its reset map. A bound that sets nothing else is no wall: where only
one component is cut off, what depends on it goes on as it was logged.

Source: Goebel, Sanfelice and Teel, Hybrid dynamical systems, 2009, for guards and resets.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from persim_gym.simulator.kernels.walls import WallArrays

WALL_TOLERANCE = 1e-5  # No value is past a wall by more than this share of the bound's size, or of 1, but for rounding.
SIDES = ("low", "high")


class Wall(NamedTuple):
    """A bound that stops a component and sets others.

    Attributes:
        component: Of the observation.
        upper: Whether values are stopped from above.
        bound: Where.
        sets: Values that components have after a touch, by component; the stopped one among them, at the bound.
    """

    component: int
    upper: bool
    bound: float
    sets: Mapping[int, float]


def no_walls(size: int) -> Tensor:
    """A table of no walls.

    A table of walls is float32 [2, D, D]: what a touch of the lower or upper bound of a component sets all components
    to, infinite where it leaves them alone; that component itself is set to the bound, where there is a wall.
    """
    return torch.full((2, size, size), torch.inf, dtype=torch.float32)


def walls_of(table: Tensor) -> list[Wall]:
    """The walls of a table."""
    found = []
    for component, side in torch.diagonal(table, dim1=1, dim2=2).T.isfinite().nonzero().tolist():
        sets = {j: value for j, value in enumerate(table[side, component].tolist()) if np.isfinite(value)}
        found.append(Wall(component, side == 1, sets[component], sets))
    return found


def stopped(table: Tensor, next_obs: Tensor) -> Tensor:
    """Which components of next observations [..., D] a wall has set, bool [..., D]."""
    result = torch.zeros(next_obs.shape, dtype=torch.bool, device=next_obs.device)
    for wall in walls_of(table):
        result[..., list(wall.sets)] |= _touch(wall, next_obs)[..., None]
    return result


def past(wall: Wall, next_obs: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether next observations [..., D] are on the other side of a wall, by more than rounding, bool [...]."""
    beyond = next_obs[..., wall.component] - np.float64(wall.bound)
    result: NDArray[np.bool_] = (beyond if wall.upper else -beyond) > WALL_TOLERANCE * max(1.0, abs(wall.bound))
    return result


def stop(walls: Sequence[Wall], next_obs: Any) -> None:
    """Applies walls in place to next observations [..., D or D + E], NumPy or torch."""
    for wall in walls:
        touched = _touch(wall, next_obs)
        for component, value in wall.sets.items():
            values = next_obs[..., component]
            values[touched & (values == values)] = value  # A NaN stays one.


def _touch(wall: Wall, next_obs: Any) -> Any:
    values = next_obs[..., wall.component]
    return values >= wall.bound if wall.upper else values <= wall.bound


def wall_arrays(table: Tensor) -> WallArrays:
    """Walls as the kernels take them."""
    walls = walls_of(table)
    sides = [table[int(wall.upper), wall.component].numpy() for wall in walls]
    return WallArrays(
        np.array([wall.component for wall in walls], dtype=np.int64),
        np.array([wall.upper for wall in walls], dtype=np.bool_),
        np.array([wall.bound for wall in walls], dtype=np.float32),
        np.array(sides, dtype=np.float32).reshape(len(walls), table.shape[1]),
    )


def describe_walls(table: Tensor) -> dict[str, Any]:
    """Walls for a card: by side and component, the values that components are set to."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for wall in walls_of(table):
        sets = {str(component): float(f"{value:.7g}") for component, value in wall.sets.items()}
        found.setdefault(SIDES[wall.upper], {})[str(wall.component)] = sets
    return found
