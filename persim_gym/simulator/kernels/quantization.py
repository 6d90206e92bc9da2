"""Weights rounded to bytes such that a layer's outputs, rather than its weights, change as little as possible."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from persim_gym.simulator.kernels.dense import BYTE_LEVELS, SUMMED_BYTES

# The largest level of a weight, of either sign.
MAX_WEIGHT_LEVEL = 127

# The share of the summed variance of all inputs that is added to that of each. Less could drown in rounding errors.
DAMPING = 4e-6

# Weights that are rounded one by one before what was lost is made up for in all weights that follow them.
ERROR_BLOCK = 32


class QuantizedLayer(NamedTuple):
    """A layer's weights, `levels` times `scale`, and its biases.

    Attributes:
        levels: [M, inputs, outputs]; int8 where they are rounded.
        scale: float32 [M, outputs].
        bias: float32 [M, outputs].
    """

    levels: Tensor
    scale: Tensor
    bias: Tensor

    def values(self) -> Tensor:
        """The weights that the levels stand for, [M, inputs, outputs]."""
        return self.levels * self.scale[:, None]


@torch.no_grad()
def quantize_network(
    layers: Sequence[tuple[Tensor, Tensor]], examples: Tensor, lowest: float | None, max_level_sum: int | None
) -> tuple[tuple[Tensor, Tensor], list[QuantizedLayer]]:
    """A network whose layers after the first multiply whole levels; returns the first layer, and the others.

    Args:
        layers: Weights [M, inputs, outputs] and biases [M, outputs].
        examples: Typical inputs of the first layer, [M, K, inputs].
        lowest: A number that no hidden unit is below where they are SiLU, from which levels count; None for ReLU.
        max_level_sum: See `quantize_layer`.
    """
    activate = torch.relu if lowest is None else torch.nn.functional.silu
    if lowest is None:
        layers, lowest = equalize_units(layers, examples), 0.0
    (weight, bias), *others = layers
    true = seen = activate(torch.baddbmm(bias[:, None], examples, weight))
    rest = []
    for following in others:
        wanted = torch.baddbmm(following[1][:, None], true, following[0])
        seen = quantize_rows(seen, lowest)
        layer = quantize_layer(*following, seen, wanted, max_level_sum)
        values = layer.values()
        rest.append(layer._replace(bias=layer.bias + lowest * values.sum(1)))
        true, seen = activate(wanted), activate(torch.baddbmm(layer.bias[:, None], seen, values))
    return (weight, bias), rest


def quantize_rows(x: Tensor, lowest: float) -> Tensor:
    """Activations [..., units], each at the nearest of the levels between `lowest` and the largest of its row."""
    step = (x.amax(-1, keepdim=True) - lowest).clamp_min(1e-30) / BYTE_LEVELS
    return lowest + step * ((x - lowest) / step).round()


@torch.no_grad()
def equalize_units(layers: Sequence[tuple[Tensor, Tensor]], examples: Tensor) -> list[tuple[Tensor, Tensor]]:
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
def quantize_layer(
    weight: Tensor, bias: Tensor, seen: Tensor, wanted: Tensor, max_level_sum: int | None = None
) -> QuantizedLayer:
    """A layer with weights of few levels that sees `seen` and should answer `wanted`.

    The weights are first moved to where they make up for what `seen` has lost; then one input's are rounded after the
    other, and what that loses is made up for with those still to come: inputs of a hidden layer depend on each other.

    Args:
        weight: [M, inputs, outputs]; inputs a multiple of `SUMMED_BYTES` where `max_level_sum` is told.
        bias: [M, outputs]; kept where examples are not finite.
        seen: Examples of what the layer sees once layers before it are rounded, [M, K, inputs].
        wanted: What it would make of them if none were, [M, K, outputs].
        max_level_sum: What the levels of `SUMMED_BYTES` neighbouring inputs may add up to, those above zero and those
            below. Levels of an output stand for so much that its weights, rounded to the nearest, pass it by little;
            where it binds nonetheless, the weights still to come make up for that as well.

    Source: Frantar et al. 2022, "GPTQ", section 3, without its reordering.
    """
    count = weight.shape[1]
    size = seen.abs().amax((1, 2), keepdim=True).clamp_min(1e-30)
    middle, answer = seen.mean(1, keepdim=True), wanted.mean(1, keepdim=True)
    x = (seen - middle) / size
    products = (x.transpose(1, 2) @ torch.cat([x, (wanted - answer) / size], dim=2) / x.shape[1]).double()
    products = torch.where(products.isfinite().all((1, 2), keepdim=True), products, 0.0)  # else each to the nearest
    square, target = products[..., :count], products[..., count:]
    damping = DAMPING * square.diagonal(dim1=1, dim2=2).sum(1).clamp_min(1e-12)
    square = square + damping[:, None, None] * torch.eye(count, dtype=square.dtype)
    factor = torch.linalg.cholesky(square)
    left = torch.cholesky_solve(target + damping[:, None, None] * weight, factor).to(weight.dtype)
    # Row i: how the weights after i answer to an error in weight i, given that those before are settled.
    passed_on = torch.linalg.cholesky(torch.cholesky_inverse(factor), upper=True)
    passed_on = (passed_on / passed_on.diagonal(dim1=1, dim2=2)[..., None]).to(weight.dtype)
    scale = left.abs().amax(1) / MAX_WEIGHT_LEVEL
    if max_level_sum:
        for side in (left, -left):
            sums = side.clamp_min(0).reshape(len(side), -1, SUMMED_BYTES, side.shape[2]).sum(2)
            scale = torch.maximum(scale, sums.amax(1) / max_level_sum)
    scale = scale.clamp_min(1e-30)
    levels = torch.empty_like(weight)
    for start in range(0, count, ERROR_BLOCK):
        stop = min(start + ERROR_BLOCK, count)
        errors = torch.empty_like(left[:, start:stop])
        for i in range(start, stop):
            level = (left[:, i] / scale).round().clamp(-MAX_WEIGHT_LEVEL, MAX_WEIGHT_LEVEL)
            if max_level_sum:
                before = levels[:, i - i % SUMMED_BYTES : i]
                below, above = before.clamp_max(0).sum(1), before.clamp_min(0).sum(1)
                level = level.clamp(-max_level_sum - below, max_level_sum - above)
            levels[:, i] = level
            error = errors[:, i - start] = left[:, i] - levels[:, i] * scale
            left[:, i + 1 : stop] -= passed_on[:, i, i + 1 : stop, None] * error[:, None]
        left[:, stop:] -= passed_on[:, start:stop, stop:].transpose(1, 2) @ errors
    shifted = (answer - middle @ (levels * scale[:, None]))[:, 0]
    return QuantizedLayer(levels.to(torch.int8), scale, torch.where(shifted.isfinite(), shifted, bias))
