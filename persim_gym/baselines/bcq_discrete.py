"""BCQ for discrete actions: Q-learning among the actions that the data make likely enough.

Source: Fujimoto, Conti, Ghavamzadeh and Pineau (2019), Benchmarking Batch Deep Reinforcement Learning Algorithms,
algorithm 1.
"""

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor, nn

from persim_gym.baselines.networks import Adam, follow, hidden_type
from persim_gym.baselines.offline import Batch, OfflineSettings
from persim_gym.simulator.model.encoders import EnsembleMLP

Q, IMITATION, TARGET = 0, 1, 2
"""Numbers of the three networks."""
TRAINED_NETWORKS = 2
"""Networks before this one are trained by gradients; the target follows the first of them."""


@dataclass(frozen=True)
class DiscreteBCQSettings(OfflineSettings):
    """The authors' values, but for the number of updates, which is 550,000 in the thesis.

    Attributes:
        iterations: Number of updates. `persim baseline bcq-p cartpole/pure-v0 --episodes 100 --iterations N` earns a
            mean of 107 over agents 0 to 4 after 20,000, 141 after 30,000, 134 after 50,000 and 122 after 100,000.
        batch: Transitions B of an update.
        learning_rate: Adam's.
        discount: Of rewards a step later.
        target_rate: How far the target moves towards the Q network in each update.
        threshold: Smallest probability of an action under imitation, relative to the likeliest one's, that is chosen.
        logit_weight: Weight of the squared logits of imitation.
        layers: Hidden widths of all networks.
    """

    iterations: int = 50_000
    batch: int = 64
    learning_rate: float = 3e-4
    discount: float = 0.99
    target_rate: float = 0.005
    threshold: float = 0.3
    logit_weight: float = 0.01
    layers: tuple[int, int] = (256, 256)

    def __post_init__(self) -> None:
        """Checks what is particular to this method, too.

        Raises:
            ValueError: If a value is impossible.
        """
        super().__post_init__()
        if not 0.0 < self.threshold <= 1.0 or len(self.layers) != 2:
            raise ValueError(f"threshold must be in (0, 1], and layers two widths: {self}")


def allowed_best(q: Tensor, logits: Tensor, threshold: float) -> Tensor:
    """Best action among those of p / max p >= threshold: Q values and logits [B, actions] to int64 [B, 1]."""
    unlikely = logits < logits.amax(1, keepdim=True) + log(threshold)
    return q.masked_fill(unlikely, -torch.inf).argmax(1, keepdim=True)


