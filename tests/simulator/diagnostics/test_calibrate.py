"""Calibration sets agents aside and measures what it promises."""

from dataclasses import replace

import numpy as np
import pytest
from support.missing import lacking
from support.recipes import TINY

from persim_gym.simulator.diagnostics.calibrate import measure
from persim_gym.simulator.diagnostics.trust import agent_horizons
from persim_gym.simulator.inference.personalize import polished
from persim_gym.simulator.inference.regression import factor_posterior
from persim_gym.simulator.training.problem import Problem
from persim_gym.simulator.training.trainer import fit_ensemble


def test_calibration_sets_agents_aside_and_says_what_it_measured(fleet, monkeypatch):
    monkeypatch.setattr("persim_gym.simulator.diagnostics.measure_noise.BAND_WINDOWS", 30)
    recipe = replace(TINY, epochs=4)
    model = fit_ensemble(fleet, recipe, n_actions=3, progress=False).requires_grad_(False)
    options = {"bound": 0.5, "level": 0.8, "agents": 30, "steps": 20, "progress": False}
    trust, noise = measure(recipe, fleet, Problem.of_model(model, clips=True), **options)
    assert list(noise.band_scale.steps) == [1, 2, 4, 8, 16] and (noise.noise.spread(fleet.obs, fleet.action) > 0).all()
    assert trust.agents == 12 and trust.steps == 20  # a fifth of 60
    assert trust.stranger_coverage is not None and 0.5 <= trust.stranger_coverage <= 1
    assert trust.residuals
    assert 0 < trust.scale < np.inf and trust.coverage >= trust.band_coverage
    assert list(trust.profile) == ["1", "2", "5", "10", "20"]
    again = measure(recipe, fleet, Problem.of_model(model, clips=True), **options)
    assert trust == again.trust
    np.testing.assert_array_equal(noise.band_scale.scale, again.noise.band_scale.scale)
    with pytest.raises(ValueError, match="12 agents are too few to calibrate on for level 0.9"):
        measure(recipe, fleet, Problem.of_model(model, clips=True), level=0.9, progress=False)
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
    monkeypatch.setattr("persim_gym.simulator.diagnostics.calibrate.train_model", begins)
    with pytest.raises(InterruptedError, match="training begins"):
        measure(TINY, many, Problem.of_model(model, clips=True), level=0.9)
    with pytest.raises(ValueError, match="20 agents are too few to calibrate on for level 0.91; it takes 23"):
        measure(TINY, many, Problem.of_model(model, clips=True), level=0.91)


@pytest.mark.parametrize(
    "wrong",
    [{"level": 90}, {"level": 1.0}, {"level": 0.0}, {"bound": 0.0}, {"bound": np.nan}, {"agents": -3}, {"steps": 0}],
    ids=str,
)
def test_an_impossible_promise_is_refused_before_anything_is_trained(monkeypatch, fleet, model, wrong):
    monkeypatch.setattr("persim_gym.simulator.diagnostics.calibrate.train_model", None)
    with pytest.raises(ValueError, match="cannot calibrate for .*the level between 0 and 1"):
        measure(TINY, fleet, Problem.of_model(model, clips=True), **{"level": 0.5, **wrong})


def test_trust_is_measured_where_values_and_steps_are_missing(fleet):
    recipe = replace(TINY, epochs=4)
    problem = Problem(3)
    options = {"bound": 0.5, "level": 0.8, "agents": 30, "steps": 20, "progress": False}
    whole = measure(recipe, fleet, problem, **options).trust
    assert whole == measure(recipe, replace(fleet, missing=True), problem, **options).trust
    keep = np.random.default_rng(0).random(len(fleet)) > 0.05
    trust, measured = measure(recipe, lacking(fleet).select(keep), problem, **options)
    assert np.isfinite(trust.scale) and 0.3 * whole.scale < trust.scale < 3 * whole.scale
    assert trust.profile["1"][0] == pytest.approx(whole.profile["1"][0], rel=0.5)
    assert all(value is not None for value in trust.spread_profile.values())
    assert all(
        np.isfinite(np.asarray(part)).all() for part in vars(measured.noise).values() if isinstance(part, np.ndarray)
    )
