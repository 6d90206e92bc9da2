"""A small simulator for studies."""

from dataclasses import replace

import pytest
from support.recipes import TINY

from persim_gym.simulator.registry import load_simulator
from persim_gym.workflows.train import train


@pytest.fixture(scope="session")
def simulator(cars, tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies") / "small"
    recipe = replace(TINY, polish=True)
    train(cars, name="small", domain="mountaincar", recipe=recipe, out=folder, progress=False)
    return load_simulator(str(folder))
