"""The band of a guard, from the data that a simulator was trained on."""

from dataclasses import replace

import numpy as np
import pytest

from persim_gym.simulator.diagnostics.surprise import measure_band
from persim_gym.workflows import guard as workflow
from persim_gym.workflows.guard import guard_band


@pytest.fixture
def of_the_fleet(simulator, fleet, monkeypatch):
    """The small simulator, as if the fleet were its data."""
    monkeypatch.setattr(workflow, "logged_data", lambda loaded: fleet)
    return simulator


def test_the_band_is_that_of_agents_which_the_sibling_has_not_seen(of_the_fleet, fleet, monkeypatch, home):
    seen = []

    def train_model(data, *given, **options):
        seen.append(data)
        return of_the_fleet.model, of_the_fleet.beliefs

    monkeypatch.setattr(workflow, "train_model", train_model)
    band = guard_band(of_the_fleet, false_alarms=10.0, progress=False)
    apart = fleet.select(~np.isin(fleet.agent, seen[0].agent))
    assert len(np.unique(apart.agent)) == 12 and len(seen[0]) == 48 * 60
    assert band == measure_band(of_the_fleet.model, of_the_fleet.beliefs, apart, false_alarms=10.0)
    assert guard_band(of_the_fleet, false_alarms=10.0, seed=1, progress=False) != band


@pytest.mark.slow
def test_a_sibling_is_trained_and_the_same_seed_finds_the_same_band(of_the_fleet, home):
    bands = [guard_band(of_the_fleet, false_alarms=10.0, progress=False) for _ in range(2)]
    assert bands[0] == bands[1] and bands[0].agents == 12
    assert not list((home / "training").glob("*"))


def test_too_few_agents_are_refused_before_anything_is_trained(of_the_fleet, fleet, monkeypatch):
    with pytest.raises(ValueError, match="12 agents with 360 steps .* too few to promise 1 false alarms"):
        guard_band(of_the_fleet, progress=False)
    few = replace(fleet.select(fleet.agent < 4), n_agents=4)
    monkeypatch.setattr(workflow, "logged_data", lambda loaded: few)
    with pytest.raises(ValueError, match="4 logged agents are too few to set 100 aside"):
        guard_band(of_the_fleet, progress=False)
