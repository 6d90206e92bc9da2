"""CEM over discrete actions."""

from functools import partial

import numpy as np
from gymnasium import spaces
from support.dynamics import rngs

from persim_gym.planning import CategoricalCEM
from persim_gym.planning.scoring import Objective
from persim_gym.task import FunctionDynamics, Task, never


def test_pessimism_avoids_what_members_disagree_on():
    @partial(FunctionDynamics, members=2)
    def members(obs, action):
        push = np.array([-1.0, 3.5])[:, None] * (action == 2) + 1.0 * (action == 1)
        return obs + np.stack([push, 0 * push], axis=-1)

    right = Task(lambda obs, action, next_obs: next_obs[..., 0], never)
    for pessimism, expected in ((0.0, 2), (1.0, 1)):
        (plan,) = CategoricalCEM(60, 3, 4, 10).plan(
            members, right, np.zeros(2), spaces.Discrete(3), rngs([0])[0], objective=Objective(pessimism=pessimism)
        )
        assert plan.sequence[0] == expected
