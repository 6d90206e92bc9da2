"""Intervals, probabilities and how much wider intervals have to be, on made-up returns."""

import numpy as np
import pytest

from persim_gym.comparison.intervals import Widening, beats, best_probabilities, estimate, widening_of


def made_up(seed, draws=40, episodes=10, apart=3.0, chance=2.0, mean=50.0):
    """Returns of draws that lie `apart` from each other, and of episodes that differ by `chance`."""
    rng = np.random.default_rng(seed)
    return mean + apart * rng.normal(size=(draws, 1)) + chance * rng.normal(size=(draws, episodes))


def test_the_interval_shows_what_is_not_known_and_not_the_chance_of_episodes():
    widths = [np.subtract(*estimate(made_up(s, chance=20.0))[2:0:-1]) for s in range(50)]
    assert 2 * 1.6449 * 3 == pytest.approx(np.mean(widths), rel=0.35)
    certain = [np.subtract(*estimate(made_up(s, apart=0.0, chance=20.0))[2:0:-1]) for s in range(50)]
    assert np.median(certain) < 2 * 3.5 * 20 / np.sqrt(400)


def test_intervals_hold_the_mean_as_often_as_they_say():
    held = 0
    for seed in range(400):
        rng = np.random.default_rng([seed, 1])
        found = estimate(made_up(seed, mean=0.0))
        held += found.low <= 3.0 * rng.normal() <= found.high
    assert 0.84 < held / 400 < 0.96


def test_a_factor_widens_around_the_mean():
    returns = made_up(0, chance=0.0)
    plain, wide = estimate(returns), estimate(returns, Widening(2.0))
    assert wide.mean == plain.mean == pytest.approx(returns.mean())
    assert wide.high - wide.mean == pytest.approx(2 * (plain.high - plain.mean), rel=1e-6)
    np.testing.assert_allclose(wide.draws - wide.mean, 2 * (plain.draws - plain.mean))


def test_equal_returns_have_no_width():
    found = estimate(np.full((5, 3), -500.0))
    assert found[:3] == (-500.0, -500.0, -500.0)


def test_candidates_share_what_they_both_earn():
    one, other = estimate(made_up(0)), estimate(made_up(0) - 100)
    assert best_probabilities({"a": one, "b": one, "c": other}) == {"a": 0.5, "b": 0.5, "c": 0.0}
    assert (beats(one, one), beats(one, other), beats(other, one)) == (0.5, 1.0, 0.0)


def test_the_factor_holds_nine_of_ten_logs():
    rng = np.random.default_rng(0)
    predicted, logged = rng.normal(size=(99, 400)), 3.0 * rng.normal(size=99)
    factor = widening_of(predicted, logged).factor
    half = factor * np.quantile(predicted, [0.05, 0.95], axis=1)
    assert ((logged >= half[0]) & (logged <= half[1])).sum() == pytest.approx(90, abs=2)
    assert 2.0 < factor < 4.5


def test_intervals_are_never_made_narrower_and_exact_predictions_need_no_width():
    rng = np.random.default_rng(0)
    assert widening_of(10 * rng.normal(size=(50, 30)), rng.normal(size=50)).factor == 1.0
    assert widening_of(np.full((50, 30), -200.0), np.full(50, -200.0)).factor == 1.0
    assert widening_of(rng.normal(size=(3, 30)), np.array([0.0, 0.0, 90.0])).factor > 30


def test_draws_that_are_wrong_together_still_get_a_width():
    logged = np.linspace(-10, 10, 99)
    widening = widening_of(np.zeros((99, 30)), logged)
    found = estimate(np.zeros((30, 4)), widening)
    assert found.high == -found.low == pytest.approx(9.2, abs=0.5)
