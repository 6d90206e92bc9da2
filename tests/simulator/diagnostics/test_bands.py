"""Bands hold what they promise where transitions are random, and say when nothing was measured."""

from dataclasses import replace

import numpy as np
import pytest
from support.recipes import TINY
from support.simulators import save_model

from persim_gym import load_simulator
from persim_gym.simulator.diagnostics.bands import LEVELS, BandScale, calibrate_bands, prediction_bands
from persim_gym.simulator.diagnostics.measure_noise import fitted_noise, measured_noise
from persim_gym.simulator.diagnostics.open_loop import cut_windows
from persim_gym.simulator.inference.regression import factor_posterior
from persim_gym.simulator.load import read_simulator
from persim_gym.simulator.training.trainer import fit_ensemble
from persim_gym.storage import MEASURED
from persim_gym.transitions import Transitions


def leaky(agents=30, steps=60, seed=0):
    """Tanks that leak at rates of their own, with noise that grows with the level: x' = a x + u + noise."""
    rng = np.random.default_rng(seed)
    rate = np.random.default_rng(5).uniform(0.7, 0.95, agents)
    level, parts = rng.normal(2.0, 0.5, agents), []
    for _ in range(steps):
        action = rng.integers(3, size=agents)
        following = rate * level + 0.3 * action + (0.05 + 0.05 * np.abs(level)) * rng.normal(size=agents)
        parts.append((level, action, following))
        level = following
    obs, action, following = (np.stack(x, axis=1).reshape(-1) for x in zip(*parts, strict=True))
    agent = np.repeat(np.arange(agents), steps)
    zeros = np.zeros(len(agent), dtype=np.float32)
    return Transitions(agent, obs[:, None], action, zeros, following[:, None], zeros > 0, agent, agents, "leaky")


@pytest.fixture(scope="module")
def tanks(tmp_path_factory):
    """A simulator of the first 40 steps of tanks, its noise and bands by the next 20; and further tanks."""
    data = leaky()
    step = np.tile(np.arange(60), 30)
    recipe = replace(TINY, epochs=40, standardize=True)
    model = fit_ensemble(data.select(step < 40), recipe, n_actions=3, progress=False).requires_grad_(False)
    beliefs = factor_posterior(model, data.select(step < 40), clips=False)
    folder = save_model(
        model, name="leaky", domain="mountaincar", data=data, recipe=recipe, beliefs=beliefs, spec=_spec(),
        folder=tmp_path_factory.mktemp("leaky") / "simulator",
    )  # fmt: skip
    plain = load_simulator(str(folder))
    noise, scale = measured_noise(model, beliefs, data.select(step >= 40), steps=16)
    return replace(plain, noise=noise, band_scale=scale)


def _spec():
    from gymnasium import spaces

    from persim_gym.spec import DOMAIN_TASK, EnvironmentSpec, flat_box

    return EnvironmentSpec(flat_box([-np.inf], [np.inf]), spaces.Discrete(3), 60, DOMAIN_TASK)


def coverage(simulator, data, level=0.9, steps=8, every=10):
    """Shares of held-out values inside the band, by step."""
    inside = []
    for agent in range(data.n_agents):
        own = data.select(data.agent == agent)
        for begin in range(0, len(own) - steps, every):
            found = prediction_bands(
                simulator, agent, own.obs[begin], own.action[begin : begin + steps], coverage=level
            )
            logged = own.next_obs[begin : begin + steps]
            inside.append((found.lower <= logged) & (logged <= found.upper))
    return np.mean(inside, axis=0)[:, 0]


def test_the_band_covers_what_it_promises_on_new_trajectories(tanks):
    later = np.tile(np.arange(100), 30) >= 40
    found = coverage(tanks, leaky(steps=100, seed=1).select(later))
    assert (found > 0.85).all() and (found < 0.95).all()


def test_a_wider_coverage_is_a_wider_band_around_the_same_median(tanks):
    obs, actions = np.array([2.0]), np.ones(16, dtype=np.int64)
    half, ninety = (prediction_bands(tanks, 3, obs, actions, coverage=level) for level in (0.5, 0.9))
    np.testing.assert_array_equal(half.median, ninety.median)
    assert (half.lower > ninety.lower).all() and (half.upper < ninety.upper).all() and ninety.calibrated
    between = prediction_bands(tanks, 3, obs, actions, coverage=0.85)
    assert (between.upper < ninety.upper).all()
    short = prediction_bands(tanks, 3, obs, actions, horizon=2)
    assert short.lower.shape == (2, 1)


