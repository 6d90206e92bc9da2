"""iCEM's coloured noise and kept elites."""

import numpy as np
import pytest
from support.dynamics import BOX, NEAR_ONE, walk

from persim_gym.planning import ICEM
from persim_gym.planning.icem import colored_noise


@pytest.mark.parametrize("steps", [30, 31])
@pytest.mark.parametrize("color", [0.0, 0.25, 2.0])
def test_coloured_noise_has_unit_variance_and_the_spectrum_it_says(color, steps):
    noise = colored_noise(color, (40_000,), steps, np.random.default_rng(0))
    np.testing.assert_allclose(noise.var(axis=0), 1.0, atol=0.04)
    power = (np.abs(np.fft.rfft(noise)) ** 2).mean(axis=0)
    frequency = np.fft.rfftfreq(steps)
    np.testing.assert_allclose(power[4] / power[1], (frequency[4] / frequency[1]) ** -color, rtol=0.05)


def test_icem_considers_its_elites_again_and_draws_fewer():
    counts = []

    def counting(obs, action):
        counts.append(len(action))
        return walk(obs, action)

    planner = ICEM(40, 4, 3, 10, decay=2.0, keep=0.3)
    planner.plan(counting, NEAR_ONE, np.zeros(2), BOX, np.random.default_rng(0))
    assert counts[::4] == [40 + 3, 20 + 3, 20 + 3]  # never fewer than two times the elites
