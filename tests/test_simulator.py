"""The factored ensemble and its training: closed forms, equality with autograd and PyTorch, exact resumption."""

import math
import multiprocessing
import os
import signal
from copy import deepcopy
from dataclasses import replace

import numba
import numpy as np
import pytest
import torch
from conftest import TINY
from torch import nn

from persim_gym.envs import DOMAINS
from persim_gym.paths import persim_home
from persim_gym.simulator.dynamics.bind import bind_agent
from persim_gym.simulator.model.config import ModelConfig
from persim_gym.simulator.model.ensemble import FactoredEnsemble
from persim_gym.simulator.registry import load_simulator
from persim_gym.simulator.training import checkpoint as checkpoint_module
from persim_gym.simulator.training import trainer as fit_module
from persim_gym.simulator.training.checkpoint import read_checkpoint
from persim_gym.simulator.training.members import MemberEngine
from persim_gym.simulator.training.numba_engine import NumbaEngine
from persim_gym.simulator.training.recipe import TrainingRecipe, recipe_for
from persim_gym.simulator.training.torch_engine import TorchEngine
from persim_gym.simulator.training.trainer import TrainingDiverged, fit_ensemble, learning_rate
from persim_gym.workflows.train import train_simulator

DISCRETE = ModelConfig(n_agents=6, obs_dim=3, n_actions=4, action_dim=0, rank=5, members=3, state_layers=(16,))
DEEP = replace(DISCRETE, state_layers=(16, 8, 8))
CONTINUOUS = replace(DEEP, n_actions=0, action_dim=2, action_layers=(8, 8))
SHAPES = {"discrete": DISCRETE, "deep": DEEP, "continuous": CONTINUOUS}

every_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
both_activations = pytest.mark.parametrize("activation", ["relu", "silu"])
both_engines = pytest.mark.parametrize(
    "recipe", [TINY, replace(TINY, state_layers=(16, 16))], ids=["compiled", "tensors"]
)


def random_model(shape: ModelConfig, seed: int = 0) -> FactoredEnsemble:
    """A model with random scales and with bounds that clip about a tenth of its predictions."""
    model = FactoredEnsemble(shape, seed)
    generator = torch.Generator().manual_seed(seed)
    for name, buffer in model.named_buffers():
        if name.endswith(("mean", "std")):
            buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    model.obs_low.fill_(-1.5)
    model.obs_high.fill_(1.5 + 1.0)
    return model.double()


def random_inputs(shape: ModelConfig, batch: int, seed: int = 0, members: tuple[int, ...] = ()):
    """Agents [*members, B], observations [*members, B, D] and actions [*members, B] or [*members, B, A]."""
    rng = np.random.default_rng(seed)
    actions = (
        rng.integers(shape.n_actions, size=(*members, batch))
        if shape.n_actions
        else rng.normal(size=(*members, batch, shape.action_dim))
    )
    return (
        torch.from_numpy(rng.integers(shape.n_agents, size=(*members, batch))),
        torch.from_numpy(rng.normal(size=(*members, batch, shape.obs_dim))),
        torch.from_numpy(actions),
    )


def weights(model: FactoredEnsemble) -> dict[str, np.ndarray]:
    return {name: value.numpy().copy() for name, value in model.state_dict().items()}


def assert_same_weights(one: FactoredEnsemble, other: FactoredEnsemble) -> None:
    """Bit for bit."""
    for name, value in weights(one).items():
        np.testing.assert_array_equal(value, weights(other)[name], err_msg=name)


def train(cars, recipe, **keywords):
    return fit_ensemble(cars, recipe, n_actions=3, progress=False, **keywords)


# --- the model ----------------------------------------------------------------------------------------------------


class ClosedFormStates(nn.Module):
    """v(obs) of MountainCar: both dimensions change by velocity's new value, or by its change."""

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        position, velocity = obs[..., 0], obs[..., 1]
        hill, engine = -torch.cos(3 * position), torch.full_like(position, 0.001)
        by_dimension = [velocity, hill, engine], [torch.zeros_like(velocity), hill, engine]
        return torch.stack([*by_dimension[0], *by_dimension[1]], dim=-1)  # [M, B, D * R]