def test_what_is_known_is_followed(tanks):
    known = np.full((4, 1), np.nan)
    known[1] = 5.0
    found = prediction_bands(tanks, 3, np.array([2.0]), np.ones(4, dtype=np.int64), known=known)
    np.testing.assert_allclose(found.median[1], 5.0)
    assert found.upper[1, 0] - found.lower[1, 0] < 0.05
    assert found.median[2, 0] > 3.0


def test_bands_without_calibration_say_so_and_without_noise_are_refused(tanks):
    obs, actions = np.array([2.0]), np.ones(3, dtype=np.int64)
    assert not prediction_bands(replace(tanks, band_scale=None), 3, obs, actions).calibrated
    with pytest.raises(ValueError, match="leaky holds no noise"):
        prediction_bands(replace(tanks, noise=None), 3, obs, actions)
    with pytest.raises(ValueError, match="horizon=4 with 3 actions; give an action for each step"):
        prediction_bands(tanks, 3, obs, actions, horizon=4)
    with pytest.raises(ValueError, match="coverage=0.99; bands are calibrated for 0.5 to 0.95"):
        prediction_bands(tanks, 3, obs, actions, coverage=0.99)
    with pytest.raises(ValueError, match="agent 30 is not in this simulator"):
        prediction_bands(tanks, 30, obs, actions)


def test_a_model_that_is_too_sure_gets_wider_bands(tanks):
    data = leaky(seed=2)
    windows = cut_windows(data, np.arange(0, len(data), 7), 4)
    right = fitted_noise(tanks.model, data)
    small = replace(
        right, low=right.low - 2, high=right.high - 2, weight=right.weight - 2 * (np.arange(9) == 0)[:, None]
    )
    parts = tanks.model, tanks.known_beliefs()
    wide, plain = (calibrate_bands(*parts, noise, windows) for noise in (small, right))
    assert (wide.scale[:, 0] > 2 * plain.scale[:, 0]).all()


def test_they_are_kept_with_the_simulator(tanks, tmp_path):
    again = load_simulator(str(tanks.save(tmp_path / "kept")))
    obs, actions = np.array([2.0]), np.ones(3, dtype=np.int64)
    for one, other in zip(
        prediction_bands(tanks, 3, obs, actions), prediction_bands(again, 3, obs, actions), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    new = replace(leaky(3).select(np.tile(np.arange(60), 3) < 20), n_agents=3)
    assert again.personalize(new).noise is again.noise


def test_what_was_measured_of_other_weights_does_not_count_and_damage_is_one_line(tanks, tmp_path):
    folder = tanks.save(tmp_path / "kept")
    measured = (folder / MEASURED).read_bytes()
    plain = replace(tanks, noise=None, band_scale=None)
    plain.save(folder)
    assert not (folder / MEASURED).exists() and load_simulator(str(folder)).card.sha256 == tanks.card.sha256
    other = replace(
        plain, start_agents=np.append(plain.start_agents, 29), start_obs=np.append(plain.start_obs, [[1.0]], 0)
    )
    other.save(folder)
    (folder / MEASURED).write_bytes(measured)
    assert load_simulator(str(folder)).noise is None
    tanks.save(folder)
    (folder / MEASURED).write_bytes(measured[:100])
    with pytest.raises(ValueError, match=r"measured.safetensors cannot be read \(.*\); remove it"):
        read_simulator(folder)


def test_factors_between_steps_and_levels_are_between():
    scale = BandScale(np.array([1, 4]), np.stack([np.array([[1.0], [2.0]]) * (1 + i) for i in range(len(LEVELS))]))
    np.testing.assert_allclose(scale.at(6, 0.5)[:, 0], [1, 1.5, 1 + np.log(3) / np.log(4), 2, 2, 2])
    np.testing.assert_allclose(scale.at(1, 0.85)[0, 0], 2.5)
    with pytest.raises(ValueError, match="bands.steps do not ascend"):
        BandScale.from_arrays({"steps": np.array([0, 1]), "scale": scale.scale}, 1)
    with pytest.raises(ValueError, match="bands.scale is"):
        BandScale.from_arrays(scale.to_arrays(), 2)
