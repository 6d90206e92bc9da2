"""Rounding of weights to levels: fitted to their inputs, and losing little."""

import numpy as np
import pytest
import torch
from support.rollouts import in_bytes

from persim_gym.simulator.kernels.dense import AVX2, BYTE_LEVELS, SUMMED_BYTES
from persim_gym.simulator.kernels.quantization import equalize_units, quantize_layer, quantize_network, quantize_rows


def off(found, seen, wanted):
    """Root mean square of what a layer in levels answers too much or too little."""
    return (torch.baddbmm(found.bias[:, None], seen, found.values()) - wanted).square().mean().sqrt()


def sums_of_16_bits(levels):
    """Of the levels above zero and of those below, [2, M, groups, outputs]."""
    together = levels.reshape(len(levels), -1, SUMMED_BYTES, levels.shape[2]).astype(np.int64)
    return np.stack([side.sum(axis=2) for side in (together.clip(min=0), -together.clip(max=0))])


def test_levels_that_are_added_up_in_16_bits_fit():
    weight = torch.randn((2, 48, 8), generator=torch.Generator().manual_seed(0))
    weight += torch.tensor([1.0, -1.0] * 4)
    hidden = torch.relu(torch.randn((2, 300, 48), generator=torch.Generator().manual_seed(1)))
    found, free = in_bytes(weight, hidden, AVX2.max_level_sum), in_bytes(weight, hidden)
    assert (sums_of_16_bits(found.levels.numpy()).max(axis=(1, 2, 3)) == AVX2.max_level_sum).all()
    assert AVX2.max_level_sum * BYTE_LEVELS < 2**15
    assert sums_of_16_bits(free.levels.numpy()).max() > AVX2.max_level_sum


@pytest.mark.parametrize("kind", ["alike", "of one size", "uniform", "above zero", "an output alike"])
@pytest.mark.parametrize("units", [8, 64])
def test_levels_that_are_added_up_in_16_bits_lose_little(kind, units):
    """Weights of which many are near the largest: the limit would bind all along."""
    generator = torch.Generator().manual_seed(0)
    weight = 2 * torch.rand((2, units, 8), generator=generator) - 1
    weight = {
        "alike": torch.ones_like(weight),
        "of one size": weight.sign(),
        "uniform": weight,
        "above zero": weight + 1,
        "an output alike": weight[:, :1] + 0.1 * weight,
    }[kind]
    hidden = torch.relu(torch.randn((2, 300, units), generator=generator))
    wanted = hidden @ weight
    assert off(in_bytes(weight, hidden, AVX2.max_level_sum), hidden, wanted) < 0.02 * wanted.std()


def test_rounding_makes_up_for_what_it_loses():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn((2, 96, 8), generator=generator)
    hidden = torch.randn((2, 500, 6), generator=generator) @ torch.randn((2, 6, 96), generator=generator)
    inputs = torch.relu(hidden)  # units that depend on each other, as in a network
    found = in_bytes(weight, inputs)
    assert found.levels.dtype == torch.int8 and found.levels.abs().max() == 127
    nearest = (weight / found.scale[:, None]).round() * found.scale[:, None]
    assert off(found, inputs, inputs @ weight) < 0.45 * (inputs @ (nearest - weight)).square().mean().sqrt()


def test_rounding_makes_up_for_what_its_inputs_have_lost():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn((2, 96, 8), generator=generator)
    hidden = torch.randn((2, 500, 6), generator=generator) @ torch.randn((2, 6, 96), generator=generator)
    inputs = torch.relu(hidden)
    seen = 0.9 * inputs + 0.05  # what a rounding before it might have made of them
    told, untold = (quantize_layer(weight, torch.zeros(2, 8), x, inputs @ weight) for x in (seen, inputs))
    assert off(told, seen, inputs @ weight) < 0.1 * off(untold, seen, inputs @ weight)


def test_a_layer_that_answers_nothing_finite_keeps_its_biases():
    weight, bias = torch.ones(1, 8, 2), torch.tensor([[0.5, 0.25]])
    wanted = torch.zeros(1, 20, 2)
    wanted[0, 3, 1] = torch.inf
    found = quantize_layer(weight, bias, torch.ones(1, 20, 8), wanted)
    torch.testing.assert_close(found.values(), weight)
    torch.testing.assert_close(found.bias, torch.tensor([[-8.0, 0.25]]))


