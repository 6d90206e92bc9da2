"""How far candidates go from what was logged."""

import numpy as np
import pytest
from gymnasium import spaces

from persim_gym.comparison.familiarity import Familiarity
from persim_gym.comparison.rollouts import Visited
from persim_gym.transitions import Transitions

RNG = np.random.default_rng(0)
COUNT = 3000


def logged(action):
    obs = RNG.normal([0.0, 10.0], [1.0, 0.01], (COUNT, 2)).astype(np.float32)
    none = np.zeros(COUNT, dtype=np.int64)
    return Transitions(none, obs, action, np.zeros(COUNT), obs, np.zeros(COUNT, dtype=bool), none, 1)


def visited(obs, action, count=500):
    return Visited(np.tile(np.float32([obs]), (count, 1)), np.tile(action, (count, *[1] * np.ndim(action))))


def test_choices_that_were_never_logged_are_unlike_and_logged_ones_are_not():
    familiar = Familiarity(logged(RNG.integers(0, 2, COUNT)), spaces.Discrete(3), 3)
    middle = [0.0, 10.0]
    assert familiar.unlike(visited(middle, 1)) == 0.0
    assert familiar.unlike(visited(middle, 2)) == 1.0


@pytest.mark.parametrize(("obs", "share"), [([0.0, 10.0], 0.0), ([8.0, 10.0], 1.0), ([0.0, 10.08], 1.0)])
def test_observations_far_from_the_logs_are_unlike_in_the_unit_of_each_component(obs, share):
    familiar = Familiarity(logged(RNG.integers(0, 2, COUNT)), spaces.Discrete(2), 2)
    assert familiar.unlike(visited(obs, 0)) == share


def test_a_further_log_is_familiar_and_stronger_actions_are_not():
    actions = RNG.uniform(-0.1, 0.1, (COUNT, 2)).astype(np.float32)
    familiar = Familiarity(logged(actions), spaces.Box(-1.0, 1.0, (2,)), 0)
    more = logged(RNG.uniform(-0.1, 0.1, (COUNT, 2)).astype(np.float32))
    assert familiar.unlike(Visited(more.obs, more.action)) < 0.03
    assert familiar.unlike(Visited(more.obs, 10.0 * more.action)) > 0.7


def test_distances_far_below_the_offset_of_choices_are_told_apart():
    grid = np.linspace(0.0, 1.0, COUNT, dtype=np.float32)[:, None]  # Neighbours are 0.001 standard deviations apart.
    none = np.zeros(COUNT, dtype=np.int64)
    data = Transitions(none, grid, none, np.zeros(COUNT), grid, np.zeros(COUNT, dtype=bool), none, 1)
    familiar = Familiarity(data, spaces.Discrete(2), 2)
    assert familiar.unlike(visited([0.5001], 0)) == 0.0
    assert familiar.unlike(visited([1.004], 0)) == 1.0
