"""Weights of a deep encoder in the layout that compiled rollouts read, in float32 or in bytes."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from persim_gym.simulator.kernels.dense import INPUTS_PER_WORD, ByteProducts, pack_weights, padded_width
from persim_gym.simulator.kernels.quantization import QuantizedLayer, quantize_network

# A little below the lowest value of SiLU.
SILU_LOWEST = -0.2785


class DeepNetwork(NamedTuple):
    """An encoder of every member, in the layout of `dense`; or of one member, without the axis M.

    Attributes:
        first: Weights of the first layer, which sees observations or actions as they are, float32 [M, ...].
        first_biases: Its biases, [M, width].
        rest: Weights of the other layers, one behind the other, [M, ...].
        rest_scales: What one level of their outputs' weights stands for, one layer behind the other, [M, ...].
        rest_biases: Their biases, likewise.
        widths: Number of inputs, and of outputs of every layer, padded to whole blocks.
        inputs_per_word: Inputs of the other layers that share a word of memory: 4 bytes, or 1 float32.
    """

    first: NDArray[np.float32]
    first_biases: NDArray[np.float32]
    rest: NDArray[np.float32] | NDArray[np.int32]
    rest_scales: NDArray[np.float32]
    rest_biases: NDArray[np.float32]
    widths: NDArray[np.int64]
    inputs_per_word: int

    def member(self, m: int) -> "DeepNetwork":
        """The encoder of member `m`."""
        return self._replace(**{name: getattr(self, name)[m] for name in self._fields[:5]})


@torch.no_grad()
def deep_network(
    layers: Sequence[tuple[Tensor, Tensor]], examples: Tensor, silu: bool, products: ByteProducts | None
) -> DeepNetwork:
    """An encoder as compiled rollouts take it.

    Args:
        layers: Weights [M, inputs, outputs] and biases [M, outputs].
        examples: Inputs of the first layer as planners ask for them, [M, K, inputs].
        silu: Whether hidden units are SiLU, not ReLU.
        products: How bytes are multiplied; None for weights in float32.
    """
    layers = _pad_layers(layers)
    (first, first_biases), *others = layers
    rest = [QuantizedLayer(weight, torch.ones_like(bias), bias) for weight, bias in others]
    if products:
        lowest = SILU_LOWEST if silu else None
        (first, first_biases), rest = quantize_network(layers, examples, lowest, products.max_level_sum)
    nothing = (np.zeros((len(first), 0), dtype=np.int32 if products else np.float32), *2 * (first_biases[:, :0],))
    weights, scales, biases = (
        np.concatenate(part, axis=1)
        for part in zip(nothing, *((pack_weights(w.numpy()), s.numpy(), b.numpy()) for w, s, b in rest), strict=True)
    )
    widths = np.array([first.shape[1], *(weight.shape[2] for weight, _ in layers)])
    packed = pack_weights(first.numpy()), first_biases.numpy(), weights, scales, biases
    return DeepNetwork(*packed, widths, INPUTS_PER_WORD if products else 1)


def _pad_layers(layers: Sequence[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    """The same layers with units of zeros behind the others, up to whole blocks of `dense`."""
    result, spare = [], 0
    for weight, bias in layers:
        more = padded_width(weight.shape[2]) - weight.shape[2]
        result.append((torch.nn.functional.pad(weight, (0, more, 0, spare)), torch.nn.functional.pad(bias, (0, more))))
        spare = more
    return result
