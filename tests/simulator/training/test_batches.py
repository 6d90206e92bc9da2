"""Batches: every row once in an epoch, in the data's scales, without what a wall stopped."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.disk import SMALL_PARTS, big
from support.missing import lacking
from support.training import MANY
from support.walls import RECIPE

from persim_gym.simulator.model.ensemble import FactoredEnsemble
from persim_gym.simulator.model.walls import stopped
from persim_gym.simulator.training.batches import Parts, moments
from persim_gym.simulator.training.find_walls import find_walls
from persim_gym.simulator.training.trainer import fit_ensemble
from persim_gym.transition_store import write_transitions


def test_scales_of_a_file_are_those_of_the_data(file, cars):
    ours, theirs = moments(file), moments(big(cars))
    for one, other in ((ours.obs, theirs.obs), (ours.target, theirs.target)):
        for value, expected in zip(one, other, strict=True):
            torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-9)


def test_an_epoch_reads_every_row_once_in_another_order_each_time(file):
    model = FactoredEnsemble(replace(MANY, n_agents=6, obs_dim=2, n_actions=3))
    file.part_rows = SMALL_PARTS
    parts = Parts(file, seed=0)
    seen = []
    for epoch in (0, 1):
        read = [parts.read(model, epoch, part) for part in range(parts.number)]
        assert [len(r[0]) for r in read] == parts.lengths(epoch)
        seen.append(torch.cat([torch.column_stack([r[0], r[1], r[2]]) for r in read]).numpy())
    assert parts.number == 3 and max(parts.lengths(0)) <= SMALL_PARTS
    assert not np.array_equal(*seen)
    np.testing.assert_array_equal(*(np.sort(rows, axis=0) for rows in seen))


def test_what_a_wall_did_to_a_transition_has_no_part_in_training(pucks):
    touched = stopped(find_walls(pucks), torch.from_numpy(pucks.next_obs)).any(dim=1).numpy()
    other = pucks.next_obs.copy()
    other[touched, 2] += 100.0  # in a component that no wall sets
    model = fit_ensemble(pucks, RECIPE, n_actions=2, progress=False)
    part, changed = (Parts(data, 0).read(model, 0, 0) for data in (pucks, replace(pucks, next_obs=other)))
    for one, same in zip(part, changed, strict=True):
        assert torch.equal(one, same)
    agent, obs, action, target = part
    assert len(obs) == len(pucks)
    change = target * model.delta_std + model.delta_mean
    following = obs * model.obs_std + model.obs_mean + change
    assert following[:, 0].abs().max() < 1.0 - 1e-6


def test_scales_are_of_what_is_known(file, cars, tmp_path):
    data = lacking(big(cars))
    pieces = (data.select(data.trajectory == n) for n in range(54))
    known = ~np.isnan(data.next_obs[:, 0])
    change = (data.next_obs - data.obs)[known, 0].astype(np.float64)
    for ours in (moments(data), moments(write_transitions(tmp_path / "rows", pieces, n_agents=6, source="big"))):
        assert float(ours.target[0][0]) == pytest.approx(change.mean(), rel=1e-5)
        assert float(ours.target[1][0]) == pytest.approx(change.std(ddof=1), rel=1e-5)
        torch.testing.assert_close(ours.target[0][1:], moments(big(cars)).target[0][1:], rtol=1e-6, atol=1e-9)


def test_a_column_that_is_never_seen_has_scales_too(cars):
    mean, std = moments(lacking(cars, share=1.0)).target
    assert mean[0] == std[0] == 0 and torch.isfinite(mean).all() and torch.isfinite(std).all()
