"""Data on disk, and trainings from them."""

import os
import signal

import numpy as np
import torch
from support.recipes import TINY

from persim_gym.simulator.training import keeper
from persim_gym.simulator.training.trainer import fit_ensemble
from persim_gym.transition_store import STORE_BLOCK_ROWS, TransitionStore
from persim_gym.transitions import Transitions

SMALL_PARTS = 2 * STORE_BLOCK_ROWS


def big(cars: Transitions, times: int = 9) -> Transitions:
    """The cars' transitions several times over, each time as new trajectories: 5,400 rows, six blocks."""
    names = ("agent", "obs", "action", "reward", "next_obs", "terminated")
    repeated = {name: np.concatenate([getattr(cars, name)] * times) for name in names}
    trajectory = np.concatenate([cars.trajectory + 6 * i for i in range(times)])
    return Transitions(**repeated, trajectory=trajectory, n_agents=cars.n_agents, source="big")


def from_file(file, recipe=TINY, **keywords):
    """A training that reads the file in three parts an epoch."""
    file.part_rows = SMALL_PARTS
    return fit_ensemble(file, recipe, n_actions=3, progress=False, **keywords)


def train_and_die(file, path):
    """Kills its own process while the fourth checkpoint, in the middle of an epoch, is being written."""
    torch.set_num_threads(1)
    replaced = iter(range(4))

    def replace_or_die(source, target, original=os.replace):
        if next(replaced) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        original(source, target)

    os.replace, keeper.CHECKPOINT_SECONDS = replace_or_die, 0.0
    from_file(TransitionStore(file), checkpoint=path)
