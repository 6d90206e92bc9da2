"""Gaussian noise has the spread that was put into the residuals, where it depends on the input and where not."""

import numpy as np
import pytest

from persim_gym.simulator.noise.gaussian import ROUNDING_VARIANCE, GaussianNoise, fit_gaussian

UNIT = np.ones(2)


def residuals(k=6000, seed=0, choices=3):
    """Observations, actions and residuals: those of component 0 grow with it, those of component 1 with the action."""
    rng = np.random.default_rng(seed)
    obs, action = rng.normal(size=(k, 2)), rng.integers(choices, size=k)
    normal = rng.normal(size=(k, 2)) @ np.array([[1.0, 0.6], [0.0, 0.8]])
    spread = np.stack([0.3 * np.exp(0.5 * obs[:, 0]), 0.1 + 0.4 * action], axis=1)
    return obs, action, spread * normal, spread


def test_the_spread_depends_on_what_it_was_made_to():
    obs, action, found, spread = residuals()
    noise = fit_gaussian(obs, action, found, UNIT, 3)
    inside = np.abs(obs).max(axis=1) < 2
    np.testing.assert_allclose(noise.spread(obs, action)[inside] / spread[inside], 1.0, atol=0.2)
    correlation = noise.root @ noise.root.T
    assert correlation[0, 1] == pytest.approx(0.6, abs=0.05)


def test_spread_that_depends_on_nothing_is_constant_and_right():
    rng = np.random.default_rng(0)
    obs, action, found = rng.normal(size=(300, 2)), rng.normal(size=(300, 1)), rng.normal(size=(300, 2)) * [2.0, 1e-3]
    noise = fit_gaussian(obs, action, found, UNIT, 0)
    size = np.sqrt(np.square(found).mean(axis=0))
    np.testing.assert_allclose(noise.spread(rng.normal(size=(50, 2)), action[:50]) / size, 1.0, atol=0.25)


def test_missing_residuals_do_not_count():
    obs, action, found, spread = residuals()
    found[::3, 1] = np.nan
    noise = fit_gaussian(obs, action, found, UNIT, 3)
    inside = np.abs(obs).max(axis=1) < 2
    np.testing.assert_allclose(noise.spread(obs, action)[inside] / spread[inside], 1.0, atol=0.25)


@pytest.mark.parametrize("k", [1, 2, 7])
def test_few_residuals_make_finite_noise(k):
    obs, action, found, _ = residuals(k)
    noise = fit_gaussian(obs, action, found, UNIT, 3)
    assert np.isfinite(noise.draw(obs, action, np.full((k, 2), 0.3))).all()
    with pytest.raises(ValueError, match="there are no residuals to fit noise to"):
        fit_gaussian(obs[:0], action[:0], found[:0], UNIT, 3)


def test_draws_have_the_fitted_variance_and_far_inputs_none_beyond_the_datas():
    obs, action, found, _ = residuals()
    noise = fit_gaussian(obs, action, found, UNIT, 3)
    uniform = np.random.default_rng(1).random((len(obs), 2))
    drawn = noise.draw(obs, action, uniform)
    np.testing.assert_allclose(drawn.std(axis=0), found.std(axis=0), rtol=0.1)
    np.testing.assert_array_equal(drawn, noise.draw(obs, action, uniform))
    assert noise.spread(np.full((1, 2), 1e6), action[:1]).max() <= noise.spread(obs, action).max() * 1.001


def test_rounding_to_whole_numbers_adds_what_noise_leaves_out():
    """With it, a count of mean 3.4 and variance 0.5 has that mean and variance; without, a sixth more."""
    rng, k = np.random.default_rng(0), 200_000
    obs, action = np.zeros((k, 1)), np.zeros(k, dtype=np.int64)
    noise = fit_gaussian(obs[:5000], action[:5000], rng.normal(size=(5000, 1)) * np.sqrt(0.5), np.ones(1), 1)
    drawn = noise.rounding([0]).draw(obs, action, rng.random((k, 1)))
    counts = np.floor(3.4 + drawn + rng.random((k, 1)))
    assert counts.mean() == pytest.approx(3.4, abs=0.01)
    assert counts.var() == pytest.approx(noise.spread(obs[:1], action[:1])[0, 0] ** 2, rel=0.03)
    plain = np.floor(3.4 + noise.draw(obs, action, rng.random((k, 1))) + rng.random((k, 1)))
    assert plain.var() == pytest.approx(noise.spread(obs[:1], action[:1])[0, 0] ** 2 + ROUNDING_VARIANCE, rel=0.03)


@pytest.mark.parametrize("choices", [0, 3])
def test_arrays_make_the_same_noise(choices):
    obs, action, found, _ = residuals(500)
    action = action if choices else action[:, None].astype(np.float32)
    noise, width = fit_gaussian(obs, action, found, UNIT, choices), 2 + (choices or 1)
    again = GaussianNoise.from_arrays(noise.to_arrays(), 2, width, choices)
    np.testing.assert_array_equal(again.spread(obs, action), noise.spread(obs, action))
    with pytest.raises(ValueError, match="which its model has not"):
        GaussianNoise.from_arrays(noise.to_arrays(), 2, width + 1, choices)
    with pytest.raises(ValueError, match="noise.weight is "):
        GaussianNoise.from_arrays(noise.to_arrays(), 3, width, choices)


def test_many_inputs_leave_the_spread_alone():
    rng = np.random.default_rng(0)
    obs, action = rng.normal(size=(50, 300)), rng.integers(60, size=50)
    noise = fit_gaussian(obs, action, rng.normal(size=(50, 300)), np.ones(300), 60)
    assert len(noise.mean) == 0 and np.isfinite(noise.draw(obs, action, rng.random((50, 300)))).all()
    arrays = noise.to_arrays()
    assert len(GaussianNoise.from_arrays(arrays, 300, 300, 60).mean) == 0
