"""Weights rounded to bytes such that a layer's outputs, rather than its weights, change as little as possible."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

LARGEST = 127  # level of a weight, of either sign
DAMPING = 0.01  # share of the mean square of inputs that is added to each of them
BLOCK = 32  # weights after which what was lost is made up for in all that follow


class Rounded(NamedTuple):
    """A layer's weights: `levels` times `scale`.

    Attributes:
        levels: int8 [M, inputs, outputs].
        scale: float32 [M, outputs].
    """

    levels: Tensor
    scale: Tensor

    def values(self) -> Tensor:
        """The weights that the levels stand for, [M, inputs, outputs]."""
        return self.levels * self.scale[:, None]


@torch.no_grad()
def evened(layers: Sequence[tuple[Tensor, Tensor]], examples: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The same ReLU network with hidden units of more even size, so that levels common to all of them lose less.

    A unit is divided by the square root of its root mean square, and its outgoing weights are multiplied by it: half of
    what sets units apart is left to the weights.

    Args:
        layers: Weights [M, inputs, outputs] and biases [M, outputs].
        examples: Typical inputs of the first layer, [M, K, inputs].

    Source: after Nagel et al. 2019, "Data-free quantization through weight equalization and bias correction", section
    4.1.
    """
    x, result = examples, [*layers]
    for i, (weight, bias) in enumerate(layers[:-1]):
        x = torch.relu(torch.baddbmm(bias[:, None], x, weight))
        size = x.square().mean(1).sqrt().nan_to_num(0.0, 0.0)  # [M, outputs]
        size = size.clamp_min(1e-3 * size.amax(1, keepdim=True)).clamp_min(1e-30).sqrt()
        weight, bias = result[i]
        following, shift = result[i + 1]
        result[i] = weight / size[:, None], bias / size
        result[i + 1] = following * size[..., None], shift
    return result


@torch.no_grad()
def rounded(weight: Tensor, inputs: Tensor, pair: int | None = None) -> Rounded:
    """Rounds one input's weights after the other, and makes up for what that loses with the weights still to come.

    Inputs of a hidden layer depend on each other, so that most of an error can be made up for.

    Args:
        weight: [M, inputs, outputs].
        inputs: Examples of what the layer sees, [M, K, inputs].
        pair: What the levels of two neighbouring inputs may come to at most, above zero and below; the number of inputs
            is even then. Levels of an output stand for so much that its weights, rounded to the nearest, pass it by
            little; where it binds nonetheless, the weights still to come make up for that as well.

    Source: Frantar et al. 2022, "GPTQ", section 3, without its reordering.
    """
    count = weight.shape[1]
    inputs = inputs / inputs.abs().amax((1, 2), keepdim=True).clamp_min(1e-30)
    square = inputs.transpose(1, 2) @ inputs / inputs.shape[1]
    square = torch.where(square.isfinite().all((1, 2), keepdim=True), square, 0.0)  # else each to the nearest
    damping = DAMPING * square.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1e-12)
    square = square + damping[:, None, None] * torch.eye(count)
    # Row i: how the weights after i answer to an error in weight i, given that those before are settled.
    answer = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(square)), upper=True)
    answer = answer / answer.diagonal(dim1=1, dim2=2)[..., None]
    scale = weight.abs().amax(1) / LARGEST
    if pair:
        for side in (weight, -weight):
            sums = side.clamp_min(0).reshape(len(side), -1, 2, side.shape[2]).sum(2)
            scale = torch.maximum(scale, sums.amax(1) / pair)
    scale = scale.clamp_min(1e-30)
    left = weight.clone()
    levels = torch.empty_like(weight)
    for start in range(0, count, BLOCK):
        stop = min(start + BLOCK, count)
        errors = torch.empty_like(left[:, start:stop])
        for i in range(start, stop):
            level = (left[:, i] / scale).round().clamp(-LARGEST, LARGEST)
            if pair and i % 2:
                before = levels[:, i - 1]
                level = level.clamp(-pair - before.clamp_max(0), pair - before.clamp_min(0))
            levels[:, i] = level
            error = errors[:, i - start] = left[:, i] - levels[:, i] * scale
            left[:, i + 1 : stop] -= answer[:, i, i + 1 : stop, None] * error[:, None]
        left[:, stop:] -= answer[:, start:stop, stop:].transpose(1, 2) @ errors
    return Rounded(levels.to(torch.int8), scale)
