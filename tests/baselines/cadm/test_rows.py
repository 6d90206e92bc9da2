"""The model as environments step it: histories slide along, and a reset clears them."""

import numpy as np
import pytest
from support.cadm import random_cadm

from persim_gym.baselines.cadm.dynamics import CadmDynamics
from persim_gym.baselines.cadm.rows import CadmRows
from persim_gym.history import History
from persim_gym.simulator.dynamics.batch import MEAN_MEMBER

MEAN = np.full(3, MEAN_MEMBER)
START = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)


def walk(rows, obs, steps=6):
    """Observations along some steps, [steps, B, D]."""
    seen = []
    for t in range(steps):
        obs, _ = rows.step(obs, (np.arange(len(obs)) + t) % 2, MEAN[: len(obs)])
        seen.append(obs)
    return np.stack(seen)


def test_steps_are_those_of_the_dynamics_told_the_same_history():
    model = random_cadm(probabilistic=False)
    rows, dynamics, history, obs = CadmRows(model, 3), CadmDynamics(model), History.none(3, 4, 3), START
    for t in range(6):
        action = (np.arange(3) + t) % 2
        following, spread = rows.step(obs, action, MEAN)
        np.testing.assert_allclose(following, dynamics.given(history)(obs, action)[0], atol=1e-5)
        np.testing.assert_array_equal(spread, 0)
        history, obs = history.after(obs, action, following), following


def test_a_row_among_others_is_the_row_alone():
    model = random_cadm()
    together = walk(CadmRows(model, 3), START)
    np.testing.assert_allclose(walk(CadmRows(model, 1), START[:1])[:, 0], together[:, 0], atol=1e-5)


def test_rows_that_begin_forget():
    rows = CadmRows(random_cadm(), 3)
    fresh = walk(rows, START)
    on = walk(rows, START)
    rows.begin(np.arange(3))
    again = walk(rows, START)
    np.testing.assert_array_equal(again, fresh)
    assert np.abs(on - fresh).max() > 1e-4
    rows.begin(np.array([1]))
    mixed = walk(rows, START)
    np.testing.assert_allclose(mixed[:, 1], fresh[:, 1], atol=1e-5)
    assert np.abs(mixed[:, 0] - fresh[:, 0]).max() > 1e-4


@pytest.mark.parametrize("member", [0, 1])
def test_a_chosen_member_predicts_by_its_own_context(member):
    model = random_cadm()
    one = CadmRows(model, 3).step(START, np.zeros(3, np.int64), np.full(3, member))[0]
    other = CadmRows(model, 3).step(START, np.zeros(3, np.int64), np.full(3, 1 - member))[0]
    mean, spread = CadmRows(model, 3).step(START, np.zeros(3, np.int64), MEAN)
    np.testing.assert_allclose((one + other) / 2, mean, atol=1e-5)
    assert (spread > 0).all()
