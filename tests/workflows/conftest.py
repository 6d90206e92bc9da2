"""Data under a name."""

import pytest

from persim_gym.workflows.training_setup import TrainingData


@pytest.fixture
def source(cars, monkeypatch):
    """The small MountainCar data under a name."""
    monkeypatch.setattr(TrainingData, "load", lambda self: (cars, None))
    return TrainingData("persim/mountaincar/tiny-v0", "mountaincar")
