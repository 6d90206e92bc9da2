"""Open-loop errors of windows of logged trajectories."""

from dataclasses import replace

import numpy as np
import pytest
from support.recipes import TINY

from persim_gym.simulator.diagnostics.open_loop import cut_windows, open_loop
from persim_gym.simulator.dynamics.bind import bind_agent
from persim_gym.simulator.inference.personalize import polished
from persim_gym.simulator.inference.posterior import FactorPosterior
from persim_gym.simulator.inference.regression import factor_posterior
from persim_gym.simulator.training.trainer import fit_ensemble


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
    sums = known.statistics
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


def test_windows_end_at_gaps(fleet):
    some = replace(fleet, missing=True).select(np.arange(len(fleet)) % 60 != 8)
    windows = cut_windows(some, np.array([5, 60]), steps=4)
    assert windows.logged.sum(axis=1).tolist() == [3, 4]
    np.testing.assert_array_equal(windows.following[0, :3], fleet.next_obs[5:8])


def test_errors_are_of_the_dimensions_that_were_logged(fleet):
    model = fit_ensemble(fleet, TINY, n_actions=3, progress=False).requires_grad_(False)
    beliefs, starts = factor_posterior(model, fleet), np.arange(0, 600, 60)
    whole = open_loop(model, beliefs, cut_windows(fleet, starts, steps=5))
    following = fleet.next_obs.copy()
    following[starts + 2, 0] = following[starts + 3] = np.nan
    windows = cut_windows(replace(fleet, next_obs=following, missing=True), starts, steps=5)
    errors, spreads = open_loop(model, beliefs, windows)
    assert windows.logged.all()
    np.testing.assert_array_equal(spreads, whole[1])
    np.testing.assert_array_equal(errors[:, [0, 1, 4]], whole[0][:, [0, 1, 4]])
    assert np.isnan(errors[:, 3]).all() and np.isfinite(errors[:, 2]).all()
    hidden = cut_windows(replace(fleet, next_obs=np.where(np.isnan(following), 1e3, following)), starts, steps=5)
    assert (open_loop(model, beliefs, hidden)[0][:, 2] > errors[:, 2]).all()
