"""Training as a whole: learns, repeats by its seed, and says why it cannot go on."""

import math
from dataclasses import replace

import numba
import numpy as np
import pytest
import torch
from support.missing import lacking, never
from support.models import assert_same_weights
from support.recipes import TINY
from support.training import both_engines, train
from support.walls import RECIPE

from persim_gym.envs import DOMAINS
from persim_gym.simulator.diagnostics.metrics import one_step
from persim_gym.simulator.dynamics.bind import bind_agent
from persim_gym.simulator.model.ensemble import FactoredEnsemble
from persim_gym.simulator.model.walls import walls_of
from persim_gym.simulator.training import trainer as fit_module
from persim_gym.simulator.training.problem import Problem
from persim_gym.simulator.training.schedule import learning_rate
from persim_gym.simulator.training.trainer import TrainingDiverged, fit_ensemble, train_model
from persim_gym.workflows.training_setup import recipe_for

# --- recipes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("epoch", "rate"), [(0, 1e-3), (149, 1e-3), (150, 5e-4), (299, 5e-4), (300, 2.5e-4)])
def test_halving_halves_the_learning_rate_every_150_epochs(epoch, rate):
    assert learning_rate(recipe_for("cartpole", "thesis"), epoch, step=3, steps=10) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("epoch", "rate"),
    [
        (0, 1 / 25),  # of the peak
        (3, (1 + 1 / 25) / 2),  # half way up, after 15 % of the training
        (6, 1.0),  # the peak, after 30 %
        (13, (1 + 4e-6) / 2),  # half way down, after 65 %
        (20, 4e-6),  # a ten-thousandth of the start
    ],
)
def test_one_cycle_rises_for_30_percent_and_falls(epoch, rate):
    recipe = replace(TINY, schedule="one-cycle", learning_rate=1.0, epochs=21)
    assert learning_rate(recipe, epoch, step=0, steps=1) == pytest.approx(rate)