def uneven(generator):
    """A ReLU network with units of very different size, one of them never on, and inputs of it."""
    sizes = torch.randn((2, 40), generator=generator).mul(1.5).exp()
    shapes = ((2, 6, 40), (2, 40, 40), (2, 40, 3))
    layers = [(torch.randn(s, generator=generator) / s[1] ** 0.5, torch.zeros(2, s[2])) for s in shapes]
    layers[0] = layers[0][0] * sizes[:, None], layers[0][1]
    layers[1] = layers[1][0] / sizes[..., None], layers[1][1]
    layers[1][0][:, :, 5] = 0.0
    return layers, torch.randn((2, 400, 6), generator=generator)


def answers(layers, x):
    for i, (weight, bias) in enumerate(layers):
        x = torch.baddbmm(bias[:, None], x, weight)
        x = torch.relu(x) if i < len(layers) - 1 else x
    return x


def answers_in_levels(first, rest, x):
    x = torch.baddbmm(first[1][:, None], x, first[0])
    for layer in rest:
        x = torch.baddbmm(layer.bias[:, None], quantize_rows(torch.relu(x), 0.0), layer.values())
    return x


def test_evened_networks_are_the_same_and_lose_less_to_bytes(monkeypatch):
    layers, x = uneven(torch.Generator().manual_seed(0))
    even = equalize_units(layers, x)
    torch.testing.assert_close(answers(even, x), answers(layers, x), rtol=1e-4, atol=1e-4)
    lost = (answers_in_levels(*quantize_network(layers, x, None, None), x) - answers(layers, x)).square().mean()
    monkeypatch.setattr("persim_gym.simulator.kernels.quantization.equalize_units", lambda layers, examples: layers)
    before = (answers_in_levels(*quantize_network(layers, x, None, None), x) - answers(layers, x)).square().mean()
    assert lost < 0.5 * before


def test_rounding_to_inputs_that_do_not_depend_on_each_other_is_to_the_nearest():
    weight = torch.randn((1, 40, 8), generator=torch.Generator().manual_seed(0))
    signs = torch.tensor([[1.0]])
    while len(signs) < 64:  # columns of a Hadamard matrix: without mean, and orthogonal
        signs = torch.cat([torch.cat([signs, signs], 1), torch.cat([signs, -signs], 1)])
    found = in_bytes(weight, signs[None, :, 1:41])
    torch.testing.assert_close(found.levels.float(), (weight / found.scale[:, None]).round())


@pytest.mark.parametrize("width", [512, 1024])
def test_rounding_takes_a_layer_that_one_example_decides(width):
    """The covariance is nearly singular: in float32 its root may not exist."""
    generator = torch.Generator().manual_seed(0)
    x = torch.relu(torch.randn((1, 2048, width), generator=generator))
    x[:, 1:] = 0.0
    weight = torch.randn((1, width, 8), generator=generator) / width**0.5
    wanted = x @ weight
    assert off(in_bytes(weight, x, AVX2.max_level_sum), x, wanted) < 0.01 * wanted.std()


def test_rounding_is_fitted_to_inputs_that_are_rounded_themselves(monkeypatch):
    monkeypatch.setattr("persim_gym.simulator.kernels.quantization.BYTE_LEVELS", 15)  # so coarse that it shows
    layers, x = uneven(torch.Generator().manual_seed(0))
    wanted = answers(layers, x)

    def lost():
        first, rest = quantize_network(layers, x, None, None)
        monkeypatch.undo()
        monkeypatch.setattr("persim_gym.simulator.kernels.quantization.BYTE_LEVELS", 15)
        return (answers_in_levels(first, rest, x) - wanted).square().mean()

    fitted = lost()
    monkeypatch.setattr("persim_gym.simulator.kernels.quantization.quantize_rows", lambda values, lowest: values)
    assert fitted < 0.9 * lost()


def test_rounding_takes_units_that_are_never_on():
    found = in_bytes(torch.ones(1, 8, 8), torch.zeros(1, 20, 8))
    torch.testing.assert_close(found.values(), torch.ones(1, 8, 8))
