"""MPC that learns about its agent while it acts."""

import numpy as np
import pytest
import torch

from persim_gym.envs import DOMAINS
from persim_gym.planning import MPC, RandomShooting
from persim_gym.planning.online_mpc import OnlineMPC


def test_an_online_policy_learns_from_every_step_but_not_across_episodes(simulator):
    domain = DOMAINS["mountaincar"]
    online = simulator.online()
    planner = MPC(online, domain.task, domain.action_space, planner=RandomShooting(candidates=8, horizon=3), seed=1)
    policy = OnlineMPC(planner, online)
    state, memory = np.array([-0.5, 0.0]), None
    physics = domain.dynamics(4)
    for t in range(12):
        action, memory = policy.predict(state, memory, episode_start=np.array([t % 6 == 0]))
        state = physics(state, action)
    assert int(online.posterior.statistics.seen[0]) == 10  # of 12 steps, two start an episode
    with pytest.raises(ValueError, match="one policy a row"):
        policy.predict(np.zeros((2, 2)))


def test_an_online_policy_can_plan_in_draws_of_the_posterior(simulator):
    domain = DOMAINS["mountaincar"]
    online = simulator.online()
    planner = MPC(online, domain.task, domain.action_space, planner=RandomShooting(candidates=8, horizon=3))
    policy = OnlineMPC(planner, online, sample=3)
    factors = []
    for _ in range(2):
        policy.predict(np.array([-0.5, 0.0]), episode_start=np.array([True]))
        factors.append(planner.dynamics.factor)
    assert not torch.equal(*factors)
