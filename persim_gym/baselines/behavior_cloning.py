"""Behaviour cloning: the likeliest policy of the logged actions; the floor that every offline method must beat."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from persim_gym.baselines.networks import Adam, hidden_type, outputs
from persim_gym.baselines.offline import Batch, OfflineSettings
from persim_gym.simulator.model.encoders import EnsembleMLP

ACTION_LOG_STD_BOUNDS = (-5.0, 2.0)
"""Of continuous actions, in half widths of the action space."""


@dataclass(frozen=True)
class CloningSettings(OfflineSettings):
    """How a policy is fitted to logged actions.

    Attributes:
        iterations: Number of updates.
        batch: Transitions B of an update.
        learning_rate: Adam's.
        layers: Hidden widths.
    """

    iterations: int = 20_000
    batch: int = 256
    learning_rate: float = 1e-3
    layers: tuple[int, ...] = (256, 256)


class CategoricalPolicy(nn.Module):
    """Discrete actions by their logits."""

    def __init__(
        self, obs_dim: int, n_actions: int, layers: tuple[int, ...], hidden: torch.dtype, generator: torch.Generator
    ) -> None:
        """Draws the weights.

        Args:
            obs_dim: Observation size D.
            n_actions: Number of actions.
            layers: Hidden widths.
            hidden: Type that wide hidden layers multiply in.
            generator: Source of randomness.
        """
        super().__init__()
        self._hidden = hidden
        self.networks = EnsembleMLP(1, (obs_dim, *layers, n_actions), "relu", generator)

    def log_likelihood(self, obs: Tensor, action: Tensor) -> Tensor:
        """Of actions, int64 [B, 1], at observations, [B, D]; [B, 1]."""
        return outputs(self.networks, obs, self._hidden)[0].log_softmax(1).gather(1, action)

    @torch.no_grad()
    def act(self, obs: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Actions of observations, [B, D] to int64 [B]: drawn by a generator, or the likeliest."""
        logits = outputs(self.networks, obs, self._hidden)[0]
        if generator is None:
            return logits.argmax(1)
        return torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]


class GaussianPolicy(nn.Module):
    """Continuous actions around a mean inside of the bounds, with one standard deviation an action dimension."""

    def __init__(
        self, obs_dim: int, action_dim: int, layers: tuple[int, ...], hidden: torch.dtype, generator: torch.Generator
    ) -> None:
        """Draws the weights; arguments as `CategoricalPolicy`, with the action size A."""
        super().__init__()
        self._hidden = hidden
        self.networks = EnsembleMLP(1, (obs_dim, *layers, action_dim), "relu", generator)
        self.log_std = nn.Parameter(torch.zeros(action_dim, dtype=torch.float32))

    def mean(self, obs: Tensor) -> Tensor:
        """Mean actions of observations, [B, D] to [B, A]."""
        return outputs(self.networks, obs, self._hidden)[0].tanh()

    def log_likelihood(self, obs: Tensor, action: Tensor) -> Tensor:
        """Of actions, [B, A], at observations, [B, D]; [B, 1]."""
        log_std = self.log_std.clamp(*ACTION_LOG_STD_BOUNDS)
        distance = (action - self.mean(obs)) / log_std.exp()
        return -(0.5 * distance.square() + log_std + 0.5 * math.log(2 * math.pi)).sum(1, keepdim=True)

    @torch.no_grad()
    def act(self, obs: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Actions of observations, [B, D] to [B, A]: drawn by a generator, or the mean."""
        mean = self.mean(obs)
        if generator is None:
            return mean
        noise = torch.randn(mean.shape, generator=generator, dtype=torch.float32)
        return (mean + self.log_std.clamp(*ACTION_LOG_STD_BOUNDS).exp() * noise).clamp(-1.0, 1.0)


class BehaviorCloning(nn.Module):
    """The policy in training."""

    def __init__(
        self,
        policy: type[CategoricalPolicy] | type[GaussianPolicy],
        obs_dim: int,
        action_size: int,
        settings: CloningSettings,
        generator: torch.Generator,
    ) -> None:
        """Draws the weights.

        Args:
            policy: Kind of the policy.
            obs_dim: Observation size D.
            action_size: Number of discrete actions, or action size A.
            settings: Widths and learning rate.
            generator: Source of randomness.
        """
        super().__init__()
        self.policy = policy(obs_dim, action_size, settings.layers, hidden_type(settings.bfloat16), generator)
        self.adam = Adam(list(self.policy.parameters()), settings.learning_rate)

    def update(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """One step towards a higher likelihood; returns the negative mean log-likelihood, []."""
        loss = -self.policy.log_likelihood(batch.obs, batch.action).mean()
        self.adam.minimize(loss)
        return loss.detach()
