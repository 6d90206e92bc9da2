"""Minari's observations and ours."""

import numpy as np
from gymnasium import spaces

from persim_gym.datasets.minari_adapter import flat_rows


def test_observations_are_flattened_as_gymnasium_flattens_them():
    space = spaces.Dict(
        {
            "goal": spaces.Box(-1, 1, (2,), np.float32),
            "both": spaces.Tuple([spaces.Discrete(3), spaces.Box(0, 1, (2, 2), np.float32)]),
        }
    )
    samples = [(space.seed(i), space.sample())[1] for i in range(4)]
    rows = {
        "goal": np.stack([s["goal"] for s in samples]),
        "both": tuple(np.stack([s["both"][i] for s in samples]) for i in range(2)),
    }
    np.testing.assert_array_equal(flat_rows(space, rows), [spaces.flatten(space, s) for s in samples])
