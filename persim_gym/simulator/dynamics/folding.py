"""A deep model's encoders as compiled rollouts take them, the same for all of its agents."""

import hashlib
from collections.abc import Iterator
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from persim_gym.parallel import run_on_own_thread
from persim_gym.simulator.kernels.deep_weights import DeepNetwork, deep_network
from persim_gym.simulator.kernels.dense import byte_products
from persim_gym.simulator.model.encoders import EnsembleMLP
from persim_gym.simulator.model.ensemble import FactoredEnsemble

EXAMPLE_ROLLOUTS, EXAMPLE_STEPS, HELD_STEPS = (
    128,
    32,
    8,
)  # whose inputs rounding is fitted to; steps that some hold their actions
START_SPREADS, MAX_DISTANCE = (
    (0.3, 1.0, 0.3, 2.0),
    10.0,
)  # how they start and where they stop, in standard deviations of what was logged


_KEPT: WeakKeyDictionary[Any, tuple[bytes, tuple[DeepNetwork, DeepNetwork]]] = WeakKeyDictionary()


def folded_networks(model: FactoredEnsemble) -> tuple[DeepNetwork, DeepNetwork]:
    """State and action encoder with all scaling folded in; made once, and anew when a weight has changed."""
    return run_on_own_thread(partial(_kept, model))


def _kept(model: FactoredEnsemble) -> tuple[DeepNetwork, DeepNetwork]:
    digest = _digest(model)
    if model not in _KEPT or _KEPT[model][0] != digest:
        _KEPT[model] = digest, _networks(model)
    return _KEPT[model][1]


def _digest(model: FactoredEnsemble) -> bytes:
    digest = hashlib.blake2b(repr(byte_products()).encode())
    encoders = model.state_encoder, model.action_encoder
    scales = model.obs_mean, model.obs_std, model.action_mean, model.action_std, model.delta_mean, model.delta_std
    limits = model.obs_low, model.obs_high, model.walls
    for values in (*(p for encoder in encoders for p in encoder.parameters()), *scales, *limits, _factors(model)):
        digest.update(np.ascontiguousarray(values.detach().numpy()).data)
    return digest.digest()


@torch.no_grad()
def _networks(model: FactoredEnsemble) -> tuple[DeepNetwork, DeepNetwork]:
    s, silu = model.config, model.config.activation == "silu"
    state, action = (list(_layers(encoder)) for encoder in (model.state_encoder, model.action_encoder))
    weight, bias = state[-1]
    units = model.delta_std.repeat_interleave(s.rank)
    state[-1] = weight * units, bias * units
    parts = (model.obs_mean, model.action_mean), (model.obs_std, model.action_std), _examples(model)
    made = []
    for layers, mean, std, examples in zip((state, action), *parts, strict=True):
        weight, bias = layers[0]
        weight = weight / std[:, None]
        layers[0] = weight, bias - mean @ weight
        made.append(deep_network(layers, examples, silu, byte_products()))
    return made[0], made[1]


def _examples(model: FactoredEnsemble) -> tuple[Tensor, Tensor]:
    """Observations and actions of rollouts, [M, K, D] and [M, K, A]: some agents under random actions.

    Rounding is fitted to what planners ask for. What follows from about the mean observation is more like it than draws
    of components that do not depend on each other, and held actions lead further, as plans do. Other rollouts start far
    off, so that little is lost there. One that loses itself stays where it was.
    """
    s, generator = model.config, torch.Generator().manual_seed(0)
    start = torch.randn((s.members, EXAMPLE_ROLLOUTS, s.obs_dim), generator=generator)
    spread = torch.tensor(START_SPREADS).repeat(EXAMPLE_ROLLOUTS // len(START_SPREADS))[:, None]
    now = model.obs_mean + spread * model.obs_std * start
    unit = 3**0.5 * (2 * torch.rand((EXAMPLE_STEPS, EXAMPLE_ROLLOUTS, s.action_dim), generator=generator) - 1)
    held = torch.arange(EXAMPLE_STEPS) // HELD_STEPS * HELD_STEPS
    unit[:, ::2] = unit[held, ::2]
    actions = model.action_mean + model.action_std * unit
    factors, obs = _factors(model), []
    for action in actions:
        obs.append(now)
        following = model.predict_with(factors, now, action)[..., : s.obs_dim]
        near = (following - model.obs_mean).abs() <= MAX_DISTANCE * model.obs_std  # not where it is NaN
        now = torch.where(near.all(2, keepdim=True), following, now)
    return torch.cat(obs, dim=1), actions.flatten(0, 1).expand(s.members, -1, -1)


def _factors(model: FactoredEnsemble) -> Tensor:
    """Latent factors of the agents of `_examples`, [M, ROLLOUTS, R]; where those are many, others change nothing."""
    factors: Tensor = model.agent_encoder(torch.arange(EXAMPLE_ROLLOUTS) % model.config.n_agents)
    return factors.detach()


def _layers(encoder: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
    """Weights [M, inputs, outputs] and biases [M, outputs]."""
    assert isinstance(encoder, EnsembleMLP)
    for layer in encoder.layers:
        yield layer.weight, layer.bias[:, 0]  # type: ignore[index, misc]
