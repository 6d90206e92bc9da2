"""A trained policy as one torch module from observations to actions, as its file in another format needs it."""

from collections.abc import Callable
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor, nn


def _ppo(policy: Any, obs: Tensor) -> Tensor:
    """Logits of discrete actions, or the mean of continuous ones."""
    features = policy.extract_features(obs, policy.pi_features_extractor)
    raw: Tensor = policy.action_net(policy.mlp_extractor.forward_actor(features))
    return raw.tanh() if policy.squash_output else raw


def _dqn(policy: Any, obs: Tensor) -> Tensor:
    """Values of discrete actions."""
    values: Tensor = policy.q_net(obs)
    return values


def _sac(policy: Any, obs: Tensor) -> Tensor:
    """The mean of continuous actions, in [-1, 1]."""
    mean: Tensor = policy.actor.get_action_dist_params(obs)[0]
    return mean.tanh()


def _td3(policy: Any, obs: Tensor) -> Tensor:
    """Continuous actions in [-1, 1]."""
    action: Tensor = policy.actor(obs)
    return action


_RAW: dict[str, Callable[[Any, Tensor], Tensor]] = {"ppo": _ppo, "dqn": _dqn, "sac": _sac, "td3": _td3}


class Actor(nn.Module):
    """What a trained policy does without chance: observations [B, D] to int64 [B] or float32 [B, A] in the bounds."""

    low: Tensor
    high: Tensor

    def __init__(self, algorithm: BaseAlgorithm, algo: str) -> None:
        """Takes the policy of an algorithm.

        Args:
            algorithm: What was trained.
            algo: Which it is, a key of `persim_gym.policies.config.ALGORITHMS`.
        """
        super().__init__()
        self.policy, self._raw = algorithm.policy, _RAW[algo]
        self._discrete = isinstance(algorithm.action_space, spaces.Discrete)
        if isinstance(space := algorithm.action_space, spaces.Box):
            self.register_buffer("low", torch.from_numpy(space.low.astype("float32")))
            self.register_buffer("high", torch.from_numpy(space.high.astype("float32")))

    def forward(self, obs: Tensor) -> Tensor:
        """Actions of observations."""
        raw = self._raw(self.policy, obs)
        if self._discrete:
            return raw.argmax(1)
        if self.policy.squash_output:
            raw = self.low + 0.5 * (raw + 1.0) * (self.high - self.low)
        return raw.clamp(self.low, self.high)
