"""Weights of deep networks in levels."""

import numpy as np
import torch

from persim_gym.simulator.dynamics import folding as networks
from persim_gym.simulator.kernels.deep_weights import deep_network
from persim_gym.simulator.kernels.dense import AVX2, UNITS_PER_BLOCK


def test_networks_keep_levels_within_what_is_added_up_in_16_bits(monkeypatch):
    monkeypatch.setattr(networks, "byte_products", lambda: AVX2)
    generator = torch.Generator().manual_seed(0)
    layers = [
        (torch.randn((2, inputs, outputs), generator=generator) + 1.0, torch.zeros(2, outputs))
        for inputs, outputs in ((3, 21), (21, 13), (13, 5))
    ]
    made = deep_network(layers, torch.randn((2, 100, 3), generator=generator), silu=True, products=AVX2)
    # Pairs of words; halves of a word, bytes of each.
    bytes_of = made.rest.view(np.int8).reshape(2, -1, 2, UNITS_PER_BLOCK, 2, 2)
    together = bytes_of.astype(np.int64).swapaxes(2, 3)
    above, below = (side.sum(axis=(3, 5)) for side in (together.clip(min=0), -together.clip(max=0)))
    assert 0 < below.max() <= AVX2.max_level_sum and AVX2.max_level_sum - 8 < above.max() <= AVX2.max_level_sum
