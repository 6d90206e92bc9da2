"""Logs are replayed: a simulator that is right needs no wider intervals, one that is wrong does."""

from dataclasses import replace

import numpy as np
import pytest

from persim_gym.comparison import setting
from persim_gym.comparison.calibration import _replayed, calibrated, first_logs, rewards_of
from persim_gym.comparison.setting import Sampling, Setting

FEW = Sampling(draws=4, steps=8)


def test_returns_of_logs_are_predicted_under_every_draw(car):
    place = Setting.of(car)
    predicted, logged = _replayed(place, FEW, np.array([0, 3]))
    assert predicted.shape == (2, 4) and logged.tolist() == [-8.0, -8.0]
    np.testing.assert_array_equal(predicted.max(axis=1) <= 0, True)
    halved, _ = _replayed(place, FEW._replace(discount=0.5), np.array([0, 3]))
    assert halved.min() > -2.0


def test_it_is_measured_once(car):
    place = Setting.of(car)
    widening, agents = calibrated(place, FEW)
    assert widening.factor >= 1.0 and agents == 5
    assert calibrated.__wrapped__(place, FEW) == (widening, agents)
    assert Setting.of(car) is place


def test_first_logs_are_one_trajectory_each(car):
    place = Setting.of(car)
    logs = first_logs(place, np.array([1, 4]))
    assert [np.unique(log.agent).tolist() for log in logs] == [[1], [4]]
    assert all(len(np.unique(log.trajectory)) == 1 for log in logs)


def test_rewards_are_the_simulators_own(car, cars, monkeypatch):
    wrong = replace(cars.select(cars.agent < 5), reward=np.full(500, 7.0, dtype=np.float32))
    monkeypatch.setattr(setting, "logged_data", lambda model: wrong)
    assert rewards_of(Setting.of(car), wrong).max() == pytest.approx(-1.0)
