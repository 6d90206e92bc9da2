"""Implicit Q-learning: expectiles, and values that only logged actions make."""

from dataclasses import replace

import pytest
import torch
from scipy import optimize
from support.offline import OBS_DIM, random_batch

from persim_gym.baselines.behavior_cloning import CategoricalPolicy, GaussianPolicy
from persim_gym.baselines.iql import IQL, IQLSettings, expectile_loss

SMALL = IQLSettings(layers=(32,), learning_rate=0.005, target_rate=0.05, bfloat16=False)


def uniform_expectile(tau: float) -> float:
    """Of the uniform distribution on [0, 1]: tau E(x - e)+ = (1 - tau) E(e - x)+, both of them squares."""
    return optimize.brentq(lambda e: tau * (1 - e) ** 2 - (1 - tau) * e**2, 0.0, 1.0)


@pytest.mark.parametrize("tau", [0.1, 0.5, 0.7, 0.9])
def test_the_loss_is_least_at_the_expectile_of_a_known_distribution(tau):
    x, value = (torch.arange(10_000) + 0.5) / 10_000, torch.zeros((), requires_grad=True)
    optimizer = torch.optim.Adam([value], 0.02)
    for step in range(400):
        optimizer.param_groups[0]["lr"] = 0.02 * (1 - step / 400)
        optimizer.zero_grad()
        expectile_loss(x - value, tau).backward()
        optimizer.step()
    assert abs(value.item() - uniform_expectile(tau)) < 1e-3


def test_the_value_of_an_observation_is_the_expectile_over_its_logged_actions():
    """Rewards 0 and 1 of two actions, both logged as often and the end after them: the expectile is tau."""
    for tau in (0.5, 0.8):
        own = IQL(CategoricalPolicy, OBS_DIM, 4, replace(SMALL, expectile=tau), torch.Generator().manual_seed(0))
        action = torch.tensor([[0], [1]]).repeat(16, 1)
        batch = random_batch("discrete")._replace(
            obs=torch.eye(OBS_DIM)[:1].expand(32, -1), action=action, reward=action.float(), live=torch.zeros(32, 1)
        )
        for _ in range(700):
            own.update(batch, torch.Generator())
        with torch.no_grad():
            value = own.value(batch.obs[None, :1])
        assert abs(value.item() - tau) < 0.03
        assert own.policy.act(batch.obs[:1]).item() == 1


@pytest.mark.parametrize(("policy", "size"), [(CategoricalPolicy, 4), (GaussianPolicy, 2)])
def test_each_loss_moves_its_own_networks_and_the_target_follows(policy, size):
    own = IQL(policy, OBS_DIM, size, SMALL, torch.Generator().manual_seed(0))
    before = {name: value.clone() for name, value in own.state_dict().items()}
    own.update(random_batch("discrete" if size == 4 else "continuous"), torch.Generator())
    for name, new in own.state_dict().items():
        if name.startswith("target."):
            followed = own.state_dict()[name.replace("target.", "q.")]
            torch.testing.assert_close(new, before[name] + SMALL.target_rate * (followed - before[name]))
        elif not name.startswith("adam"):
            assert not torch.equal(new, before[name]), name


def test_no_action_weighs_more_than_the_bound():
    settings = replace(SMALL, temperature=1e3, largest_weight=2.0)
    own = IQL(CategoricalPolicy, OBS_DIM, 4, settings, torch.Generator().manual_seed(0))
    assert torch.isfinite(own.update(random_batch("discrete"), torch.Generator()))


def test_an_impossible_expectile_is_refused():
    with pytest.raises(ValueError, match="expectile must be between 0 and 1"):
        replace(SMALL, expectile=1.0)