def test_the_learning_rate_goes_on_across_epochs():
    recipe = replace(TINY, schedule="one-cycle", learning_rate=1.0)
    whole = [learning_rate(replace(recipe, epochs=1), 0, i, 12) for i in range(12)]
    parts = [learning_rate(replace(recipe, epochs=3), i // 4, i % 4, 4) for i in range(12)]
    assert parts == pytest.approx(whole)


# --- fit ----------------------------------------------------------------------------------------------------------


@both_engines
def test_the_same_seed_gives_the_same_weights(cars, recipe):
    one, again, other = (train(cars, recipe, seed=seed) for seed in (7, 7, 8))
    assert_same_weights(one, again)
    assert not torch.equal(one.agent_encoder.factor, other.agent_encoder.factor)


@both_engines
def test_the_interaction_penalty_keeps_agents_from_changing_what_actions_do(cars, recipe):
    """With a strong one, what an action changes is the same for all agents; without, it is not."""

    def crossed(model: FactoredEnsemble) -> float:
        agents, action = torch.arange(cars.n_agents).repeat_interleave(3), torch.arange(3).repeat(cars.n_agents)
        obs = model.scale_obs(torch.from_numpy(cars.obs[: len(agents)])).expand(model.config.members, -1, -1)
        offset = model.agent_encoder.offset(agents)
        change = model.scaled_delta(offset, obs, (action + 1) % 3) - model.scaled_delta(offset, obs, action)
        return float(change.detach().square().mean())

    free, additive = (train(cars, replace(recipe, interaction=weight)) for weight in (0.0, 100.0))
    assert crossed(additive) < 0.1 * crossed(free)


def test_scales_are_those_of_the_data(cars, car_model):
    change = cars.next_obs - cars.obs
    np.testing.assert_allclose(car_model.obs_mean, cars.obs.mean(0, dtype=np.float64), rtol=1e-5)
    np.testing.assert_allclose(car_model.logged_std, cars.obs.std(0, ddof=1, dtype=np.float64), rtol=1e-5)
    np.testing.assert_allclose(car_model.delta_std, change.std(0, ddof=1, dtype=np.float64), rtol=1e-5)
    np.testing.assert_array_equal(car_model.obs_high, DOMAINS["mountaincar"].observation_space.high)


def test_a_dimension_that_never_changes_does_not_break_the_scales(cars):
    still = np.array([1, 0], dtype=np.float32)
    data = replace(cars, obs=cars.obs * still, next_obs=cars.next_obs * still)
    model = train(data, TINY)
    with torch.no_grad():
        predicted = model.predict(*map(torch.from_numpy, (data.agent, data.obs, data.action)))
    assert torch.isfinite(predicted).all()
    assert predicted[..., 1].abs().max() < 1e-6


def test_without_standardisation_scales_are_one(cars):
    model = train(cars, replace(TINY, standardize=False, epochs=1))
    assert (model.obs_mean == 0).all() and (model.delta_std == 1).all() and (model.obs_high == torch.inf).all()


@both_engines
def test_training_learns_the_dynamics(cars, recipe):
    recipe = replace(recipe, epochs=60, batch=64, learning_rate=1e-2, schedule="one-cycle")
    held_out = np.arange(len(cars)) % 5 == 0
    model, data = train(cars.select(~held_out), recipe), cars.select(held_out)
    agent, obs, action, following = map(torch.from_numpy, (data.agent, data.obs, data.action, data.next_obs))
    with torch.no_grad():
        error = (model.predict(agent, obs, action) - following).square().mean()
        anyone = (model.predict((agent + 3) % 6, obs, action) - following).square().mean()
    assert error < 0.02 * (following - obs).square().mean()
    assert error < 0.8 * anyone  # each agent has learned its own


def test_continuous_actions_are_learned(pushes):
    recipe = replace(TINY, state_layers=(16,), action_layers=(16,), epochs=80, batch=100, learning_rate=2e-2)
    model = fit_ensemble(pushes, recipe, progress=False)
    obs, following = torch.from_numpy(pushes.obs), torch.from_numpy(pushes.next_obs)
    with torch.no_grad():
        predicted = model.predict(torch.from_numpy(pushes.agent), obs, torch.from_numpy(pushes.action))
    assert (predicted - following).square().mean() < 0.02 * (following - obs).square().mean()


REGULARISED = replace(TINY, noise=0.1, weight_decay=0.5)


def test_noise_and_weight_decay_change_the_weights_and_repeat(pushes):
    fitted = [
        fit_ensemble(pushes, r, progress=False)
        for r in (REGULARISED, REGULARISED, replace(REGULARISED, noise=0.0), TINY)
    ]
    assert_same_weights(*fitted[:2])
    weights = [model.state_encoder.layers[0].weight for model in fitted]
    assert not torch.equal(weights[0], weights[2]) and not torch.equal(weights[2], weights[3])
    assert weights[2].square().sum() < weights[3].square().sum()


def test_weight_decay_spares_the_agents_own_factors(pushes):
    # One step with a learning rate too small for a gradient to count: what moves, moves by decay alone.
    recipe = replace(TINY, epochs=1, batch=len(pushes), learning_rate=1e-9, weight_decay=1e7, schedule="halving")
    trained, fresh = (
        fit_ensemble(pushes, recipe, progress=False),
        fit_ensemble(pushes, replace(recipe, weight_decay=0.0), progress=False),
    )
    assert torch.allclose(trained.agent_encoder.factor, fresh.agent_encoder.factor, atol=1e-7)
    for name in ("agent_encoder.bias", "state_encoder.layers.0.weight", "action_encoder.layers.0.weight"):
        assert torch.allclose(trained.get_parameter(name), 0.99 * fresh.get_parameter(name), atol=1e-6), name


def test_members_do_not_depend_on_the_number_of_threads(pushes):
    threads = numba.get_num_threads()
    models = []
    try:
        for number in {1, threads}:
            numba.set_num_threads(number)
            models.append(fit_ensemble(pushes, REGULARISED, progress=False))
    finally:
        numba.set_num_threads(threads)
    assert_same_weights(models[0], models[-1])


def test_samples_stand_for_passes_over_the_data():
    recipe = replace(TINY, samples=1000)
    assert recipe.for_data(300).epochs == 3 and recipe.for_data(5000).epochs == 1
    assert TINY.for_data(300) == TINY
    with pytest.raises(ValueError, match="must not be negative"):
        replace(TINY, noise=-1.0)


def test_fewer_transitions_than_a_batch_train_too(cars):
    few = cars.select(np.arange(len(cars)) % 50 == 0)
    start, trained = (train(few, replace(TINY, epochs=e, batch=512, learning_rate=1e-2)) for e in (1, 9))
    assert not torch.equal(start.agent_encoder.factor, trained.agent_encoder.factor)


@both_engines
def test_a_diverging_training_is_an_error_that_names_the_learning_rate(cars, recipe):
    with pytest.raises(TrainingDiverged, match=r"lower learning_rate \(1e\+30\)"):
        train(cars, replace(recipe, learning_rate=1e30))


@both_engines
def test_data_of_huge_values_are_an_error_that_names_standardisation(cars, recipe):
    huge = replace(cars, obs=cars.obs * np.float32(1e30))
    with pytest.raises(TrainingDiverged, match="or set standardize=True"):
        train(huge, replace(recipe, standardize=False))


@both_engines
def test_weights_that_are_not_finite_are_never_returned(cars, recipe, monkeypatch):
    rate = fit_module.learning_rate
    last = (recipe.epochs - 1, len(cars) // recipe.batch - 1)  # whose update no loss sees
    monkeypatch.setattr(fit_module, "learning_rate", lambda r, *at: math.inf if at[:2] == last else rate(r, *at))
    with pytest.raises(TrainingDiverged):
        train(cars, recipe)


@pytest.mark.parametrize("shift", [-1, 1, 10**6])
def test_actions_that_do_not_exist_are_refused_and_not_read_from_elsewhere(cars, shift):
    with pytest.raises(ValueError, match="actions .* are not 0–2; give the right n_actions"):
        train(replace(cars, action=cars.action + shift), TINY)


def test_a_negative_seed_is_refused_by_name(cars):
    with pytest.raises(ValueError, match="seed=-1 must not be negative"):
        train(cars, TINY, seed=-1)


@pytest.mark.parametrize("device", ["cuda:99", "gpu"])
def test_a_device_that_torch_does_not_have_is_refused(cars, device):
    with pytest.raises(ValueError, match=f"device '{device}' cannot be used here .*; use cpu"):
        train(cars, TINY, device=device)


def test_an_action_that_never_changes_is_in_nobody_s_way(pushes):
    data = replace(pushes, action=np.hstack([pushes.action, np.full((400, 1), 7, dtype=np.float32)]))
    recipe = replace(TINY, action_layers=(8,), epochs=2)
    model = fit_ensemble(data, recipe, progress=False)
    columns = [torch.from_numpy(x) for x in (np.full(400, 2), data.obs, data.action)]
    with torch.no_grad():
        expected = model.predict(*columns).numpy()
    found = bind_agent(model, 2).rollout(np.repeat(data.obs[None], 3, axis=0), data.action[:, None])[:, :, 0]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_walls_are_learned_apart_only_where_the_recipe_says_so_and_the_task_is_known(pucks):
    assert walls_of(fit_ensemble(pucks, RECIPE, n_actions=2, progress=False).walls)
    assert not walls_of(fit_ensemble(pucks, TINY, n_actions=2, progress=False).walls)
    assert not walls_of(fit_ensemble(pucks, RECIPE, n_actions=2, learn_task=True, progress=False).walls)
    assert recipe_for("mountaincar/pure-v0").walls and not recipe_for("mountaincar", "thesis").walls


# --- missing values -------------------------------------------------------------------------------------------------


def test_data_that_lack_nothing_train_the_same_weights_when_they_are_marked(cars, pushes):
    recipe = replace(TINY, refine=1, polish=True, walls=True)
    for data, actions in ((cars, 3), (pushes, 0)):
        own = recipe if actions else replace(recipe, action_layers=(8,), state_layers=(8, 8))
        one, other = (
            train_model(some, own, Problem(actions), progress=False) for some in (data, replace(data, missing=True))
        )
        assert_same_weights(one[0], other[0])
        np.testing.assert_array_equal(one[1].mean, other[1].mean)


def errors_of(model, data, agent=None):
    """Root mean squared error of one step on whole data, in standard deviations of the change, [D]."""
    error, change = one_step(model, data if agent is None else data.select(data.agent == agent))
    return np.sqrt(np.square(error).mean(axis=0)) / (data.next_obs - data.obs).std(axis=0)


@both_engines
def test_what_is_missing_leaves_all_that_is_known_as_good(cars, recipe):
    recipe, data = replace(recipe, epochs=60, learning_rate=5e-3, members=1, polish=True, refine=1), cars
    whole, lacks, blind = (
        train_model(some, recipe, Problem(3), progress=False)[0].requires_grad_(False)
        for some in (data, lacking(data), never(data, agent=2, column=0))
    )
    expected = errors_of(whole, data)
    assert (expected < 0.3).all()
    assert (errors_of(lacks, data) < 1.5 * expected + 0.02).all()
    assert errors_of(blind, data, agent=2)[1] < 1.5 * errors_of(whole, data, agent=2)[1] + 0.02
    others = data.agent != 2
    assert (errors_of(blind, data.select(others)) < 1.5 * errors_of(whole, data.select(others)) + 0.02).all()
