"""Noise in environments: outcomes around the prediction, by the environment's own random numbers."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from persim_gym import load_simulator
from persim_gym.persim_env import stepper
from persim_gym.persim_env.env import PersimEnv
from persim_gym.sb3 import make_vec_env
from persim_gym.simulator.diagnostics.measure_noise import fitted_noise
from persim_gym.simulator.diagnostics.nearest_residuals import NearestResiduals

KINDS = ["residual", "gaussian"]
START = {"obs": [-0.4, 0.01]}


@pytest.fixture
def noisy(save_car, cars, tmp_path, monkeypatch):
    """Folder of the small MountainCar simulator with noise, and its data at hand."""
    plain = load_simulator(str(save_car(tmp_path / "plain")))
    folder = replace(plain, noise=fitted_noise(plain.model, cars)).save(tmp_path / "noisy")
    monkeypatch.setattr(stepper, "logged_data", lambda simulator: cars)
    return str(folder)


def outcomes(env, steps=40, seed=0):
    env.reset(seed=seed, options=START)
    return np.array([env.step(step % 3)[0] for step in range(steps)])


@pytest.mark.parametrize("noise", KINDS)
def test_noise_is_seeded_by_reset_and_lies_around_the_prediction(noisy, noise):
    env, plain = PersimEnv(1, noisy, noise=noise), PersimEnv(1, noisy)
    first = outcomes(env)
    np.testing.assert_array_equal(first, outcomes(env))
    assert np.abs(first - outcomes(env, seed=1)).max() > 0
    assert np.abs(first - outcomes(plain)).max() > 0
    plain.reset(seed=0, options=START)
    expected = plain.step(2)[0]
    drawn = np.array([(env.reset(options=START), env.step(2)[0])[1] for _ in range(600)])
    limit = 6 * drawn.std(axis=0) / np.sqrt(600)
    if noise == "gaussian":
        np.testing.assert_array_less(np.abs(drawn.mean(axis=0) - expected), limit + 1e-9)
    else:
        near = NearestResiduals(env.simulator.model, stepper.logged_data(env.simulator))
        uniform = (np.arange(10)[:, None] + 0.5) / 10
        obs, action = np.repeat(np.float32([START["obs"]]), 10, axis=0), np.full(10, 2)
        possible = expected + near.draw(obs, action, uniform)
        assert np.abs(drawn[:, None] - possible).max(axis=2).min(axis=1).max() < 1e-6
        assert len(np.unique(drawn, axis=0)) == 10


@pytest.mark.parametrize("noise", KINDS)
def test_noisy_environments_keep_the_contracts(noisy, noise):
    sb3_check_env(gym.make("PersimEnv-v0", agent=1, simulator=noisy, noise=noise).unwrapped)
    rows = gym.make_vec(
        "PersimEnv-v0",
        num_envs=3,
        simulator=noisy,
        agents=[1, 1, 2],
        noise=noise,
        vectorization_mode="vector_entry_point",
    )

    def walk():
        rows.reset(seed=3)
        return np.stack([rows.step(np.array([step % 3] * 3))[0] for step in range(30)])

    first = walk()
    np.testing.assert_array_equal(first, walk())
    assert np.abs(first[:, 0] - first[:, 1]).max() > 0
    batched = make_vec_env(n_envs=2, agent=1, simulator=noisy, noise=noise, seed=0)
    batched.reset()
    assert batched.step(np.array([0, 2]))[0].shape == (2, 2)


def test_without_noise_nothing_changes_bit_for_bit(noisy, save_car, tmp_path):
    plain = str(save_car(tmp_path / "again"))
    np.testing.assert_array_equal(outcomes(PersimEnv(1, noisy)), outcomes(PersimEnv(1, plain)))
    env = PersimEnv(1, noisy)
    outcomes(env)
    before = env.np_random.bit_generator.state
    env.step(0)
    assert env.np_random.bit_generator.state == before


def test_a_simulator_without_noise_says_how_to_measure_it(save_car, tmp_path):
    plain = str(save_car(tmp_path / "plain"))
    with pytest.raises(ValueError, match="mountaincar/tiny-v0 holds no noise .*`persim calibrate mountaincar/tiny-v0`"):
        PersimEnv(1, plain, noise="gaussian")
    with pytest.raises(ValueError, match="noise='white'; use one of none, residual, gaussian"):
        PersimEnv(1, plain, noise="white")


def test_a_row_that_is_not_believed_is_not_disturbed(noisy):
    env = PersimEnv(1, noisy, noise="gaussian")
    env.reset(seed=0, options=START)
    before = env._obs.copy()
    env._bound.dynamics._weights.last_bias[:] = np.nan
    obs, _, _, truncated, _ = env.step(1)
    assert truncated
    np.testing.assert_array_equal(obs, before)


def test_whole_numbers_are_rounded_in_episodes(noisy, tmp_path):
    loaded = load_simulator(noisy)
    labels = replace(loaded.labels, observations=("seats", "speed"), integers=("seats",))
    interface = replace(loaded.spec, labels=labels).to_json()
    counting = replace(loaded, card=replace(loaded.card, interface=interface)).save(tmp_path / "counting")
    for noise in ("none", "gaussian"):
        env = PersimEnv(1, str(counting), noise=noise)
        env.reset(seed=0, options={"obs": [0.0, 0.01]})
        seen = np.array([env.step(2)[0] for _ in range(10)])
        np.testing.assert_array_equal(seen[:, 0], np.rint(seen[:, 0]))
        assert np.abs(seen[:, 1]).max() > 0
