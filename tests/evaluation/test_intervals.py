"""Confidence intervals of means and of interquartile means."""

import numpy as np
import pytest
from scipy.stats import trim_mean

from persim_gym.evaluation.intervals import interquartile_interval, mean_interval


def test_the_interval_of_a_mean_covers_it_as_often_as_it_says():
    rng = np.random.default_rng(0)
    ends = [mean_interval(rng.normal(3.0, 2.0, 30))[1:] for _ in range(300)]
    assert 0.90 <= np.mean([low <= 3.0 <= high for low, high in ends]) <= 0.98
    assert mean_interval([4.0]) == (4.0, 4.0, 4.0)
    with pytest.raises(ValueError, match="needs at least one"):
        mean_interval([])


def test_interquartile_mean_is_scipys_trimmed_mean():
    strata = [np.arange(5.0) ** 2, [100.0, -50.0], [3.0, 4.0, 400.0]]
    assert interquartile_interval(strata)[0] == pytest.approx(trim_mean(np.concatenate(strata), 0.25))
    assert interquartile_interval([[1.0], [2.0], [4.0], [900.0]]) == (3.0, 3.0, 3.0)


def test_the_interquartile_interval_is_of_trials_within_strata_and_of_its_seed():
    rng = np.random.default_rng(0)
    means = np.array([0.0, 1000.0, 2000.0, 3000.0])
    trials = means[:, None] + rng.normal(size=(4, 5))  # [strata, trials]
    middle, low, high = interquartile_interval(trials)
    assert low <= middle <= high and high - low < 5  # Pooled, the interval would be hundreds wide.
    assert interquartile_interval(trials, seed=3) == interquartile_interval(trials, seed=3)


@pytest.mark.parametrize("strata", [[], [[1.0], []], [[[1.0]]]])
def test_strata_without_values_have_no_interquartile_mean(strata):
    with pytest.raises(ValueError, match="at least one value each"):
        interquartile_interval(strata)
