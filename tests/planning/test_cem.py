"""The cross-entropy method's draws."""

import numpy as np
import pytest

from persim_gym.planning.cem import _truncated


def test_truncated_draws_follow_the_cut_normal_distribution():
    drawn = _truncated(np.full((1, 1), 0.8), np.full((1, 1), 0.5), np.random.default_rng(0), 200_000).ravel()
    assert np.abs(drawn).max() <= 1.0
    grid = np.linspace(-1, 1, 20_001)
    density = np.exp(-0.5 * ((grid - 0.8) / 0.5) ** 2)
    density /= density.sum()
    mean = (grid * density).sum()
    assert drawn.mean() == pytest.approx(mean, abs=0.003)
    assert drawn.std() == pytest.approx(np.sqrt((density * (grid - mean) ** 2).sum()), abs=0.003)
