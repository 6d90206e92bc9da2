"""Particles, contexts and noise of the model as planners see it."""

import numpy as np
import pytest
from gymnasium import spaces
from support.cadm import constant_cadm, random_cadm

from persim_gym.baselines.cadm.dynamics import CadmDynamics
from persim_gym.history import History
from persim_gym.planning.scoring import rollout_returns
from persim_gym.task import Task, never

ROWS, SIZE = 6, 3
RNG = np.random.default_rng(0)
OBS = RNG.normal(size=(ROWS, SIZE)).astype(np.float32)
ACTION = RNG.integers(2, size=ROWS)
TASK = Task(lambda obs, action, next_obs: next_obs[..., 0], never)


def histories(rows=ROWS, seed=1):
    """Random steps, not all known."""
    rng = np.random.default_rng(seed)
    known = np.arange(4) >= rng.integers(3, size=(rows, 1))
    change = rng.normal(size=(rows, 4, SIZE)).astype(np.float32) * known[..., None]
    return History(change, rng.integers(2, size=(rows, 4)) * known, known)


def row(history, i):
    """One row of a history."""
    return History(*(values[i : i + 1] for values in history))


@pytest.mark.parametrize("probabilistic", [True, False])
def test_a_row_is_predicted_by_its_own_history(probabilistic):
    dynamics = CadmDynamics(random_cadm(probabilistic=probabilistic), 4)
    told = histories()
    together = dynamics.given(told)(OBS, ACTION)
    for i in range(ROWS):
        alone = dynamics.given(row(told, i))(OBS[i : i + 1], ACTION[i : i + 1])
        np.testing.assert_allclose(together[:, i : i + 1], alone, atol=1e-5)
    untold = dynamics(OBS, ACTION)
    assert np.abs(untold - together)[..., :SIZE].max() > 1e-3


def test_each_particle_keeps_its_member():
    dynamics = CadmDynamics(constant_cadm([0.0, 1.0, 5.0], -40.0), 6)
    now = np.broadcast_to(OBS, (6, ROWS, SIZE))
    for _ in range(3):
        now = dynamics(now, ACTION)
    for particle in range(6):
        change = 3 * [0.0, 1.0, 5.0][particle // 2]
        np.testing.assert_allclose(now[particle, :, :SIZE], OBS + change, atol=1e-5)


def test_particles_see_the_context_of_their_own_member_alone():
    model, other = random_cadm(), random_cadm()
    for p in other.encoder.parameters():
        p[1] += 0.5
    told = histories(1)
    one, two = (CadmDynamics(m, 4).given(told)(OBS, ACTION) for m in (model, other))
    np.testing.assert_array_equal(one[:2], two[:2])
    assert np.abs(one[2:] - two[2:]).max() > 1e-3


def test_particles_draw_from_their_gaussian():
    dynamics = CadmDynamics(constant_cadm([2.0] * 2, np.log(0.09)), 2000)
    drawn = dynamics(OBS, ACTION)[..., :SIZE] - OBS
    np.testing.assert_allclose(drawn.mean(0), 2.0, atol=0.03)
    np.testing.assert_allclose(drawn.std(0), 0.3, atol=0.02)


def test_noise_differs_between_particles_steps_and_histories_and_not_between_candidates():
    dynamics = CadmDynamics(constant_cadm([0.0], 0.0), 2)
    first = dynamics(np.zeros((2, ROWS, SIZE), np.float32), ACTION)
    second = dynamics(first, ACTION)
    np.testing.assert_array_equal(first[..., SIZE], 1)
    np.testing.assert_array_equal(second[..., SIZE], 2)
    moved, moved_again = first[..., :SIZE], second[..., :SIZE] - first[..., :SIZE]
    np.testing.assert_array_equal(moved, np.broadcast_to(moved[:, :1], moved.shape))
    assert np.abs(moved[0] - moved[1]).min() > 0
    assert np.abs(moved - moved_again).min() > 0
    told = dynamics.given(histories())(np.zeros((2, ROWS, SIZE), np.float32), ACTION)[0, :, :SIZE]
    assert len(np.unique(told[:, 0])) == ROWS


def test_a_seed_makes_sampling_the_same():
    model, told = random_cadm(), histories(1)
    one, again, other = (CadmDynamics(model, 4, seed).given(told)(OBS, ACTION) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other)[..., :SIZE].max() > 1e-3


@pytest.mark.parametrize("tile", [None, 7])
def test_returns_do_not_depend_on_the_order_of_candidates(tile):
    dynamics = CadmDynamics(random_cadm(), 4).given(histories(1))
    dynamics.tile = tile
    candidates = np.random.default_rng(2).integers(2, size=(40, 70))
    order = np.random.default_rng(3).permutation(40)
    returns = rollout_returns(dynamics, TASK, OBS[0], candidates)
    np.testing.assert_allclose(rollout_returns(dynamics, TASK, OBS[0], candidates[order]), returns[order], rtol=1e-4)


@pytest.mark.parametrize(
    "obs, action",
    [(OBS, ACTION[:-1]), (OBS[:, :2], ACTION), (OBS, ACTION + 5), (OBS, ACTION * 0.5), (OBS[:2], ACTION[:2])],
)
def test_what_does_not_fit_is_refused(obs, action):
    with pytest.raises(ValueError, match="do not fit|expected actions"):
        CadmDynamics(random_cadm(), 4).given(histories())(obs, action)


def test_continuous_actions():
    space = spaces.Box(-1, 1, (2,), np.float32)
    dynamics = CadmDynamics(random_cadm(n_actions=0, action_dim=2), 4)
    actions = np.stack([space.sample() for _ in range(ROWS)])
    assert dynamics(OBS, actions).shape == (4, ROWS, SIZE + 1)
    with pytest.raises(ValueError, match="do not fit"):
        dynamics(OBS, actions[:, :1])
