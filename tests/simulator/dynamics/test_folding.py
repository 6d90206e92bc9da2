"""Networks made for kernels: fitted to a model, shared by its agents, and made anew when it changes."""

import numpy as np
import pytest
import torch
from support.rollouts import SHAPES, drawn, inputs

from persim_gym.parallel import run_each
from persim_gym.simulator.dynamics import folding as networks
from persim_gym.simulator.dynamics.bind import bind_agent
from persim_gym.simulator.kernels.dense import AVX2
from persim_gym.simulator.model.config import ModelConfig


def test_rounding_is_fitted_to_what_a_model_predicts_itself():
    model = drawn(SHAPES["deep"])._model
    obs, actions = networks._examples(model)
    members, size = model.config.members, networks.EXAMPLE_ROLLOUTS * networks.EXAMPLE_STEPS
    assert obs.shape == (members, size, model.config.obs_dim) and actions.shape[:2] == (members, size)
    assert obs.isfinite().all()
    agents = torch.arange(networks.EXAMPLE_ROLLOUTS) % model.config.n_agents
    before, after = (
        obs[:, : networks.EXAMPLE_ROLLOUTS],
        obs[:, networks.EXAMPLE_ROLLOUTS : 2 * networks.EXAMPLE_ROLLOUTS],
    )
    following = model.predict(agents, before, actions[0, : networks.EXAMPLE_ROLLOUTS])
    torch.testing.assert_close(after, following[..., : model.config.obs_dim])


@pytest.mark.parametrize("change", [torch.nan, torch.inf, 1e6])
def test_rounding_is_not_fitted_to_predictions_that_lose_themselves(change):
    model = drawn(SHAPES["deep"])._model
    model.delta_mean[1] = change
    obs, _ = networks._examples(model)
    assert ((obs - model.obs_mean).abs() <= networks.MAX_DISTANCE * model.obs_std).all()


def test_networks_are_shared_by_agents_and_made_anew_when_a_weight_changes():
    ensemble = drawn(SHAPES["deep"])._model
    first = networks.folded_networks(ensemble)
    assert networks.folded_networks(ensemble) is first
    obs, actions = inputs(SHAPES["deep"])
    before = bind_agent(ensemble, 1).rollout(obs, actions)
    ensemble.state_encoder.layers[-1].bias.data.numpy()[:] += 1.0  # behind PyTorch's back
    assert networks.folded_networks(ensemble) is not first
    now = bind_agent(ensemble, 1)
    np.testing.assert_allclose(now.rollout(obs, actions)[:, :, 0], now(obs, actions[:, 0]), atol=0.1)
    assert np.abs(now.rollout(obs, actions) - before).max() > 0.5


@pytest.mark.parametrize(
    "part", ["obs_mean", "obs_std", "action_mean", "action_std", "delta_mean", "delta_std", "obs_high", "agent_encoder"]
)
def test_networks_are_made_anew_when_what_they_were_fitted_to_changes(part):
    ensemble = drawn(SHAPES["deep"], bounded=True)._model
    first = networks.folded_networks(ensemble)
    changed = getattr(ensemble, part)
    for values in changed.parameters() if part == "agent_encoder" else (changed,):
        values.data.mul_(0.5).add_(0.25)
    assert networks.folded_networks(ensemble) is not first


def test_networks_are_in_bytes_where_asked_for_and_where_the_processor_multiplies_them(monkeypatch):
    ensemble = drawn(SHAPES["deep"])._model
    monkeypatch.setattr(networks, "byte_products", lambda: AVX2)
    assert networks.folded_networks(ensemble, quantize=True)[0].inputs_per_word == 4
    assert networks.folded_networks(ensemble)[0].inputs_per_word == 1
    monkeypatch.setattr(networks, "byte_products", lambda: None)
    assert networks.folded_networks(ensemble, quantize=True)[0].inputs_per_word == 1


def test_networks_are_made_once_and_the_same_on_any_number_of_threads(torch_threads, monkeypatch):
    shape = ModelConfig(4, 6, 0, 2, 3, 2, (256, 256), (16,), "silu")
    made = []
    build = networks._networks
    monkeypatch.setattr(networks, "_networks", lambda *given: made.append(build(*given)) or made[-1])
    for number in (1, 3):
        torch_threads(number)
        model = drawn(shape)._model
        run_each(lambda item, model=model: networks.folded_networks(model, quantize=True), range(number))
    alone, together = made  # one a model, however many threads ask
    np.testing.assert_array_equal(together[0].rest, alone[0].rest)
