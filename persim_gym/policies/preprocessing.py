"""Observations and rewards on a scale that networks learn from: what Stable-Baselines3's keywords do not say."""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

_LARGEST = np.finfo(np.float32).max  # Stands for an infinite bound in policies that were trained on such spaces.
SCALE, NORMALIZE = "scale_observations", "normalize_reward"
"""Hyperparameters that are not the algorithm's: see `Training`."""


class ScaledObservation(BaseFeaturesExtractor):
    """Bounded observations as numbers in [-1, 1], by the bounds of their space; unbounded ones as they are."""

    centre: torch.Tensor
    reach: torch.Tensor

    def __init__(self, observation_space: gym.spaces.Box) -> None:
        """Takes the bounds, [D]."""
        super().__init__(observation_space, int(np.prod(observation_space.shape)))
        low, high = observation_space.low, observation_space.high
        bounded = (low > -_LARGEST) & (high < _LARGEST)
        centre = np.where(bounded, low / 2 + high / 2, 0.0)
        reach = np.where(bounded, high / 2 - low / 2, 1.0)
        self.register_buffer("centre", torch.as_tensor(centre, dtype=torch.float32))
        self.register_buffer("reach", torch.as_tensor(reach, dtype=torch.float32))

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """[B, D] to [B, D]."""
        return (observations - self.centre) / self.reach


def of_algorithm(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords of the algorithm."""
    keywords = {name: value for name, value in hyperparameters.items() if name not in (SCALE, NORMALIZE)}
    if hyperparameters.get(SCALE):
        keywords["policy_kwargs"] = {
            **keywords.get("policy_kwargs", {}),
            "features_extractor_class": ScaledObservation,
        }
    return keywords


def normalized(env: VecEnv, hyperparameters: Mapping[str, Any], *, learning: bool) -> VecEnv:
    """Divides rewards by the running spread of returns where that is asked for; a judge sees them as they are."""
    if not hyperparameters.get(NORMALIZE):
        return env
    gamma = hyperparameters.get("gamma", 0.99)
    return VecNormalize(env, training=learning, norm_obs=False, norm_reward=learning, gamma=gamma)