class DiscreteBCQPolicy(nn.Module):
    """Takes the action of the highest Q value among those that imitation finds likely enough."""

    def __init__(self, obs_dim: int, n_actions: int, settings: DiscreteBCQSettings, generator: torch.Generator):
        """Draws the weights.

        Args:
            obs_dim: Observation size D.
            n_actions: Number of actions.
            settings: Widths and threshold.
            generator: Source of randomness.
        """
        super().__init__()
        self._threshold = settings.threshold
        self.networks = EnsembleMLP(3, (obs_dim, *settings.layers, n_actions), "relu", generator)

    @torch.no_grad()
    def act(self, obs: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Actions of observations, [B, D] to int64 [B]; there is nothing random about them."""
        outputs = self.networks(obs.expand(3, *obs.shape))
        return allowed_best(outputs[Q], outputs[IMITATION], self._threshold)[:, 0]


class DiscreteBCQ(nn.Module):
    """The policy in training. The three networks lie side by side, and one product does a layer of all of them.

    The gradient is written out: on networks this small, automatic differentiation takes longer than the arithmetic.
    """

    def __init__(self, obs_dim: int, n_actions: int, settings: DiscreteBCQSettings, generator: torch.Generator):
        """Draws the weights; arguments as the policy's."""
        super().__init__()
        self._settings, self._hidden = settings, hidden_type(settings.bfloat16)
        self.policy = DiscreteBCQPolicy(obs_dim, n_actions, settings, generator)
        self._all = [weight.detach() for weight in self.policy.networks.parameters()]  # [3, inputs, outputs], …
        self._trained = [weight[:TRAINED_NETWORKS] for weight in self._all]
        self._q, self._target = ([weight[network] for weight in self._all] for network in (Q, TARGET))
        follow(self._target, self._q, 1.0)
        self._gradients = [torch.zeros_like(weight) for weight in self._trained]
        self.adam = Adam(self._trained, settings.learning_rate)

    @torch.no_grad()
    def update(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """One update of Q values, imitation and target; returns the loss, []."""
        w2, b2 = (weight.to(self._hidden) for weight in self._all[2:4])
        w2_trained, b2_trained = w2[:TRAINED_NETWORKS], b2[:TRAINED_NETWORKS]
        next_outputs = self._forward(batch.next_obs, self._all, w2, b2)[-1]
        best = allowed_best(next_outputs[Q], next_outputs[IMITATION], self._settings.threshold)
        value = next_outputs[TARGET].gather(1, best)
        target = batch.reward + self._settings.discount * batch.live * value
        *layers, outputs = self._forward(batch.obs, self._trained, w2_trained, b2_trained)
        loss, slope = self._loss(outputs, batch.action, target)
        self._backward(batch.obs, layers, slope, w2_trained)
        self.adam.step(self._gradients)
        follow(self._target, self._q, self._settings.target_rate)
        return loss

    def _forward(self, obs: Tensor, weights: list[Tensor], w2: Tensor, b2: Tensor) -> list[Tensor]:
        """Both hidden layers and the outputs of some networks n, [n, B, …] each.

        Args:
            obs: [B, D].
            weights: Weights and biases of the networks.
            w2: Weights of the second layer, in the type that it multiplies in.
            b2: Its biases, likewise.
        """
        w1, b1, _, _, w3, b3 = weights
        first = torch.baddbmm(b1, obs.expand(len(w1), *obs.shape), w1).relu_().to(self._hidden)
        second = torch.baddbmm(b2, first, w2).relu_()
        return [first, second, torch.baddbmm(b3, second.float(), w3)]

    def _loss(self, outputs: Tensor, action: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The Q network's Huber loss, the negative log-likelihood of logged actions and the squared logits.

        Args:
            outputs: Of the trained networks, [2, B, actions].
            action: Logged, int64 [B, 1].
            target: Of the Q network, [B, 1].

        Returns:
            Their sum, [], and its derivative with respect to the outputs, [2, B, actions].
        """
        logits, weight = outputs[IMITATION], self._settings.logit_weight
        error = outputs[Q].gather(1, action) - target
        clipped = error.clamp(-1.0, 1.0)
        log_p = logits.log_softmax(1)
        slope = torch.zeros_like(outputs)
        slope[Q].scatter_(1, action, clipped)
        torch.exp(log_p, out=slope[IMITATION])
        slope[IMITATION].scatter_add_(1, action, torch.full_like(error, -1.0))
        slope[IMITATION].add_(logits, alpha=2.0 * weight / logits.shape[1])
        huber = (clipped * (error - 0.5 * clipped)).mean()
        return huber - log_p.gather(1, action).mean() + weight * logits.square().mean(), slope.div_(len(action))

    def _backward(self, obs: Tensor, layers: list[Tensor], slope: Tensor, w2: Tensor) -> None:
        """Fills `_gradients`.

        Args:
            obs: [B, D].
            layers: Both hidden layers, [2, B, width].
            slope: Derivative of the loss with respect to the outputs, [2, B, actions].
            w2: As `_forward` takes it.
        """
        (first, second), (g1, c1, g2, c2, g3, c3) = layers, self._gradients
        torch.bmm(second.float().mT, slope, out=g3)
        torch.sum(slope, 1, keepdim=True, out=c3)
        slope = torch.bmm(slope, self._trained[4].mT).to(self._hidden)
        slope = torch.ops.aten.threshold_backward(slope, second, 0.0)
        g2.copy_(torch.bmm(first.mT, slope))
        torch.sum(slope, 1, keepdim=True, dtype=torch.float32, out=c2)
        slope = torch.ops.aten.threshold_backward(torch.bmm(slope, w2.mT), first, 0.0).float()
        torch.bmm(obs.T.expand(TRAINED_NETWORKS, *obs.T.shape), slope, out=g1)
        torch.sum(slope, 1, keepdim=True, out=c1)
