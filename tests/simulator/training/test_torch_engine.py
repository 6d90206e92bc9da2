"""Steps in tensors: gradients equal those of the plain formulas, updates equal PyTorch's Adam."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.models import CONTINUOUS, both_activations, every_shape, random_inputs
from support.recipes import TINY
from support.training import engines, in_tensors, order

from persim_gym.simulator.model.ensemble import FactoredEnsemble
from persim_gym.simulator.training.torch_engine import TorchEngine


@pytest.mark.parametrize(("pull", "interaction"), [(0.0, 0.0), (0.3, 0.0), (0.3, 0.7)])
@both_activations
@every_shape
def test_gradients_equal_those_of_the_plain_formulas(shape, activation, pull, interaction):
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
    engine = TorchEngine(model, slice(0, 3), replace(TINY, pull=pull, interaction=interaction))
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
        TorchEngine(model, slice(0, 3), TINY, half=half).gradient(*data)
        for model, half in zip(models, (False, True), strict=True)
    ]
    assert float(errors[0]) == pytest.approx(float(errors[1]), rel=1e-3)
    for (name, one), other in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        assert (one.grad - other.grad).norm() < 0.05 * one.grad.norm(), name  # units at the kink of ReLU change sides
    last = [model.state_encoder.layers[-1].weight.grad for model in models]
    assert not torch.equal(*last)  # rounded somewhere


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
    in_tensors(model, (agent, obs, action, delta)).epoch(order(200), np.full(5, 0.01), 40)
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours.detach(), theirs.detach(), rtol=0, atol=2e-5)


@pytest.mark.parametrize("pull", [0.0, 0.3])
@every_shape
def test_a_target_that_is_not_known_has_neither_loss_nor_gradient(shape, pull):
    model, (agent, obs, action, delta) = engines(shape)
    some = torch.rand(delta.shape, generator=torch.Generator().manual_seed(2)) < 0.3
    some[:, 1] |= agent == 2  # never known of an agent
    reference, rows = deepcopy(model), torch.arange(200).expand(3, -1)
    predicted = reference.scaled_delta(reference.agent_encoder(agent[rows]), obs[rows], action[rows])
    offset = reference.agent_encoder.offset(agent[rows])
    error = ((predicted - delta) * ~some).square().sum() / 200
    (error + pull * offset.square().sum() / 200).backward()
    engine = TorchEngine(model, slice(0, 3), replace(TINY, pull=pull))
    lacking = agent, obs, action, delta.masked_fill(some, torch.nan)
    engine.bind(lacking)
    torch.testing.assert_close(engine.gradient(*(x[rows] for x in lacking)), error.detach())
    for (name, ours), autograd in zip(model.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, autograd.grad, rtol=1e-4, atol=1e-6, msg=name)


def test_a_prediction_that_is_not_finite_is_not_taken_for_a_missing_target():
    model, (agent, obs, action, delta) = engines(CONTINUOUS)
    delta[::3, 1], obs[0] = torch.nan, torch.nan
    engine = TorchEngine(model, slice(0, 3), TINY)
    engine.bind((agent, obs, action, delta))
    assert not torch.isfinite(engine.gradient(*(x.expand(3, *x.shape) for x in (agent, obs, action, delta))))
