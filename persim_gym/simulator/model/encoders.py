"""The encoders of a factored ensemble: layers of M members at once."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from persim_gym.simulator.model.precision import without_autocast

ACTIVATIONS = {"relu": nn.functional.relu, "silu": nn.functional.silu}
ACTIVATIONS_INPLACE: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu_,
    "silu": partial(nn.functional.silu, inplace=True),
}


class EnsembleLinear(nn.Module):
    """M independent linear layers: [M, B, inputs] to [M, B, outputs]."""

    def __init__(self, members: int, inputs: int, outputs: int, generator: torch.Generator) -> None:
        """Draws weights as torch.nn.Linear does, uniformly within 1/sqrt(inputs)."""
        super().__init__()
        bound = 1.0 / math.sqrt(inputs)
        self.weight = nn.Parameter(_uniform((members, inputs, outputs), bound, generator))
        self.bias = nn.Parameter(_uniform((members, 1, outputs), bound, generator))

    @without_autocast
    def forward(self, x: Tensor) -> Tensor:
        """Applies each member's layer to its own rows."""
        return torch.baddbmm(self.bias, x, self.weight)


class EnsembleMLP(nn.Module):
    """M independent multilayer perceptrons: [M, B, inputs] to [M, B, outputs]."""

    def __init__(self, members: int, sizes: tuple[int, ...], activation: str, generator: torch.Generator) -> None:
        """Stacks linear layers of the given sizes, inputs first and outputs last."""
        super().__init__()
        self.layers = nn.ModuleList(
            EnsembleLinear(members, i, o, generator) for i, o in zip(sizes[:-1], sizes[1:], strict=True)
        )
        self.activation = ACTIVATIONS[activation]

    def hidden(self, x: Tensor) -> Tensor:
        """Activations in front of the last layer."""
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Applies all layers; the last one is linear."""
        return self.layers[-1](self.hidden(x))


class AgentEncoder(nn.Module):
    """A latent factor an agent, as a one-hot linear layer: its row plus a bias shared by all, [M, B, R].

    Source: thesis appendix A.1.
    """

    def __init__(self, members: int, n_agents: int, rank: int, generator: torch.Generator) -> None:
        """Draws as torch.nn.Linear(n_agents, rank) does."""
        super().__init__()
        bound = 1.0 / math.sqrt(n_agents)
        self.factor = nn.Parameter(_uniform((members, n_agents, rank), bound, generator))
        self.bias = nn.Parameter(_uniform((members, 1, rank), bound, generator))

    def forward(self, agent: Tensor) -> Tensor:
        """Latent factors of agents: [B] or [M, B] to [M, B, R]."""
        return self.offset(agent) + self.bias

    def offset(self, agent: Tensor) -> Tensor:
        """What sets agents apart from the shared bias: [B] or [M, B] to [M, B, R]."""
        if agent.ndim == 1:
            return self.factor[:, agent]
        return _member_rows(self.factor, agent)


class DiscreteActionEncoder(nn.Module):
    """A latent factor an action, as a one-hot linear layer, [M, B, R]; thesis appendix A.1."""

    def __init__(self, members: int, n_actions: int, rank: int, generator: torch.Generator) -> None:
        """Draws as torch.nn.Linear(n_actions, rank) does."""
        super().__init__()
        bound = 1.0 / math.sqrt(n_actions)
        self.factor = nn.Parameter(_uniform((members, n_actions, rank), bound, generator))
        self.bias = nn.Parameter(_uniform((members, 1, rank), bound, generator))

    def forward(self, action: Tensor) -> Tensor:
        """Latent factors of actions: [B] or [M, B] to [M, B, R]."""
        table = self.factor + self.bias
        if action.ndim == 1:
            return table[:, action]
        return _member_rows(table, action)


def _member_rows(table: Tensor, chosen: Tensor) -> Tensor:
    """Each member's own rows of its table: [M, N, R] and [M, B] to [M, B, R].

    By `index_select`, whose gradient adds up in one order; that of an index does not on several threads.
    """
    members, n, rank = table.shape
    rows = chosen + n * torch.arange(members, device=chosen.device)[:, None]
    return table.reshape(-1, rank).index_select(0, rows.reshape(-1)).view(*chosen.shape, rank)


def _uniform(shape: tuple[int, ...], bound: float, generator: torch.Generator) -> Tensor:
    return (torch.rand(shape, generator=generator, dtype=torch.float32) * 2 - 1) * bound
