"""The task: Kovatchev's risk, and the end."""

import numpy as np
import pytest

from persim_gym.envs.patients.domain import DOMAIN, risk


def test_risk_is_kovatchevs():
    readings = np.array([40.0, 70.0, 112.5, 180.0, 300.0])
    expected = 10 * (1.509 * (np.log(readings) ** 1.084 - 5.381)) ** 2
    np.testing.assert_allclose(risk(readings), expected, rtol=1e-9)
    assert risk(np.array([112.5]))[0] < 0.01 and risk(np.array([70.0]))[0] == pytest.approx(7.9, abs=0.3)


def test_low_glucose_costs_more_than_glucose_in_range_and_ends_far_outside():
    obs = np.zeros((4, 9))
    obs[:, 0] = [10.0, 50.0, 112.5, 600.0]
    reward = DOMAIN.task.reward(obs, np.zeros((4, 1)), obs)
    assert reward.argmax() == 2 and reward.argmin() == 0
    assert DOMAIN.task.terminated(obs).tolist() == [True, False, False, True]
