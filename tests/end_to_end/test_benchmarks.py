"""The parts of benchmarks/ablations.py and its loop: its loop is `fit_ensemble`'s,
and each change does what its row says."""

import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.optim.swa_utils import AveragedModel

from persim_gym.envs import DOMAINS
from persim_gym.envs.mujoco.physics import load_model
from persim_gym.simulator.model.walls import no_walls
from persim_gym.simulator.training.batches import Parts
from persim_gym.simulator.training.initial_model import initial_model
from persim_gym.simulator.training.problem import Problem
from persim_gym.simulator.training.recipe import TrainingRecipe
from persim_gym.simulator.training.trainer import fit_ensemble
from persim_gym.transitions import Transitions

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
ablations, plain_training = import_module("ablations"), import_module("plain_training")
RECIPE = TrainingRecipe(
    rank=3, state_layers=(16,), activation="silu", members=2, standardize=True, agent_mean=1.0, agent_std=0.3,
    epochs=3, batch=16, learning_rate=3e-3, schedule="one-cycle", pull=0.01,
)  # fmt: skip


@pytest.fixture(scope="module")
def cars():
    """True MountainCar transitions of four agents, a trajectory each, of different lengths."""
    rng, rows = np.random.default_rng(0), []
    for agent, length in enumerate((40, 7, 3, 60)):
        spec = DOMAINS["mountaincar"]
        physics, state = spec.physics(**spec.agent_covariates(agent)), np.array([[-1.1, -0.06]])
        for _ in range(length):
            action = rng.integers(3, size=1)
            following = physics(state, action)
            rows.append((agent, state[0], action[0], following[0]))
            state = following
    agent, obs, action, following = (np.array(column) for column in zip(*rows, strict=True))
    zeros = np.zeros(len(agent))
    return Transitions(agent, obs, action, zeros, following, zeros > 0, agent, n_agents=4)


def model_of(transitions, recipe=RECIPE):
    model = initial_model(transitions, recipe, Problem(3), "factored", 0)
    space = DOMAINS["mountaincar"].observation_space
    model.obs_low.copy_(torch.from_numpy(space.low))
    model.obs_high.copy_(torch.from_numpy(space.high))
    return model


def test_windows_never_leave_a_trajectory(cars):
    for horizon in (1, 2, 4):
        rows = plain_training.windows(cars.trajectory, horizon)[:, None] + np.arange(horizon)
        assert (cars.trajectory[rows] == cars.trajectory[rows[:, :1]]).all()
        assert len(rows) == sum(max(length - horizon + 1, 0) for length in (40, 7, 3, 60))
        np.testing.assert_array_equal(cars.obs[rows[:, 1:]], cars.next_obs[rows[:, :-1]])


def test_windows_that_a_wall_stops_in_are_left_out(cars):
    starts, low = plain_training.windows(cars.trajectory, 3), cars.next_obs[:, 0].min()
    touched = np.flatnonzero(cars.next_obs[:, 0] == low)
    walls = no_walls(2)
    np.testing.assert_array_equal(plain_training.free_windows(starts, cars, walls, 3), starts)
    walls[0, 0] = torch.tensor([low, 0.0])
    free = plain_training.free_windows(starts, cars, walls, 3)
    assert set(starts) - set(free) == {row - k for row in touched for k in range(3)} & set(starts) != set()


def test_unchanged_loop_is_that_of_fit(cars):
    model = model_of(cars)
    plain_training.train(model, cars, RECIPE)
    space = DOMAINS["mountaincar"].observation_space
    fitted = fit_ensemble(cars, RECIPE, n_actions=3, bounds=(space.low, space.high), progress=False)
    for (name, value), known in zip(model.state_dict().items(), fitted.state_dict().values(), strict=True):
        torch.testing.assert_close(value, known, rtol=1e-3, atol=1e-4, msg=name)


def test_loss_over_steps_is_the_error_of_the_models_own_rollout(cars):
    recipe, model = replace(RECIPE, pull=0.0), model_of(cars)
    first = torch.from_numpy(plain_training.windows(cars.trajectory, 4))
    data = Parts(cars, 0).read(model, 0, 0)
    loss = plain_training.window_loss(model, data, first.expand(2, -1), 4, recipe, torch.Generator())
    agent, action, following = (torch.from_numpy(values) for values in (cars.agent, cars.action, cars.next_obs))
    guess, error = torch.from_numpy(cars.obs)[first].expand(2, -1, -1), 0.0
    for step in range(4):
        rows = first + step
        scaled = model.scaled_delta(
            model.agent_encoder(agent[rows]), model.scale_obs(guess), action[rows].expand(2, -1)
        )
        free = guess + scaled * model.delta_std + model.delta_mean
        error += ((free - following[rows]) / model.delta_std).square().sum() / len(first) / 4
        guess = model.predict(agent[rows], guess, action[rows])
        assert (free != guess).any() and (free == guess).any()  # some are clipped
    torch.testing.assert_close(loss, error, rtol=1e-3, atol=0.0)
    gradients = (torch.autograd.grad(value, list(model.parameters())) for value in (loss, error))
    for ours, known in zip(*gradients, strict=True):  # that of later steps goes through the predicted observations
        torch.testing.assert_close(ours, known, rtol=1e-2, atol=1e-3 * float(known.abs().max()))


