"""Errors on logged data of which values and steps are missing."""

from dataclasses import replace

import numpy as np
import pytest
from support.missing import lacking

from persim_gym.simulator.diagnostics.metrics import known_mean, known_std, logged_error


def test_means_and_spreads_are_of_what_is_known():
    values = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    np.testing.assert_array_equal(known_mean(values.astype(np.float64), axis=0), values.astype(np.float64).mean(axis=0))
    np.testing.assert_array_equal(known_std(values), values.std(axis=0, dtype=np.float64))
    values[10:, 0], values[:, 2] = np.nan, np.nan
    assert known_std(values)[0] == pytest.approx(values[:10, 0].std(dtype=np.float64))
    assert np.isnan(known_std(values)[2]) and np.isnan(known_mean(values, axis=0)[2])


def test_an_error_counts_what_is_known(fleet, model):
    whole = logged_error(model, fleet, held_out=fleet)
    assert logged_error(model, replace(fleet, missing=True), held_out=replace(fleet, missing=True)) == whole
    lacks = lacking(fleet)
    found = logged_error(model, lacks, held_out=lacks)
    known = ~np.isnan(lacks.next_obs[:, 0])
    part = logged_error(model, fleet.select(known), held_out=fleet.select(known))
    for name in ("one_step_rmse", "one_step_r2"):
        assert found[name][0] == part[name][0] and found[name][1] == whole[name][1]
    for name in ("rmse", "no_change_rmse"):
        assert found["held_out"][name] == [part["held_out"][name][0], whole["held_out"][name][1]]
    assert found["open_loop"] == pytest.approx(whole["open_loop"], rel=0.2)
    never_seen = logged_error(model, lacking(fleet, share=1.0))
    assert never_seen["one_step_rmse"][0] is None and never_seen["one_step_rmse"][1] == whole["one_step_rmse"][1]


def test_of_an_episode_that_lacks_steps_the_longest_piece_is_rolled_out(fleet, model):
    whole = replace(fleet, missing=True)
    step = np.arange(len(fleet)) % 60
    found, longest = (logged_error(model, whole.select(some)) for some in (step != 9, step >= 10))
    assert found["open_loop"] == longest["open_loop"] and found["steps"] == longest["steps"] == [1, 5, 10, 20, 50]