def test_rank_three_represents_mountain_car_exactly():
    """Proposition 1, for Gymnasium's update: velocity first, then position with the new velocity."""
    domain = DOMAINS["mountaincar"]
    shape = ModelConfig(n_agents=500, obs_dim=2, n_actions=3, action_dim=0, rank=3, members=2)
    model = FactoredEnsemble(shape).double()
    model.state_encoder = ClosedFormStates()
    gravity = torch.from_numpy(domain.population[:, 0])
    with torch.no_grad():
        for encoder in (model.agent_encoder, model.action_encoder):
            encoder.bias.zero_()
        model.agent_encoder.factor.copy_(torch.stack([gravity.new_ones(500), gravity, gravity.new_ones(500)], dim=1))
        model.action_encoder.factor.copy_(torch.tensor([[1.0, 1, -1], [1, 1, 0], [1, 1, 1]]))
    rng = np.random.default_rng(0)
    agent, action = np.repeat(np.arange(500), 10), rng.integers(3, size=5000)
    obs = rng.uniform([-1.0, -0.06], [0.5, 0.06], (5000, 2))  # away from the clips
    with torch.no_grad():
        predicted = model.predict(torch.from_numpy(agent), torch.from_numpy(obs), torch.from_numpy(action))
    true = domain.physics(gravity=domain.population[agent, 0])(obs, action)
    np.testing.assert_allclose(predicted[0], true, rtol=0, atol=5e-16)
    np.testing.assert_array_equal(predicted[0], predicted[1])


@every_shape
def test_a_prediction_is_the_sum_over_ranks_of_three_factors(shape):
    model = random_model(replace(shape, members=2))
    agent, obs, action = random_inputs(shape, 7)
    with torch.no_grad():
        u, w = (
            model.agent_encoder(agent),
            model.action_encoder(
                action if shape.n_actions else model.scale_action(action).expand(2, 7, shape.action_dim)
            ),
        )
        v = model.state_encoder(model.scale_obs(obs).expand(2, *obs.shape)).reshape(2, 7, shape.obs_dim, shape.rank)
        change = torch.einsum("mbr,mbdr,mbr->mbd", u, v, w) * model.delta_std + model.delta_mean
        torch.testing.assert_close(model.predict(agent, obs, action), (obs + change).clamp(-1.5, 2.5))


def test_predictions_are_clipped_to_the_bounds():
    model = random_model(DISCRETE)
    agent, obs, action = random_inputs(DISCRETE, 200)
    with torch.no_grad():
        following = model.predict(agent, obs, action)
    assert (following.min(), following.max()) == (-1.5, 2.5)
    assert ((following > -1.5) & (following < 2.5)).float().mean() > 0.5


@every_shape
def test_permuting_agents_permutes_predictions(shape):
    model = random_model(shape)
    agent, obs, action = random_inputs(shape, 50)
    permutation = torch.tensor([3, 0, 5, 1, 4, 2])
    permuted = deepcopy(model)
    with torch.no_grad():
        permuted.agent_encoder.factor[:, permutation] = model.agent_encoder.factor
        torch.testing.assert_close(
            permuted.predict(permutation[agent], obs, action), model.predict(agent, obs, action), rtol=0, atol=0
        )


def test_members_differ_from_the_start():
    model = FactoredEnsemble(DISCRETE)
    for parameter in model.parameters():
        assert not torch.equal(parameter[0], parameter[1])


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


def test_disagreement_is_the_spread_in_logged_standard_deviations():
    model = FactoredEnsemble(replace(DISCRETE, obs_dim=2, members=2))
    model.logged_std.copy_(torch.tensor([1.0, 10.0]))
    following = np.array([[[0.0, 0.0], [1.0, 1.0]], [[2.0, 40.0], [1.0, 1.0]]])  # [M, B, D]
    np.testing.assert_allclose(model.disagreement(following), [math.sqrt((1 + 4) / 2), 0.0], rtol=1e-6)


@pytest.mark.parametrize("agent", [500, 612, -1])
def test_an_unknown_agent_is_an_error_that_says_which_agents_there_are(agent):
    model = FactoredEnsemble(replace(DISCRETE, n_agents=500))
    message = rf"^agent {agent} is not in this simulator \(500 agents: 0–499\)$"
    with pytest.raises(ValueError, match=message):
        bind_agent(model, agent)
    with pytest.raises(ValueError, match=message):
        model.predict(torch.tensor([3, agent]), torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64))


