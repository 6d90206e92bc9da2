"""All domains as a parameter, with random actions and states."""

import pickle

import gymnasium as gym
import numpy as np
import pytest

from persim_gym.envs import DOMAINS
from persim_gym.envs.domain import Domain

OBSERVED = {name: domain for name, domain in DOMAINS.items() if not domain.hides_state}
HIDDEN = {name: domain for name, domain in DOMAINS.items() if domain.hides_state}
every_domain = pytest.mark.parametrize("domain", DOMAINS.values(), ids=DOMAINS)
observed_domain = pytest.mark.parametrize("domain", OBSERVED.values(), ids=OBSERVED)
hidden_domain = pytest.mark.parametrize("domain", HIDDEN.values(), ids=HIDDEN)


def random_actions(domain: Domain, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Actions [*shape] or [*shape, A], uniform."""
    rng = np.random.default_rng(seed)
    space = domain.action_space
    if isinstance(space, gym.spaces.Discrete):
        return rng.integers(space.start, space.start + space.n, shape)
    return rng.uniform(space.low, space.high, (*shape, *space.shape)).astype(np.float32)


def pickle_around(env):
    return pickle.loads(pickle.dumps(env))


def states_on_the_way(domain: Domain, steps: int, seed: int = 0) -> np.ndarray:
    """States of a random episode of 8 different agents, [steps, 8, S]."""
    covariates = dict(zip((c.name for c in domain.covariates), domain.population[:8].T, strict=True))
    physics = domain.physics(**covariates)
    states = [domain.initial_state(np.random.default_rng(seed), 8)]
    for action in random_actions(domain, (steps - 1, 8), seed):
        states.append(physics(states[-1], action))
    return np.stack(states)
