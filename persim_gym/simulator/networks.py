"""A deep model's encoders as compiled rollouts take them, the same for all of its agents."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from persim_gym.simulator.dense import PER_WORD, byte_products, packed, padded
from persim_gym.simulator.encoders import EnsembleMLP
from persim_gym.simulator.rounding import evened, rounded
from persim_gym.simulator.shape import ModelShape
from persim_gym.simulator.threads import run_alone

EXAMPLES = 1024  # inputs that rounding is fitted to
SILU_LOWEST = -0.2785  # a little below the lowest value of SiLU


class Ensemble(Protocol):
    """What is bound to an agent: the encoders, scales and bounds of a `FactoredEnsemble`, which says what each is."""

    shape: ModelShape
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
    scales = model.obs_mean, model.obs_std, model.action_mean, model.action_std, model.delta_std
    for values in (*(p for encoder in encoders for p in encoder.parameters()), *scales):
        digest.update(np.ascontiguousarray(values.detach().numpy()).data)
    return digest.digest()


@torch.no_grad()
def _networks(model: Ensemble) -> tuple[Network, Network]:
    s, silu = model.shape, model.shape.activation == "silu"
    state, action = (list(_layers(encoder)) for encoder in (model.state_encoder, model.action_encoder))
    weight, bias = state[-1]
    units = model.delta_std.repeat_interleave(s.rank)
    state[-1] = weight * units, bias * units
    generator = torch.Generator().manual_seed(0)
    made = []
    for layers, mean, std in (
        (state, model.obs_mean, model.obs_std),
        (action, model.action_mean, model.action_std),
    ):
        weight, bias = layers[0]
        weight = weight / std[:, None]
        layers[0] = weight, bias - mean @ weight
        examples = mean + std * torch.randn((EXAMPLES, len(mean)), generator=generator)
        made.append(network(layers, examples, silu))
    return made[0], made[1]


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
        examples: Typical inputs of the first layer, [K, inputs].
        silu: Whether hidden units are SiLU, not ReLU.
    """
    activate: Callable[[Tensor], Tensor] = torch.nn.functional.silu if silu else torch.relu
    products = byte_products()
    x = examples.expand(len(layers[0][0]), *examples.shape)
    widths = [x.shape[2]]
    if products and not silu:
        layers = evened(layers, x)
    parts: list[tuple[NDArray[Any], ...]] = []
    for weight, bias in layers:
        spare = padded(weight.shape[2]) - weight.shape[2]
        weight = torch.nn.functional.pad(weight, (0, spare, 0, widths[-1] - weight.shape[1]))
        bias, scale = torch.nn.functional.pad(bias, (0, spare)), torch.ones(len(weight), weight.shape[2])
        following = activate(torch.baddbmm(bias[:, None], x, weight))
        if parts and products:
            levels, scale = near = rounded(weight, x, products.pair)
            if silu:
                bias = bias + SILU_LOWEST * near.values().sum(1)  # bytes count from there
            weight = levels
        parts.append((packed(weight.numpy()), scale.numpy(), bias.numpy()))
        widths.append(weight.shape[2])
        x = following
    (first, _, biases), *rest = parts
    nothing = (np.zeros((len(biases), 0), dtype=np.int32 if products else np.float32), *2 * (biases[:, :0],))
    weights, scales, offsets = (np.concatenate(part, axis=1) for part in zip(nothing, *rest, strict=True))
    return Network(first, biases, weights, scales, offsets, np.array(widths), PER_WORD if products else 1)