@pytest.mark.parametrize("agent", ["1", 1.5, True, None])
def test_an_agent_that_is_not_a_whole_number_is_unknown(agent):
    with pytest.raises(ValueError, match="is not in this simulator"):
        bind_agent(FactoredEnsemble(DISCRETE), agent)


@pytest.mark.parametrize(
    "change", [{"rank": 0}, {"n_actions": 0}, {"action_dim": 1}, {"state_layers": ()}, {"members": 0}], ids=str
)
def test_impossible_sizes_are_refused(change):
    with pytest.raises(ValueError, match="impossible model sizes"):
        replace(DISCRETE, **change)


def test_an_unknown_activation_is_refused():
    with pytest.raises(ValueError, match="'tanh' is not one of relu, silu"):
        replace(DISCRETE, activation="tanh")


# --- training steps -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("pull", "interaction"), [(0.0, 0.0), (0.3, 0.0), (0.3, 0.7)])
@both_activations
@every_shape
def test_gradients_written_by_hand_equal_autograd(shape, activation, pull, interaction):
    shape = replace(shape, activation=activation)
    model = FactoredEnsemble(shape).double()
    agent, obs, action = random_inputs(shape, 20, members=(3,))
    delta = torch.randn(3, 20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    reference = deepcopy(model)
    u = reference.agent_encoder(agent)
    residual = reference.scaled_delta(u, obs, action) - delta
    error = residual.square().sum() / 20
    offset = reference.agent_encoder.offset(agent)
    swapped = action.roll(-1, 1)  # what another action would change beyond what it changes for the shared factor
    crossed = reference.scaled_delta(offset, obs, swapped) - reference.scaled_delta(offset, obs, action)
    (error + (pull * offset.square().sum() + interaction * crossed.square().sum()) / 20).backward()
    engine = TorchEngine(model, agent[0], obs[0], action[0], delta[0], pull, interaction=interaction)
    torch.testing.assert_close(engine.gradient(agent, obs, action, delta), error.detach())
    for (name, ours), autograd in zip(model.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, autograd.grad, rtol=1e-10, atol=1e-12, msg=name)


@both_activations
def test_gradients_of_wide_layers_in_bfloat16_equal_those_in_float32(activation):
    shape = replace(CONTINUOUS, state_layers=(128, 128), activation=activation)
    models = [FactoredEnsemble(shape) for _ in range(2)]
    agent, obs, action = random_inputs(shape, 200, members=(3,))
    data = agent, obs.float(), action.float(), torch.randn(3, 200, 3, generator=torch.Generator().manual_seed(1))
    errors = [
        TorchEngine(model, *(part[0] for part in data), 0.0, half=half).gradient(*data)
        for model, half in zip(models, (False, True), strict=True)
    ]
    assert float(errors[0]) == pytest.approx(float(errors[1]), rel=1e-3)
    for (name, one), other in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        assert (one.grad - other.grad).norm() < 0.05 * one.grad.norm(), name  # units at the kink of ReLU change sides
    last = [model.state_encoder.layers[-1].weight.grad for model in models]
    assert not torch.equal(*last)  # rounded somewhere


def engines(shape: ModelConfig, k: int = 200):
    """Data in scaled units and a start that both engines may have."""
    agent, obs, action = random_inputs(shape, k)
    delta = torch.randn(k, 3, generator=torch.Generator().manual_seed(1))
    return FactoredEnsemble(shape), (agent, obs.float(), action if shape.n_actions else action.float(), delta)


def order(k: int, members: int = 3) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([rng.permutation(k) for _ in range(members)])


@every_shape
def test_updates_equal_adam(shape):
    model, (agent, obs, action, delta) = engines(shape)
    reference = deepcopy(model)
    adam = torch.optim.Adam(reference.parameters(), lr=0.01)
    rows = torch.from_numpy(order(200))
    for i in range(5):
        use = rows[:, i * 40 : (i + 1) * 40]
        adam.zero_grad()
        predicted = reference.scaled_delta(reference.agent_encoder(agent[use]), obs[use], action[use])
        ((predicted - delta[use]).square().sum() / 40).backward()
        adam.step()
    TorchEngine(model, agent, obs, action, delta, 0.0).epoch(order(200), np.full(5, 0.01), 40)
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs.detach(), rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("pull", "interaction", "hidden", "batch"), [(0.0, 0.0, 16, 32), (0.3, 0.0, 21, 32), (0.3, 0.7, 53, 33)]
)
@both_activations
def test_compiled_epochs_equal_those_in_tensors(activation, pull, interaction, hidden, batch):
    shape = replace(DISCRETE, activation=activation, state_layers=(hidden,))
    in_tensors, data = engines(shape)
    compiled = deepcopy(in_tensors)
    slow = TorchEngine(in_tensors, *data, pull, interaction=interaction)
    fast = NumbaEngine(compiled, *(d.numpy() for d in data), pull, interaction=interaction)
    for _ in range(2):
        rates = np.linspace(0.001, 0.003, 6)
        losses = slow.epoch(order(200), rates, batch), fast.epoch(order(200), rates, batch)
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert slow.count == fast.count == 12
    for (name, one), other in zip(compiled.named_parameters(), in_tensors.parameters(), strict=True):
        torch.testing.assert_close(one.detach(), other, rtol=0, atol=2e-5, msg=name)


