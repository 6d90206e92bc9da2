"""Small factored models with random weights, inputs for them, and equality of weights."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from persim_gym.simulator.model.config import ModelConfig
from persim_gym.simulator.model.ensemble import FactoredEnsemble

DISCRETE = ModelConfig(n_agents=6, obs_dim=3, n_actions=4, action_dim=0, rank=5, members=3, state_layers=(16,))
DEEP = replace(DISCRETE, state_layers=(16, 8, 8))
CONTINUOUS = replace(DEEP, n_actions=0, action_dim=2, action_layers=(8, 8))
SHAPES = {"discrete": DISCRETE, "deep": DEEP, "continuous": CONTINUOUS}
every_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
both_activations = pytest.mark.parametrize("activation", ["relu", "silu"])


def random_model(shape: ModelConfig, seed: int = 0) -> FactoredEnsemble:
    """A model with random scales and with bounds that clip about a tenth of its predictions."""
    model = FactoredEnsemble(shape, seed)
    generator = torch.Generator().manual_seed(seed)
    for name, buffer in model.named_buffers():
        if name.endswith(("mean", "std")):
            buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    model.obs_low.fill_(-1.5)
    model.obs_high.fill_(1.5 + 1.0)
    return model.double()


def random_inputs(shape: ModelConfig, batch: int, seed: int = 0, members: tuple[int, ...] = ()):
    """Agents [*members, B], observations [*members, B, D] and actions [*members, B] or [*members, B, A]."""
    rng = np.random.default_rng(seed)
    actions = (
        rng.integers(shape.n_actions, size=(*members, batch))
        if shape.n_actions
        else rng.normal(size=(*members, batch, shape.action_dim))
    )
    return (
        torch.from_numpy(rng.integers(shape.n_agents, size=(*members, batch))),
        torch.from_numpy(rng.normal(size=(*members, batch, shape.obs_dim))),
        torch.from_numpy(actions),
    )


def weights(model: FactoredEnsemble) -> dict[str, np.ndarray]:
    return {name: value.numpy().copy() for name, value in model.state_dict().items()}


def assert_same_weights(one: FactoredEnsemble, other: FactoredEnsemble) -> None:
    """Bit for bit."""
    for name, value in weights(one).items():
        np.testing.assert_array_equal(value, weights(other)[name], err_msg=name)
