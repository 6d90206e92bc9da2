"""The thesis's variants: one idea left out each, behind the same interface."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from support.recipes import TINY

from persim_gym.envs import DOMAINS
from persim_gym.evaluation.acting import RandomPolicy
from persim_gym.evaluation.prediction import prediction_error
from persim_gym.planning import MPC, RandomShooting
from persim_gym.simulator.model.ablations import HIDDEN, build_model
from persim_gym.simulator.model.config import ModelConfig
from persim_gym.simulator.training.trainer import fit_ensemble
from persim_gym.workflows.train import train

LONG = replace(TINY, epochs=60, learning_rate=5e-3, schedule="one-cycle")


@pytest.fixture(scope="module", params=["unfactorized", "unpersonalized"])
def variant(request):
    return request.param


@pytest.fixture(scope="module")
def simulator(cars, variant, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERSIM_HOME", str(tmp_path_factory.mktemp("home")))
        options = {"domain": "mountaincar", "variant": variant, "recipe": LONG, "progress": False}
        return train(cars, name="mountaincar/tiny-v0", **options)


def test_unfactorized_is_one_perceptron_on_agent_action_and_observation():
    shape = ModelConfig(n_agents=4, obs_dim=3, n_actions=2, action_dim=0, rank=5, members=2, variant="unfactorized")
    model = build_model(shape, seed=3).double()
    generator = np.random.default_rng(0)
    agent, action = torch.tensor([0, 3, 1]), torch.tensor([1, 0, 1])
    obs = torch.from_numpy(generator.normal(size=(3, 3)))
    state = model.state_dict()
    first = torch.cat(
        [state["agent_encoder.factor"], state["action_encoder.factor"], state["state_encoder.layers.0.weight"]], dim=1
    )  # [M, N + A + D, 256]
    one_hot = torch.nn.functional.one_hot
    inputs = torch.cat([one_hot(agent, 4).double(), one_hot(action, 2).double(), obs], dim=1)
    hidden = torch.relu(inputs @ first + state["state_encoder.layers.0.bias"])
    change = hidden @ state["head.output.weight"] + state["head.output.bias"]
    assert first.shape[1:] == (4 + 2 + 3, HIDDEN)
    torch.testing.assert_close(model.predict(agent, obs, action), obs + change)


def test_an_unfactorized_model_tells_agents_apart_and_an_unpersonalized_one_does_not(simulator, variant, cars):
    obs, action = cars.obs[:50], cars.action[:50]
    one, other = (simulator.dynamics(agent)(obs, action) for agent in (0, 5))
    assert np.array_equal(one, other) == (variant == "unpersonalized")


def test_variants_learn_the_dynamics(simulator, variant, cars):
    columns = [torch.from_numpy(values) for values in (cars.agent, cars.obs, cars.action)]
    error = (simulator.model.predict(*columns) - torch.from_numpy(cars.next_obs)).square().mean()
    change = np.square(cars.next_obs - cars.obs).mean()
    assert error < 0.05 * change
    factored = fit_ensemble(cars, LONG, n_actions=3, progress=False).predict(*columns).detach()
    if variant == "unpersonalized":  # it cannot know whose gravity it is
        assert error > 1.5 * (factored - torch.from_numpy(cars.next_obs)).square().mean()


def test_variants_are_measured_planned_in_and_stepped_as_any_simulator(simulator, variant):
    domain = DOMAINS["mountaincar"]
    dynamics = simulator.dynamics(4)
    error = prediction_error(dynamics, domain, 4, RandomPolicy(domain.action_space), episodes=5, warmup=2, horizon=10)
    assert error.mean_rmse < 0.05
    planner = RandomShooting(candidates=16, horizon=5)
    policy = MPC(dynamics, simulator.task, domain.action_space, planner=planner)
    assert policy.predict(np.array([-0.5, 0.0]))[0] in (0, 1, 2)
    env = gym.make("persim_gym:PersimEnv-v0", simulator=str(simulator.folder), agent=4)
    obs, _ = env.reset(seed=0)
    following, *_ = env.step(2)
    np.testing.assert_allclose(following, dynamics(obs[None], np.array([2])).mean(axis=0)[0], atol=1e-5)


def test_a_variant_says_that_it_believes_nothing_of_its_agents(simulator, variant, cars):
    for ask in (simulator.online, lambda: simulator.personalize(cars)):
        with pytest.raises(ValueError, match=f"is {variant}: only a factored one .*train one without --variant"):
            ask()


def test_the_card_says_which_variant_it_is(simulator, variant):
    assert simulator.card.shape["variant"] == variant
    assert f"| model | {variant}" in (simulator.folder / "README.md").read_text()
    assert simulator.model.config.n_agents == 6


@pytest.mark.parametrize("variant", ["unfactorized", "unpersonalized"])
def test_variants_train_on_continuous_actions_too(pushes, variant):
    recipe = replace(LONG, action_layers=(16,), batch=100, learning_rate=1e-2)
    model = fit_ensemble(pushes, recipe, variant=variant, progress=False)
    columns = [torch.from_numpy(values) for values in (pushes.agent, pushes.obs, pushes.action)]
    with torch.no_grad():
        error = (model.predict(*columns) - torch.from_numpy(pushes.next_obs)).square().mean()
    assert error < (0.02 if variant == "unfactorized" else 0.4) * np.square(pushes.next_obs - pushes.obs).mean()


def test_an_unknown_variant_is_refused(cars):
    with pytest.raises(ValueError, match="variant 'vanilla' is not one of factored, unfactorized, unpersonalized"):
        fit_ensemble(cars, TINY, n_actions=3, variant="vanilla", progress=False)


def test_gradients_do_not_depend_on_the_order_that_threads_add_up_in(torch_threads):
    """Those of the other variants are written by hand."""
    model, generator = build_model(ModelConfig(6, 2, 3, 0, 3, 1, (16,))), torch.Generator().manual_seed(0)
    torch_threads(2)
    for encoder, n in ((model.agent_encoder, 6), (model.action_encoder, 3)):
        chosen = torch.randint(n, (1, 40_000), generator=generator)
        weights = torch.randn(1, 40_000, 3, generator=generator)
        first, *others = (torch.autograd.grad((encoder(chosen) * weights).sum(), encoder.factor)[0] for _ in range(10))
        assert all(torch.equal(first, other) for other in others)
