"""Discrete BCQ: its constraint, its gradient and its target."""

from dataclasses import replace

import pytest
import torch
from support.offline import OBS_DIM, random_batch

from persim_gym.baselines.bcq_discrete import IMITATION, TARGET, DiscreteBCQ, DiscreteBCQSettings, Q, allowed_best

SMALL = DiscreteBCQSettings(layers=(16, 12), bfloat16=False)


def learner(settings=SMALL, seed: int = 0) -> DiscreteBCQ:
    return DiscreteBCQ(OBS_DIM, 4, settings, torch.Generator().manual_seed(seed))


def plain_loss(own: DiscreteBCQ, batch, settings) -> torch.Tensor:
    """The loss once more, by torch's own functions."""
    networks = own.policy.networks
    now, following = (networks(x.expand(3, *x.shape)) for x in (batch.obs, batch.next_obs))
    with torch.no_grad():
        p = following[IMITATION].softmax(1)
        allowed = p / p.amax(1, keepdim=True) >= settings.threshold
        best = following[Q].masked_fill(~allowed, -1e9).argmax(1, keepdim=True)
        target = batch.reward + settings.discount * batch.live * following[TARGET].gather(1, best)
    huber = torch.nn.functional.smooth_l1_loss(now[Q].gather(1, batch.action), target)
    nll = torch.nn.functional.cross_entropy(now[IMITATION], batch.action[:, 0])
    return huber + nll + settings.logit_weight * now[IMITATION].square().mean()


@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.9, 1.0])
def test_no_chosen_action_is_less_likely_than_the_threshold(threshold):
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)
        q, logits = 5 * torch.randn(2, 200, 6, generator=generator)
        chosen, p = allowed_best(q, logits, threshold), logits.softmax(1)
        ratio = p / p.amax(1, keepdim=True)
        assert (ratio.gather(1, chosen) >= threshold * (1 - 1e-5)).all()
        better = (q > q.gather(1, chosen)) & (ratio > threshold * (1 + 1e-5))
        assert not better.any()


@pytest.mark.parametrize("threshold", [0.3, 0.8])
def test_the_policy_keeps_the_constraint_on_random_networks(threshold):
    for seed in range(5):
        own = learner(replace(SMALL, threshold=threshold), seed)
        with torch.no_grad():
            # With larger weights the probabilities differ.
            own.policy.networks.layers[-1].weight.mul_(5)
            obs = 3 * torch.randn(1000, OBS_DIM, generator=torch.Generator().manual_seed(seed))
            p = own.policy.networks(obs.expand(3, *obs.shape))[IMITATION].softmax(1)
        chosen = own.policy.act(obs)[:, None]
        ratio = (p / p.amax(1, keepdim=True)).gather(1, chosen)
        assert (ratio >= threshold * (1 - 1e-5)).all() and (ratio < 1).any()


def test_the_written_out_gradient_is_that_of_automatic_differentiation():
    own, batch = learner(), random_batch("discrete")
    # Larger rewards bring both branches of the Huber loss.
    batch = batch._replace(reward=5 * batch.reward)
    parameters = list(own.policy.networks.parameters())
    expected = plain_loss(own, batch, SMALL)
    gradients = torch.autograd.grad(expected, parameters)
    torch.testing.assert_close(own.update(batch, torch.Generator()), expected.detach())
    for mine, other in zip(own._gradients, gradients, strict=True):
        torch.testing.assert_close(mine, other[:2], rtol=1e-4, atol=1e-6)
        assert not other[TARGET].any()


def test_bfloat16_changes_the_gradient_by_its_rounding_alone():
    batch, wide = random_batch("discrete"), replace(SMALL, layers=(256, 256))
    exact, near = learner(wide), learner(replace(wide, bfloat16=True))
    for one in (exact, near):
        one.update(batch, torch.Generator())
    for mine, other in zip(near._gradients, exact._gradients, strict=True):
        assert (mine - other).norm() < 0.1 * other.norm()


def test_the_target_follows_the_q_network_alone():
    own, batch = learner(), random_batch("discrete")
    before = [weight.clone() for weight in own._all]
    own.update(batch, torch.Generator())
    for old, new in zip(before, own._all, strict=True):
        torch.testing.assert_close(new[TARGET], old[TARGET] + SMALL.target_rate * (new[Q] - old[TARGET]))
        assert not torch.equal(old[IMITATION], new[IMITATION])


def test_q_values_of_a_known_chain_are_found():
    """From 0 to 1 to the end, reward 1 a step: values 1 + discount and 1; the logged action alone may be chosen."""
    settings = replace(SMALL, learning_rate=3e-3, target_rate=0.05, discount=0.9)
    own = learner(settings)
    obs = torch.eye(OBS_DIM)[[0, 1] * 16]
    batch = random_batch("discrete")._replace(
        obs=obs, next_obs=obs.roll(1, 1), action=torch.full((32, 1), 2), reward=torch.ones(32, 1), live=1 - obs[:, 1:2]
    )
    for _ in range(600):
        own.update(batch, torch.Generator())
    with torch.no_grad():
        values = own.policy.networks(obs[:2].expand(3, 2, OBS_DIM))[Q, :, 2]
    torch.testing.assert_close(values, torch.tensor([1.9, 1.0]), atol=0.05, rtol=0)
    assert own.policy.act(obs[:2]).tolist() == [2, 2]


@pytest.mark.parametrize("change", [{"threshold": 0.0}, {"threshold": 1.1}, {"layers": (3,)}, {"batch": 0}])
def test_impossible_settings_are_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        replace(SMALL, **change)
