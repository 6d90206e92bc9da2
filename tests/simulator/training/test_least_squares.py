"""The last layer in closed form: against brute force, and as what ends a training."""

from copy import deepcopy
from dataclasses import replace

import numba
import numpy as np
import pytest
import torch
from support.missing import lacking
from support.recipes import TINY

from persim_gym.simulator.inference.regression import factor_posterior, residual_variance
from persim_gym.simulator.model.config import ModelConfig
from persim_gym.simulator.model.ensemble import FactoredEnsemble
from persim_gym.simulator.training import least_squares as refine
from persim_gym.simulator.training.least_squares import solve_closed_form, solve_last_layer
from persim_gym.simulator.training.recipe import TrainingRecipe
from persim_gym.simulator.training.trainer import fit_ensemble
from persim_gym.transition_store import write_transitions
from persim_gym.transitions import Transitions
from persim_gym.workflows.train import train

SHAPES = {
    "discrete": ModelConfig(n_agents=5, obs_dim=2, n_actions=3, action_dim=0, rank=3, members=2, state_layers=(6,)),
    "continuous": ModelConfig(
        5, 2, 0, 2, rank=2, members=2, state_layers=(7, 5), action_layers=(4,), activation="silu"
    ),
    "learned task": ModelConfig(5, 2, 3, 0, rank=2, members=2, state_layers=(6,), extra_dim=2),
}


def trained(shape: ModelConfig) -> FactoredEnsemble:
    model = FactoredEnsemble(shape, seed=4).eval().requires_grad_(False)
    model.delta_std[: shape.obs_dim] = torch.tensor([0.5, 2.0])
    model.obs_low[:2], model.obs_high[:2] = -1.5, 1.5
    return model


def moved(shape: ModelConfig, rows: int = 300) -> Transitions:
    rng = np.random.default_rng(6)
    obs = rng.uniform(-1.5, 1.5, size=(rows, 2)).astype(np.float32)
    action = (
        rng.integers(3, size=rows) if shape.n_actions else rng.normal(size=(rows, shape.action_dim)).astype(np.float32)
    )
    agent = np.sort(rng.integers(5, size=rows))
    push = action - 1.0 if shape.n_actions else action[:, 0]
    change = np.stack([0.2 * agent * np.sin(obs[:, 1]), push * obs[:, 0]], axis=1)
    following = np.clip(obs + change, -1.5, 1.5).astype(np.float32)
    return Transitions(
        agent=agent,
        obs=obs,
        action=action,
        next_obs=following,
        reward=following[:, 0],
        terminated=following[:, 1] > 1,
        trajectory=agent,
        n_agents=5,
        source="made",
    )


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_last_layer_equals_a_ridge_regression_of_each_output(shape):
    model, data = trained(shape), moved(shape)
    noise = residual_variance(model, data).numpy()
    better = solve_last_layer(model, data)
    raw = np.column_stack([data.next_obs.astype(np.float64) - data.obs, data.reward, data.terminated])
    outs = shape.out_dim
    change = raw[:, :outs] / model.delta_std.numpy().astype(np.float64)
    known = np.ones_like(change, dtype=bool)
    known[:, :2] = np.abs(data.next_obs) < 1.5
    assert 0 < known[:, 0].mean() < 1
    layer, result = (m.state_encoder.layers[-1] for m in (model, better))
    agent, obs, action = (torch.from_numpy(x) for x in (data.agent, data.obs, data.action))
    acts = action if shape.n_actions else action.expand(2, *action.shape)
    for m in range(2):
        for d in range(outs):
            columns = []  # what an output changes by with each weight of the layer, one at a time
            for part in (layer.weight, layer.bias):
                for index in np.ndindex(*part[m].shape):
                    if index[1] // shape.rank != d:
                        continue
                    probe = trained(shape)
                    last = probe.state_encoder.layers[-1]
                    last.weight.zero_(), last.bias.zero_()
                    (last.weight if part is layer.weight else last.bias)[(m, *index)] = 1.0
                    out = probe.scaled_delta(probe.agent_encoder(agent), obs.expand(2, *obs.shape), acts)
                    columns.append(out[m, :, d].double().numpy())
            inputs = np.stack(columns, axis=1)[known[:, d]]
            before, after = (
                torch.cat([p[m].view(-1, outs, shape.rank)[:, d].reshape(-1) for p in (x.weight, x.bias)]).double()
                for x in (layer, result)
            )
            ridge = noise[m, d] / float(layer.weight[m].double().var()) * np.eye(inputs.shape[1])
            missing = change[known[:, d], d] - inputs @ before.numpy()
            step = np.linalg.solve(inputs.T @ inputs + ridge, inputs.T @ missing)
            np.testing.assert_allclose(after.numpy(), before.numpy() + step, rtol=1e-3, atol=1e-4)