def test_only_one_hidden_layer_and_discrete_actions_are_compiled():
    assert DISCRETE.small
    assert not DEEP.small
    assert not replace(CONTINUOUS, state_layers=(16,)).small


@pytest.mark.parametrize("shape", [DISCRETE, DEEP], ids=["compiled", "tensors"])
def test_permuting_agents_permutes_trained_factors(shape):
    model, (agent, *rest) = engines(shape)
    permutation = torch.tensor([3, 0, 5, 1, 4, 2])
    permuted = deepcopy(model)
    with torch.no_grad():
        permuted.agent_encoder.factor[:, permutation] = model.agent_encoder.factor
    for one, agents in ((model, agent), (permuted, permutation[agent])):
        engine = (
            NumbaEngine(one, agents.numpy(), *(r.numpy() for r in rest), 0.1)
            if shape.small
            else TorchEngine(one, agents, *rest, 0.1)
        )
        engine.epoch(order(200), np.full(6, 0.01), 32)
    trained = model.agent_encoder.factor.detach()
    torch.testing.assert_close(permuted.agent_encoder.factor.detach()[:, permutation], trained, rtol=0, atol=1e-6)


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


@pytest.mark.parametrize(
    ("domain", "rank", "batch", "state_layers"),
    [("mountaincar", 3, 512, (256,)), ("cartpole", 5, 64, (256,)), ("halfcheetah", 15, 512, (256,) * 4)],
)
def test_the_thesis_recipes_are_the_thesis_s(domain, rank, batch, state_layers):
    recipe = recipe_for(domain, "thesis")
    assert (recipe.rank, recipe.batch, recipe.state_layers) == (rank, batch, state_layers)
    assert (recipe.action_layers, recipe.activation, recipe.members) == ((256, 256), "relu", 5)
    assert (recipe.epochs, recipe.learning_rate, recipe.pull) == (300, 1e-3, 0.0)


@pytest.mark.parametrize("kind", ["default", "thesis"])
@pytest.mark.parametrize("domain", DOMAINS)
def test_every_domain_has_recipes_that_fit_its_actions(domain, kind):
    continuous = not hasattr(DOMAINS[domain].action_space, "n")
    recipe = recipe_for(domain, kind, continuous=continuous)
    assert recipe.members == 5 and recipe.rank <= (15 if kind == "thesis" else 30)


def test_an_unknown_kind_of_recipe_lists_those_that_exist():
    with pytest.raises(ValueError, match="recipe 'fast' is not one of default, thesis"):
        recipe_for("cartpole", "fast")


@pytest.mark.parametrize(
    "change", [{"epochs": 0}, {"batch": 0}, {"learning_rate": 0.0}, {"pull": -1.0}, {"interaction": -1.0}], ids=str
)
def test_impossible_recipes_are_refused(change):
    with pytest.raises(ValueError, match="impossible recipe"):
        TrainingRecipe(**change)


def test_an_unknown_schedule_is_refused():
    with pytest.raises(ValueError, match="'cosine' is not one of one-cycle, halving"):
        TrainingRecipe(schedule="cosine")


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


