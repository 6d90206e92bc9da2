"""One policy for all agents: observations with the agent's own factor."""

import json

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec

from persim_gym.sb3 import make_vec_env
from persim_gym.simulator.registry import load_simulator
from persim_gym.wrappers import AgentObservation, AgentVecEnv, latent_factors


def test_latent_factors_are_standardised_and_follow_the_agents(car_model, save_car, tmp_path):
    simulator = load_simulator(str(save_car(tmp_path / "car")))
    factors = latent_factors(simulator)
    assert factors.shape == (6, 3 * 3)
    np.testing.assert_allclose(factors.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(factors.std(axis=0), 1, atol=1e-4)
    raw = car_model.agent_encoder.factor.detach().numpy().transpose(1, 0, 2).reshape(6, -1)
    np.testing.assert_allclose(factors, (raw - raw.mean(axis=0)) / raw.std(axis=0), atol=1e-3)


def test_the_wrappers_append_the_agents_own_factor(save_car, tmp_path):
    folder = str(save_car(tmp_path / "car"))
    factors = latent_factors(load_simulator(folder))
    single = AgentObservation(gym.make("PersimEnv-v0", agent=4, simulator=folder), factors, 4)
    obs, _ = single.reset(seed=0)
    assert single.observation_space.contains(obs) and single.observation_space.contains(single.step(1)[0])
    rows = AgentVecEnv(make_vec_env(agents=[1, 4], n_envs=2, simulator=folder, max_episode_steps=2), factors, [1, 4])
    rows.seed(0)
    obs = rows.reset()
    np.testing.assert_array_equal(obs[1], single.reset(seed=1)[0])
    rows.step(np.array([2, 2]))
    obs, _, done, infos = rows.step(np.array([2, 2]))
    assert done.all()
    for row, agent in enumerate((1, 4)):
        np.testing.assert_array_equal(obs[row, 2:], factors[agent])
        np.testing.assert_array_equal(infos[row]["terminal_observation"][2:], factors[agent])
        assert (infos[row]["terminal_observation"][:2] != obs[row, :2]).all()
    assert rows.observation_space.contains(obs[0]) and rows.observation_space == single.observation_space


def test_its_specification_is_plain_json_and_makes_the_same_environment(save_car, tmp_path):
    folder = str(save_car(tmp_path / "car"))
    factors = latent_factors(load_simulator(folder))
    env = AgentObservation(gym.make("PersimEnv-v0", agent=4, simulator=folder), factors, 4)
    stored = env.spec.to_json()
    json.loads(stored)
    again = gym.make(EnvSpec.from_json(stored))
    assert again.observation_space == env.observation_space
    np.testing.assert_array_equal(again.reset(seed=3)[0], env.reset(seed=3)[0])
    np.testing.assert_array_equal(again.step(2)[0], env.step(2)[0])


def test_agents_without_a_factor_and_wrong_numbers_are_refused(save_car, tmp_path):
    folder = str(save_car(tmp_path / "car"))
    env = make_vec_env(agents=[1, 4], n_envs=2, simulator=folder)
    factors = latent_factors(load_simulator(folder))
    with pytest.raises(ValueError, match="agents 1–9, but latent factors of 0–5 only"):
        AgentVecEnv(env, factors, [1, 9])
    with pytest.raises(ValueError, match="1 agents for 2 rows"):
        AgentVecEnv(env, factors, [1])
