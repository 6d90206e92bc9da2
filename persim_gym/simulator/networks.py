"""A deep model's encoders as compiled rollouts take them, the same for all of its agents."""

import hashlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from persim_gym.simulator.dense import PER_WORD, byte_products, packed, padded
from persim_gym.simulator.encoders import EnsembleMLP
from persim_gym.simulator.rounding import Layer, in_levels
from persim_gym.simulator.shape import ModelShape
from persim_gym.simulator.threads import run_alone

ROLLOUTS, STEPS, HELD = 128, 32, 8  # whose inputs rounding is fitted to; steps that some hold their actions
SPREADS, FAR = (
    (0.3, 1.0, 0.3, 2.0),
    10.0,
)  # how they start and where they stop, in standard deviations of what was logged
SILU_LOWEST = -0.2785  # a little below the lowest value of SiLU


class Ensemble(Protocol):
    """What is bound to an agent: the encoders, scales and bounds of a `FactoredEnsemble`, which says what each is."""

    shape: ModelShape
    agent_encoder: nn.Module
    state_encoder: nn.Module
    action_encoder: nn.Module
    obs_mean: Tensor
    obs_std: Tensor
    delta_mean: Tensor
    delta_std: Tensor
    action_mean: Tensor
    action_std: Tensor
    obs_low: Tensor
    obs_high: Tensor
    walls: Tensor

    def scale_action(self, action: Tensor) -> Tensor:
        """Continuous actions in scaled units; discrete ones unchanged."""

    def predict_with(self, u: Tensor, obs: Tensor, action: Tensor) -> Tensor:
        """Next observation by each member under given latent factors, [M, B, D + E]."""


class Network(NamedTuple):
    """All members' layers of an encoder, as `dense` takes them.

    Attributes:
        first: Weights of the first layer, which sees observations or actions as they are, float32 [M, ...].
        biases: Its biases, [M, width].
        rest: Weights of the other layers, one behind the other, [M, ...].
        rest_scales: What one level of their outputs' weights stands for, likewise.
        rest_biases: Their biases, likewise.
        widths: Inputs, and outputs of every layer, padded.
        per: Inputs that share a word in the other layers: 4 bytes, or 1 float32.
    """

    first: NDArray[np.float32]
    biases: NDArray[np.float32]
    rest: NDArray[np.float32] | NDArray[np.int32]
    rest_scales: NDArray[np.float32]
    rest_biases: NDArray[np.float32]
    widths: NDArray[np.int64]
    per: int


_KEPT: WeakKeyDictionary[Any, tuple[bytes, tuple[Network, Network]]] = WeakKeyDictionary()


def networks(model: Ensemble) -> tuple[Network, Network]:
    """State and action encoder with all scaling folded in; made once, and anew when a weight has changed."""
    return run_alone(partial(_kept, model))


def _kept(model: Ensemble) -> tuple[Network, Network]:
    digest = _digest(model)
    if model not in _KEPT or _KEPT[model][0] != digest:
        _KEPT[model] = digest, _networks(model)
    return _KEPT[model][1]


def _digest(model: Ensemble) -> bytes:
    digest = hashlib.blake2b(repr(byte_products()).encode())
    encoders = model.state_encoder, model.action_encoder
    scales = model.obs_mean, model.obs_std, model.action_mean, model.action_std, model.delta_mean, model.delta_std
    limits = model.obs_low, model.obs_high, model.walls
    for values in (*(p for encoder in encoders for p in encoder.parameters()), *scales, *limits, _factors(model)):
        digest.update(np.ascontiguousarray(values.detach().numpy()).data)
    return digest.digest()


@torch.no_grad()
def _networks(model: Ensemble) -> tuple[Network, Network]:
    s, silu = model.shape, model.shape.activation == "silu"
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
        made.append(network(layers, examples, silu))
    return made[0], made[1]


def _examples(model: Ensemble) -> tuple[Tensor, Tensor]:
    """Observations and actions of rollouts, [M, K, D] and [M, K, A]: some agents under random actions.

    Rounding is fitted to what planners ask for. What follows from about the mean observation is more like it than draws
    of components that do not depend on each other, and held actions lead further, as plans do. Other rollouts start far
    off, so that little is lost there. One that loses itself stays where it was.
    """
    s, generator = model.shape, torch.Generator().manual_seed(0)
    start = torch.randn((s.members, ROLLOUTS, s.obs_dim), generator=generator)
    spread = torch.tensor(SPREADS).repeat(ROLLOUTS // len(SPREADS))[:, None]
    now = model.obs_mean + spread * model.obs_std * start
    unit = 3**0.5 * (2 * torch.rand((STEPS, ROLLOUTS, s.action_dim), generator=generator) - 1)
    held = torch.arange(STEPS) // HELD * HELD
    unit[:, ::2] = unit[held, ::2]
    actions = model.action_mean + model.action_std * unit
    factors, obs = _factors(model), []
    for action in actions:
        obs.append(now)
        following = model.predict_with(factors, now, action)[..., : s.obs_dim]
        near = (following - model.obs_mean).abs() <= FAR * model.obs_std  # not where it is NaN
        now = torch.where(near.all(2, keepdim=True), following, now)
    return torch.cat(obs, dim=1), actions.flatten(0, 1).expand(s.members, -1, -1)


def _factors(model: Ensemble) -> Tensor:
    """Latent factors of the agents of `_examples`, [M, ROLLOUTS, R]; where those are many, others change nothing."""
    factors: Tensor = model.agent_encoder(torch.arange(ROLLOUTS) % model.shape.n_agents)
    return factors.detach()


def _layers(encoder: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
    """Weights [M, inputs, outputs] and biases [M, outputs]."""
    assert isinstance(encoder, EnsembleMLP)
    for layer in encoder.layers:
        yield layer.weight, layer.bias[:, 0]  # type: ignore[index, misc]


@torch.no_grad()
def network(layers: Sequence[tuple[Tensor, Tensor]], examples: Tensor, silu: bool) -> Network:
    """An encoder as the kernel takes it.

    Args:
        layers: Weights [M, inputs, outputs] and biases [M, outputs].
        examples: Inputs of the first layer as planners ask for them, [M, K, inputs].
        silu: Whether hidden units are SiLU, not ReLU.
    """
    products = byte_products()
    layers = _padded(layers)
    (first, biases), *others = layers
    rest = [Layer(weight, torch.ones_like(bias), bias) for weight, bias in others]
    if products:
        (first, biases), rest = in_levels(layers, examples, SILU_LOWEST if silu else None, products.most)
    nothing = (np.zeros((len(biases), 0), dtype=np.int32 if products else np.float32), *2 * (biases[:, :0],))
    weights, scales, offsets = (
        np.concatenate(part, axis=1)
        for part in zip(nothing, *((packed(w.numpy()), s.numpy(), b.numpy()) for w, s, b in rest), strict=True)
    )
    widths = np.array([first.shape[1], *(weight.shape[2] for weight, _ in layers)])
    return Network(packed(first.numpy()), biases.numpy(), weights, scales, offsets, widths, PER_WORD if products else 1)


def _padded(layers: Sequence[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    """The same layers with units of nothing behind the others, as many as `dense` wants."""
    result, spare = [], 0
    for weight, bias in layers:
        more = padded(weight.shape[2]) - weight.shape[2]
        result.append((torch.nn.functional.pad(weight, (0, more, 0, spare)), torch.nn.functional.pad(bias, (0, more))))
        spare = more
    return result
