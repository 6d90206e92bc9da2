"""Rows of any number and mix are stepped as the model predicts, by compiled kernels and in blocks alike."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.populations import CONTINUOUS, population

from persim_gym.simulator.dynamics.batch import MAX_BELIEVED_CHANGE, MEAN_MEMBER, BatchDynamics
from persim_gym.simulator.dynamics.bind import bind_agent
from persim_gym.simulator.model.ablations import build_model
from persim_gym.simulator.model.config import ModelConfig

SHAPES = {
    "relu, even": ModelConfig(n_agents=7, obs_dim=2, n_actions=3, action_dim=0, rank=3, state_layers=(64,)),
    "silu, odd": ModelConfig(7, 3, 2, 0, rank=4, members=3, state_layers=(45,), activation="silu"),
    "one dimension": ModelConfig(7, 1, 2, 0, rank=1, members=2, state_layers=(8,)),
    "deep, discrete": ModelConfig(7, 4, 2, 0, rank=3, members=3, state_layers=(32, 16), activation="silu"),
    "small with extras": ModelConfig(7, 3, 2, 0, rank=3, members=3, state_layers=(24,), extra_dim=2),
    "deep with extras": ModelConfig(
        7, 3, 0, 2, rank=3, members=3, state_layers=(24, 8), action_layers=(8,), extra_dim=2
    ),
    "unfactorized": ModelConfig(7, 3, 2, 0, rank=3, members=3, extra_dim=2, variant="unfactorized"),
    "continuous": ModelConfig(7, 5, 0, 2, rank=3, members=3, state_layers=(32, 32), action_layers=(16,)),
}


def a_model(shape, clip=np.inf):
    """A model with units of its own everywhere."""
    model = build_model(shape, seed=1)
    generator = torch.Generator().manual_seed(2)
    for name in ("obs_std", "delta_std", "action_std", "logged_std"):
        getattr(model, name).copy_(0.5 + torch.rand(getattr(model, name).shape, generator=generator))
    for name in ("obs_mean", "delta_mean", "action_mean"):
        getattr(model, name).copy_(torch.randn(getattr(model, name).shape, generator=generator))
    model.obs_low.fill_(-clip)
    model.obs_high.fill_(clip)
    return model.requires_grad_(False)


def some_rows(shape, num, agents, seed=0):
    rng = np.random.default_rng(seed)
    obs = rng.normal(size=(num, shape.obs_dim)).astype(np.float32)
    if shape.n_actions:
        return obs, rng.integers(shape.n_actions, size=num), rng.choice(agents, size=num)
    return obs, rng.uniform(-1, 1, (num, shape.action_dim)).astype(np.float32), rng.choice(agents, size=num)


@pytest.mark.parametrize("bound", [0.1, 62.0, 1.2])
@pytest.mark.parametrize("name", ["relu, even", "deep, discrete"])
def test_the_mean_of_predictions_at_a_bound_is_the_bound(name, bound):
    shape = replace(SHAPES[name], members=5)
    model = a_model(shape, clip=bound)
    model.delta_mean.fill_(1e3)
    obs, action, which = some_rows(shape, 300, [3])
    following, _ = BatchDynamics(model, which.tolist()).step(obs, action, np.full(300, MEAN_MEMBER))
    assert (following == np.float32(bound)).all()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))
@pytest.mark.parametrize("num", [1, 7, 8, 33, 300])
@pytest.mark.parametrize("agents", [[4], [0, 6], list(range(7))], ids=["one", "two", "all"])
def test_a_step_is_what_the_model_predicts(shape, num, agents):
    model = a_model(shape, clip=1.5)
    obs, action, which = some_rows(shape, num, agents)
    each = model.predict(torch.from_numpy(which), torch.from_numpy(obs), torch.from_numpy(action)).numpy()
    member = np.random.default_rng(3).integers(-1, shape.members, size=num)
    expected = np.where((member == MEAN_MEMBER)[:, None], each.mean(axis=0), each[member, np.arange(num)])
    following, spread = BatchDynamics(model, which.tolist()).step(obs, action, member)
    np.testing.assert_allclose(following, expected, atol=2e-5)
    np.testing.assert_allclose(spread, model.disagreement(each), atol=2e-5)
    assert (following.dtype, spread.dtype) == (np.float32, np.float64)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))
@pytest.mark.parametrize("num", [1, 64])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
def test_a_row_that_is_not_finite_keeps_its_observation_and_harms_no_other(shape, num, bad):
    model = a_model(shape)
    obs, action, which = some_rows(shape, num, [2])
    rows = BatchDynamics(model, which.tolist())
    member = np.full(num, MEAN_MEMBER)
    good, spread = rows.step(obs, action, member)
    obs[-1, 0] = bad
    following, now = rows.step(obs, action, member)
    np.testing.assert_array_equal(following[-1, : shape.obs_dim], obs[-1])
    np.testing.assert_array_equal(following[-1, shape.obs_dim :], 0)
    assert now[-1] == np.inf
    np.testing.assert_array_equal(following[:-1], good[:-1])
    np.testing.assert_array_equal(now[:-1], spread[:-1])


@pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))
def test_a_change_is_believed_up_to_its_reach(shape):
    model = a_model(shape)
    obs, action, which = some_rows(shape, 1, [2])
    before = obs.copy()
    for factor, believed in ((0.5, True), (1.5, False)):
        model.delta_mean.fill_(0)
        model.delta_mean[0] = factor * MAX_BELIEVED_CHANGE * float(model.logged_std[0])
        following, spread = BatchDynamics(model, [2]).step(obs, action, np.array([MEAN_MEMBER]))
        assert np.isfinite(spread[0]) == believed
        assert (following[:, : shape.obs_dim] == before).all() != believed


@pytest.mark.parametrize("apart", [False, True])
def test_rows_of_a_large_model_can_be_rebound(apart):
    model = population(CONTINUOUS)
    rows = BatchDynamics(model, [3, 3, 9], apart=apart)
    obs, action = np.ones((3, 3), dtype=np.float32), np.full((3, 2), 0.5, dtype=np.float32)
    before = rows(obs, action)
    rows.rebind(1, bind_agent(model, 9).factor)
    after = rows(obs, action)
    np.testing.assert_array_equal(before[:, [0, 2]], after[:, [0, 2]])
    np.testing.assert_allclose(after[:, 1], after[:, 2], rtol=1e-6)
