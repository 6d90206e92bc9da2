"""Continuous BCQ: its constraint, its losses and its targets."""

from dataclasses import replace

import pytest
import torch
from support.offline import OBS_DIM, random_batch

from persim_gym.baselines.bcq_continuous import LATENT_BOUND, ContinuousBCQ, ContinuousBCQSettings

SMALL = ContinuousBCQSettings(layers=(16, 12), generative_layers=(16, 16), acting_proposals=20, bfloat16=False)


def learner(settings=SMALL, seed: int = 0) -> ContinuousBCQ:
    return ContinuousBCQ(OBS_DIM, 2, settings, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("perturbation", [0.05, 0.5])
def test_a_perturbation_is_small_and_stays_inside_of_the_bounds(perturbation):
    for seed in range(5):
        own = learner(replace(SMALL, perturbation=perturbation), seed)
        generator = torch.Generator().manual_seed(seed)
        obs, action = torch.randn(500, OBS_DIM, generator=generator), 2 * torch.rand(500, 2, generator=generator) - 1
        with torch.no_grad():
            # With larger weights the bound is reached.
            own.policy.actor.layers[-1].weight.mul_(100)
            change = own.policy.perturbed(obs, action) - action
        assert change.abs().max() <= perturbation + 1e-6 and change.abs().max() > 0.9 * perturbation
        assert (action + change).abs().max() <= 1.0


@pytest.mark.parametrize("deterministic", [True, False])
def test_chosen_actions_are_perturbed_proposals_of_the_highest_value(deterministic):
    own, obs = learner().policy, torch.randn(6, OBS_DIM, generator=torch.Generator().manual_seed(3))
    chosen = own.act(obs, None if deterministic else torch.Generator().manual_seed(5))
    assert chosen.abs().max() <= 1.0
    if not deterministic:
        return
    assert own.latents.abs().max() <= LATENT_BOUND
    for row, action in zip(obs, chosen, strict=True):
        repeated = row.expand(len(own.latents), -1)
        with torch.no_grad():
            proposed = own.decode(repeated, own.latents)
            moved = own.perturbed(repeated, proposed)
            best = own.q_values(repeated, moved)[0, :, 0].argmax()
        torch.testing.assert_close(action, moved[best])
        assert (action - proposed[best]).abs().max() <= SMALL.perturbation + 1e-6


def test_deterministic_actions_do_not_depend_on_the_other_rows():
    own, obs = learner().policy, torch.randn(6, OBS_DIM, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(own.act(obs)[2:3], own.act(obs[2:3]))


def test_the_divergence_is_that_of_torch_s_distributions():
    own, batch = learner(), random_batch("continuous")
    apart = ContinuousBCQ(OBS_DIM, 2, replace(SMALL, divergence_weight=0.0), torch.Generator().manual_seed(0))
    loss, rebuilt = (one.generative_loss(batch, torch.Generator().manual_seed(1)).detach() for one in (own, apart))
    with torch.no_grad():
        pairs = torch.cat([batch.obs, batch.action], 1)
        mean, log_std = own.encoder(pairs[None])[0].chunk(2, 1)
    encoded = torch.distributions.Normal(mean, log_std.exp())
    divergence = torch.distributions.kl_divergence(encoded, torch.distributions.Normal(0.0, 1.0)).mean()
    torch.testing.assert_close(loss, rebuilt + SMALL.divergence_weight * divergence)


def test_the_bellman_target_mixes_both_critics_and_takes_the_best_proposal():
    own, batch = learner(), random_batch("continuous", 8)
    target = own.bellman_target(batch, torch.Generator().manual_seed(2))
    latents = torch.randn(80, 4, generator=torch.Generator().manual_seed(2)).clamp(-LATENT_BOUND, LATENT_BOUND)
    for i in range(8):
        obs = batch.next_obs[i].expand(10, -1)
        with torch.no_grad():
            actions = own.target.perturbed(obs, own.policy.decode(obs, latents[10 * i : 10 * i + 10]))
            one, other = own.target.q_values(obs, actions)[..., 0]
        value = (0.75 * torch.minimum(one, other) + 0.25 * torch.maximum(one, other)).max()
        torch.testing.assert_close(target[i, 0], batch.reward[i, 0] + 0.99 * batch.live[i, 0] * value)


def test_an_update_moves_all_networks_and_targets_by_their_rate():
    own, batch = learner(), random_batch("continuous")
    before = {name: value.clone() for name, value in own.state_dict().items()}
    own.update(batch, torch.Generator().manual_seed(0))
    for name, new in own.state_dict().items():
        if name.startswith(("target.critic", "target.actor")):
            followed = own.state_dict()[name.replace("target.", "policy.")]
            torch.testing.assert_close(new, before[name] + SMALL.target_rate * (followed - before[name]))
        elif name.startswith("policy.") and "latents" not in name:
            assert not torch.equal(new, before[name]), name


def test_reconstruction_learns_the_logged_actions():
    own = learner(replace(SMALL, divergence_weight=0.01))
    batch = random_batch("continuous", 64)
    batch = batch._replace(action=torch.stack([batch.obs[:, 0].tanh(), -batch.obs[:, 1].tanh()], 1) * 0.9)
    generator = torch.Generator().manual_seed(0)
    for _ in range(800):
        own.generative_adam.minimize(own.generative_loss(batch, generator))
    with torch.no_grad():
        proposed = own.policy.decode(batch.obs, torch.zeros(64, 4))
    assert (proposed - batch.action).square().mean() < 0.02 < batch.action.square().mean()
