"""Dynamics of one agent: single calls as the model predicts, fused rollouts as the calls, one after the other."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.ends import stopped
from support.models import DISCRETE, both_activations, every_shape, random_inputs, random_model
from support.recipes import TINY
from support.rollouts import SHAPES, drawn, inputs, needs_bytes

from persim_gym.simulator.dynamics.bind import bind_agent
from persim_gym.simulator.training.trainer import fit_ensemble
from persim_gym.task import Ends


def one_by_one(dynamics, obs, actions):
    following = []
    for t in range(actions.shape[1]):
        obs = dynamics(obs, actions[:, t])
        following.append(obs)
    return np.stack(following, axis=2)


@pytest.mark.parametrize("bounded", [False, True])
@pytest.mark.parametrize("name", SHAPES)
def test_a_rollout_equals_the_calls(name, bounded):
    dynamics = drawn(SHAPES[name], bounded)
    obs, actions = inputs(SHAPES[name])
    expected = one_by_one(dynamics, obs, actions)
    ahead = dynamics.rollout(obs, actions)
    assert ahead.shape == expected.shape
    np.testing.assert_allclose(ahead, expected, rtol=2e-5, atol=2e-5)
    if bounded:
        assert expected.min() == np.float32(-0.3) and expected.max() == np.float32(0.4)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("name", ["silu", "deep"])
def test_threads_do_not_change_a_rollout(name, threads, torch_threads):
    dynamics = drawn(SHAPES[name])
    obs, actions = inputs(SHAPES[name], 1100)
    alone = dynamics.rollout(obs, actions)
    torch_threads(threads)
    np.testing.assert_allclose(dynamics.rollout(obs, actions), alone, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["relu", "silu", "deep", "deep, relu", "odd widths"])
@pytest.mark.parametrize("of_bytes", [False, pytest.param(True, marks=needs_bytes)])
def test_what_is_not_finite_stays_so_and_spoils_no_other_candidate(name, of_bytes):
    dynamics = drawn(SHAPES[name], bounded=True, quantize=of_bytes)
    obs, actions = inputs(SHAPES[name])
    clean = dynamics.rollout(obs, actions)
    obs[0, 5, 0] = np.nan
    spoiled = dynamics.rollout(obs, actions)
    assert np.isnan(spoiled[0, 5]).all()
    others = np.arange(len(actions)) != 5
    np.testing.assert_allclose(spoiled[:, others], clean[:, others], rtol=1e-6, atol=1e-6)


@needs_bytes
@pytest.mark.parametrize("name", ["deep", "deep, relu", "odd widths"])
@pytest.mark.parametrize("part", ["state", "action"])
@pytest.mark.parametrize("layer", [0, -1])
def test_a_weight_that_is_no_number_gives_predictions_that_are_none(name, part, layer):
    model = drawn(SHAPES[name])._model
    getattr(model, f"{part}_encoder").layers[layer].weight.data[0, 0, 1] = np.nan
    obs, actions = inputs(SHAPES[name])
    dynamics = bind_agent(model, 1, quantize=True)
    following = dynamics.rollout(obs, actions)
    np.testing.assert_array_equal(np.isfinite(following), np.isfinite(one_by_one(dynamics, obs, actions)))
    assert not np.isfinite(following[0]).all() and np.isfinite(following[1]).all()


@pytest.mark.parametrize("of_bytes", [False, pytest.param(True, marks=needs_bytes)])
def test_units_far_below_zero_are_off(of_bytes):
    model = drawn(SHAPES["deep"])._model
    model.state_encoder.layers[0].bias.data[:, 0, 3] = -1e8
    obs, actions = inputs(SHAPES["deep"])
    dynamics = bind_agent(model, 1, of_bytes)
    expected = dynamics(obs, actions[:, 0])
    np.testing.assert_allclose(
        dynamics.rollout(obs, actions[:, :1])[:, :, 0], expected, atol=2e-3 if of_bytes else 1e-5
    )


@needs_bytes
@pytest.mark.parametrize("count", [1, 8, 9, 16, 21])
def test_bytes_of_a_candidate_do_not_depend_on_how_many_are_beside_it(count):
    dynamics = drawn(SHAPES["deep"], quantize=True)
    obs, actions = inputs(SHAPES["deep"], 64)
    np.testing.assert_array_equal(
        dynamics.rollout(obs[:, -count:], actions[-count:]), dynamics.rollout(obs, actions)[:, -count:]
    )


@needs_bytes
@pytest.mark.parametrize("name", ["deep", "deep, relu", "odd widths", "linear action encoder", "deep learned task"])
def test_bytes_move_predictions_by_little(name):
    shape = SHAPES[name]
    obs, actions = inputs(shape, 200, 10)
    dynamics = drawn(shape, quantize=True)
    plain = one_by_one(dynamics, obs, actions)
    error = np.abs(dynamics.rollout(obs, actions) - plain).max(axis=(0, 1, 3))
    assert 1e-5 < error[0] < 0.015 * plain.std()
    assert error[-1] < 0.1 * plain.std()


def test_rollouts_refuse_what_does_not_fit():
    discrete, continuous = drawn(SHAPES["relu"]), drawn(SHAPES["deep"])
    obs, actions = inputs(SHAPES["relu"])
    with pytest.raises(ValueError, match="expected actions of 0–1"):
        discrete.rollout(obs, actions + 1)
    with pytest.raises(ValueError, match=r"observations \(2, 36, 2\) and actions \(37, 6\) do not fit"):
        discrete.rollout(obs[:, 1:], actions)
    with pytest.raises(ValueError, match="do not fit"):
        continuous.rollout(inputs(SHAPES["deep"])[0], actions)


@pytest.mark.parametrize("name", ["relu", "learned task", "deep, discrete", "deep"])
def test_calls_refuse_observations_of_another_size(name):
    shape = SHAPES[name]
    obs, actions = inputs(shape)
    with pytest.raises((ValueError, RuntimeError)):
        drawn(shape)(obs[..., :-1], actions[:, 0])
    with pytest.raises(ValueError, match="do not fit"):
        drawn(shape).rollout(obs[..., :-1], actions)


@both_activations
@every_shape
def test_dynamics_of_an_agent_equal_the_model(shape, activation):
    model = random_model(replace(shape, activation=activation))
    _, obs, action = random_inputs(shape, 50)
    each = torch.stack([obs, obs + 0.1, obs - 0.1])  # every member at an observation of its own
    with torch.no_grad():
        for agent in (0, 5):
            rows = torch.full((50,), agent)
            for start in (obs, each):
                predicted = bind_agent(model, agent)(start, action)
                torch.testing.assert_close(predicted, model.predict(rows, start, action), rtol=0, atol=1e-13)


@both_activations
@every_shape
def test_dynamics_take_numpy_and_give_numpy(shape, activation):
    model = random_model(replace(shape, activation=activation)).float()
    _, obs, action = random_inputs(shape, 50)
    each = torch.stack([obs, obs + 0.1, obs - 0.1]).float()
    with torch.no_grad():
        expected = model.predict(torch.full((50,), 2), each, action if shape.n_actions else action.float())
    for given in (each.numpy(), np.asfortranarray(each.numpy().astype(np.float64))):
        predicted = bind_agent(model, 2)(given, action.numpy())
        assert predicted.dtype == np.float32
        np.testing.assert_allclose(predicted, expected, atol=5e-6)


@pytest.mark.parametrize("actions", [[0, 4], [-1, 0], [0]], ids=str)
def test_dynamics_refuse_actions_that_do_not_exist(actions):
    with pytest.raises(ValueError, match="2 actions of 0–3"):
        bind_agent(random_model(DISCRETE).float(), 0)(np.zeros((2, 3)), np.array(actions))


@every_shape
def test_an_observation_that_is_not_a_number_stays_one(shape):
    _, obs, action = random_inputs(shape, 3)
    obs[1] = torch.nan
    predicted = bind_agent(random_model(shape).float(), 0)(obs.numpy(), action.numpy())
    np.testing.assert_array_equal(np.isnan(predicted).all(axis=-1), [[False, True, False]] * 3)


def test_dynamics_leave_their_input_alone():
    dynamics = bind_agent(random_model(DISCRETE).float(), 0)
    obs = torch.full((3, 10, 3), 9.0)  # out of bounds: the prediction is clipped, the input is not
    dynamics(obs, torch.zeros(10, dtype=torch.int64))
    assert (obs == 9.0).all()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("some", [False, True], ids=["all run", "some run"])
@pytest.mark.parametrize("name", SHAPES)
def test_a_candidate_is_moved_till_it_ends_and_not_once_more(name, some, threads, moved, torch_threads):
    torch_threads(threads)
    shape, dynamics = SHAPES[name], drawn(SHAPES[name])
    obs, actions = inputs(shape, 150, 12)
    live = np.random.default_rng(3).random(obs.shape[:2]) < 0.6 if some else np.ones(obs.shape[:2], dtype=bool)
    ahead = dynamics.rollout(obs, actions)
    last = shape.out_dim - 1
    low, high = np.quantile(ahead[..., last], [0.1, 0.9]).tolist()
    rule = Ends("not all", ((last, ">", low), (last, "<=", high)))
    expected, steps = stopped(ahead, rule, live)
    assert len(np.unique(steps[live])) >= (2 if shape.obs_dim == 1 else 5) and steps[live].mean() < 11
    moved.clear()
    found = dynamics.rollout(obs, actions, rule, live)
    np.testing.assert_allclose(found[live], expected[live], rtol=1e-5, atol=1e-6)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(stopped(found, rule, live)[1], steps)
    if name == "deep, discrete":  # members go together
        assert sum(moved) == shape.members * steps.max(axis=0).sum()
    else:
        assert sum(moved) == steps.sum()


def test_rules_of_components_that_are_not_there_are_refused():
    dynamics, (obs, actions) = drawn(SHAPES["relu"]), inputs(SHAPES["relu"])
    with pytest.raises(ValueError, match="compares more components than the 2 of predictions"):
        dynamics.rollout(obs, actions, Ends("any", ((range(3), ">", 0.0),)))
    with pytest.raises(ValueError, match="do not fit"):
        dynamics.rollout(obs, actions, live=np.ones((2, 5), dtype=bool))


# --- learned reward and termination -------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [(16,), (16, 16)], ids=["compiled", "tensors"])
def test_learned_columns_are_those_of_the_general_model(cars, layers):
    model = fit_ensemble(
        cars, replace(TINY, epochs=1, state_layers=layers), n_actions=3, learn_task=True, progress=False
    )
    inputs = [torch.from_numpy(values) for values in (np.full(600, 2), cars.obs, cars.action)]
    with torch.no_grad():
        expected = model.predict(*inputs)
    assert expected.shape == (3, 600, 4)
    np.testing.assert_allclose(bind_agent(model, 2)(cars.obs, cars.action), expected, atol=5e-6)
    np.testing.assert_allclose(model.disagreement(expected.numpy()), model.disagreement(expected.numpy()[..., :2]))


# --- the page -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [(16,), (16, 16)], ids=["compiled", "tensors"])
def test_a_rollout_of_learned_columns_equals_single_calls(cars, layers):
    model = fit_ensemble(
        cars, replace(TINY, epochs=1, state_layers=layers), n_actions=3, learn_task=True, progress=False
    )
    dynamics, rng = bind_agent(model, 2), np.random.default_rng(0)
    now, actions = np.broadcast_to(cars.obs[:40], (3, 40, 2)), rng.integers(3, size=(40, 5))
    ahead = dynamics.rollout(now, actions)
    assert ahead.shape == (3, 40, 5, 4)
    for t in range(5):
        now = dynamics(now, actions[:, t])
        np.testing.assert_allclose(ahead[:, :, t], now, atol=1e-5)
    np.testing.assert_allclose(dynamics.rollout(now, actions)[:, :, 0], dynamics(now, actions[:, 0]), atol=1e-5)


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor], ids=["numpy", "torch"])
@pytest.mark.parametrize("variant", ["factored", "unfactorized"])
@pytest.mark.parametrize("change", [{}, {"n_actions": 0, "action_dim": 2, "action_layers": (8,)}], ids=str)
def test_a_single_observation_is_a_row_of_many(change, variant, kind):
    config = replace(DISCRETE, variant=variant, **change)
    dynamics = bind_agent(random_model(config).float(), 1)
    obs = np.linspace(-1, 1, 3 * config.obs_dim, dtype=np.float32).reshape(3, -1)
    action = np.array([0, 1, 1]) if config.n_actions else np.linspace(-1, 1, 6, dtype=np.float32).reshape(3, 2)
    many = np.asarray(dynamics(kind(obs), kind(action)))
    alone = np.asarray(dynamics(kind(obs[1]), kind(action[1]) if config.n_actions == 0 else kind(action)[1]))
    assert alone.shape == (config.members, many.shape[-1])
    np.testing.assert_allclose(alone, many[:, 1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("action", [0.7, np.array([0.0]), np.array([True]), "1"], ids=repr)
def test_what_is_no_whole_number_is_no_discrete_action(action):
    dynamics = bind_agent(random_model(DISCRETE).float(), 1)
    with pytest.raises(ValueError, match="expected 1 actions of 0–"):
        dynamics(np.zeros((1, DISCRETE.obs_dim), dtype=np.float32), np.reshape(action, 1))
