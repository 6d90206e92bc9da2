"""Policies that need no training."""

import numpy as np
from gymnasium import spaces

from persim_gym.datasets.behavior.policies import PolicyCard, PolicyNetwork, policy_covariates


def _network():
    rng = np.random.default_rng(0)
    layers = tuple(
        (rng.normal(size=(out, size)).astype(np.float32), rng.normal(size=out).astype(np.float32))
        for size, out in ((4, 8), (8, 2))
    )
    return PolicyNetwork(layers, spaces.Discrete(2))


def _card(name="test"):
    return PolicyCard(
        domain="cartpole",
        name=name,
        algorithm="DQN",
        hyperparameters={"gamma": 0.99},
        covariates=policy_covariates("cartpole", name),
        threshold=(150.0, None),
        steps=10,
        seconds=1.0,
        seed=0,
        mean_return=160.0,
        std_return=1.0,
        episodes=100,
        versions={"numpy": "2"},
    )


class Constant:
    """Always the same action."""

    def __init__(self, action):
        self.action = action

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return np.full((len(observation), *np.shape(self.action)), self.action), None
