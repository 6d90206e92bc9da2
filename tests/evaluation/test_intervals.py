"""Confidence intervals of means."""

import numpy as np
import pytest

from persim_gym.evaluation.intervals import mean_interval


def test_the_interval_of_a_mean_covers_it_as_often_as_it_says():
    rng = np.random.default_rng(0)
    ends = [mean_interval(rng.normal(3.0, 2.0, 30))[1:] for _ in range(300)]
    assert 0.90 <= np.mean([low <= 3.0 <= high for low, high in ends]) <= 0.98
    assert mean_interval([4.0]) == (4.0, 4.0, 4.0)
    with pytest.raises(ValueError, match="needs at least one"):
        mean_interval([])
