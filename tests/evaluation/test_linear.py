"""Linear models of each agent: exact where dynamics are linear, and no model where nothing is known."""

from dataclasses import replace

import numpy as np
from support.tank_data import tank_data

from persim_gym.evaluation.hold_out import rollouts
from persim_gym.evaluation.horizons import roll_out
from persim_gym.evaluation.linear import LinearModels, _ridge


def test_linear_dynamics_are_found_exactly():
    data = tank_data(agents=4)
    windows = rollouts(data, 2)
    predicted = roll_out(LinearModels.fit(data, 2, data).bound(windows.agent), windows)
    known = ~np.isnan(windows.following)
    np.testing.assert_allclose(predicted[known], windows.following[known], atol=2e-4)


def test_each_agent_has_its_own_model_and_one_without_data_predicts_no_change():
    data = tank_data(agents=4)
    models = LinearModels.fit(data.select(data.agent != 2), 2, data)
    obs, action = np.array([[[0.5, 0.1]] * 3], dtype=np.float32), np.array([1, 1, 1])
    following = models.bound(np.array([0, 3, 2]))(obs, action)
    assert following.shape == (1, 3, 2) and following[0, 1, 1] - following[0, 0, 1] > 0.02
    np.testing.assert_array_equal(following[0, 2], obs[0, 2])


def test_predictions_stay_within_what_was_logged():
    data = tank_data(agents=2)
    models = LinearModels.fit(data, 2, data)
    far = models.bound(np.array([0]))(np.array([[[99.0, -99.0]]], dtype=np.float32), np.array([0]))
    np.testing.assert_array_equal(far[0, 0], [data.next_obs[:, 0].max(), data.next_obs[:, 1].min()])


def test_the_ridge_grows_with_the_noise_and_missing_values_cost_their_column_alone():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(12, 8))
    change = np.column_stack([inputs[:, 0], rng.normal(size=12)])
    weights = _ridge(inputs, change)
    np.testing.assert_allclose(weights[:, 0], np.eye(9)[0], atol=1e-3)
    assert np.abs(weights[:-1, 1]).max() < 0.3  # Least squares has 1.6: there is nothing to learn.
    holed = change.copy()
    holed[3, 1] = np.nan
    np.testing.assert_array_equal(_ridge(inputs, holed)[:, 0], _ridge(inputs, change[:, :1])[:, 0])
    np.testing.assert_array_equal(
        _ridge(inputs, holed)[:, 1], _ridge(np.delete(inputs, 3, 0), np.delete(change, 3, 0)[:, 1:])[:, 0]
    )


def test_actions_that_are_numbers_are_inputs_as_they_are():
    data = tank_data(agents=2)
    numbers = replace(data, action=(2.0 * data.action[:, None] - 1).astype(np.float32))
    windows = rollouts(numbers, 2)
    predicted = roll_out(LinearModels.fit(numbers, 0, numbers).bound(windows.agent), windows)
    known = ~np.isnan(windows.following)
    np.testing.assert_allclose(predicted[known], windows.following[known], atol=2e-4)
