"""Conformal horizons: their promise is kept on synthetic rollouts."""

import numpy as np
import pytest
from support.errors import rollouts

from persim_gym.simulator.diagnostics.conformal import (
    conformal_horizon,
    conformal_scale,
    first_failures,
    measured_coverage,
    trust_horizons,
)


def test_the_promise_is_kept_on_new_rollouts_and_not_by_luck():
    rng = np.random.default_rng(0)
    below, kept, plain = [], [], []
    for _ in range(300):
        errors, spreads = rollouts(rng, 40)
        new_errors, new_spreads = rollouts(rng, 20)
        scale = conformal_scale(errors, spreads, bound=0.2)
        failures = first_failures(new_errors, 0.2)
        until = np.arange(30) <= failures[:, None]
        below.append(((new_errors <= scale * np.maximum(new_spreads, 2e-4)) | ~until).all(axis=1).mean())
        kept.append((trust_horizons(new_spreads, scale, 0.2) <= failures).mean())
        plain.append((conformal_horizon(errors, 0.2) <= failures).mean())
    assert 0.89 < np.mean(below) < 0.93  # 37 of 41 ranks: 0.902
    assert np.mean(kept) >= np.mean(below)
    assert 0.89 < np.mean(plain) < 0.95


def test_a_spread_that_falls_again_costs_no_scale():
    """Trust has ended where the spread was largest: what it is afterwards changes neither horizon nor scale."""
    errors, spreads = rollouts(np.random.default_rng(3), 40)
    falling = spreads.copy()
    falling[:, 1::2] /= 50
    largest = np.maximum.accumulate(falling, axis=1)
    scale = conformal_scale(errors, falling, 0.2)
    assert scale == conformal_scale(errors, largest, 0.2) < 5 * conformal_scale(errors, spreads, 0.2)
    assert trust_horizons(falling, scale, 0.2).tolist() == trust_horizons(largest, scale, 0.2).tolist()


def test_half_of_the_promise_needs_half_of_the_scale():
    errors, spreads = rollouts(np.random.default_rng(1), 200)
    assert conformal_scale(errors, spreads, 0.2, level=0.5) < conformal_scale(errors, spreads, 0.2, level=0.9)
    assert conformal_horizon(errors, 0.2, level=0.5) > conformal_horizon(errors, 0.2, level=0.9)


def test_coverage_is_measured_on_halves_that_did_not_set_the_scale():
    errors, spreads = rollouts(np.random.default_rng(2), 400)
    ((below, kept),) = measured_coverage([(errors, spreads)], 0.2, 0.9)
    assert below == pytest.approx(0.9, abs=0.02) and kept >= below


def test_too_few_rollouts_promise_nothing():
    errors, spreads = rollouts(np.random.default_rng(0), 8)
    assert conformal_scale(errors, spreads, 0.2) == np.inf
    assert conformal_horizon(errors, 0.2) == 0
    assert trust_horizons(spreads, np.inf, 0.2).tolist() == [0] * 8


def test_what_was_not_logged_is_no_failure_and_what_is_not_finite_is():
    errors = np.array([[0.1, np.nan, np.nan], [0.1, np.inf, 0.1], [0.3, 0.1, 0.1]])
    assert first_failures(errors, 0.2).tolist() == [3, 1, 0]
    assert trust_horizons(np.array([[0.01, 0.3, 0.01], [0.01, np.inf, np.inf]]), 1.0, 0.2).tolist() == [1, 1]


def test_the_step_that_fails_counts_and_those_behind_it_do_not():
    """Ratios of error to largest spread so far: 2, then 10 where the error first passes the bound, then 100."""
    errors, spreads = np.tile([0.1, 1.0, 10.0], (9, 1)), np.tile([0.05, 0.1, 0.1], (9, 1))
    assert conformal_scale(errors, spreads, 0.2) == pytest.approx(10, rel=1e-8)


def test_an_error_at_the_bound_is_no_failure_and_a_horizon_at_the_failure_keeps_the_promise():
    assert first_failures(np.array([[0.2, 0.3]]), 0.2).tolist() == [1]
    errors, spreads = np.tile([0.1, 1.0], (40, 1)), np.tile([0.01, 0.1], (40, 1))
    assert trust_horizons(spreads, conformal_scale(errors, spreads, 0.2), 0.2).tolist() == [1] * 40
    assert measured_coverage([(errors, spreads)], 0.2, 0.9) == [(1.0, 1.0)]


@pytest.mark.parametrize(("n", "rank"), [(9, 1), (19, 2), (20, 2), (99, 10), (100, 10)])
def test_a_horizon_is_that_of_the_right_rank(n, rank):
    errors = (np.arange(1, n + 1) <= np.arange(1, n + 1)[:, None]).astype(float)  # the i-th first fails at step i
    assert conformal_horizon(1 - errors, 0.5) == rank


def test_no_more_steps_are_promised_than_enough_rollouts_lasted():
    """Random CartPoles fall after twenty steps: nothing is known of the thirty behind them."""
    errors = np.full((40, 50), 0.01)
    errors[:, 21:] = np.nan
    errors[9:, 12:] = np.nan
    assert conformal_horizon(errors, 0.2) == 21  # nine rollouts are enough for nine in ten
    errors[8, 12:] = np.nan
    assert conformal_horizon(errors, 0.2) == 12
    errors[:4, 5] = 1.0
    assert conformal_horizon(errors, 0.2) == 5  # three of forty may fail


def test_a_step_that_was_not_logged_before_the_end_is_neither_failure_nor_end():
    errors, spreads = rollouts(np.random.default_rng(0), 40)
    holes = np.where(np.random.default_rng(1).random(errors.shape) < 0.1, np.nan, errors)
    holes[:, -1] = errors[:, -1]
    assert conformal_horizon(holes, 0.2) >= conformal_horizon(errors, 0.2) > 0
    assert 0 < conformal_scale(holes, spreads, 0.2) <= conformal_scale(errors, spreads, 0.2)
    lost = np.full((40, 20), 0.1)
    lost[::2, 10] = np.nan
    assert conformal_horizon(lost, 0.2) == 20
