"""Residuals of the nearest logged transitions."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.missing import lacking, never

from persim_gym.simulator.diagnostics.nearest_residuals import NEIGHBOURS, NearestResiduals
from persim_gym.simulator.diagnostics.open_loop import cut_windows, open_loop
from persim_gym.simulator.dynamics.bind import bind_agent
from persim_gym.simulator.inference.personalize import polished
from persim_gym.simulator.inference.posterior import FactorPosterior
from persim_gym.simulator.inference.regression import factor_posterior
from persim_gym.simulator.model.config import ModelConfig
from persim_gym.simulator.model.ensemble import FactoredEnsemble


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


def test_a_draw_is_the_residual_of_a_neighbour_chosen_by_its_number(fleet, model):
    nearest = NearestResiduals(model, fleet)
    obs, action = np.repeat(fleet.obs[100:101], NEIGHBOURS, axis=0), np.repeat(fleet.action[100:101], NEIGHBOURS)
    uniform = (np.arange(NEIGHBOURS)[:, None] + 0.5) / NEIGHBOURS
    drawn = nearest.draw(obs, action, uniform)
    np.testing.assert_array_equal(drawn[:3], nearest(obs[:1], action[:1])[:, 0])
    assert len(np.unique(drawn, axis=0)) == NEIGHBOURS
    np.testing.assert_array_equal(nearest.draw(obs[:1], action[:1], np.ones((1, 1))), drawn[-1:])


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
    sums = factor_posterior(model, fleet).statistics
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


def test_a_residual_that_is_not_known_is_that_of_the_nearest_one_that_is(fleet, model):
    rows = np.arange(0, len(fleet), 50)
    whole = NearestResiduals(model, fleet)(fleet.obs[rows], fleet.action[rows])
    lacks = NearestResiduals(model, lacking(fleet))(fleet.obs[rows], fleet.action[rows])
    assert np.isfinite(lacks).all()
    np.testing.assert_array_equal(lacks[..., 1], whole[..., 1])
    assert 0 < (lacks[..., 0] != whole[..., 0]).mean() < 0.2
    assert np.sqrt(np.square(lacks - whole).mean()) < 0.5 * whole.std()
    blind = NearestResiduals(model, never(fleet, agent=7, column=0))(fleet.obs[rows], fleet.action[rows])
    assert np.isfinite(blind).all()
    nothing = NearestResiduals(model, lacking(fleet, share=1.0))(fleet.obs[rows], fleet.action[rows])
    assert np.isnan(nothing[..., 0]).all() and np.isfinite(nothing[..., 1]).all()
