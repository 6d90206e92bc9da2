"""A model of the fleet's agents."""

from dataclasses import replace

import pytest
from support.recipes import TINY

from persim_gym.simulator.training.trainer import fit_ensemble


@pytest.fixture(scope="session")
def model(fleet):
    return fit_ensemble(fleet, replace(TINY, epochs=20), n_actions=3, progress=False).requires_grad_(False)
