"""The networks of a context-aware dynamics model, M members at once."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from persim_gym.baselines.cadm.config import CadmSettings, CadmShape
from persim_gym.simulator.model.encoders import EnsembleLinear, EnsembleMLP
from persim_gym.simulator.training.torch_engine import WIDE_LAYER

HIGHEST_LOG_VARIANCE, LOWEST_LOG_VARIANCE = 0.5, -10.0
"""Where the learned bounds of the log-variance start, in scaled units."""


class Gaussian(NamedTuple):
    """A prediction of B rows by M members, in scaled units.

    Attributes:
        mean: [M, B, D].
        log_variance: [M, B, D]; None of a deterministic model.
    """

    mean: Tensor
    log_variance: Tensor | None


class CadmModel(nn.Module):
    """A context encoder, a forward and a backward model for each member; members share nothing.

    Attributes:
        shape: Sizes.
        obs_mean: Mean of what the networks see of an observation, [F]; `obs_std` likewise.
        action_mean: Mean of continuous actions, [A]; `action_std` likewise; empty for discrete ones.
        change_std: Standard deviation of the changes that the context encoder sees, [D]; they are not centred, so that
            0 stands for no change and for a step that is not known.
        target_mean: Mean of what is predicted, [D]; `target_std` likewise.
        logged_std: Standard deviation of the logged observations, [D].
    """

    obs_mean: Tensor
    obs_std: Tensor
    action_mean: Tensor
    action_std: Tensor
    change_std: Tensor
    target_mean: Tensor
    target_std: Tensor
    logged_std: Tensor

    def __init__(self, shape: CadmShape, settings: CadmSettings, seed: int = 0) -> None:
        """Draws the weights."""
        super().__init__()
        self.shape, self.history = shape, settings.history
        generator = torch.Generator().manual_seed(seed)
        members, outputs = shape.members, shape.obs_dim * (2 if shape.probabilistic else 1)
        past = settings.history * (shape.obs_dim + shape.action_inputs)
        present = shape.obs_inputs + shape.action_inputs + settings.context
        self.encoder = EnsembleMLP(members, (past, *settings.context_layers, settings.context), "relu", generator)
        self.forward_model = EnsembleMLP(members, (present, *settings.layers, outputs), "silu", generator)
        self.backward_model = EnsembleMLP(members, (present, *settings.layers, shape.obs_dim), "silu", generator)
        bounds = torch.ones(members, 1, shape.obs_dim if shape.probabilistic else 0)
        self.log_variance_high = nn.Parameter(bounds * HIGHEST_LOG_VARIANCE)
        self.log_variance_low = nn.Parameter(bounds * LOWEST_LOG_VARIANCE)
        for name, size in (("obs", shape.obs_inputs), ("action", shape.action_dim), ("target", shape.obs_dim)):
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_std", torch.ones(size))
        for name in ("change_std", "logged_std"):
            self.register_buffer(name, torch.ones(shape.obs_dim))

    def scaled_action(self, action: Tensor) -> Tensor:
        """What the networks see of actions: one-hot [..., n_actions] of [...], or scaled [..., A]."""
        if self.shape.n_actions:
            return nn.functional.one_hot(action, self.shape.n_actions).to(self.obs_mean.dtype)
        return (action - self.action_mean) / self.action_std

    def raw_inputs(self, obs: Tensor) -> Tensor:
        """What the networks see of observations [..., D], before scaling, [..., F]."""
        features = self.shape.features
        apart = {*features.dropped, *features.angles}
        plain = [i for i in range(self.shape.obs_dim) if i not in apart]
        if not apart:
            return obs
        angles = obs[..., list(features.angles)]
        return torch.cat([obs[..., plain], angles.sin(), angles.cos()], dim=-1)

    def scaled_inputs(self, obs: Tensor) -> Tensor:
        """What the networks see of observations [..., D], [..., F]."""
        return (self.raw_inputs(obs) - self.obs_mean) / self.obs_std

    def raw_target(self, obs: Tensor, other: Tensor) -> Tensor:
        """What is predicted of `other` from `obs`, both [..., D]: its change, or itself where that is `absolute`."""
        target = other - obs
        if self.shape.features.absolute:
            absolute = list(self.shape.features.absolute)
            target[..., absolute] = other[..., absolute]
        return target

    def scaled_past(self, change: Tensor, action: Tensor, known: Tensor) -> Tensor:
        """What the context encoder sees of steps, [..., D + actions]; zeros where they are not known, bool [...]."""
        seen = torch.cat([change / self.change_std, self.scaled_action(action)], dim=-1)
        return seen * known[..., None]

    def context(self, past: Tensor, half: bool = False) -> Tensor:
        """Contexts by each member's own encoder, [M, B, C].

        Args:
            past: L steps as `scaled_past` makes them, [M, B, L * (D + actions)].
            half: See `predict`.
        """
        return perceptron(self.encoder, past, half)

    def predict(self, inputs: Tensor, context: Tensor, half: bool = False) -> Gaussian:
        """Predicts what follows, in scaled units.

        Args:
            inputs: What is seen of observations and actions, [M, B, F + actions].
            context: [M, B, C].
            half: Whether wide layers multiply in bfloat16.
        """
        out = perceptron(self.forward_model, torch.cat([inputs, context], dim=-1), half)
        if not self.shape.probabilistic:
            return Gaussian(out, None)
        mean, raw = out.chunk(2, dim=-1)
        below = self.log_variance_high - nn.functional.softplus(self.log_variance_high - raw)
        bounded = self.log_variance_low + nn.functional.softplus(below - self.log_variance_low)
        return Gaussian(mean, bounded)

    def predict_backward(self, inputs: Tensor, context: Tensor, half: bool = False) -> Tensor:
        """Predicts what came before, in scaled units, [M, B, D]; arguments as `predict`, of the next observation."""
        return perceptron(self.backward_model, torch.cat([inputs, context], dim=-1), half)


def perceptron(network: EnsembleMLP, x: Tensor, half: bool) -> Tensor:
    """All layers of a network, [M, B, inputs] to [M, B, outputs]; with `half`, wide inner ones in bfloat16."""
    *inner, last = network.layers
    for layer in inner:
        assert isinstance(layer, EnsembleLinear)
        weight, bias = layer.weight, layer.bias
        kind = torch.bfloat16 if half and weight.shape[1] >= WIDE_LAYER else weight.dtype
        x = network.activation(torch.baddbmm(bias.to(kind), x.to(kind), weight.to(kind)))
    assert isinstance(last, EnsembleLinear)
    weight = last.weight
    result: Tensor = last(x.to(weight.dtype))
    return result


def gaussian_loss(predicted: Gaussian, target: Tensor, beta: float = 0.0) -> Tensor:
    """Twice the negative log-likelihood of each row less its constant, mean over dimensions, [M, B].

    (target - mean)² / variance + log variance; of a deterministic model the squared error.

    Args:
        predicted: The predictions, [M, B, D].
        target: [M, B, D].
        beta: Power of the variance that weights each term, as a constant of the gradient; 0 for the likelihood itself.

    Source: Seitzer et al., On the Pitfalls of Heteroscedastic Uncertainty Estimation, ICLR 2022, for `beta`.
    """
    error = (predicted.mean - target).square()
    if predicted.log_variance is None:
        return error.mean(dim=-1)
    each = error * (-predicted.log_variance).exp() + predicted.log_variance
    if beta:
        each = each * (beta * predicted.log_variance.detach()).exp()
    return each.mean(dim=-1)
