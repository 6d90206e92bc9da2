"""Windows are taken out of one trajectory at a time, and are what was logged."""

import numpy as np
import pytest
import torch
from support.cadm import SMALL, gains, random_cadm

from persim_gym.baselines.cadm.config import FEATURES, CadmShape
from persim_gym.baselines.cadm.model import CadmModel
from persim_gym.baselines.cadm.windows import logged_steps, set_scales, split_trajectories, trajectory_bounds
from persim_gym.transitions import Transitions


def uneven(lengths=(1, 5, 3)):
    """Trajectories of different lengths whose discrete actions and observations all differ."""
    count = sum(lengths)
    obs = np.arange(count * 3, dtype=np.float32).reshape(count, 3) ** 1.5
    return Transitions(
        agent=np.repeat(np.arange(len(lengths)), lengths),
        obs=obs,
        action=np.arange(count) % 2,
        reward=np.zeros(count),
        next_obs=obs + np.sin(obs),
        terminated=np.zeros(count, bool),
        trajectory=np.repeat(np.arange(len(lengths)), lengths),
        n_agents=len(lengths),
    )


@pytest.mark.parametrize("steps", [1, 3, 10])
def test_the_past_of_a_row_is_that_of_its_trajectory_alone(steps):
    data = uneven()
    model = random_cadm(probabilistic=False)
    set_scales(model, data)
    logged = logged_steps(model, data)
    rows = torch.arange(len(data))
    past = logged.past_of(rows, steps).reshape(len(data), steps, -1)
    for k in range(len(data)):
        for back in range(1, steps + 1):
            other = k - back
            own = other >= 0 and data.trajectory[other] == data.trajectory[k]
            expected = np.zeros(5)
            if own:
                change = (data.next_obs[other] - data.obs[other]) / model.change_std.numpy()
                expected = np.r_[change, np.eye(2)[data.action[other]]]
            np.testing.assert_allclose(past[k, steps - back], expected, rtol=1e-5, atol=1e-6)


def test_the_future_of_a_row_ends_with_its_trajectory():
    logged = logged_steps(random_cadm(probabilistic=False), uneven((1, 5, 3)))
    ahead, there = logged.future_of(torch.tensor([0, 3, 8]), torch.arange(4))
    np.testing.assert_array_equal(there, [[1, 0, 0, 0], [1, 1, 1, 0], [1, 0, 0, 0]])
    assert ahead[1].tolist() == [3, 4, 5, 6]
    assert ahead.max() < 9


def test_the_past_does_not_hold_the_present_action():
    data = gains()
    model = random_cadm(obs_dim=1, n_actions=0, action_dim=1, probabilistic=False)
    row = torch.tensor([7])
    before = logged_steps(model, data)
    data.action[7] += 1.0
    after = logged_steps(model, data)
    assert torch.equal(before.past_of(row, 4), after.past_of(row, 4))
    assert not torch.equal(before.forward_inputs[7], after.forward_inputs[7])
    assert not torch.equal(before.past_of(row + 1, 4), after.past_of(row + 1, 4))


def test_targets_are_scaled_changes_forward_and_their_negatives_backward():
    data = uneven()
    model = random_cadm(probabilistic=False)
    set_scales(model, data)
    logged = logged_steps(model, data)
    np.testing.assert_allclose(logged.forward_target.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(logged.forward_target.std(0, correction=0), 1, rtol=1e-5)
    np.testing.assert_allclose(logged.backward_target, -logged.forward_target, atol=1e-6)


def test_half_cheetah_is_seen_without_velocity_and_with_the_pitch_as_an_angle():
    model = CadmModel(CadmShape(18, 0, 6, 1, False, FEATURES["halfcheetah"]), SMALL)
    rng = np.random.default_rng(0)
    obs, following = (torch.from_numpy(rng.normal(size=(5, 18)).astype(np.float32)) for _ in range(2))
    turned = obs.clone()
    turned[:, 0] += 3.0
    turned[:, 2] += 2 * np.pi
    assert model.raw_inputs(obs).shape == (5, 18)
    np.testing.assert_allclose(model.raw_inputs(obs), model.raw_inputs(turned), atol=1e-5)
    target = model.raw_target(obs, following)
    assert torch.equal(target[:, 0], following[:, 0])
    assert torch.equal(target[:, 1:], following[:, 1:] - obs[:, 1:])


def test_trajectory_bounds():
    first, end = trajectory_bounds(np.array([4, 4, 9, 2, 2, 2]))
    assert first.tolist() == [0, 0, 2, 3, 3, 3]
    assert end.tolist() == [2, 2, 3, 6, 6, 6]


@pytest.mark.parametrize("share, held", [(0.0, 0), (0.25, 5), (0.99, 19)])
def test_whole_trajectories_are_held_out(share, held):
    trajectory = np.repeat(np.arange(20), 7)
    chosen = split_trajectories(trajectory, share, seed=3)
    by_trajectory = chosen.reshape(20, 7)
    assert (by_trajectory.all(1) == by_trajectory.any(1)).all()
    assert by_trajectory.all(1).sum() == held
    assert (chosen == split_trajectories(trajectory, share, seed=3)).all()


def test_a_single_trajectory_stays_for_training():
    assert not split_trajectories(np.zeros(9, dtype=np.int64), 0.5, seed=0).any()
