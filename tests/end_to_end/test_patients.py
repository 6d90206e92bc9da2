"""The measures of benchmarks/patients.py: errors ahead, and control of glucose."""

import sys
from collections import namedtuple
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from persim_gym.simulator.diagnostics.bands import Bands

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
study = import_module("patients")

AGENTS = range(4)
Log = namedtuple("Log", ["trajectory"])


@pytest.fixture(scope="module")
def days():
    return study.live(study.usual(AGENTS, 5), AGENTS, 5)


def test_a_prediction_that_knows_the_day_has_no_error_and_one_that_nothing_changes_the_change(days):
    step_of = {(row, float(obs[0])): step for row, day in enumerate(days.obs) for step, obs in enumerate(day)}

    def knows(agent, obs, action):
        following = obs.copy()
        following[:, 0] = [days.obs[agent, step_of[agent, reading] + 1, 0] for reading in obs[:, 0]]
        return following

    assert set(study.errors_ahead(knows, days, AGENTS).values()) == {0.0}
    stays = study.errors_ahead(study.nothing, days, AGENTS)
    assert list(stays) == [30, 60, 120, 240] and stays[240] > stays[30] > 0
    steps = np.arange(study.FIRST_HOUR, study.LAST_HOUR + 1) * 4
    change = days.obs[:, steps + 2, 0] - days.obs[:, steps, 0]
    assert stays[30] == pytest.approx(np.sqrt(np.mean(change.astype(float) ** 2)))


def test_bands_are_counted_where_readings_were_logged(days, monkeypatch):
    """Of readings that only grow, the band of a model that says nothing changes holds those that grew by less."""

    def stays(simulator, agent, obs, actions, coverage, known):
        assert coverage == study.COVERAGE and len(actions) == len(known) == 16
        assert np.isnan(known[:, :2]).all() and np.isfinite(known[:, 2:]).all()
        median = np.repeat(obs[None], 16, axis=0)
        return Bands(median - 5.0, median, median + 5.0, True)

    monkeypatch.setattr("persim_gym.simulator.diagnostics.bands.prediction_bands", stays)
    obs = np.zeros((97, 9), dtype=np.float32)
    obs[:, 0] = 2.0 * np.arange(97)
    inside, half = study.covered_readings(None, [(0, obs, np.zeros((96, 1)))])
    assert inside == {30: 1.0, 60: 0.0, 120: 0.0, 240: 0.0} and set(half.values()) == {5.0}
    data = Log(np.array([4, 4, 4, 7, 7]))
    assert study.lengths(data).tolist() == [3, 2]


def test_control_counts_steps_in_range_and_what_comes_after_an_end_as_low():
    glucose = np.full((2, 5), 100.0)
    glucose[0, 1:3] = 200.0, 60.0
    glucose[1, 1] = 50.0
    found = study.control(study.Days(np.zeros((2, 5, 9)), np.zeros((2, 4, 1)), glucose, np.array([4, 2])))
    assert found["time in 70-180 mg/dL (%)"] == pytest.approx(100 * 3 / 8)
    assert found["time below 70 mg/dL (%)"] == pytest.approx(100 * 4 / 8)
    assert found["time below 54 mg/dL (%)"] == pytest.approx(100 * 3 / 8)
    assert found["ended early"] == 1


def test_careful_planning_prefers_readings_a_little_above_the_safest():
    readings = np.arange(40.0, 300.0)
    reward = study.careful(None, None, readings[:, None])
    assert 112 < readings[reward.argmax()] < 130
    assert reward[readings == 60.0] < 2 * study.DOMAIN.task.reward(None, None, np.array([[60.0]]))
