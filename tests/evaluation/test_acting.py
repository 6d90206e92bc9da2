"""Policies act in the true environment: rows, their memory, and what is behind the end."""

import numpy as np
import pytest
from support.policies import Constant

from persim_gym.envs import DOMAINS
from persim_gym.evaluation.acting import RandomPolicy, act, select_rows

CARTPOLE = DOMAINS["cartpole"]


@pytest.mark.parametrize("drop_finished", [False, True])
def test_rows_that_have_finished_are_dropped_or_go_on(drop_finished):
    state = CARTPOLE.initial_state(np.random.default_rng(0), 6)
    physics = CARTPOLE.physics(**CARTPOLE.agent_covariates(1))
    steps = list(act(Constant(1), CARTPOLE, physics, state, 200, drop_finished=drop_finished))
    ended = np.zeros(6, dtype=bool)
    for step in steps:
        assert set(step.rows) == (set(np.flatnonzero(~ended)) if drop_finished else set(range(6)))
        ended[step.rows] |= step.terminated
    assert ended.all() and (len(steps) < 200) == drop_finished


def test_a_step_begins_where_the_last_one_ended():
    state = CARTPOLE.initial_state(np.random.default_rng(0), 6)
    physics = CARTPOLE.physics(**CARTPOLE.agent_covariates(1))
    first, second = act(RandomPolicy(CARTPOLE.action_space, 2), CARTPOLE, physics, state, 2)
    np.testing.assert_array_equal(first.obs, state)
    np.testing.assert_array_equal(first.next_obs, physics(state, first.action))
    np.testing.assert_array_equal(second.obs, first.next_obs)


def test_select_rows_keeps_rows_of_every_kind_of_memory():
    keep = np.array([True, False, True])
    assert select_rows(None, keep) is None
    assert select_rows(("a", "b", "c"), keep) == ("a", "c")
    np.testing.assert_array_equal(select_rows(np.arange(6).reshape(3, 2), keep), [[0, 1], [4, 5]])


@pytest.mark.parametrize("name", DOMAINS)
def test_random_actions_fit_the_space_alone_and_in_a_batch(name):
    space = DOMAINS[name].action_space
    policy = RandomPolicy(space, seed=3)
    obs = np.zeros((50, DOMAINS[name].observation_space.shape[0]))
    batch, _ = policy.predict(obs)
    assert all(action in space for action in batch)
    assert len(np.unique(batch, axis=0)) > 1
    assert policy.predict(obs[0])[0] in space
    np.testing.assert_array_equal(RandomPolicy(space, seed=3).predict(obs)[0], batch)
