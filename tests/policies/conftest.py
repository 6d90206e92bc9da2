"""A training of a second."""

import pytest

from persim_gym.policies import PolicyTraining, train


@pytest.fixture
def quick(save_car, tmp_path, monkeypatch):
    """A training of a second in the small MountainCar simulator."""
    monkeypatch.setattr(train, "JUDGINGS", 2)
    monkeypatch.setattr(train, "JUDGED_EPISODES", 2)
    monkeypatch.setattr(train, "TESTED_EPISODES", 2)
    small = {"n_steps": 16, "batch_size": 32, "n_epochs": 2, "policy_kwargs": {"net_arch": [8]}}
    return PolicyTraining(3, "ppo", str(save_car(tmp_path / "car")), steps=128, n_envs=4, hyperparameters=small)
