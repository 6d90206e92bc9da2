"""Small simulators whose data are at hand."""

import shutil

import pytest

from persim_gym.comparison import setting


@pytest.fixture
def car(simulator, cars, tmp_path, monkeypatch):
    """The small MountainCar simulator of agents 0-4, with beliefs, as a path: a copy of its own."""
    known = cars.select(cars.agent < 5)
    monkeypatch.setattr(setting, "logged_data", lambda model: known)
    setting._setting_at.cache_clear()
    yield str(shutil.copytree(simulator.folder, tmp_path / "car"))
    setting._setting_at.cache_clear()
