"""One policy for all agents: the agent's latent factor beside each observation, by an official wrapper.

Train one policy over rows of many agents with `AgentVecEnv`; use it on one agent with `AgentObservation`.
"""

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

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


def extended(space: gym.spaces.Box, size: int) -> gym.spaces.Box:
    """A space of observations with factors of that size behind them."""
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
        self._factor = rows_of(factors, [agent])[0]
        # A specification is JSON-plain, and needs no more than this agent's factor.
        gym.utils.RecordConstructorArgs.__init__(self, factors=[self._factor.tolist()], agent=0)
        super().__init__(env)
        assert isinstance(env.observation_space, gym.spaces.Box)
        self.observation_space = extended(env.observation_space, len(self._factor))

    def observation(self, observation: NDArray[np.float32]) -> NDArray[np.float32]:
        """[D] to [D + F]."""
        return np.concatenate([observation, self._factor])


def rows_of(factors: ArrayLike, agents: Any) -> NDArray[np.float32]:
    """Factors of agents, [len(agents), F].

    Raises:
        ValueError: If there is no factor of an agent.
    """
    table, rows = np.asarray(factors, dtype=np.float32), np.asarray(agents, dtype=np.int64)
    if rows.size and not 0 <= rows.min() <= rows.max() < len(table):
        raise ValueError(f"agents {rows.min()}–{rows.max()}, but latent factors of 0–{len(table) - 1} only")
    chosen: NDArray[np.float32] = table[rows]
    return chosen
