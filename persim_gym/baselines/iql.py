"""Implicit Q-learning: values of the better logged actions, without ever asking for one that was not logged.

Source: Kostrikov, Nair and Levine (2022), Offline Reinforcement Learning with Implicit Q-Learning, algorithm 1.
"""

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from persim_gym.baselines.behavior_cloning import CategoricalPolicy, GaussianPolicy
from persim_gym.baselines.networks import Adam, follow, hidden_type, outputs
from persim_gym.baselines.offline import Batch, OfflineSettings
from persim_gym.simulator.model.encoders import EnsembleMLP


@dataclass(frozen=True)
class IQLSettings(OfflineSettings):
    """The authors' values for locomotion, but for the number of updates and a learning rate that does not decay.

    Attributes:
        iterations: Number of updates; 1,000,000 in the paper. On CartPole's pure data the mean return of agents 0 to 4
            is 143 after 5,000, 144 after 10,000 and 168 after 20,000 (seed 0, 50 episodes each).
        batch: Transitions B of an update.
        learning_rate: Adam's, of all networks.
        discount: Of rewards a step later.
        target_rate: How far targets move towards the Q networks in each update.
        expectile: Which expectile of Q values over logged actions is an observation's value; 0.5 is their mean.
        temperature: How much more advantageous actions are imitated: weight exp(temperature * advantage).
        largest_weight: Bound of that weight.
        reward_scale: What rewards are multiplied by; the authors make the returns of logged episodes span 1,000.
        layers: Hidden widths of all networks.
    """

    iterations: int = 50_000
    batch: int = 256
    learning_rate: float = 3e-4
    discount: float = 0.99
    target_rate: float = 0.005
    expectile: float = 0.7
    temperature: float = 3.0
    largest_weight: float = 100.0
    reward_scale: float = 1.0
    layers: tuple[int, ...] = (256, 256)

    def __post_init__(self) -> None:
        """Checks what is particular to this method, too.

        Raises:
            ValueError: If a value is impossible.
        """
        super().__post_init__()
        if not 0.0 < self.expectile < 1.0:
            raise ValueError(f"expectile must be between 0 and 1: {self}")


def expectile_loss(difference: Tensor, expectile: float) -> Tensor:
    """Mean squared difference, those above zero weighted by `expectile`, the others by 1 - `expectile`; [].

    The constant that is subtracted in the difference and minimises it is the expectile.
    """
    weight = torch.where(difference > 0, expectile, 1.0 - expectile)
    return (weight * difference.square()).mean()


class IQL(nn.Module):
    """The policy in training: with Q values, their targets, values and the optimizer."""

    def __init__(
        self,
        policy: type[CategoricalPolicy] | type[GaussianPolicy],
        obs_dim: int,
        action_size: int,
        settings: IQLSettings,
        generator: torch.Generator,
    ) -> None:
        """Draws the weights.

        Args:
            policy: Kind of the policy.
            obs_dim: Observation size D.
            action_size: Number of discrete actions, or action size A.
            settings: Widths and weights.
            generator: Source of randomness.
        """
        super().__init__()
        self._settings, self._hidden = settings, hidden_type(settings.bfloat16)
        self._discrete = policy is CategoricalPolicy
        self.policy = policy(obs_dim, action_size, settings.layers, self._hidden, generator)
        inputs, values = (obs_dim, action_size) if self._discrete else (obs_dim + action_size, 1)
        self.q = EnsembleMLP(2, (inputs, *settings.layers, values), "relu", generator)
        self.value = EnsembleMLP(1, (obs_dim, *settings.layers, 1), "relu", generator)
        self.target = deepcopy(self.q)
        trained = [*self.policy.parameters(), *self.q.parameters(), *self.value.parameters()]
        self.adam = Adam(trained, settings.learning_rate)

    def update(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """One update of all networks; returns the sum of their losses, []. Each loss is of its own network alone."""
        settings = self._settings
        with torch.no_grad():
            lower = self._q_values(self.target, batch).amin(0)  # [B, 1]
            next_value = outputs(self.value, batch.next_obs, self._hidden)[0]
            bellman = settings.reward_scale * batch.reward + settings.discount * batch.live * next_value
        advantage = lower - outputs(self.value, batch.obs, self._hidden)[0]
        value_loss = expectile_loss(advantage, settings.expectile)
        q_loss = (self._q_values(self.q, batch) - bellman).square().mean()
        weight = (settings.temperature * advantage.detach()).exp().clamp_max(settings.largest_weight)
        policy_loss = -(weight * self.policy.log_likelihood(batch.obs, batch.action)).mean()
        loss = value_loss + q_loss + policy_loss
        self.adam.minimize(loss)
        follow(list(self.target.parameters()), list(self.q.parameters()), settings.target_rate)
        return loss.detach()

    def _q_values(self, networks: EnsembleMLP, batch: Batch) -> Tensor:
        """Q values of logged actions by both networks, [2, B, 1]."""
        if self._discrete:
            return outputs(networks, batch.obs, self._hidden).gather(2, batch.action.expand(2, -1, -1))
        return outputs(networks, torch.cat([batch.obs, batch.action], 1), self._hidden)
