"""A deep model's encoders as compiled rollouts take them, the same for all of its agents."""

import hashlib
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from persim_gym.parallel import run_on_own_thread
from persim_gym.simulator.kernels.deep_weights import DeepNetwork, deep_network
from persim_gym.simulator.kernels.dense import ByteProducts, byte_products
from persim_gym.simulator.model.encoders import EnsembleMLP
from persim_gym.simulator.model.ensemble import FactoredEnsemble
from persim_gym.simulator.model.precision import without_autocast

EXAMPLE_ROLLOUTS = 128
"""Rollouts whose inputs rounding is fitted to."""

EXAMPLE_STEPS = 32
"""Steps of each of them."""

HELD_STEPS = 8
"""Steps for which half of them hold an action."""

START_SPREADS = (0.3, 1.0, 0.3, 2.0)
"""How far from the mean observation they start, in logged standard deviations, in turns."""

MAX_DISTANCE = 10.0
"""How far from it they may go, in logged standard deviations."""


_KEPT: WeakKeyDictionary[Any, dict[ByteProducts | None, tuple[bytes, tuple[DeepNetwork, DeepNetwork]]]] = (
    WeakKeyDictionary()
)


def folded_networks(model: FactoredEnsemble, quantize: bool = False) -> tuple[DeepNetwork, DeepNetwork]:
    """State and action encoder with all scaling folded in; made once, and anew when a weight has changed.

    Args:
        model: The ensemble.
        quantize: Whether inner layers multiply bytes where the processor does; see `AgentDynamics`.
    """
    return run_on_own_thread(partial(_kept, model, byte_products() if quantize else None))


def _kept(model: FactoredEnsemble, products: ByteProducts | None) -> tuple[DeepNetwork, DeepNetwork]:
    digest, kept = _digest(model), _KEPT.setdefault(model, {})
    if products not in kept or kept[products][0] != digest:
        kept[products] = digest, _networks(model, products)
    return kept[products][1]


def _digest(model: FactoredEnsemble) -> bytes:
    digest = hashlib.blake2b()
    encoders = model.state_encoder, model.action_encoder
    scales = model.obs_mean, model.obs_std, model.action_mean, model.action_std, model.delta_mean, model.delta_std
    limits = model.obs_low, model.obs_high, model.walls
    for values in (*(p for encoder in encoders for p in encoder.parameters()), *scales, *limits, _factors(model)):
        digest.update(np.ascontiguousarray(values.detach().numpy()).data)
    return digest.digest()


@without_autocast
@torch.no_grad()
def scaled_layers(
    encoder: nn.Module, mean: Tensor, std: Tensor, unit: Tensor | None = None
) -> list[tuple[Tensor, Tensor]]:
    """Layers of an encoder that take inputs as they are, and whose outputs are in given units.

    Args:
        encoder: The encoder, which takes standardised inputs.
        mean: Mean of the inputs, [inputs].
        std: Their standard deviation, likewise.
        unit: What the outputs are multiplied by, [outputs]; None for 1.

    Returns:
        Weights [M, inputs, outputs] and biases [M, 1, outputs] of each layer.
    """
    assert isinstance(encoder, EnsembleMLP)
    layers: list[tuple[Tensor, Tensor]] = [(layer.weight, layer.bias) for layer in encoder.layers]  # type: ignore[misc]
    weight, bias = layers[0]
    weight = weight / std[:, None]
    layers[0] = weight, bias - mean[None, None] @ weight
    if unit is not None:
        weight, bias = layers[-1]
        layers[-1] = weight * unit, bias * unit
    return layers


@torch.no_grad()
def _networks(model: FactoredEnsemble, products: ByteProducts | None) -> tuple[DeepNetwork, DeepNetwork]:
    s, unit = model.config, model.delta_std.repeat_interleave(model.config.rank)
    parts = (
        scaled_layers(model.state_encoder, model.obs_mean, model.obs_std, unit),
        scaled_layers(model.action_encoder, model.action_mean, model.action_std),
    )
    states, actions = (
        deep_network([(w, b[:, 0]) for w, b in layers], examples, s.activation == "silu", products)
        for layers, examples in zip(parts, _examples(model), strict=True)
    )
    return states, actions


def _examples(model: FactoredEnsemble) -> tuple[Tensor, Tensor]:
    """Observations and actions of rollouts, [M, K, D] and [M, K, A]: some agents under random actions.

    Rounding is fitted to what planners ask for. What follows from about the mean observation is more like it than draws
    of components that do not depend on each other, and held actions lead further, as plans do. Other rollouts start far
    off, so that little is lost there. One that loses itself stays where it was.
    """
    s, generator = model.config, torch.Generator().manual_seed(0)
    start = torch.randn((s.members, EXAMPLE_ROLLOUTS, s.obs_dim), generator=generator, dtype=torch.float32)
    spread = torch.tensor(START_SPREADS, dtype=torch.float32).repeat(EXAMPLE_ROLLOUTS // len(START_SPREADS))[:, None]
    now = model.obs_mean + spread * model.obs_std * start
    sizes = EXAMPLE_STEPS, EXAMPLE_ROLLOUTS, s.action_dim
    unit = 3**0.5 * (2 * torch.rand(sizes, generator=generator, dtype=torch.float32) - 1)
    held = torch.arange(EXAMPLE_STEPS) // HELD_STEPS * HELD_STEPS
    unit[:, ::2] = unit[held, ::2]
    actions = model.action_mean + model.action_std * unit
    factors, obs = _factors(model), []
    for action in actions:
        obs.append(now)
        following = model.predict_with(factors, now, action)[..., : s.obs_dim]
        near = (following - model.obs_mean).abs() <= MAX_DISTANCE * model.obs_std  # A NaN is never near.
        now = torch.where(near.all(2, keepdim=True), following, now)
    return torch.cat(obs, dim=1), actions.flatten(0, 1).expand(s.members, -1, -1)


def _factors(model: FactoredEnsemble) -> Tensor:
    """Latent factors of the agents of `_examples`, [M, ROLLOUTS, R]; where those are many, others change nothing."""
    factors: Tensor = model.agent_encoder(torch.arange(EXAMPLE_ROLLOUTS) % model.config.n_agents)
    return factors.detach()
