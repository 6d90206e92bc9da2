"""Walls: bounds where one component of the observation stops and at once sets others, found in logged data.

MountainCar's track ends at a wall that takes all of a car's speed. Few transitions meet it, and each is a jump: a
smooth model spreads it over all states, and pays for it everywhere. Exact repeats of an extreme give such a bound away.
What moves freely is then learned from the other transitions alone, and the wall is applied to what is predicted. In the
theory of hybrid systems a wall is a guard with its reset map. A bound that sets nothing else is no wall: where only
one component is cut off, what depends on it goes on as it was logged.

Source: Goebel, Sanfelice and Teel, Hybrid dynamical systems, 2009, for guards and resets.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from persim_gym.simulator.transition_file import TransitionFile
from persim_gym.transitions import Transitions

LEAST = 3  # different values that a component must have been stopped after
MOST = 0.02  # share of transitions that may: where more lie at a bound, states rest there, and that is to be learned
FARTHEST = 2.0  # times the longest step that no wall stopped: what comes from further away was put there, not stopped
CHANCE = 1e-3  # that a component has one value after all touches without them, from its share of the other transitions
DISTINCT = 0.1  # share of values of a component that must differ, for a repeated one to mean something
EPISODES = 2000  # of data on disk, that walls are looked for in
BEYOND = 1e-5  # of a bound's size, or of 1: no value is past a wall by more, but for rounding
BLOCKS = 256  # of data on disk, read at once
SIDES = ("low", "high")

Arrays: TypeAlias = tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.float32], NDArray[np.float32]]
"""Walls as the kernels take them: component, whether it is an upper bound, and the bound, [W] each; what is set,
[W, D], infinite where it is not."""


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
    return torch.full((2, size, size), torch.inf)


def find_walls(data: Transitions | TransitionFile) -> Tensor:
    """Table of the walls that logged data show, as `no_walls` describes it.

    A component has a wall at its extreme where next observations have exactly that value after `LEAST` different ones
    or more, of two agents or more, but no more than `MOST` of all, where other components always have one value then,
    and values of the component differ. Most of these transitions do not end an episode. The extreme is reached by steps
    that others come near to: what is put there from afar, such as a battery that is charged, does not stop there. What
    other components always have then they are set to, where that is no chance and not what they had before.

    Args:
        data: Logged transitions; of those on disk, `EPISODES` episodes are looked at, and all of them for what is past
            a wall, which is none then.
    """
    if isinstance(data, TransitionFile):
        return _uncontradicted(find_walls(data.sample(EPISODES)), data)
    following, agents = data.next_obs, min(2, len(np.unique(data.agent)))
    varied = np.array([len(np.unique(values)) > DISTINCT * len(values) for values in following.T])
    table = no_walls(following.shape[1])
    for component in np.flatnonzero(varied).tolist():
        values = following[:, component]
        for side, bound in enumerate((values.min(), values.max())):
            touched = values == bound
            if touched.mean() > MOST or data.terminated[touched].mean() > 0.5:
                continue
            before = data.obs[touched, component]  # all may be the same after the same
            if len(np.unique(before)) < LEAST or len(np.unique(data.agent[touched])) < agents:
                continue
            step = np.abs(values - data.obs[:, component])
            if step[touched].max() > FARTHEST * step[~touched].max():
                continue
            after = following[touched]
            share = (following[~touched] == after[0]).mean(axis=0)
            moved = (data.obs[touched] != after).sum(axis=0) >= LEAST
            sets = (after == after[0]).all(axis=0) & moved & (share ** len(after) < CHANCE)
            sets[component] = False
            if sets.any():
                sets[component] = True
                table[side, component] = torch.from_numpy(np.where(sets, after[0], np.float32(np.inf)))
    return table


def _uncontradicted(table: Tensor, data: TransitionFile) -> Tensor:
    """The table without the walls that some transition on disk is past."""
    walls = walls_of(table)
    for start in range(0, data.blocks, BLOCKS) if walls else ():
        following = data.read(range(start, min(start + BLOCKS, data.blocks)))["next_obs"]
        for wall in walls:
            if past(wall, following).any():
                table[int(wall.upper), wall.component] = torch.inf
    return table


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
    result: NDArray[np.bool_] = (beyond if wall.upper else -beyond) > BEYOND * max(1.0, abs(wall.bound))
    return result


def stop(walls: Sequence[Wall], next_obs: Any) -> None:
    """Applies walls in place to next observations [..., D or D + E], NumPy or torch."""
    for wall in walls:
        touched = _touch(wall, next_obs)
        for component, value in wall.sets.items():
            values = next_obs[..., component]
            values[touched & (values == values)] = value  # a NaN stays one


def _touch(wall: Wall, next_obs: Any) -> Any:
    values = next_obs[..., wall.component]
    return values >= wall.bound if wall.upper else values <= wall.bound


def arrays(table: Tensor) -> Arrays:
    """Walls as the kernels take them."""
    walls = walls_of(table)
    sides = [table[int(wall.upper), wall.component].numpy() for wall in walls]
    return (
        np.array([wall.component for wall in walls], dtype=np.int64),
        np.array([wall.upper for wall in walls], dtype=np.bool_),
        np.array([wall.bound for wall in walls], dtype=np.float32),
        np.array(sides, dtype=np.float32).reshape(len(walls), table.shape[1]),
    )


@njit(error_model="numpy")
def stop_columns(walls, next_obs, some, count):  # type: ignore
    """As `stop`, of some columns of next observations with rows last, compiled.

    Args:
        walls: As `arrays` makes them.
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


def described(table: Tensor) -> dict[str, Any]:
    """Walls for a card: by side and component, the values that components are set to."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for wall in walls_of(table):
        sets = {str(component): float(f"{value:.7g}") for component, value in wall.sets.items()}
        found.setdefault(SIDES[wall.upper], {})[str(wall.component)] = sets
    return found
