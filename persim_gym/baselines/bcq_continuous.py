"""BCQ for continuous actions: a generative model proposes logged-like actions, a critic chooses among them.

Source: Fujimoto, Meger and Precup (2019), Off-Policy Deep Reinforcement Learning without Exploration, algorithm 1.
"""

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from persim_gym.baselines.networks import Adam, follow, hidden_type, outputs
from persim_gym.baselines.offline import Batch, OfflineSettings
from persim_gym.simulator.model.encoders import EnsembleMLP

LATENT_BOUND = 0.5
"""Latent variables that actions are proposed from are cut off there."""
LOG_STD_BOUNDS = (-4.0, 15.0)
"""Of the latent variables that the encoder gives."""


@dataclass(frozen=True)
class ContinuousBCQSettings(OfflineSettings):
    """The authors' values, but for the number of updates, which is 550,000 in the thesis.

    Attributes:
        iterations: Number of updates. `persim baseline bcq-p halfcheetah/pure-v0 --iterations 20000` earns 1,902 and
            2,582 as agents 0 and 1; the thesis's 550,000 updates earned 550 and 2,006.
        batch: Transitions B of an update.
        learning_rate: Adam's, of all networks.
        discount: Of rewards a step later.
        target_rate: How far targets move towards the trained weights in each update.
        perturbation: Largest change of a proposed action, in half widths of the action space.
        minimum_weight: Weight of the smaller of two Q values; the rest is that of the larger.
        proposals: Actions proposed for a next observation in training.
        acting_proposals: Actions proposed when the policy acts.
        divergence_weight: Weight of the latent variables' divergence from a standard normal distribution.
        layers: Hidden widths of the critic and of the perturbation.
        generative_layers: Hidden widths of encoder and decoder.
    """

    iterations: int = 20_000
    batch: int = 100
    learning_rate: float = 1e-3
    discount: float = 0.99
    target_rate: float = 0.005
    perturbation: float = 0.05
    minimum_weight: float = 0.75
    proposals: int = 10
    acting_proposals: int = 100
    divergence_weight: float = 0.5
    layers: tuple[int, ...] = (400, 300)
    generative_layers: tuple[int, ...] = (750, 750)


