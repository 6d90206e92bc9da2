"""Fitted Q evaluation on tanks, whose returns are known."""

import numpy as np
import pytest
from gymnasium import spaces
from support.policies import Constant
from support.tank_data import tank_data

from persim_gym.comparison.acting import Acting
from persim_gym.comparison.fitted_q import FittedQ
from persim_gym.comparison.setting import Sampling, Setting
from persim_gym.spec import EnvironmentSpec, flat_box

SPEC = EnvironmentSpec(flat_box([-np.inf] * 2, [np.inf] * 2), spaces.Discrete(2), 60)


class Tanks:
    """Stands for a model of tanks."""

    spec, n_agents, episode_steps, action_space = SPEC, 1, 60, SPEC.action_space


def true_return(action, steps, discount=1.0, start=(0.7, 0.0)):
    level, flow, earned = *start, 0.0
    for step in range(steps):
        flow = 0.8 * flow + 0.02 * (2 * action - 1)
        level = 0.98 * level + flow
        earned -= discount**step * abs(level - 1)
    return earned


@pytest.mark.parametrize(("steps", "discount"), [(1, 1.0), (5, 1.0), (8, 0.9)])
def test_it_finds_the_return_of_a_policy_that_did_not_log_the_data(steps, discount):
    place = Setting("", Tanks())
    place.__dict__["data"] = tank_data(agents=1, episodes=60, steps=60)
    q = FittedQ(place, 0, Sampling(steps=steps, discount=discount))
    starts = np.float32([[0.7, 0.0]] * 3)
    for action in (0, 1):
        found = q.value(Acting(Constant(action), "it", SPEC), starts)
        assert found == pytest.approx(true_return(action, steps, discount), rel=0.12, abs=0.05)


def test_values_stay_within_what_can_be_earned():
    place = Setting("", Tanks())
    place.__dict__["data"] = tank_data(agents=1, episodes=2, steps=20)
    q = FittedQ(place, 0, Sampling(steps=60))
    found = q.value(Acting(Constant(1), "it", SPEC), np.float32([[50.0, 9.0]]))
    assert 60 * place.data.reward.min() <= found <= 0