def test_rounds_lower_the_error_of_one_step_again_and_again(cars):
    model = fit_ensemble(cars, TINY, n_actions=3, progress=False).requires_grad_(False)
    errors = [
        residual_variance(solve_closed_form(model, cars, replace(TINY, refine=rounds))[0], cars).sum(1)
        for rounds in (0, 1, 4)
    ]
    assert (errors[1] < 0.9 * errors[0]).all()
    assert (errors[2] < errors[1]).all()


def test_members_and_agents_end_the_same_on_one_thread_and_on_two(cars):
    model = fit_ensemble(cars, TINY, n_actions=3, progress=False).requires_grad_(False)
    weights = []
    for threads in (1, 2):
        before, torches = numba.get_num_threads(), torch.get_num_threads()
        try:
            numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
            torch.set_num_threads(threads)
            weights.append(solve_last_layer(model, cars).state_encoder.layers[-1].weight)
        finally:
            numba.set_num_threads(before)
            torch.set_num_threads(torches)
    assert torch.equal(*weights)


def test_a_sample_of_many_transitions_is_as_sure_as_all_of_them(cars, monkeypatch):
    """The prior counts as little against a third of the rows as against all."""
    model = fit_ensemble(cars, TINY, n_actions=3, progress=False).requires_grad_(False)
    whole = residual_variance(solve_last_layer(model, cars), cars)
    monkeypatch.setattr(refine, "LAST_LAYER_ROWS", len(cars) // 3)
    part = residual_variance(solve_last_layer(model, cars), cars)
    assert (part.sum(1) < residual_variance(model, cars).sum(1)).all()
    assert (part.sum(1) < 2 * whole.sum(1)).all()
    assert not torch.equal(part, whole)


def test_data_on_disk_are_refined_on_too(cars, tmp_path):
    model = fit_ensemble(cars, TINY, n_actions=3, progress=False).requires_grad_(False)
    stored = write_transitions(tmp_path / "cars", [cars], n_agents=cars.n_agents, source="cars")
    expected, got = (solve_last_layer(model, data).state_encoder.layers[-1].weight for data in (cars, stored))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_training_ends_with_the_rounds_of_its_recipe(cars, tmp_path):
    plain, better = (
        train(
            cars, name="a/b-v0", domain="mountaincar", recipe=replace(TINY, refine=n), out=tmp_path / f"{n}",
            progress=False,
        )
        for n in (0, 2)
    )  # fmt: skip
    assert better.card.recipe["refine"] == 2
    assert (residual_variance(better.model, cars).sum(1) < residual_variance(plain.model, cars).sum(1)).all()


def test_rounds_ask_once_each_what_is_believed_of_agents(cars, monkeypatch):
    model = fit_ensemble(cars, TINY, n_actions=3, progress=False).requires_grad_(False)
    asked = []

    def counted(*arguments):
        asked.append(arguments)
        return factor_posterior(*arguments)

    monkeypatch.setattr(refine, "factor_posterior", counted)
    for rounds, expected in ((0, 1), (1, 1), (3, 3)):
        asked.clear()
        result, beliefs = solve_closed_form(model, cars, replace(TINY, refine=rounds, polish=False))
        assert len(asked) == expected
        if rounds:
            torch.testing.assert_close(result.agent_encoder(torch.arange(cars.n_agents)).double(), beliefs.mean)


def test_agents_of_whom_data_say_nothing_are_no_obstacle():
    """Where nothing ever moves, the first round leaves all agents alike."""
    shape = SHAPES["discrete"]
    data = moved(shape)
    still = replace(data, obs=np.zeros_like(data.obs), next_obs=np.zeros_like(data.obs))
    model, beliefs = solve_closed_form(trained(shape), still, TrainingRecipe(refine=3))
    assert residual_variance(model, still).max() < 1e-9
    assert torch.isfinite(beliefs.mean).all()


def test_a_last_layer_of_one_weight_has_its_own_size_for_a_spread():
    shape = replace(SHAPES["discrete"], obs_dim=1, rank=1, state_layers=(1,))
    data = moved(SHAPES["discrete"])
    data = replace(data, obs=data.obs[:, :1], next_obs=data.next_obs[:, :1])
    model = FactoredEnsemble(shape, seed=4).eval().requires_grad_(False)
    better = solve_last_layer(model, data)
    assert (residual_variance(better, data) < residual_variance(model, data)).all()


def test_rounds_that_were_cut_off_go_on_to_the_same_weights(cars, tmp_path, monkeypatch):
    recipe, path = replace(TINY, refine=4), tmp_path / "cars.rounds.safetensors"
    trained = fit_ensemble(cars, TINY, n_actions=3, progress=False).requires_grad_(False)
    expected, _ = solve_closed_form(deepcopy(trained), cars, recipe)
    solve, solved = refine.solve_last_layer, []

    def cut_off(model, *args):
        if len(solved) == 2:
            raise KeyboardInterrupt
        solved.append(model)
        return solve(model, *args)

    monkeypatch.setattr(refine, "solve_last_layer", cut_off)
    with pytest.raises(KeyboardInterrupt):
        solve_closed_form(deepcopy(trained), cars, recipe, checkpoint=path)
    monkeypatch.setattr(refine, "solve_last_layer", lambda model, *args: solved.append(model) or solve(model, *args))
    resumed, _ = solve_closed_form(deepcopy(trained), cars, recipe, checkpoint=path)
    assert len(solved) == 4  # not 6
    for name, values in expected.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], values)


