"""One policy for all agents: the agent's latent factor beside each observation, by an official wrapper.

Train one policy over rows of many agents with `AgentVecEnv`; use it on one agent with `AgentObservation`.
"""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

from persim_gym.simulator.model.encoders import AgentEncoder
from persim_gym.simulator.simulator import Simulator


def latent_factors(simulator: Simulator) -> NDArray[np.float32]:
    """What the simulator learned about each agent, standardised over agents, [N, M * R].

    Members learn factors of their own, in no common order, so all are kept.
    """
    encoder = simulator.model.agent_encoder
    assert isinstance(encoder, AgentEncoder)
    with torch.no_grad():
        agents = torch.arange(simulator.model.config.n_agents, device=encoder.factor.device)
        factor = encoder(agents).cpu().numpy()  # [M, N, R]
    flat = factor.transpose(1, 0, 2).reshape(factor.shape[1], -1)
    spread = flat.std(axis=0)
    scaled: NDArray[np.float32] = ((flat - flat.mean(axis=0)) / np.where(spread > 0, spread, 1.0)).astype(np.float32)
    return scaled


def _extended(space: gym.spaces.Box, size: int) -> gym.spaces.Box:
    bound = np.full(size, np.inf, dtype=np.float32)
    return gym.spaces.Box(np.concatenate([space.low, -bound]), np.concatenate([space.high, bound]), dtype=np.float32)


class AgentObservation(gym.ObservationWrapper[Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Appends an agent's latent factor to the observation of a single environment, simulated or true."""

    def __init__(self, env: gym.Env[Any, Any], factors: ArrayLike, agent: int) -> None:
        """Wraps an environment.

        Args:
            env: The environment.
            factors: Of all agents, [N, F], by `latent_factors`.
            agent: The environment's agent.

        Raises:
            ValueError: If there is no factor of the agent.
        """
        self._factor = _rows_of(factors, [agent])[0]
        # A specification is JSON-plain, and needs no more than this agent's factor.
        gym.utils.RecordConstructorArgs.__init__(self, factors=[self._factor.tolist()], agent=0)
        super().__init__(env)
        assert isinstance(env.observation_space, gym.spaces.Box)
        self.observation_space = _extended(env.observation_space, len(self._factor))

    def observation(self, observation: NDArray[np.float32]) -> NDArray[np.float32]:
        """[D] to [D + F]."""
        return np.concatenate([observation, self._factor])


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
        self._factors = _rows_of(factors, agents)
        if len(self._factors) != venv.num_envs:
            raise ValueError(f"{len(self._factors)} agents for {venv.num_envs} rows; give exactly one a row")
        assert isinstance(venv.observation_space, gym.spaces.Box)
        super().__init__(venv, observation_space=_extended(venv.observation_space, self._factors.shape[1]))

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


def _rows_of(factors: ArrayLike, agents: Any) -> NDArray[np.float32]:
    table, rows = np.asarray(factors, dtype=np.float32), np.asarray(agents, dtype=np.int64)
    if rows.size and not 0 <= rows.min() <= rows.max() < len(table):
        raise ValueError(f"agents {rows.min()}–{rows.max()}, but latent factors of 0–{len(table) - 1} only")
    chosen: NDArray[np.float32] = table[rows]
    return chosen