class ContinuousBCQPolicy(nn.Module):
    """Proposes actions, perturbs each a little, and takes the one of the highest Q value."""

    latents: Tensor

    def __init__(self, obs_dim: int, action_dim: int, settings: ContinuousBCQSettings, generator: torch.Generator):
        """Draws the weights, and the latent variables that deterministic actions are proposed from.

        Args:
            obs_dim: Observation size D.
            action_dim: Action size A.
            settings: Sizes and bounds.
            generator: Source of randomness.
        """
        super().__init__()
        self._settings, self._hidden = settings, hidden_type(settings.bfloat16)
        pair, wide, latent = obs_dim + action_dim, settings.generative_layers, 2 * action_dim
        self.decoder = EnsembleMLP(1, (obs_dim + latent, *wide, action_dim), "relu", generator)
        self.actor = EnsembleMLP(1, (pair, *settings.layers, action_dim), "relu", generator)
        self.critic = EnsembleMLP(2, (pair, *settings.layers, 1), "relu", generator)
        latents = torch.randn((settings.acting_proposals, latent), generator=generator, dtype=torch.float32)
        self.register_buffer("latents", latents.clamp_(-LATENT_BOUND, LATENT_BOUND))

    def draw_latents(self, number: int, generator: torch.Generator) -> Tensor:
        """Latent variables of proposals, [number, 2A]."""
        drawn = torch.randn((number, self.latents.shape[1]), generator=generator, dtype=torch.float32)
        return drawn.clamp_(-LATENT_BOUND, LATENT_BOUND)

    def decode(self, obs: Tensor, latent: Tensor) -> Tensor:
        """Actions like those logged at observations [B, D]: latent variables [B, 2A] to [B, A]."""
        return outputs(self.decoder, torch.cat([obs, latent], 1), self._hidden)[0].tanh()

    def perturbed(self, obs: Tensor, action: Tensor) -> Tensor:
        """Actions [B, A] moved by at most `perturbation`, and inside of the bounds."""
        change = outputs(self.actor, torch.cat([obs, action], 1), self._hidden)[0].tanh()
        return (action + self._settings.perturbation * change).clamp(-1.0, 1.0)

    def q_values(self, obs: Tensor, action: Tensor, critics: int = 2) -> Tensor:
        """Q values of both critics or of the first, [critics, B, 1]."""
        return outputs(self.critic, torch.cat([obs, action], 1), self._hidden, critics)

    @torch.no_grad()
    def act(self, obs: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Actions of observations, [B, D] to [B, A].

        Args:
            obs: Observations.
            generator: Draws the latent variables; None for those that were drawn once, the same for all observations.
        """
        # Sizes as torch has them, which an exported policy leaves open.
        count, rows = len(self.latents), obs.shape[0]
        latents = self.latents.repeat(rows, 1)
        if generator is not None:
            latents = self.draw_latents(rows * count, generator)
        repeated = obs.repeat_interleave(count, 0)  # [B * proposals, D]
        actions = self.perturbed(repeated, self.decode(repeated, latents))
        best = self.q_values(repeated, actions, critics=1).view(-1, count).argmax(1)
        return actions.view(rows, count, -1)[torch.arange(rows), best]


class ContinuousBCQ(nn.Module):
    """The policy in training: with the encoder, targets and optimizers."""

    def __init__(self, obs_dim: int, action_dim: int, settings: ContinuousBCQSettings, generator: torch.Generator):
        """Draws the weights; arguments as the policy's."""
        super().__init__()
        self._settings, self._hidden = settings, hidden_type(settings.bfloat16)
        self.policy = policy = ContinuousBCQPolicy(obs_dim, action_dim, settings, generator)
        sizes = (obs_dim + action_dim, *settings.generative_layers, 4 * action_dim)
        self.encoder = EnsembleMLP(1, sizes, "relu", generator)
        # Of the copy, critic and actor alone are used.
        self.target = deepcopy(policy)
        rate = settings.learning_rate
        self.generative_adam = Adam([*self.encoder.parameters(), *policy.decoder.parameters()], rate)
        self.critic_adam = Adam(list(policy.critic.parameters()), rate)
        self.actor_adam = Adam(list(policy.actor.parameters()), rate)

    def update(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """One update of all networks; returns the sum of the generative and the critic's loss."""
        generative = self.generative_loss(batch, generator)
        self.generative_adam.minimize(generative)
        target = self.bellman_target(batch, generator)
        critic = (self.policy.q_values(batch.obs, batch.action) - target).square().sum() / len(target)
        self.critic_adam.minimize(critic)
        self.actor_adam.minimize(self.actor_loss(batch, generator))
        for mine, own in ((self.target.critic, self.policy.critic), (self.target.actor, self.policy.actor)):
            follow(list(mine.parameters()), list(own.parameters()), self._settings.target_rate)
        return (generative + critic).detach()

    def generative_loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """Squared error of reconstructed actions, and the latent variables' divergence from a standard normal."""
        pairs = torch.cat([batch.obs, batch.action], 1)
        mean, log_std = outputs(self.encoder, pairs, self._hidden)[0].chunk(2, 1)  # [B, 2A] each
        log_std = log_std.clamp(*LOG_STD_BOUNDS)
        std = log_std.exp()
        noise = torch.randn(mean.shape, generator=generator, dtype=torch.float32)
        rebuilt = self.policy.decode(batch.obs, mean + std * noise)
        divergence = 0.5 * (mean.square() + std.square() - 2.0 * log_std - 1.0).mean()
        return (rebuilt - batch.action).square().mean() + self._settings.divergence_weight * divergence

    @torch.no_grad()
    def bellman_target(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """Reward and discounted value of the next observation: of the best of the proposed actions there, [B, 1]."""
        settings = self._settings
        obs = batch.next_obs.repeat_interleave(settings.proposals, 0)  # [B * proposals, D]
        proposed = self.policy.decode(obs, self.policy.draw_latents(len(obs), generator))
        q = self.target.q_values(obs, self.target.perturbed(obs, proposed))  # [2, B * proposals, 1]
        mixed = settings.minimum_weight * q.amin(0) + (1.0 - settings.minimum_weight) * q.amax(0)
        value = mixed.view(-1, settings.proposals).amax(1, keepdim=True)
        return batch.reward + settings.discount * batch.live * value

    def actor_loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """Negative Q value of perturbed proposals, by the first critic."""
        with torch.no_grad():
            proposed = self.policy.decode(batch.obs, self.policy.draw_latents(len(batch.obs), generator))
        return -self.policy.q_values(batch.obs, self.policy.perturbed(batch.obs, proposed), critics=1).mean()
