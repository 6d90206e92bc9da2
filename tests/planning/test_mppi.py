"""MPPI's own mean among its candidates."""

import numpy as np
import pytest
from support.dynamics import BOX, walk

from persim_gym.planning import MPPI
from persim_gym.planning.base import Plan
from persim_gym.task import Task, never


@pytest.mark.parametrize("iterations", [1, 3])
def test_the_last_plan_itself_is_a_candidate(iterations):
    """Where no other can be better, the coldest mean is the plan before, moved on by one step, to the last bit."""
    before = np.linspace(-0.8, 0.8, 12).reshape(6, 2)
    wanted = np.concatenate([before[1:], np.zeros((1, 2))])

    class ByStep:
        """Pays for being near what is wanted at each step, which it counts."""

        def __init__(self):
            self.step = -1

        def __call__(self, obs, action, next_obs):
            self.step = (self.step + 1) % 6
            return -np.square(action - wanted[self.step].astype(np.float32)).sum(axis=-1)

    planner = MPPI(12, 6, iterations, temperature=1e-12)
    (plan,) = planner.plan(
        walk, Task(ByStep(), never), np.zeros(2), BOX, np.random.default_rng(0), previous=Plan(before, before)
    )
    np.testing.assert_array_equal(plan.start, wanted)
    np.testing.assert_array_equal(plan.sequence, wanted.astype(np.float32))
