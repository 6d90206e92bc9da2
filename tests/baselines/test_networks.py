"""Shared arithmetic and updates of the baselines' networks."""

import numpy as np
import pytest
import torch

from persim_gym.baselines.networks import Adam, follow, outputs
from persim_gym.simulator.model.encoders import EnsembleMLP


def networks(count: int, *sizes: int) -> EnsembleMLP:
    return EnsembleMLP(count, sizes, "relu", torch.Generator().manual_seed(0))


def test_outputs_are_those_of_the_plain_networks():
    some, x = networks(2, 3, 150, 150, 4), torch.randn(7, 3, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(outputs(some, x), some(x.expand(2, 7, 3)))
    torch.testing.assert_close(outputs(some, x, count=1), outputs(some, x)[:1])
    near = outputs(some, x, torch.bfloat16)
    assert near.dtype == torch.float32
    torch.testing.assert_close(near, outputs(some, x), rtol=0.02, atol=0.02)


def test_adam_equals_torch_s_own_and_takes_steps_of_parts():
    ours, theirs = networks(2, 3, 5, 1), networks(2, 3, 5, 1)
    adam, reference = Adam(list(ours.parameters()), 0.01), torch.optim.Adam(theirs.parameters(), 0.01)
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(1))
    for _ in range(5):
        adam.minimize(outputs(ours, x).square().sum())
        reference.zero_grad()
        outputs(theirs, x).square().sum().backward()
        reference.step()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other)
    whole = torch.zeros(3, 2)
    Adam([whole[:2]], 0.1).step([torch.ones(2, 2)])
    torch.testing.assert_close(whole, torch.tensor([[-0.1, -0.1], [-0.1, -0.1], [0.0, 0.0]]))


def test_the_state_of_adam_goes_through_a_state_dict():
    weight, gradient = torch.zeros(3), [torch.tensor([1.0, -2.0, 0.5])]
    adam = Adam([weight], 0.1)
    adam.step(gradient)
    saved, copied = {name: value.clone() for name, value in adam.state_dict().items()}, weight.clone()
    resumed = Adam([copied], 0.1)
    resumed.load_state_dict(saved)
    for one in (adam, resumed):
        one.step([-3 * gradient[0]])
    np.testing.assert_array_equal(weight, copied)


@pytest.mark.parametrize("rate", [0.0, 0.005, 1.0])
def test_targets_move_by_exactly_the_rate(rate):
    targets, weights = [torch.tensor([1.0, 2.0])], [torch.tensor([3.0, -2.0])]
    follow(targets, weights, rate)
    torch.testing.assert_close(targets[0], (1 - rate) * torch.tensor([1.0, 2.0]) + rate * weights[0])