def test_averages_of_constant_weights_are_those_weights(cars):
    model = model_of(cars)
    for _, weigh in plain_training.AVERAGES.values():
        average = AveragedModel(model, multi_avg_fn=weigh)
        for _ in range(3):
            average.update_parameters(model)
        for value, known in zip(average.module.state_dict().values(), model.state_dict().values(), strict=True):
            torch.testing.assert_close(value, known)


def test_averages_are_over_the_steps_that_their_rows_say(cars):
    model, seen = model_of(cars), []
    hook = register_optimizer_step_post_hook(lambda *_: seen.append(model.agent_encoder.bias.detach().clone()))
    averages = plain_training.train(model, cars, replace(RECIPE, epochs=4), 1, tuple(plain_training.AVERAGES))
    hook.remove()
    assert len(seen) == 4 * (110 // 16)
    exponential = seen[0]
    for bias in seen[1:]:
        exponential = 0.999 * exponential + 0.001 * bias
    expected = torch.stack(seen[-3:]).mean(0), torch.stack(seen[-6:]).mean(0), exponential
    for average, known in zip(averages.values(), expected, strict=True):
        torch.testing.assert_close(average.agent_encoder.bias.detach(), known)


@pytest.mark.parametrize(
    ("domain", "size", "turned"), [("cartpole", 2, "pole"), ("mountaincar", 1, "slope"), ("halfcheetah", 14, "limbs")]
)
def test_features_are_bounded_and_of_their_size(domain, size, turned):
    names = DOMAINS[domain].observation_names
    obs = torch.randn(5, 3, len(names))
    of = getattr(ablations, turned)
    assert of in ablations.FEATURES[domain].values()
    features = of(obs)
    assert features.shape == (5, 3, size) and features.abs().max() <= 1
    angles = [i for i, name in enumerate(names) if "angle" in name or "pitch (rad)" in name]
    kept = angles if domain != "mountaincar" else [0]
    other = obs.clone()
    other[..., [i for i in range(len(names)) if i not in kept or "velocity" in names[i]]] += 1.0
    torch.testing.assert_close(of(other), features)


def test_ends_of_the_body_are_where_mujoco_has_them_and_move_as_it_has_them_move():
    import mujoco

    body = load_model("half_cheetah.xml")
    data = mujoco.MjData(body)
    data.qpos[:], data.qvel[:] = np.random.default_rng(0).normal(size=(2, 9))
    mujoco.mj_forward(body, data)
    obs = torch.from_numpy(np.concatenate([[7.0], data.qpos[1:], data.qvel]))
    expected = []
    for g in range(1, body.ngeom):  # behind the floor
        for sign in (1, -1):
            point = data.geom_xpos[g] + sign * body.geom_size[g, 1] * data.geom_xmat[g].reshape(3, 3)[:, 2]
            jacobian = np.zeros((3, 9))
            mujoco.mj_jac(body, data, jacobian, None, point, body.geom_bodyid[g])
            expected.append([point[2], *(jacobian @ data.qvel)[[0, 2]]])
    np.testing.assert_allclose(ablations.ends(obs).reshape(-1, 3), expected, atol=1e-9)
    np.testing.assert_allclose(ablations.ends(obs.expand(2, 3, 18))[1, 2].reshape(-1, 3), expected, atol=1e-9)


def test_featured_encoder_sees_scaled_features_too(cars):
    model, obs = model_of(cars), torch.from_numpy(cars.obs)
    encoder = plain_training.Featured(model, RECIPE, ablations.slope, obs, 0)
    known = (ablations.slope(obs) - encoder.mean) / encoder.std
    torch.testing.assert_close(known.mean(0), torch.zeros(1), atol=1e-4, rtol=0.0)
    seen = []
    encoder.mlp.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model.state_encoder = encoder
    action = plain_training.Bound(model, 1)(np.broadcast_to(cars.obs, (2, *cars.obs.shape)), cars.action)
    assert action.shape == (2, *cars.obs.shape) and seen[0].shape == (2, len(cars), 3)
    torch.testing.assert_close(seen[0][0, :, 2:], known, atol=1e-4, rtol=1e-4)
