"""Finds walls in logged data: bounds that stop one component and at once set others."""

import numpy as np
import torch
from torch import Tensor

from persim_gym.logged_arrays import complete
from persim_gym.simulator.model.walls import no_walls, past, walls_of
from persim_gym.transitions import LoggedData

MIN_TOUCHES = 3  # A wall has stopped a component after at least so many different values of it.
MAX_WALL_SHARE = 0.02  # If more transitions end at a bound, states rest there: that is to be learned, and no wall.
MAX_STEP_RATIO = 2.0  # A touch that comes from farther off than so many of the longest free steps was put there.
MAX_CHANCE = 1e-3  # What a wall seems to set must be less likely than this to be chance.
# A repeated value of a component means something only if at least this share of its values differ.
MIN_DISTINCT_SHARE = 0.1
WALL_EPISODES = 2000  # Walls are looked for in at most so many episodes of data on disk.
BLOCKS_AT_ONCE = 256  # So many blocks of data on disk are read at once.


def find_walls(data: LoggedData) -> Tensor:
    """Table of the walls that logged data show, as `no_walls` describes it; in transitions that lack nothing.

    A component has a wall at its extreme where next observations have exactly that value after `MIN_TOUCHES` different
    ones or more, of two agents or more, but no more than `MAX_WALL_SHARE` of all, where other components always have
    one value then, and values of the component differ. Most of these transitions do not end an episode. The extreme is
    reached by steps that others come near to: what is put there from afar, such as a battery that is charged, does not
    stop there. What other components always have then they are set to, where that is no chance and not what they had
    before.

    Args:
        data: Logged transitions; of those on disk, `WALL_EPISODES` episodes are looked at, and all of them for what is
            past a wall, which is none then.
    """
    sample = data.sample(WALL_EPISODES)
    if sample.missing:
        whole = complete(sample.read([0]))
        if not whole.any():
            return no_walls(sample.obs_dim)
        sample = sample.select(whole)
    following, agents = sample.next_obs, min(2, len(np.unique(sample.agent)))
    varied = np.array([len(np.unique(values)) > MIN_DISTINCT_SHARE * len(values) for values in following.T])
    table = no_walls(following.shape[1])
    for component in np.flatnonzero(varied).tolist():
        values = following[:, component]
        for side, bound in enumerate((values.min(), values.max())):
            touched = values == bound
            if touched.mean() > MAX_WALL_SHARE or sample.terminated[touched].mean() > 0.5:
                continue
            before = sample.obs[touched, component]  # A component that was the same before is no sign of a wall.
            if len(np.unique(before)) < MIN_TOUCHES or len(np.unique(sample.agent[touched])) < agents:
                continue
            step = np.abs(values - sample.obs[:, component])
            if step[touched].max() > MAX_STEP_RATIO * step[~touched].max():
                continue
            after = following[touched]
            share = (following[~touched] == after[0]).mean(axis=0)
            moved = (sample.obs[touched] != after).sum(axis=0) >= MIN_TOUCHES
            sets = (after == after[0]).all(axis=0) & moved & (share ** len(after) < MAX_CHANCE)
            sets[component] = False
            if sets.any():
                sets[component] = True
                table[side, component] = torch.from_numpy(np.where(sets, after[0], np.float32(np.inf)))
    return _uncontradicted(table, data)


def _uncontradicted(table: Tensor, data: LoggedData) -> Tensor:
    """The table without the walls that some transition is past."""
    walls = walls_of(table)
    blocks = len(data.block_lengths) if walls else 0
    for start in range(0, blocks, BLOCKS_AT_ONCE):
        following = data.read(range(start, min(start + BLOCKS_AT_ONCE, blocks)))["next_obs"]
        for wall in walls:
            if past(wall, following).any():
                table[int(wall.upper), wall.component] = torch.inf
    return table
