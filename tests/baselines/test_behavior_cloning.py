"""Behaviour cloning finds the likeliest policy."""

from functools import partial

import pytest
import torch
from support.offline import OBS_DIM, random_batch

from persim_gym.baselines.behavior_cloning import BehaviorCloning, CategoricalPolicy, CloningSettings, GaussianPolicy

SETTINGS = CloningSettings(layers=(32,), learning_rate=0.01, bfloat16=False)
SIZES = {CategoricalPolicy: 4, GaussianPolicy: 2}


def learner(policy) -> BehaviorCloning:
    return BehaviorCloning(policy, OBS_DIM, SIZES[policy], SETTINGS, torch.Generator().manual_seed(0))


def test_on_a_table_it_finds_the_frequencies_of_actions():
    """The likeliest policy of a table of observations is the frequencies of the actions logged at each."""
    counts = torch.tensor([[5, 3, 0, 2], [1, 1, 6, 2], [0, 10, 0, 0]])
    obs = torch.eye(OBS_DIM).repeat_interleave(10, 0)
    action = torch.cat([torch.arange(4).repeat_interleave(row) for row in counts])[:, None]
    own = learner(CategoricalPolicy)
    batch = random_batch("discrete", 30)._replace(obs=obs, action=action)
    for _ in range(1000):
        loss = own.update(batch, torch.Generator())
    p = counts / 10
    entropy = -(p * p.clamp_min(1e-9).log()).sum(1).mean()
    assert entropy - 1e-4 <= loss <= entropy + 0.01
    with torch.no_grad():
        found = own.policy.log_likelihood(
            torch.eye(OBS_DIM).repeat_interleave(4, 0), torch.arange(4).repeat(3)[:, None]
        )
    torch.testing.assert_close(found.exp().view(3, 4), p, atol=0.02, rtol=0)
    assert own.policy.act(torch.eye(OBS_DIM)).tolist() == [0, 2, 1]


def test_it_finds_the_mean_and_the_spread_of_continuous_actions():
    generator = torch.Generator().manual_seed(1)
    obs = torch.eye(OBS_DIM).repeat_interleave(200, 0)
    centre = torch.tensor([[0.5, -0.3], [0.0, 0.4], [-0.6, 0.1]])
    action = centre.repeat_interleave(200, 0) + torch.tensor([0.1, 0.2]) * torch.randn(600, 2, generator=generator)
    own = learner(GaussianPolicy)
    batch = random_batch("continuous", 600)._replace(obs=obs, action=action)
    for _ in range(600):
        loss = own.update(batch, torch.Generator())
    means = action.view(3, 200, 2).mean(1)
    std = (action.view(3, 200, 2) - means[:, None]).square().mean((0, 1)).sqrt()
    torch.testing.assert_close(own.policy.act(torch.eye(OBS_DIM)), means, atol=0.02, rtol=0)
    torch.testing.assert_close(own.policy.log_std.exp().detach(), std, atol=0.01, rtol=0.05)
    normal = torch.distributions.Normal(own.policy.mean(obs), own.policy.log_std.exp())
    torch.testing.assert_close(own.policy.log_likelihood(obs, action)[:, 0], normal.log_prob(action).sum(1))
    assert loss < -0.5


@pytest.mark.parametrize("policy", [CategoricalPolicy, GaussianPolicy])
def test_drawn_actions_are_spread_as_they_are_likely(policy):
    own = learner(policy).policy
    obs = torch.zeros(4000, OBS_DIM)
    draw = partial(own.act, obs)
    drawn = draw(torch.Generator().manual_seed(0))
    assert torch.equal(drawn, draw(torch.Generator().manual_seed(0)))
    if policy is CategoricalPolicy:
        likely = own.log_likelihood(obs[:4], torch.arange(4)[:, None]).exp()[:, 0]
        torch.testing.assert_close(drawn.bincount(minlength=4) / 4000, likely.detach(), atol=0.03, rtol=0)
    else:
        assert drawn.abs().max() <= 1.0 and drawn.std() > 0.3
