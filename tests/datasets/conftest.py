"""Empty folders of Minari's datasets, and small recipes of ours."""

from dataclasses import replace

import pytest

from persim_gym.datasets.registry import DatasetSpec
from persim_gym.envs import DOMAINS


@pytest.fixture
def minari_folder(tmp_path, monkeypatch):
    """An empty folder of Minari datasets."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return tmp_path


@pytest.fixture
def small(monkeypatch):
    """`small(domain)`: the domain with eight agents and episodes of at most 20 steps."""
    monkeypatch.setattr("persim_gym.envs.domain.POPULATION_SIZE", 8)
    return lambda domain: replace(domain, episode_steps=20)


@pytest.fixture
def eight_carts(small, minari_folder):
    """Recipe of a dataset of eight CartPole agents, in an empty folder."""
    return DatasetSpec(small(DOMAINS["cartpole"]), "random")
