"""Trust horizons: their promise is kept on synthetic rollouts, and measured on logged ones."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import TINY

from persim_gym.envs import DOMAINS
from persim_gym.simulator.diagnostics.calibrate import measure_trust
from persim_gym.simulator.diagnostics.conformal import (
    conformal_horizon,
    conformal_scale,
    first_failures,
    measured_coverage,
    trust_horizons,
)
from persim_gym.simulator.diagnostics.nearest_residuals import NearestResiduals
from persim_gym.simulator.diagnostics.open_loop import cut_windows, open_loop
from persim_gym.simulator.diagnostics.trust import Trust, agent_horizons, summarize_trust
from persim_gym.simulator.dynamics.bind import bind_agent
from persim_gym.simulator.inference.personalize import polished
from persim_gym.simulator.inference.posterior import FactorPosterior
from persim_gym.simulator.inference.regression import factor_posterior
from persim_gym.simulator.model.config import ModelConfig
from persim_gym.simulator.model.ensemble import FactoredEnsemble
from persim_gym.simulator.registry import load_simulator
from persim_gym.simulator.training.trainer import fit_ensemble
from persim_gym.transitions import Transitions
from persim_gym.workflows.train import train_simulator


def rollouts(rng, n, steps=30):
    """Errors that grow at random rates, with a spread that tells half of the story."""
    rate = np.exp(rng.normal(size=(n, 1)))
    told = rate * np.exp(0.5 * rng.normal(size=(n, 1)))
    time = np.arange(1, steps + 1)
    return 0.01 * rate * time * np.exp(0.2 * rng.normal(size=(n, steps))), 0.01 * told * time


def test_the_promise_is_kept_on_new_rollouts_and_not_by_luck():
    rng = np.random.default_rng(0)
    below, kept, plain = [], [], []
    for _ in range(300):
        errors, spreads = rollouts(rng, 40)
        new_errors, new_spreads = rollouts(rng, 20)
        scale = conformal_scale(errors, spreads, bound=0.2)
        failures = first_failures(new_errors, 0.2)
        until = np.arange(30) <= failures[:, None]
        below.append(((new_errors <= scale * np.maximum(new_spreads, 2e-4)) | ~until).all(axis=1).mean())
        kept.append((trust_horizons(new_spreads, scale, 0.2) <= failures).mean())
        plain.append((conformal_horizon(errors, 0.2) <= failures).mean())
    assert 0.89 < np.mean(below) < 0.93  # 37 of 41 ranks: 0.902
    assert np.mean(kept) >= np.mean(below)
    assert 0.89 < np.mean(plain) < 0.95


def test_a_spread_that_falls_again_costs_no_scale():
    """Trust has ended where the spread was largest: what it is afterwards changes neither horizon nor scale."""
    errors, spreads = rollouts(np.random.default_rng(3), 40)
    falling = spreads.copy()
    falling[:, 1::2] /= 50
    largest = np.maximum.accumulate(falling, axis=1)
    scale = conformal_scale(errors, falling, 0.2)
    assert scale == conformal_scale(errors, largest, 0.2) < 5 * conformal_scale(errors, spreads, 0.2)
    assert trust_horizons(falling, scale, 0.2).tolist() == trust_horizons(largest, scale, 0.2).tolist()


def test_half_of_the_promise_needs_half_of_the_scale():
    errors, spreads = rollouts(np.random.default_rng(1), 200)
    assert conformal_scale(errors, spreads, 0.2, level=0.5) < conformal_scale(errors, spreads, 0.2, level=0.9)
    assert conformal_horizon(errors, 0.2, level=0.5) > conformal_horizon(errors, 0.2, level=0.9)


def test_coverage_is_measured_on_halves_that_did_not_set_the_scale():
    errors, spreads = rollouts(np.random.default_rng(2), 400)
    ((below, kept),) = measured_coverage([(errors, spreads)], 0.2, 0.9)
    assert below == pytest.approx(0.9, abs=0.02) and kept >= below


def test_too_few_rollouts_promise_nothing():
    errors, spreads = rollouts(np.random.default_rng(0), 8)
    assert conformal_scale(errors, spreads, 0.2) == np.inf
    assert conformal_horizon(errors, 0.2) == 0
    assert trust_horizons(spreads, np.inf, 0.2).tolist() == [0] * 8


def test_what_was_not_logged_is_no_failure_and_what_is_not_finite_is():
    errors = np.array([[0.1, np.nan, np.nan], [0.1, np.inf, 0.1], [0.3, 0.1, 0.1]])
    assert first_failures(errors, 0.2).tolist() == [3, 1, 0]
    assert trust_horizons(np.array([[0.01, 0.3, 0.01], [0.01, np.inf, np.inf]]), 1.0, 0.2).tolist() == [1, 1]


@pytest.mark.parametrize(("n", "rank"), [(9, 1), (19, 2), (20, 2), (99, 10), (100, 10)])
def test_a_horizon_is_that_of_the_right_rank(n, rank):
    errors = (np.arange(1, n + 1) <= np.arange(1, n + 1)[:, None]).astype(float)  # the i-th first fails at step i
    assert conformal_horizon(1 - errors, 0.5) == rank


def test_no_more_steps_are_promised_than_enough_rollouts_lasted():
    """Random CartPoles fall after twenty steps: nothing is known of the thirty behind them."""
    errors = np.full((40, 50), 0.01)
    errors[:, 21:] = np.nan
    errors[9:, 12:] = np.nan
    assert conformal_horizon(errors, 0.2) == 21  # nine rollouts are enough for nine in ten
    errors[8, 12:] = np.nan
    assert conformal_horizon(errors, 0.2) == 12
    errors[:4, 5] = 1.0
    assert conformal_horizon(errors, 0.2) == 5  # three of forty may fail


def test_a_profile_that_is_not_finite_is_no_number_on_the_card():
    errors, spreads = rollouts(np.random.default_rng(0), 40)
    errors[:10, 5:], spreads[:30, 10:] = np.inf, np.inf
    trust = summarize_trust((errors, spreads), bound=0.2, level=0.9)
    assert trust.profile["10"][0] > 0 and trust.profile["10"][1] is None
    assert trust.spread_profile["10"] is not None and trust.spread_profile["20"] is None
    assert Trust.from_json(json.loads(json.dumps(trust.to_json(), allow_nan=False))) == trust


def test_the_scale_covers_agents_that_nothing_is_known_of_too():
    errors, spreads = rollouts(np.random.default_rng(3), 400)
    strangers = 5 * errors, 2 * spreads
    alone, both = (summarize_trust((errors, spreads), *more, bound=0.2, level=0.9) for more in ((), (strangers,)))
    assert alone.stranger_coverage is None
    assert both.scale == pytest.approx(conformal_scale(*strangers, 0.2, 0.9), rel=1e-5)
    assert both.scale > alone.scale and both.coverage >= alone.coverage
    assert both.stranger_coverage >= 0.88
    milder = summarize_trust((errors, spreads), (errors, 2 * spreads), bound=0.2, level=0.9)
    assert milder.scale == alone.scale


def test_limits_survive_json():
    errors, spreads = rollouts(np.random.default_rng(0), 40)
    for trust in (
        summarize_trust((errors, spreads), bound=0.2, level=0.9),
        summarize_trust((errors[:5], spreads[:5]), bound=0.2, level=0.9),
    ):
        assert Trust.from_json(trust.to_json()) == trust
    with pytest.raises(ValueError, match="persim calibrate"):
        Trust.from_json({})


# --- logged data ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fleet() -> Transitions:
    """One trajectory of 60 steps of each of 60 MountainCar agents."""
    domain = DOMAINS["mountaincar"]
    rng, n, steps = np.random.default_rng(0), 60, 60
    physics = domain.physics(gravity=domain.population[:n, 0])
    state = np.stack([rng.uniform(-0.9, 0.2, n), rng.uniform(-0.04, 0.04, n)], axis=1)
    parts = []
    for _ in range(steps):
        action = rng.integers(3, size=n)
        following = physics(state, action)
        parts.append((state, action, following))
        state = following
    obs, action, next_obs = (np.swapaxes(np.stack(x), 0, 1).reshape(n * steps, -1) for x in zip(*parts, strict=True))
    agent = np.repeat(np.arange(n), steps)
    zeros = np.zeros(len(agent), dtype=np.float32)
    return Transitions(
        agent,
        obs.astype(np.float32),
        action[:, 0],
        zeros,
        next_obs.astype(np.float32),
        zeros > 0,
        agent,
        n,
        "fleet",
    )


def test_windows_end_with_their_trajectory(fleet):
    windows = cut_windows(fleet, np.array([5, 58, 119]), steps=4)
    assert windows.logged.sum(axis=1).tolist() == [4, 2, 1]
    assert windows.agent.tolist() == [0, 0, 1]
    np.testing.assert_array_equal(windows.obs[1], fleet.obs[58])
    np.testing.assert_array_equal(windows.following[0], fleet.next_obs[5:9])
    np.testing.assert_array_equal(windows.actions[1], fleet.action[[58, 59, 59, 59]])


def test_errors_are_those_of_the_mean_of_members_that_go_their_own_way(fleet):
    model = fit_ensemble(fleet, TINY, n_actions=3, progress=False).requires_grad_(False)
    windows = cut_windows(fleet, np.array([130, 3]), steps=3)
    known = factor_posterior(model, fleet)
    sums = known.evidence
    certain = FactorPosterior(known.prior, replace(sums, information=sums.information * 1e9, vector=sums.vector * 1e9))
    model = polished(model, certain)
    errors, spreads = open_loop(model, certain, windows)
    for row, agent in enumerate((2, 0)):
        dynamics = bind_agent(model, agent)
        now = np.repeat(windows.obs[row][None, None], 3, axis=0)
        for t in range(3):
            now = dynamics(now, windows.actions[row, t : t + 1])
            apart = (now.mean(0)[0] - windows.following[row, t]) / model.logged_std.numpy()
            assert errors[row, t] == pytest.approx(np.sqrt((apart**2).mean()), rel=1e-4)
            assert spreads[row, t] == pytest.approx(model.disagreement(now)[0], rel=1e-4)


@pytest.fixture(scope="module")
def model(fleet):
    return fit_ensemble(fleet, replace(TINY, epochs=20), n_actions=3, progress=False).requires_grad_(False)


def test_residuals_are_those_of_the_nearest_logged_transitions(fleet, model):
    rows = np.arange(0, len(fleet), 101)
    keys = fleet.obs / model.logged_std.numpy()
    found = NearestResiduals(model, fleet)(fleet.obs[rows], fleet.action[rows])
    assert found.shape == (3, len(rows), 2)
    for i, row in enumerate(rows):
        apart = np.where(fleet.action == fleet.action[row], np.linalg.norm(keys - keys[row], axis=1), np.inf)
        for member, near in enumerate(np.argsort(apart)[:3]):
            now = np.repeat(fleet.obs[near][None, None], 3, axis=0)
            predicted = bind_agent(model, int(fleet.agent[near]))(now, fleet.action[near : near + 1]).mean(axis=0)[0]
            np.testing.assert_allclose(found[member, i], fleet.next_obs[near] - predicted, atol=2e-7)


def test_residuals_grow_where_data_contradict_all_members(fleet, model):
    """A wall that no member knows of: the spread of members says nothing of it."""
    std = model.logged_std.numpy()
    beyond = fleet.obs[:, 0] > np.quantile(fleet.obs[:, 0], 0.8)
    following = fleet.next_obs.copy()
    following[beyond, 1] -= std[1]
    obs, action = fleet.obs[::7], fleet.action[::7]
    before = NearestResiduals(model, fleet)(obs, action)
    after = NearestResiduals(model, replace(fleet, next_obs=following))(obs, action)
    far, near = (np.quantile(fleet.obs[:, 0], q) for q in (0.9, 0.5))
    moved = (after - before)[:, obs[:, 0] > far]
    np.testing.assert_allclose(moved, np.broadcast_to([0, -std[1]], moved.shape), atol=1e-6, rtol=1e-4)
    np.testing.assert_array_equal(after[:, obs[:, 0] < near], before[:, obs[:, 0] < near])


def test_where_nothing_was_logged_nothing_is_promised(fleet, model):
    logged = NearestResiduals(model, fleet.select(fleet.action != 2))
    points = np.array([[-0.5, 0.0], [np.nan, 0.0], [-0.5, 0.0]])
    assert np.isfinite(logged(points, np.array([0, 1, 2]))).all(axis=(0, 2)).tolist() == [True, False, False]
    windows = cut_windows(fleet, np.array([5, 130]), steps=3)
    windows = replace(windows, actions=np.array([[0, 2, 0], [1, 0, 1]]))
    _, spreads = open_loop(model, factor_posterior(model, fleet), windows, logged=logged)
    assert np.isfinite(spreads).tolist() == [[True, False, False], [True, True, True]]


def test_a_few_logged_transitions_serve_all_members(fleet, model):
    two = np.flatnonzero(fleet.action == 2)[:2]
    keep = fleet.action != 2
    keep[two] = True
    found = NearestResiduals(model, fleet.select(keep))(fleet.obs[two[:1]], np.array([2]))
    np.testing.assert_array_equal(found[2], found[0])
    assert (found[1] != found[0]).any()


def test_actions_count_among_what_is_close_where_they_are_continuous(fleet):
    """The same observations with two pushes; data contradict the model for one of them."""
    push = np.where(fleet.action == 2, 1.0, -1.0).astype(np.float32)[:, None]
    data = replace(fleet, action=push)
    shape = ModelConfig(60, 2, n_actions=0, action_dim=1, rank=2, members=3, state_layers=(8,))
    model = FactoredEnsemble(shape).requires_grad_(False)
    model.logged_std.copy_(torch.from_numpy(data.obs.std(axis=0)))
    following = data.next_obs.copy()
    following[push[:, 0] > 0, 1] -= 7
    before = NearestResiduals(model, data)
    after = NearestResiduals(model, replace(data, next_obs=following))
    obs = data.obs[::50]
    for x, shift in ((1.0, -7.0), (-1.0, 0.0)):
        towards = np.full((len(obs), 1), x, dtype=np.float32)
        moved = (after(obs, towards) - before(obs, towards))[..., 1]
        assert np.median(moved) == pytest.approx(shift, abs=1e-5)


def test_residuals_set_off_the_rollouts_of_draws_as_the_dynamics_have_it(fleet, model):
    sums = factor_posterior(model, fleet).evidence
    known = FactorPosterior(
        factor_posterior(model, fleet).prior,
        replace(sums, information=sums.information * 1e12, vector=sums.vector * 1e12),
    )
    model = polished(model, known)
    windows, asked = cut_windows(fleet, np.array([5, 130]), steps=3), []
    push = np.array([[[0.01, 0.001]], [[0.0, 0.0]], [[-0.02, 0.002]]], dtype=np.float32)  # [M, 1, D]

    def logged(obs, action):
        asked.append((obs.copy(), action.copy()))
        return push

    errors, spreads = open_loop(model, known, windows)
    same, more = open_loop(model, known, windows, logged=logged)
    np.testing.assert_array_equal(same, errors)
    for row, agent in enumerate((0, 2)):
        dynamics, now = bind_agent(model, agent), np.repeat(windows.obs[row][None, None], 3, axis=0)
        other = now
        for t in range(3):
            np.testing.assert_allclose(asked[t][0][row], now.mean(axis=0)[0], rtol=1e-5, atol=1e-7)
            assert asked[t][1][row] == windows.actions[row, t]
            now, other = (dynamics(x, windows.actions[row, t : t + 1]) for x in (now, other))
            other = np.clip(other + push, model.obs_low.numpy(), model.obs_high.numpy())
            apart = np.square((other - now) / model.logged_std.numpy()).mean()
            assert more[row, t] == pytest.approx(np.sqrt(model.disagreement(now)[0] ** 2 + apart), rel=1e-3)


def test_a_card_from_before_residuals_keeps_its_meaning(fleet, model):
    errors, spreads = rollouts(np.random.default_rng(0), 40)
    trust = summarize_trust((errors, spreads), bound=0.2, level=0.9)
    stored = {k: value for k, value in trust.to_json().items() if k not in ("residuals", "stranger_coverage")}
    old = Trust.from_json(stored)
    assert not old.residuals and old.logged(model, fleet) is None
    assert isinstance(replace(old, residuals=True).logged(model, fleet), NearestResiduals)
    with pytest.raises(ValueError, match="persim calibrate"):
        Trust.from_json({**stored, "unheard": 1})


def test_calibration_sets_agents_aside_and_says_what_it_measured(fleet):
    recipe = replace(TINY, epochs=4)
    model = fit_ensemble(fleet, recipe, n_actions=3, progress=False).requires_grad_(False)
    options = {"bound": 0.5, "level": 0.8, "agents": 30, "steps": 20, "progress": False}
    trust = measure_trust(model, recipe, fleet, **options)
    assert trust.agents == 12 and trust.steps == 20  # a fifth of 60
    assert trust.stranger_coverage is not None and 0.5 <= trust.stranger_coverage <= 1
    assert trust.residuals
    assert 0 < trust.scale < np.inf and trust.coverage >= trust.band_coverage
    assert list(trust.profile) == ["1", "2", "5", "10", "20"]
    assert trust == measure_trust(model, recipe, fleet, **options)
    with pytest.raises(ValueError, match="12 agents are too few to calibrate on for level 0.9"):
        measure_trust(model, recipe, fleet, level=0.9, progress=False)
    model = polished(model, factor_posterior(model, fleet))
    known = factor_posterior(model, fleet)
    horizons, lengths = agent_horizons(model, known, trust, fleet, agent=17)
    assert len(horizons) == 100 and (horizons <= lengths).all() and lengths.max() == 20
    stricter, _ = agent_horizons(model, known, replace(trust, scale=10 * trust.scale), fleet, agent=17)
    assert (stricter <= horizons).all() and stricter.sum() < horizons.sum()


def test_twenty_agents_are_enough_for_nine_in_ten(monkeypatch, fleet, model):
    """2 / (1 - 0.9) is a little more than 20 in floating point."""

    def begins(*args, **keywords):
        raise InterruptedError("training begins")

    agent = np.arange(len(fleet)) % 100
    many = replace(fleet, agent=agent, trajectory=agent, n_agents=100)
    monkeypatch.setattr("persim_gym.simulator.diagnostics.calibrate.fit_ensemble", begins)
    with pytest.raises(InterruptedError, match="training begins"):
        measure_trust(model, TINY, many, level=0.9)
    with pytest.raises(ValueError, match="20 agents are too few to calibrate on for level 0.91; it takes 23"):
        measure_trust(model, TINY, many, level=0.91)


@pytest.mark.parametrize(
    "wrong",
    [{"level": 90}, {"level": 1.0}, {"level": 0.0}, {"bound": 0.0}, {"bound": np.nan}, {"agents": -3}, {"steps": 0}],
    ids=str,
)
def test_an_impossible_promise_is_refused_before_anything_is_trained(monkeypatch, fleet, model, wrong):
    monkeypatch.setattr("persim_gym.simulator.diagnostics.calibrate.fit_ensemble", None)
    with pytest.raises(ValueError, match="cannot calibrate for .*the level between 0 and 1"):
        measure_trust(model, TINY, fleet, **{"level": 0.5, **wrong})


def test_an_agent_without_data_is_trusted_less(fleet):
    """Its ensemble agrees on the population average; only the belief about its factor knows better."""
    data = fleet.select(fleet.agent != 7)
    model = fit_ensemble(data, replace(TINY, epochs=120), n_actions=3, progress=False).requires_grad_(False)
    beliefs = factor_posterior(model, data)
    model = polished(model, beliefs)
    windows = cut_windows(fleet, np.flatnonzero(fleet.agent == 7)[:40:5], steps=10)
    errors, spreads = open_loop(model, beliefs, windows)
    _, of_known = open_loop(model, beliefs, replace(windows, agent=np.full(8, 9)))
    assert np.median(spreads[:, -1]) > 1.5 * np.median(of_known[:, -1])
    assert np.median(errors[:, -1] / spreads[:, -1]) < 3


def test_the_command_line_calibrates_goes_on_after_an_interruption_and_says_what_is_covered(
    fleet, tmp_path, capsys, monkeypatch
):
    from persim_gym.cli import app

    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("PERSIM_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("persim_gym.datasets.load", lambda name: fleet)
    recipe = replace(TINY, epochs=2, polish=True)
    folder = train_simulator(
        fleet, name="small", domain="mountaincar", recipe=recipe, folder=tmp_path / "small", progress=False
    )
    (folder / "ranks.png").write_bytes(b"a figure")
    weights = load_simulator(str(folder)).card.sha256
    app(["evaluate", str(folder), "--agent", "7"], standalone_mode=False)
    text = capsys.readouterr().out
    assert "transitions seen" in text and "not measured: run `persim calibrate` on it" in text
    command = ["calibrate", str(folder), "--bound", "0.5", "--level", "0.8", "--agents", "12", "--steps", "10"]

    def full(*_):
        raise OSError("disk is full")

    def interrupted(*_):
        raise RuntimeError("out of power")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="out of power"):
        patch.setattr("persim_gym.simulator.diagnostics.calibrate.solve_closed_form", interrupted)
        app(command, standalone_mode=False)
    assert len(list((tmp_path / "home" / "training").iterdir())) == 1  # the sibling, trained
    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk is full"):
        patch.setattr("persim_gym.simulator.simulator.write_folder", full)
        app(command, standalone_mode=False)
    assert len(list((tmp_path / "home" / "training").iterdir())) == 1  # what was trained is not lost
    app(command, standalone_mode=False)
    assert not list((tmp_path / "home" / "training").iterdir())
    loaded = load_simulator(str(folder))
    assert loaded.card.sha256 == weights and Trust.from_json(loaded.card.trust).bound == 0.5
    app(["evaluate", str(folder), "--agent", "7"], standalone_mode=False)
    text = capsys.readouterr().out
    assert (folder / "ranks.png").read_bytes() == b"a figure"
    monkeypatch.setattr("persim_gym.datasets.load", lambda name: fleet.select(fleet.trajectory < 50))
    for words in (["evaluate", str(folder), "--agent", "7"], command):
        with pytest.raises(ValueError, match="is not what simulator small was trained on .*train again"):
            app(words, standalone_mode=False)
    page, trust = (folder / "README.md").read_text(), Trust.from_json(loaded.card.trust)
    assert (
        f"{trust.band_coverage:.1%}, horizon kept on {trust.coverage:.1%} of trajectories of 12 unseen agents" in page
    )
    assert (
        f"| 1 | {trust.profile['1'][0]:.4g} | {trust.profile['1'][1]:.4g} | {trust.spread_profile['1']:.4g} |" in page
    )
    assert f"spread by step, median      1: {trust.spread_profile['1']:.2g}" in text
    assert "in 80% of trajectories" in text and "12 agents" in text and "no other policy" in text
