"""The thesis's prediction error against values computed by hand."""

import numpy as np
import pytest
from support.dynamics import Remembering
from support.policies import Constant

from persim_gym.datasets.behavior.policies import load_behavior_policy
from persim_gym.envs import DOMAINS
from persim_gym.evaluation.acting import RandomPolicy
from persim_gym.evaluation.prediction import prediction_error
from persim_gym.evaluation.returns import episode_returns
from persim_gym.task import FunctionDynamics

CARTPOLE, MOUNTAINCAR = DOMAINS["cartpole"], DOMAINS["mountaincar"]


@pytest.mark.parametrize("name", ["mountaincar", "cartpole", "pendulum"])
def test_the_true_dynamics_have_no_error(name):
    domain = DOMAINS[name]
    policy = RandomPolicy(domain.action_space)
    error = prediction_error(domain.dynamics(3), domain, 3, policy, episodes=20, warmup=2, horizon=5)
    assert error.mean_rmse < 1e-5
    assert error.median_r2 > 0.999


def test_the_dynamics_of_another_agent_have_an_error():
    error = prediction_error(MOUNTAINCAR.dynamics(0), MOUNTAINCAR, 4, Constant(1), episodes=20)
    assert error.mean_rmse > 0.05
    assert error.median_r2 < 0.5


def offset_dynamics(domain, agent, offsets, start):
    """The truth, each dimension off by `offsets` from the first prediction on; [2, C, D] of two equal members."""
    true, shifted = domain.dynamics(agent), np.asarray(offsets)

    def dynamics(obs, action):
        unshifted = obs if dynamics.first else obs - shifted
        dynamics.first = False
        return true(unshifted, action) + shifted

    dynamics.first = True
    return FunctionDynamics(dynamics, members=2)


def test_a_constant_offset_gives_the_error_computed_by_hand():
    dynamics = offset_dynamics(MOUNTAINCAR, 3, [0.03, 0.04], True)
    error = prediction_error(dynamics, MOUNTAINCAR, 3, Constant(2), episodes=7, warmup=3, horizon=20)
    np.testing.assert_allclose(error.rmse, np.sqrt((0.03**2 + 0.04**2) / 2), rtol=1e-4)
    true = error.true[:, 1:]
    np.testing.assert_allclose(error.r2, 1 - (0.03**2 + 0.04**2) / true.var(axis=1).sum(axis=1), rtol=1e-4)
    assert error.mean_rmse == error.rmse.mean()
    assert error.median_r2 == np.median(error.r2)
    assert error.true.shape == error.predicted.shape == (7, 21, 2)
    np.testing.assert_array_equal(error.true[:, 0], error.predicted[:, 0])


def test_members_roll_out_by_themselves_and_their_mean_is_scored():
    true = MOUNTAINCAR.dynamics(3)

    def dynamics(obs, action):  # one member drifts up, one down: their mean position stays that of the truth
        following = np.stack([true(obs[0] - dynamics.drift, action), true(obs[1] + dynamics.drift, action)])
        dynamics.drift = dynamics.drift + [0.01, 0.0]
        return following + np.stack([[dynamics.drift], [-dynamics.drift]])

    dynamics.drift = np.zeros(2)
    error = prediction_error(FunctionDynamics(dynamics, members=2), MOUNTAINCAR, 3, Constant(1), episodes=5, horizon=20)
    assert error.mean_rmse < 1e-6


def test_steps_after_termination_are_ignored():
    """Agent 0's pole falls under constant pushes to the right; the dynamics give nonsense from then on."""
    true = CARTPOLE.dynamics(0)

    def dynamics(obs, action):
        following = true(obs, action)
        following[CARTPOLE.task.terminated(obs)] = np.nan
        return following

    error = prediction_error(dynamics, CARTPOLE, 0, Constant(1), episodes=30, warmup=0, horizon=120)
    assert error.mean_rmse < 1e-4
    ended = np.isnan(error.true).all(axis=-1)
    assert ended[:, -1].all()
    lengths = (~ended).sum(axis=1) - 1
    for row, length in zip(error.true, lengths, strict=True):  # the terminating observation is scored
        assert CARTPOLE.task.terminated(row[length])
        assert not CARTPOLE.task.terminated(row[:length]).any()


def test_episodes_that_end_in_the_warm_up_are_left_out():
    lengths = episode_returns(Constant(1), CARTPOLE, 0, episodes=40)  # one reward a step
    warmup = int(np.median(lengths))
    error = prediction_error(CARTPOLE.dynamics(0), CARTPOLE, 0, Constant(1), episodes=40, warmup=warmup, horizon=3)
    assert 0 < len(error.rmse) == (lengths > warmup).sum() < 40


def test_no_episode_left_after_the_warm_up_is_an_error():
    with pytest.raises(ValueError, match="all 5 episodes of agent 4 end within the 100 warm-up steps"):
        prediction_error(CARTPOLE.dynamics(4), CARTPOLE, 4, Constant(1), episodes=5, warmup=100)


def test_the_seed_decides_the_episodes():
    def true(seed):
        policy = load_behavior_policy("mountaincar", "test")
        return prediction_error(MOUNTAINCAR.dynamics(1), MOUNTAINCAR, 1, policy, episodes=3, seed=seed).true

    np.testing.assert_array_equal(true(5), true(5))
    assert (true(5) != true(6)).any()


@pytest.mark.parametrize("name", ["cartpole", "pendulum"])
def test_dynamics_that_want_to_know_are_told_the_warm_up(name):
    domain, dynamics = DOMAINS[name], Remembering(memory=4)
    policy = RandomPolicy(domain.action_space)
    prediction_error(dynamics, domain, 3, policy, episodes=6, warmup=7, horizon=5, seed=2)
    physics, told = domain.physics(**domain.agent_covariates(3)), dynamics.told[0]
    state = domain.initial_state(np.random.default_rng(2), 6)
    for t in range(7):
        following = physics(state, told.action[:, t])
        expected = domain.observe(following) - domain.observe(state)
        np.testing.assert_allclose(told.change[:, t], expected, atol=1e-6)
        state = following
    assert told.known.all() and told.known.shape == (6, 7)
