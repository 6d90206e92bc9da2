"""Models of many shapes bound to an agent, and inputs of their rollouts."""

import numpy as np
import pytest
import torch

from persim_gym.simulator.dynamics.bind import bind_agent
from persim_gym.simulator.kernels.dense import byte_products
from persim_gym.simulator.kernels.quantization import quantize_layer
from persim_gym.simulator.model.config import ModelConfig
from persim_gym.simulator.model.ensemble import FactoredEnsemble

SHAPES = {  # small ones of the sizes of other tests' models: the kernel is compiled for each size anew
    "relu": ModelConfig(4, 2, 2, 0, 3, 2, (20,)),
    "silu": ModelConfig(4, 4, 3, 0, 3, 2, (33,), (), "silu"),
    "one component": ModelConfig(4, 1, 5, 0, 2, 1, (7,), (), "silu"),
    "deep, discrete": ModelConfig(4, 3, 2, 0, 3, 2, (20, 20)),
    "deep": ModelConfig(4, 5, 0, 2, 3, 2, (24, 24), (16,), "silu"),
    "deep, relu": ModelConfig(4, 5, 0, 2, 3, 2, (24,), (16,)),
    "odd widths": ModelConfig(4, 3, 0, 1, 3, 2, (17, 9, 30), (5,), "silu"),
    "linear action encoder": ModelConfig(4, 3, 0, 2, 3, 2, (12,), ()),
    "learned task": ModelConfig(4, 2, 2, 0, 3, 2, (20,), extra_dim=2),
    "deep learned task": ModelConfig(4, 3, 0, 2, 3, 2, (20, 20), (8,), extra_dim=2),
}
needs_bytes = pytest.mark.skipif(not byte_products(), reason="the processor does not multiply bytes")


def drawn(shape, bounded=False, agent=2, quantize=False):
    """A model with scaling, and an agent's dynamics."""
    ensemble = FactoredEnsemble(shape, seed=1).requires_grad_(False)
    generator = torch.Generator().manual_seed(2)
    for name in ("obs", "delta", "action"):
        mean, std = getattr(ensemble, f"{name}_mean"), getattr(ensemble, f"{name}_std")
        mean.copy_(0.1 * torch.randn(mean.shape, generator=generator))
        std.copy_(0.5 + torch.rand(std.shape, generator=generator))
    if bounded:
        ensemble.obs_low.fill_(-0.3)
        ensemble.obs_high.fill_(0.4)
    return bind_agent(ensemble, agent, quantize)


def inputs(shape, candidates=37, steps=6):
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(shape.members, candidates, shape.obs_dim)).astype(np.float32)
    if shape.n_actions:
        return obs, rng.integers(shape.n_actions, size=(candidates, steps))
    return obs, rng.uniform(-1, 1, (candidates, steps, shape.action_dim)).astype(np.float32)


def in_bytes(weight, seen, most=None):
    """A layer without biases, in levels, whose inputs nothing was lost of."""
    return quantize_layer(weight, torch.zeros(len(weight), weight.shape[2]), seen, seen @ weight, most)
