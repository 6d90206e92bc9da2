"""The factored ensemble: closed forms, and what its predictions are made of."""

import math
from copy import deepcopy
from dataclasses import replace

import numpy as np
import torch
from support.models import DISCRETE, every_shape, random_inputs, random_model
from torch import nn

from persim_gym.envs import DOMAINS
from persim_gym.simulator.model.config import ModelConfig
from persim_gym.simulator.model.ensemble import FactoredEnsemble


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


def test_disagreement_is_the_spread_in_logged_standard_deviations():
    model = FactoredEnsemble(replace(DISCRETE, obs_dim=2, members=2))
    model.logged_std.copy_(torch.tensor([1.0, 10.0]))
    following = np.array([[[0.0, 0.0], [1.0, 1.0]], [[2.0, 40.0], [1.0, 1.0]]])  # [M, B, D]
    np.testing.assert_allclose(model.disagreement(following), [math.sqrt((1 + 4) / 2), 0.0], rtol=1e-6)
