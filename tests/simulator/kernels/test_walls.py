"""Everything that predicts stops at walls alike."""

import numpy as np
import pytest
import torch
from support.walls import SHAPES, inputs, walled

from persim_gym.simulator.dynamics.batch import BatchDynamics
from persim_gym.simulator.dynamics.bind import bind_agent


@pytest.mark.parametrize("name", SHAPES)
def test_everything_that_predicts_stops_at_walls(name):
    shape = SHAPES[name]
    model, open_model = walled(shape), walled(shape, np.inf)
    obs, action = inputs(shape)
    agents = np.arange(len(obs)) % shape.n_agents
    same = torch.from_numpy(agents), torch.from_numpy(obs), torch.from_numpy(action)
    free, expected = open_model.predict(*same).numpy(), model.predict(*same).numpy()
    above, below = free[..., 0] >= 0.1, free[..., 1] <= -0.1
    assert 0.1 < above.mean() < 0.9 and 0.1 < below.mean() < 0.9
    by_hand = free.copy()
    by_hand[above, 0], by_hand[above, 2], by_hand[below, 1] = 0.1, 7.0, -0.1
    np.testing.assert_allclose(expected, by_hand, atol=1e-6)

    rows = BatchDynamics(model, agents.tolist())
    np.testing.assert_allclose(rows(obs, action), expected, atol=2e-5)
    for member in range(shape.members):
        stepped, _ = rows.step(obs, action, np.full(len(obs), member))
        np.testing.assert_allclose(stepped, expected[member], atol=2e-5)
    dynamics = bind_agent(model, 2)
    two = model.predict(torch.full((len(obs),), 2), *same[1:]).numpy()
    np.testing.assert_allclose(dynamics(obs, action), two, atol=2e-5)
    np.testing.assert_allclose(dynamics(*same[1:]).numpy(), two, atol=2e-5)


@pytest.mark.parametrize("name", [name for name in SHAPES if name != "unfactorized"])
def test_rollouts_stop_at_walls_as_the_calls_do(name):
    shape = SHAPES[name]
    dynamics = bind_agent(walled(shape), 1)
    obs, action = inputs(shape)
    now = np.repeat(obs[None], shape.members, axis=0)
    actions = np.stack([action] * 4, axis=1)
    steps = []
    each = now
    for _ in range(4):
        each = dynamics(each, action)
        steps.append(each)
    np.testing.assert_allclose(dynamics.rollout(now, actions), np.stack(steps, axis=2), rtol=1e-4, atol=1e-4)
    assert (np.stack(steps)[..., 2] == 7.0).any()


@pytest.mark.parametrize("name", ["small", "deep, discrete", "deep"])
def test_no_wall_hides_a_prediction_that_is_no_number(name):
    shape = SHAPES[name]
    model = walled(shape)
    model.delta_mean[0], model.delta_mean[2] = 1e3, torch.nan
    obs, action = inputs(shape)
    after, spread = BatchDynamics(model, [0] * len(obs)).step(obs, action, np.zeros(len(obs), dtype=np.int64))
    assert np.isinf(spread).all()
    np.testing.assert_array_equal(after, obs)
    assert np.isnan(bind_agent(model, 0)(obs, action)[..., 2]).all()
