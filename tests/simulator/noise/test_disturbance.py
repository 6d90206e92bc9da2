"""Outcomes keep the bounds, the walls and the whole numbers of observations, and the same random numbers make them."""

import numpy as np
import pytest
from support.models import CONTINUOUS, DISCRETE, random_model

from persim_gym.simulator.model.walls import no_walls
from persim_gym.simulator.noise.disturbance import Disturbance
from persim_gym.simulator.noise.gaussian import fit_gaussian


def noise_of(shape, size=1.0, seed=0):
    rng = np.random.default_rng(seed)
    obs = rng.normal(size=(200, shape.obs_dim))
    action = rng.integers(shape.n_actions, size=200) if shape.n_actions else rng.normal(size=(200, shape.action_dim))
    return fit_gaussian(obs, action, size * rng.normal(size=obs.shape), np.ones(shape.obs_dim), shape.n_actions)


def test_nothing_happens_without_noise_or_whole_numbers():
    assert Disturbance.of_model(random_model(DISCRETE), None) is None


@pytest.mark.parametrize("shape", [DISCRETE, CONTINUOUS], ids=["discrete", "continuous"])
def test_outcomes_keep_bounds_and_walls_and_leave_further_columns_alone(shape):
    model = random_model(shape).float()
    model.walls = no_walls(3)
    model.walls[1, 0, 0], model.walls[1, 0, 1] = 0.5, 0.0  # Component 0 is no higher than 0.5, where 1 becomes 0.
    disturbance = Disturbance.of_model(model, noise_of(shape, 5.0))
    rng, rows = np.random.default_rng(1), 400
    obs = rng.normal(size=(rows, 3)).astype(np.float32)
    action = rng.integers(4, size=rows) if shape.n_actions else rng.normal(size=(rows, 2)).astype(np.float32)
    expected = np.concatenate([obs, np.full((rows, 2), 7.0, dtype=np.float32)], axis=1)
    random = disturbance.random(rng, rows)
    found = disturbance(obs, action, expected, random)
    assert found.dtype == np.float32 and not np.shares_memory(found, expected)
    np.testing.assert_array_equal(found[:, 3:], 7.0)
    assert found[:, 0].max() == 0.5 and found[:, :3].min() == -1.5 and found[:, 1:3].max() == 2.5
    np.testing.assert_array_equal(found[found[:, 0] == 0.5, 1], 0.0)
    np.testing.assert_array_equal(disturbance(obs, action, expected, random), found)


def test_whole_numbers_are_the_nearest_without_noise_and_keep_the_mean_with_it():
    model = random_model(DISCRETE).float()
    model.obs_low.fill_(-100.0), model.obs_high.fill_(100.0)
    obs, action = np.zeros((4000, 3), dtype=np.float32), np.zeros(4000, dtype=np.int64)
    expected = np.tile(np.array([3.4, 2.6, 0.3], dtype=np.float32), (4000, 1))
    nearest = Disturbance.of_model(model, None, (0, 2))
    found = nearest(obs, action, expected, nearest.random(np.random.default_rng(0), 4000))
    np.testing.assert_array_equal(found, np.tile(np.array([3.0, 2.6, 0.0], dtype=np.float32), (4000, 1)))
    drawn = Disturbance.of_model(model, noise_of(DISCRETE, 0.5).rounding((0, 2)), (0, 2))
    found = drawn(obs, action, expected, drawn.random(np.random.default_rng(0), 4000))
    np.testing.assert_array_equal(found[:, [0, 2]], np.rint(found[:, [0, 2]]))
    np.testing.assert_allclose(found.mean(axis=0), expected[0], atol=0.05)


def test_noise_that_is_not_known_is_none():
    class Nowhere:
        numbers = 1

        def draw(self, obs, action, uniform):
            return np.full((len(obs), 3), np.nan)

    disturbance = Disturbance.of_model(random_model(DISCRETE).float(), Nowhere())
    obs = np.zeros((2, 3), dtype=np.float32)
    found = disturbance(obs, np.zeros(2, dtype=np.int64), obs, disturbance.random(np.random.default_rng(0), 2))
    np.testing.assert_array_equal(found, obs)
