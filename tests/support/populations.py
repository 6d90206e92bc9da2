"""Populations of synthetic agents, and transitions that they make themselves."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from persim_gym.simulator.inference.personalize import with_factors
from persim_gym.simulator.inference.posterior import FactorPrior
from persim_gym.simulator.inference.sufficient_statistics import SufficientStatistics
from persim_gym.simulator.model.config import ModelConfig
from persim_gym.simulator.model.ensemble import FactoredEnsemble
from persim_gym.transitions import Transitions

DISCRETE = ModelConfig(n_agents=40, obs_dim=3, n_actions=2, action_dim=0, rank=4, members=2, state_layers=(16,))
CONTINUOUS = ModelConfig(
    n_agents=40, obs_dim=3, n_actions=0, action_dim=2, rank=4, members=2, state_layers=(16, 8), action_layers=(8,)
)
every_shape = pytest.mark.parametrize("shape", [DISCRETE, CONTINUOUS], ids=["discrete", "continuous"])


def population(shape: ModelConfig) -> FactoredEnsemble:
    """A model whose agents differ, about 1 apart in each direction."""
    model = FactoredEnsemble(shape, seed=3).eval().requires_grad_(False)
    return with_factors(model, torch.from_numpy(np.random.default_rng(0).normal(size=(2, shape.n_agents, 4))))


def logged(model: FactoredEnsemble, agents: list[int], each: int, noise: float = 0.0, member: int = 0) -> Transitions:
    """Transitions that one member itself makes, with Gaussian noise."""
    s, rng = model.config, np.random.default_rng(1)
    agent = np.repeat(agents, each)
    obs = rng.normal(size=(len(agent), s.obs_dim)).astype(np.float32)
    action = (
        rng.integers(s.n_actions, size=len(agent))
        if s.n_actions
        else rng.uniform(-1, 1, (len(agent), s.action_dim)).astype(np.float32)
    )
    with torch.no_grad():
        following = model.predict(torch.from_numpy(agent), torch.from_numpy(obs), torch.from_numpy(action))[member]
    next_obs = (following.numpy()[:, : s.obs_dim] + noise * rng.normal(size=obs.shape)).astype(np.float32)
    zeros = np.zeros(len(agent), dtype=np.float32)
    return Transitions(agent, obs, action, zeros, next_obs, zeros > 0, agent, max(agents) + 1, "synthetic")


def prior_of(model: FactoredEnsemble, noise: float) -> FactorPrior:
    centres = model.agent_encoder(torch.arange(model.config.n_agents)).double()
    return FactorPrior(centres, torch.full((model.config.members, model.config.obs_dim), noise, dtype=torch.float64))


def alone(transitions: Transitions) -> Transitions:
    """The same transitions, all of one new agent."""
    return replace(transitions, agent=np.zeros_like(transitions.agent), n_agents=1)


def uneven(agents: int, rank: int) -> tuple[FactorPrior, SufficientStatistics]:
    """Agents whose data say 10^9 times as much of one direction as of another, none along an axis."""
    rng = np.random.default_rng(0)
    information, vector = np.empty((2, agents, rank, rank)), np.empty((2, agents, rank))
    for place in np.ndindex(2, agents):
        axes = np.linalg.qr(rng.normal(size=(rank, rank)))[0]
        information[place] = axes @ np.diag(np.geomspace(1e-1, 1e8, rank)) @ axes.T
        vector[place] = information[place] @ rng.normal(size=rank)
    prior = FactorPrior(torch.from_numpy(rng.normal(size=(2, 50, rank))), torch.ones(2, 3, dtype=torch.float64))
    seen = torch.full((agents,), 20)
    return prior, SufficientStatistics(torch.from_numpy(information), torch.from_numpy(vector), seen)


def stranger_of(cars) -> Transitions:
    return cars.select(cars.agent == 5)
