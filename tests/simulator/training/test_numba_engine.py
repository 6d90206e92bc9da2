"""Compiled epochs equal those in tensors."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.models import CONTINUOUS, DEEP, DISCRETE, both_activations
from support.recipes import TINY
from support.training import compiled, engines, in_tensors, order


@pytest.mark.parametrize(
    ("pull", "interaction", "hidden", "batch"), [(0.0, 0.0, 16, 32), (0.3, 0.0, 21, 32), (0.3, 0.7, 53, 33)]
)
@both_activations
def test_compiled_epochs_equal_those_in_tensors(activation, pull, interaction, hidden, batch):
    shape = replace(DISCRETE, activation=activation, state_layers=(hidden,))
    model, data = engines(shape)
    other = deepcopy(model)
    recipe = replace(TINY, pull=pull, interaction=interaction)
    slow, fast = in_tensors(model, data, recipe), compiled(other, data, recipe)
    for _ in range(2):
        rates = np.linspace(0.001, 0.003, 6)
        losses = slow.epoch(order(200), rates, batch), fast.epoch(order(200), rates, batch)
        assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert slow.count == fast.count == 12
    for (name, one), theirs in zip(other.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(one.detach(), theirs.detach(), rtol=0, atol=2e-5, msg=name)


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
        training = (compiled if shape.small else in_tensors)(one, (agents, *rest), replace(TINY, pull=0.1))
        training.epoch(order(200), np.full(6, 0.01), 32)
    trained = model.agent_encoder.factor.detach()
    torch.testing.assert_close(permuted.agent_encoder.factor.detach()[:, permutation], trained, rtol=0, atol=1e-6)


@pytest.mark.parametrize("sparse", [False, True])
@both_activations
def test_compiled_epochs_leave_out_the_targets_that_those_in_tensors_leave_out(activation, sparse):
    model, (*inputs, delta) = engines(replace(DISCRETE, activation=activation))
    delta[torch.rand(delta.shape, generator=torch.Generator().manual_seed(2)) < 0.3] = torch.nan
    other, recipe = deepcopy(model), replace(TINY, pull=0.3, interaction=0.7)
    slow = in_tensors(model, (*inputs, delta), recipe)
    fast = compiled(other, (*inputs, delta), recipe, sparse=sparse)
    rates = np.linspace(0.001, 0.003, 6)
    losses = slow.epoch(order(200), rates, 32), fast.epoch(order(200), rates, 32)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for (name, one), theirs in zip(other.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(one.detach(), theirs.detach(), rtol=0, atol=2e-5, msg=name)
