"""One policy for all agents, in a batch: each row's latent factor beside its observations."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from persim_gym.extras import brought_by
from persim_gym.wrappers.latent_factor import extended, rows_of

with brought_by("sb3", "a VecEnv needs Stable-Baselines3"):
    from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper


class AgentVecEnv(VecEnvWrapper):
    """Appends each row's latent factor to the observations of a Stable-Baselines3 environment, final ones too."""

    def __init__(self, venv: VecEnv, factors: NDArray[np.float32], agents: Sequence[int]) -> None:
        """Wraps an environment.

        Args:
            venv: The environment.
            factors: Of all agents, [N, F], by `latent_factors`.
            agents: Agent of each row, [B].

        Raises:
            ValueError: If there is no factor of an agent, or the number of agents is not the number of rows.
        """
        self._factors = rows_of(factors, agents)
        if len(self._factors) != venv.num_envs:
            raise ValueError(f"{len(self._factors)} agents for {venv.num_envs} rows; give exactly one a row")
        assert isinstance(venv.observation_space, gym.spaces.Box)
        super().__init__(venv, observation_space=extended(venv.observation_space, self._factors.shape[1]))

    def reset(self) -> NDArray[np.float32]:
        """[B, D + F]."""
        return self._extend(self.venv.reset())

    def step_wait(self) -> Any:
        """Steps; `terminal_observation` is extended as the observations are."""
        obs, reward, done, infos = self.venv.step_wait()
        for row in np.flatnonzero(done):
            infos[row]["terminal_observation"] = np.append(infos[row]["terminal_observation"], self._factors[row])
        return self._extend(obs), reward, done, infos

    def _extend(self, obs: Any) -> NDArray[np.float32]:
        return np.concatenate([obs, self._factors], axis=1)