def interrupt_after(monkeypatch, epochs: int, error: type[BaseException]) -> None:
    """Raises inside the epoch that follows `epochs` whole ones, half of its updates done."""
    done = iter(range(epochs + 1))
    for engine in (NumbaEngine, MemberEngine):

        def epoch(self, order, rates, batch, original=engine.epoch):
            if next(done) < epochs:
                return original(self, order, rates, batch)
            original(self, order, rates[: len(rates) // 2], batch)
            raise error

        monkeypatch.setattr(engine, "epoch", epoch)


@pytest.mark.parametrize("seconds", [0.0, 1e9], ids=["checkpoints", "Ctrl-C only"])
@both_engines
def test_an_interrupted_training_ends_with_the_same_weights(cars, tmp_path, recipe, seconds):
    path = tmp_path / "training.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(patch, 5, KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            train(cars, recipe, checkpoint=path, checkpoint_seconds=seconds)
    assert read_checkpoint(path)[1]["epoch"] == "5"
    assert_same_weights(train(cars, recipe, checkpoint=path), train(cars, recipe))


def train_and_die(cars, recipe, path):
    """Kills its own process while the third checkpoint is being written."""
    torch.set_num_threads(1)
    replaced = iter(range(3))

    def replace_or_die(source, target, original=os.replace):
        if next(replaced) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        original(source, target)

    os.replace = replace_or_die
    train(cars, recipe, checkpoint=path, checkpoint_seconds=0.0)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_a_killed_training_ends_with_the_same_weights(cars, tmp_path):
    path = tmp_path / "training.safetensors"
    process = multiprocessing.get_context("spawn").Process(target=train_and_die, args=(cars, TINY, path))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert read_checkpoint(path)[1]["epoch"] == "2"
    assert_same_weights(train(cars, TINY, checkpoint=path), train(cars, TINY))


def test_a_finished_checkpoint_is_not_trained_further(cars, tmp_path, monkeypatch):
    path = tmp_path / "training.safetensors"
    model = train(cars, TINY, checkpoint=path)
    interrupt_after(monkeypatch, 0, KeyboardInterrupt)  # no epoch may run
    assert_same_weights(train(cars, TINY, checkpoint=path), model)


@pytest.mark.parametrize("change", ["data", "recipe", "seed"])
def test_a_checkpoint_of_another_training_is_refused(cars, tmp_path, change):
    path = tmp_path / "training.safetensors"
    train(cars, replace(TINY, epochs=1), checkpoint=path)
    data = cars.select(cars.agent != 1) if change == "data" else cars
    recipe = replace(TINY, epochs=2 if change == "recipe" else 1)
    with pytest.raises(ValueError, match="is of other data, recipe, seed or options; delete it"):
        train(data, recipe, checkpoint=path, seed=int(change == "seed"))


def test_a_checkpoint_that_cannot_be_read_is_refused(cars, tmp_path):
    path = tmp_path / "training.safetensors"
    train(cars, TINY, checkpoint=path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=f"checkpoint {path} cannot be read .* delete it to start anew"):
        train(cars, TINY, checkpoint=path)


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
def test_divergence_leaves_the_last_good_checkpoint(cars, tmp_path, recipe, monkeypatch):
    path = tmp_path / "training.safetensors"
    rate = fit_module.learning_rate
    monkeypatch.setattr(fit_module, "learning_rate", lambda r, epoch, *at: rate(r, epoch, *at) if epoch < 3 else 1e30)
    with pytest.raises(TrainingDiverged):
        train(cars, recipe, checkpoint=path, checkpoint_seconds=0.0)
    assert read_checkpoint(path)[1]["epoch"] == "3"
    saved, _ = read_checkpoint(path)
    assert all(
        torch.isfinite(v).all()
        for k, v in saved.items()
        if k.startswith("model/") and not k.endswith(("obs_low", "obs_high", "walls"))
    )


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


def test_a_checkpoint_that_another_process_has_just_removed_is_none(cars, tmp_path, monkeypatch):
    """It trained the same, and finished between the look and the read."""
    path = tmp_path / "training.safetensors"
    train(cars, replace(TINY, epochs=2), checkpoint=path)
    monkeypatch.setattr(
        fit_module, "read_checkpoint", lambda file: path.unlink(missing_ok=True) or read_checkpoint(file)
    )
    assert_same_weights(train(cars, replace(TINY, epochs=2), checkpoint=path), train(cars, replace(TINY, epochs=2)))


def test_processes_that_train_the_same_do_not_write_into_one_file(cars, tmp_path, monkeypatch):
    """Here two take turns at every write; with one partial file between them the second finds none to rename."""
    path, others = tmp_path / "training.safetensors", iter(range(100, 200))
    save_file = checkpoint_module.save_file

    def save(tensors, partial, metadata):
        save_file(tensors, partial, metadata)
        if next(others) == 100:
            with monkeypatch.context() as patch:
                patch.setattr(os, "getpid", lambda: 1)
                train(cars, replace(TINY, epochs=2), checkpoint=path, checkpoint_seconds=0)

    monkeypatch.setattr(checkpoint_module, "save_file", save)
    both = train(cars, replace(TINY, epochs=2), checkpoint=path, checkpoint_seconds=0)
    assert [p.name for p in tmp_path.iterdir()] == ["training.safetensors"]
    assert_same_weights(both, train(cars, replace(TINY, epochs=2)))


# --- train_simulator ----------------------------------------------------------------------------------------------


def test_training_a_simulator_resumes_and_leaves_only_the_simulator(cars, home):
    plain = replace(recipe_for("mountaincar"), polish=False, refine=0, epochs=3, samples=0)
    keywords = {"name": "mountaincar/mine-v0", "domain": "mountaincar", "progress": False, "recipe": plain}
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(patch, 2, KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            train_simulator(cars, **keywords)
    assert [p.suffix for p in (persim_home() / "training").iterdir()] == [".safetensors"]
    folder = train_simulator(cars, **keywords)
    simulator = load_simulator("mountaincar/mine-v0")
    assert simulator.folder == folder == home / "simulators" / "mountaincar" / "mine-v0"
    assert list((persim_home() / "training").iterdir()) == []
    assert (simulator.card.dataset, simulator.card.dataset_hash) == (cars.source, cars.content_hash())
    assert (simulator.card.transitions, simulator.card.recipe["epochs"]) == (600, 3)
    assert_same_weights(
        simulator.model,
        train(
            cars,
            plain,
            bounds=(DOMAINS["mountaincar"].observation_space.low, DOMAINS["mountaincar"].observation_space.high),
        ),
    )


def test_an_abandoned_training_is_in_nobodys_way_and_can_go_on(cars, home):
    keywords = {"name": "mountaincar/mine-v0", "domain": "mountaincar", "progress": False}
    abandoned = keywords | {"recipe": replace(TINY, epochs=3)}
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(patch, 2, KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            train_simulator(cars, **abandoned)
    (left,) = (persim_home() / "training").iterdir()
    train_simulator(cars, **keywords, recipe=TINY)
    train_simulator(cars.select(cars.agent != 3), **keywords, recipe=replace(TINY, epochs=3))
    assert list((persim_home() / "training").iterdir()) == [left]
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(patch, 1, KeyboardInterrupt)  # one epoch is missing, and then nothing runs any more
        train_simulator(cars, **abandoned)
    assert list((persim_home() / "training").iterdir()) == []


@pytest.mark.parametrize("kept", [False, True], ids=["at once", "after a checkpoint"])
def test_after_a_divergence_another_recipe_trains_under_the_same_name(cars, home, kept, monkeypatch):
    """The error says to lower the learning rate; what the diverged training kept must not be in the way of that."""
    keywords = {"name": "mountaincar/mine-v0", "domain": "mountaincar", "progress": False}
    wild = replace(TINY, epochs=3, learning_rate=1e30)
    with monkeypatch.context() as patch, pytest.raises(TrainingDiverged, match="lower learning_rate"):
        if kept:
            rate = fit_module.learning_rate
            patch.setattr(fit_module, "learning_rate", lambda r, *at: 1e-3 if at[0] < 2 else rate(r, *at))
        train_simulator(cars, recipe=wild, **keywords)
    folder = train_simulator(cars, recipe=replace(wild, learning_rate=1e-3), **keywords)
    assert load_simulator(str(folder)).card.recipe["learning_rate"] == 1e-3