@pytest.mark.parametrize("left", ["other weights", "other data", "half a file", "more rounds"])
def test_rounds_of_something_else_are_made_anew(cars, tmp_path, left):
    recipe, path = replace(TINY, refine=2), tmp_path / "cars.rounds.safetensors"
    trained = fit_ensemble(cars, TINY, n_actions=3, progress=False).requires_grad_(False)
    expected, _ = solve_closed_form(deepcopy(trained), cars, recipe)
    other = deepcopy(trained)
    if left == "other weights":
        other.agent_encoder.factor.mul_(1.1)
    data = cars.select(cars.agent > 0) if left == "other data" else cars
    solve_closed_form(other, data, replace(recipe, refine=3) if left == "more rounds" else recipe, checkpoint=path)
    if left == "half a file":
        path.write_bytes(path.read_bytes()[:200])
    got, _ = solve_closed_form(deepcopy(trained), cars, recipe, checkpoint=path)
    assert torch.equal(got.state_encoder.layers[-1].weight, expected.state_encoder.layers[-1].weight)


def test_a_training_leaves_no_rounds_behind(cars, tmp_path, home):
    train(
        cars,
        name="a/b-v0",
        domain="mountaincar",
        recipe=replace(TINY, refine=2),
        out=tmp_path / "x",
        progress=False,
    )
    assert list((home / "training").glob("*")) == []


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_each_output_is_solved_on_the_transitions_in_which_it_is_known(shape):
    model, data = trained(shape), moved(shape)
    lack = lacking(data, column=1)
    own, whole = data.select(~np.isnan(lack.next_obs[:, 1])), len(data)
    found = [m.state_encoder.layers[-1] for m in (solve_last_layer(model, some) for some in (lack, data, own))]
    lacks, complete, alone = (x.weight.view(2, -1, shape.out_dim, shape.rank) for x in found)
    others = [d for d in range(shape.out_dim) if d != 1]
    torch.testing.assert_close(lacks[:, :, others], complete[:, :, others], rtol=0, atol=0)
    assert len(own) < whole and not torch.equal(lacks[:, :, 1], complete[:, :, 1])
    torch.testing.assert_close(lacks[:, :, 1], alone[:, :, 1], rtol=1e-4, atol=1e-5)


def test_an_output_that_is_never_known_stays_as_it_is():
    model, data = trained(SHAPES["discrete"]), moved(SHAPES["discrete"])
    better = solve_last_layer(model, lacking(data, column=1, share=1.0)).state_encoder.layers[-1]
    before = model.state_encoder.layers[-1].weight.view(2, -1, 2, 3)
    after = better.weight.view(2, -1, 2, 3)
    assert torch.equal(after[:, :, 1], before[:, :, 1]) and not torch.equal(after[:, :, 0], before[:, :, 0])
