"""Small logged data and specs for the offline baselines."""

import numpy as np
import torch
from gymnasium import spaces

from persim_gym.baselines.offline import Batch
from persim_gym.spec import EnvironmentSpec
from persim_gym.transitions import Transitions

OBS_DIM = 3
_OBS_SPACE = spaces.Box(-10.0, 10.0, (OBS_DIM,), dtype=np.float32)
SPECS = {
    "discrete": EnvironmentSpec(_OBS_SPACE, spaces.Discrete(4), 20),
    "continuous": EnvironmentSpec(
        _OBS_SPACE, spaces.Box(np.float32([-1.0, 0.0]), np.float32([3.0, 0.5]), dtype=np.float32), 20
    ),
}


def logged(kind: str, agents: int = 3, steps: int = 40, seed: int = 0) -> Transitions:
    """Random transitions of a kind of actions, an episode an agent."""
    rng, k = np.random.default_rng(seed), agents * steps
    space = SPECS[kind].action_space
    if isinstance(space, spaces.Discrete):
        action = rng.integers(space.n, size=k)
    else:
        action = rng.uniform(space.low, space.high, (k, *space.shape)).astype(np.float32)
    agent = np.repeat(np.arange(agents), steps)
    obs, next_obs = rng.normal(size=(2, k, OBS_DIM))
    return Transitions(agent, obs, action, rng.normal(size=k), next_obs, rng.random(k) < 0.1, agent, agents)


def random_batch(kind: str, size: int = 32, seed: int = 0) -> Batch:
    """Transitions as algorithms see them."""
    generator = torch.Generator().manual_seed(seed)
    obs, next_obs = torch.randn(2, size, OBS_DIM, generator=generator)
    action = (
        torch.randint(4, (size, 1), generator=generator)
        if kind == "discrete"
        else 2 * torch.rand(size, 2, generator=generator) - 1
    )
    reward, live = torch.randn(size, 1, generator=generator), (torch.rand(size, 1, generator=generator) > 0.1).float()
    return Batch(obs, action, reward, next_obs, live)


def of_cartpole(steps: int = 40) -> Transitions:
    """Random transitions that count as those of a dataset of CartPole, of agents 0 to 2."""
    rng, k = np.random.default_rng(0), 3 * steps
    obs, next_obs = 0.05 * rng.normal(size=(2, k, 4))
    agent, action = np.repeat(np.arange(3), steps), rng.integers(2, size=k)
    return Transitions(
        agent, obs, action, np.ones(k), next_obs, np.zeros(k, dtype=bool), agent, 500, "persim/cartpole/random-v0"
    )
