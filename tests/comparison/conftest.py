"""Small simulators whose data are at hand."""

import pytest

from persim_gym.comparison import setting


@pytest.fixture
def car(simulator, cars, monkeypatch):
    """The small MountainCar simulator of agents 0-4, with beliefs, as a path."""
    known = cars.select(cars.agent < 5)
    monkeypatch.setattr(setting, "logged_data", lambda model: known)
    setting._setting_at.cache_clear()
    yield str(simulator.folder)
    setting._setting_at.cache_clear()
