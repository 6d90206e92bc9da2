"""Spaces of an environment are its own, and infinite where nothing bounds an observation."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import DiscretizeObservation, RescaleObservation
from support.domains import every_domain

from persim_gym.envs import DOMAINS
from persim_gym.envs.spaces import own_space
from persim_gym.sb3 import make_vec_env

KINDS = {
    "single": lambda env_id: gym.make(env_id, agent=1).unwrapped,
    "batched": lambda env_id: gym.make_vec(env_id, num_envs=3, agent=1),
    "sb3": lambda env_id: make_vec_env(env_id, agent=1, n_envs=3),
}
NAMES = ["action_space", "observation_space", "single_action_space", "single_observation_space"]


def spaces_of(env):
    """All spaces of an environment, those of Stable-Baselines3's rows too."""
    rows = [space for name in NAMES[:2] for space in env.get_attr(name)] if hasattr(env, "batched") else []
    return [getattr(env, name) for name in NAMES if hasattr(env, name)] + rows


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("env_id", [*(d.env_id for d in DOMAINS.values()), "PersimEnv-v0"])
def test_no_two_environments_share_a_space(env_id, make):
    one, other = (spaces_of(make(env_id)) for _ in range(2))
    domain = [space for d in DOMAINS.values() for space in (d.action_space, d.observation_space)]
    assert len({id(space) for space in [*one, *other, *domain]}) == len(one) + len(other) + len(domain)
    for mine, theirs in zip(one, other, strict=True):
        assert mine == theirs
        theirs.seed(3)
        first = theirs.sample()
        theirs.seed(3)
        mine.seed(5)
        np.testing.assert_array_equal(theirs.sample(), first)


def test_a_copy_of_a_space_has_a_random_stream_of_its_own():
    space = gym.spaces.Discrete(2**40, seed=1)
    assert len({int(own_space(space).sample()) for _ in range(3)} | {int(space.sample())}) == 4


@every_domain
def test_unbounded_observations_have_infinite_bounds(domain):
    """So that wrappers which need bounds refuse, as they do with Gymnasium's own environments."""
    space = domain.observation_space
    bounds = np.stack([space.low, space.high])
    assert np.isinf(bounds[np.abs(bounds) > 1e6]).all()
    if not space.is_bounded():
        for wrap in (lambda env: RescaleObservation(env, -1, 1), lambda env: DiscretizeObservation(env, 10)):
            with pytest.raises((AssertionError, ValueError)):
                wrap(gym.make(domain.env_id))
