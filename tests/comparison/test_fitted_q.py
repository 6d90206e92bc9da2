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
from persim_gym.transitions import Transitions

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


def test_of_a_terminal_objective_it_finds_the_reward_of_the_last_step():
    place = Setting("", Tanks())
    place.__dict__["data"] = tank_data(agents=1, episodes=60, steps=60)
    for steps, discount in ((1, 1.0), (6, 1.0), (6, 0.9)):
        q = FittedQ(place, 0, Sampling(steps=steps, discount=discount, objective="terminal"))
        for action in (0, 1):
            found = q.value(Acting(Constant(action), "it", SPEC), np.float32([[0.7, 0.0]]))
            expected = true_return(action, steps, discount) - true_return(action, steps - 1, discount)
            assert found == pytest.approx(expected, rel=0.12, abs=0.05)


@pytest.mark.parametrize(("steps", "expected"), [(4, 50.0), (60, 3.0)], ids=["cut off", "to the end"])
def test_of_a_terminal_objective_rewards_on_the_way_count_for_nothing(steps, expected):
    place, step = Setting("", Tanks()), np.tile(np.arange(10), 40)
    obs = np.column_stack([0.1 * step, np.zeros(400)]).astype(np.float32)
    ends = step == 9
    place.__dict__["data"] = Transitions(
        agent=np.zeros(400, dtype=np.int64),
        obs=obs,
        action=np.arange(400) // 10 % 2,
        reward=np.where(ends, 3.0, 50.0).astype(np.float32),
        next_obs=obs + np.float32([0.1, 0.0]),
        terminated=ends,
        trajectory=np.arange(400) // 10,
        n_agents=1,
        source="my/way-v0",
    )
    q = FittedQ(place, 0, Sampling(steps=steps, objective="terminal"))
    assert q.value(Acting(Constant(1), "it", SPEC), obs[:1]) == pytest.approx(expected, abs=1.0)


def test_values_stay_within_what_can_be_earned():
    place = Setting("", Tanks())
    place.__dict__["data"] = tank_data(agents=1, episodes=2, steps=20)
    q = FittedQ(place, 0, Sampling(steps=60))
    found = q.value(Acting(Constant(1), "it", SPEC), np.float32([[50.0, 9.0]]))
    assert 60 * place.data.reward.min() <= found <= 0
