"""Data under a name."""

import pytest


@pytest.fixture
def source(cars, monkeypatch):
    """The small MountainCar data, whatever name is asked for."""
    monkeypatch.setattr("persim_gym.workflows.training_setup.load_data", lambda *given: cars)
    return "mountaincar/random-v0"
