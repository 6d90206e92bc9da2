"""Stopping at walls, in arrays and tensors."""

import numpy as np
import torch

from persim_gym.simulator.model.walls import no_walls, stop, walls_of


def test_stopping_is_the_same_of_arrays_and_tensors_and_leaves_nan():
    table = no_walls(2)
    table[0, 0] = torch.tensor([-1.0, 0.5])
    obs = np.array([[-2.0, 3.0, 9.0], [0.0, 3.0, 9.0], [np.nan, 3.0, 9.0], [-1.0, 3.0, 9.0]])
    tensor = torch.from_numpy(obs.copy())
    stop(walls_of(table), obs)
    stop(walls_of(table), tensor)
    np.testing.assert_array_equal(obs, [[-1.0, 0.5, 9.0], [0.0, 3.0, 9.0], [np.nan, 3.0, 9.0], [-1.0, 0.5, 9.0]])
    np.testing.assert_array_equal(tensor.numpy(), obs)
