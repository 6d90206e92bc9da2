"""Logged agents are replayed under every draw, and what that says of intervals is measured once."""

from dataclasses import replace

import numpy as np
import pytest

from persim_gym.comparison import calibration, setting
from persim_gym.comparison.calibration import _replayed, calibrated, first_logs
from persim_gym.comparison.setting import Sampling, Setting

FEW = Sampling(draws=4, steps=8)


def replayed(place, sampling):
    agents = np.array([0, 3])
    return _replayed(place, sampling, agents, first_logs(place, agents))


def test_returns_of_logs_are_predicted_under_every_draw(car):
    place = Setting.of(car)
    predicted, logged = replayed(place, FEW)
    assert predicted.shape == (2, 4) and logged.tolist() == [-8.0, -8.0]
    np.testing.assert_array_equal(predicted.max(axis=1) <= 0, True)
    halved, _ = replayed(place, FEW._replace(discount=0.5))
    assert halved.min() > -2.0


def test_of_a_terminal_objective_the_last_reward_counts(car):
    predicted, logged = replayed(Setting.of(car), FEW._replace(objective="terminal", discount=0.5))
    assert logged.tolist() == [-(0.5**7)] * 2
    np.testing.assert_allclose(predicted.min(), -(0.5**7), rtol=1e-3)


def test_it_is_measured_once_in_a_process_and_for_the_simulator(car, monkeypatch):
    place = Setting.of(car)
    widening = calibrated(place, FEW)
    assert widening.factor >= 1.0 and widening.agents == 5
    assert Setting.of(car) is place
    monkeypatch.setattr(calibration, "_replayed", None)  # A second measurement would fail.
    assert calibrated.__wrapped__(place, FEW) == widening
    assert calibrated.__wrapped__(place, FEW._replace(episodes=7)) == widening


def test_first_logs_are_one_trajectory_each(car):
    place = Setting.of(car)
    logs = first_logs(place, np.array([1, 4]))
    assert [np.unique(log.agent).tolist() for log in logs] == [[1], [4]]
    assert all(len(np.unique(log.trajectory)) == 1 for log in logs)


def test_rewards_are_the_simulators_own(car, cars, monkeypatch):
    wrong = replace(cars.select(cars.agent < 5), reward=np.full(500, 7.0, dtype=np.float32))
    monkeypatch.setattr(setting, "logged_data", lambda model: wrong)
    assert Setting.of(car).rewards(wrong).max() == pytest.approx(-1.0)
