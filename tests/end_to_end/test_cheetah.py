"""The rollouts of benchmarks/cheetah.py: members apart are the protocol's, and each change does what its name says."""

import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from persim_gym.evaluation.prediction import Trajectories, predict_along
from persim_gym.history import History
from persim_gym.task import PlanningDynamics
from persim_gym.transitions import Transitions

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
cheetah = import_module("cheetah")
EPISODES, STEPS, DIM = 3, 4, 2
UNIT = np.ones(DIM, dtype=np.float32)


class TwoMembers(PlanningDynamics):
    """One member doubles observations, the other squares them; both add the action."""

    members = 2

    def __call__(self, obs, action):
        return np.stack([2 * obs[0], obs[1] ** 2]) + action


@pytest.fixture
def true():
    rng = np.random.default_rng(0)
    obs = [rng.uniform(0.5, 1.5, (EPISODES, DIM)).astype(np.float32) for _ in range(STEPS + 1)]
    action = [rng.uniform(-1, 1, (EPISODES, DIM)).astype(np.float32) for _ in range(STEPS)]
    return Trajectories(obs, action, np.ones((EPISODES, STEPS), dtype=np.bool_), History.none(EPISODES, 1, DIM, DIM))


@pytest.fixture
def own():
    rng = np.random.default_rng(1)
    obs, action, following = (rng.standard_normal((5, DIM)).astype(np.float32) for _ in range(3))
    zeros = np.zeros(5)
    return Transitions(zeros.astype(int), obs, action, zeros, following, zeros > 0, zeros.astype(int), n_agents=1)


def predicted(true, own, bounds=None, **changes):
    return cheetah.predict(TwoMembers(), cheetah.Rollout(**changes), true, own, bounds, UNIT)


def test_members_apart_are_the_protocols_and_the_mean_of_each_alone(true, own):
    apart = predicted(true, own)
    np.testing.assert_allclose(apart, predict_along(TwoMembers(), true), rtol=1e-6)
    np.testing.assert_allclose(predicted(true, own, copies=3), apart, rtol=1e-6)
    alone = predicted(true, own, members=cheetah.ALONE).reshape(2, EPISODES, STEPS + 1, DIM)
    np.testing.assert_allclose(alone.mean(axis=0), apart, rtol=1e-6)
    assert (alone[0, :, 1] != alone[1, :, 1]).all()


def test_what_goes_on_from_the_mean_or_from_a_drawn_member(true, own):
    first, second = 2 * true.obs[0] + true.action[0], true.obs[0] ** 2 + true.action[0]
    np.testing.assert_allclose(predicted(true, own, members=cheetah.MEAN)[:, 1], (first + second) / 2, rtol=1e-5)
    drawn = predicted(true, own, members=cheetah.DRAWN)[:, 1]
    assert np.all(np.isclose(drawn, first) | np.isclose(drawn, second))


def test_residuals_are_the_logged_ones_and_bounds_hold(true, own):
    residuals = cheetah.logged_residuals(TwoMembers(), own)
    np.testing.assert_allclose(residuals, own.next_obs - (2 * own.obs + own.obs**2) / 2 - own.action, rtol=1e-4)
    off = (
        predicted(true, own, members=cheetah.MEAN, residuals=1.0)[:, 1]
        - predicted(true, own, members=cheetah.MEAN)[:, 1]
    )
    assert all(np.isclose(residuals, row, atol=1e-5).all(axis=1).any() for row in off)
    low, high = cheetah.logged_bounds(own, 0.25)
    inside = predicted(true, own, (low, high), beyond=0.25)[:, 1:]
    assert (inside >= low).all() and (inside <= high).all()
    assert ((own.obs >= low).mean(axis=0) >= 0.75).all()
