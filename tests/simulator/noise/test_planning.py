"""Noisy rollouts: candidates meet the same noise, decisions other noise, and their mean is over members and draws."""

import numpy as np
import pytest
from support.models import CONTINUOUS, DISCRETE, random_model

from persim_gym.planning import CEM, MPC, RandomShooting
from persim_gym.planning.scoring import rollout_returns
from persim_gym.simulator.dynamics.bind import bind_agent
from persim_gym.simulator.noise.disturbance import Disturbance
from persim_gym.simulator.noise.gaussian import fit_gaussian
from persim_gym.simulator.noise.planning import NoisyDynamics
from persim_gym.task import Task, never

TASK = Task(lambda obs, action, next_obs: next_obs[..., 0], never)


def noisy(shape=DISCRETE, draws=4, seed=0, size=0.3, integers=(), noise=True):
    model = random_model(shape).float()
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(200, 3))
    action = rng.integers(4, size=200) if shape.n_actions else rng.normal(size=(200, 2))
    fitted = fit_gaussian(obs, action, size * rng.normal(size=obs.shape), np.ones(3), shape.n_actions)
    disturbance = Disturbance.of_model(model, fitted if noise else None, integers)
    return NoisyDynamics(bind_agent(model, 2), disturbance, shape.out_dim, draws, seed), bind_agent(model, 2)


def test_each_member_rolls_out_several_times_around_its_prediction():
    dynamics, plain = noisy(draws=2000, size=0.05)
    assert dynamics.members == 3 * 2000
    obs, action = np.zeros((2, 3), dtype=np.float32), np.array([1, 3])
    found = dynamics(obs, action)
    assert found.shape == (6000, 2, 4)
    np.testing.assert_allclose(found[..., :3].reshape(3, 2000, 2, 3).mean(axis=1), plain(obs, action), atol=0.02)


def test_all_candidates_meet_the_same_noise_and_every_step_and_rollout_another():
    dynamics, plain = noisy()
    obs, action = np.full((5, 3), 0.1, dtype=np.float32), np.full(5, 2)
    first = dynamics(obs, action)
    np.testing.assert_array_equal(first, first[:, :1].repeat(5, axis=1))
    np.testing.assert_array_equal(first[..., -1], 1)
    second = dynamics(first, action)
    np.testing.assert_array_equal(second[..., -1], 2)
    residual = first[..., :3] - np.repeat(plain(obs, action), 4, axis=0)
    assert len(np.unique(residual[:, 0, 0].round(6))) == 12
    later = second[..., :3] - np.repeat(plain(np.repeat(plain(obs, action), 1, axis=0), action), 4, axis=0)
    assert np.abs(later - residual).max() > 1e-3


def test_returns_are_those_of_rollouts_by_hand_in_any_tiles():
    dynamics, _ = noisy(draws=2)
    actions = np.random.default_rng(0).integers(4, size=(6, 3))
    obs = np.array([0.1, 0.2, 0.3], dtype=np.float32)
    found = rollout_returns(dynamics, TASK, obs, actions)
    now, total = np.broadcast_to(obs, (6, 6, 3)), 0.0
    for t in range(3):
        now = dynamics(now, actions[:, t])
        total = total + now[..., 0]
    np.testing.assert_allclose(found, total.mean(axis=0), rtol=1e-6)
    dynamics.tile = 1
    np.testing.assert_array_equal(rollout_returns(dynamics, TASK, obs, actions), found)


@pytest.mark.parametrize("shape", [DISCRETE, CONTINUOUS], ids=["discrete", "continuous"])
def test_planners_plan_in_it_and_meet_other_noise_at_the_next_decision(shape):
    from gymnasium import spaces

    dynamics, _ = noisy(shape)
    space = spaces.Discrete(4) if shape.n_actions else spaces.Box(-1.0, 1.0, (2,), np.float32)
    planner = RandomShooting(candidates=8, horizon=3) if shape.n_actions else CEM(8, 3, iterations=2, elites=2)
    policies = [MPC(dynamics, TASK, space, planner=planner, seed=5) for _ in range(2)]
    obs = np.zeros(3, dtype=np.float32)
    for _ in range(3):
        actions = [policy.predict(obs)[0] for policy in policies]
        np.testing.assert_array_equal(*actions)
        obs = obs + np.float32(0.1)
    state = policies[0].predict(obs)[1][0]
    told = dynamics.given(state.history)
    assert told._seed != dynamics._seed and told.members == dynamics.members


def test_whole_numbers_alone_draw_nothing_and_add_no_column():
    dynamics, plain = noisy(noise=False, integers=(1,))
    assert (dynamics.members, dynamics.memory) == (3, 0)
    obs, action = np.full((5, 3), 0.1, dtype=np.float32), np.arange(5) % 4
    found, expected = dynamics(obs, action), plain(obs, action)
    np.testing.assert_array_equal(found[..., 1], np.rint(expected[..., 1]))
    np.testing.assert_array_equal(found[..., [0, 2]], expected[..., [0, 2]])
    with pytest.raises(ValueError, match="0 noisy rollouts of each member"):
        noisy(draws=0)
