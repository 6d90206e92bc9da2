"""Training in one compiled call a segment, for small models: one hidden layer and discrete actions.

At these sizes the arithmetic of a step takes tens of microseconds, and calling a dozen tensor operations many times
that.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from persim_gym.simulator.kernels.adam import is_sparse
from persim_gym.simulator.kernels.gemm import WIDE_COLUMNS
from persim_gym.simulator.kernels.small_train import UNKNOWN_TARGET, train_steps
from persim_gym.simulator.model.encoders import AgentEncoder, DiscreteActionEncoder, EnsembleMLP
from persim_gym.simulator.model.ensemble import FactoredEnsemble
from persim_gym.simulator.training.batches import Batchable
from persim_gym.simulator.training.recipe import TrainingRecipe

MAX_INDEX = 2**24
"""Agents and actions are kept as float32, which counts exactly up to here."""


class NumbaEngine:
    """An `Engine` of one member of a small factored ensemble.

    Attributes:
        members: See `Engine`.
        sparse: Whether updates of latent factors are row-wise.
    """

    def __init__(
        self, ensemble: FactoredEnsemble, members: slice, recipe: TrainingRecipe, sparse: bool | None = None
    ) -> None:
        """Binds one member.

        Args:
            ensemble: The ensemble; its agents' factors are updated in place, all else by `store`.
            members: The member, as a slice of one.
            recipe: Its `pull`, `interaction` and `batch` count.
            sparse: See the attribute; None for what is faster.

        Raises:
            ValueError: If there are more agents or actions than float32 counts.
        """
        config = ensemble.config
        if max(config.n_agents, config.n_actions) > MAX_INDEX:
            raise ValueError(f"agents and actions are kept as float32, which counts exactly to {MAX_INDEX:,} only")
        assert isinstance(ensemble.agent_encoder, AgentEncoder)
        self.members = members
        self.sparse = is_sparse(config.n_agents, recipe.batch) if sparse is None else sparse
        self._ensemble, self._recipe = ensemble, recipe
        self._factor = ensemble.agent_encoder.factor.detach()[members.start].numpy()  # [N, R], the model's own memory
        self._factor_moments = np.zeros((2, *self._factor.shape), dtype=np.float32)
        # The kernel pads hidden units to whole vectors; no step changes the units of zeros that this adds.
        self._hidden = -(-config.state_layers[0] // WIDE_COLUMNS) * WIDE_COLUMNS
        parts = [(p.numpy(), self._hidden if is_hidden else p.shape[1]) for p, is_hidden in self._parts()]
        self._theta = np.zeros(sum(len(own) * width for own, width in parts), dtype=np.float32)
        self._shared, start = [], 0  # Each parameter of the ensemble, and the same in `_theta`.
        for own, width in parts:
            flat = self._theta[start : start + len(own) * width].reshape(len(own), width)
            self._shared.append((own, flat[:, : own.shape[1]]))
            start += len(own) * width
        self.load()
        self._moments = np.zeros((2, *self._theta.shape), dtype=np.float32)

    @staticmethod
    def pack(data: Batchable) -> NDArray[np.float32]:
        """One row a transition, so that a shuffled read costs one cache miss: agent, action, observation, target.

        Targets that are not known become `UNKNOWN_TARGET`.
        """
        agent, obs, action, target = data
        columns = (agent[:, None].float(), action[:, None].float(), obs, target.nan_to_num(nan=float(UNKNOWN_TARGET)))
        return torch.cat(columns, dim=1).numpy()

    def bind(self, data: NDArray[np.float32]) -> None:
        """Goes on with other data."""
        self._data = data

    def steps(self, order: NDArray[np.int64], rates: NDArray[np.float64], batch: int, done: int) -> float:
        """Takes one step a learning rate; arguments and result as `Engine.steps`."""
        s = self._ensemble.config
        loss: float = train_steps(
            self._theta,
            *self._moments,
            self._factor,
            *self._factor_moments,
            order[0],
            rates,
            self._data,
            (s.obs_dim, s.extra_dim, self._hidden, s.rank, s.n_actions, batch, done),
            np.float32(self._recipe.pull),
            np.float32(self._recipe.interaction),
            s.activation == "silu",
            self.sparse,
        )
        return loss

    def stop(self) -> None:
        """Does nothing: a segment takes no more than seconds."""

    def state(self) -> dict[str, Tensor]:
        """What training goes on from beside the weights; shares memory."""
        moments = {"moments": self._moments, "factor_moments": self._factor_moments}
        return {name: torch.from_numpy(values) for name, values in moments.items()}

    def _parts(self) -> list[tuple[Tensor, bool]]:
        """Parameters but the agents' in the kernel's order, and whether their last axis is the hidden units."""
        model = self._ensemble
        agents, states, actions = model.agent_encoder, model.state_encoder, model.action_encoder
        assert isinstance(agents, AgentEncoder)
        assert isinstance(states, EnsembleMLP)
        assert isinstance(actions, DiscreteActionEncoder)
        first: Any
        last: Any
        first, last = states.layers
        parts = [
            (first.weight, True),
            (first.bias, True),
            (last.weight.mT, True),
            (last.bias, False),
            (agents.bias, False),
            (actions.factor, False),
            (actions.bias, False),
        ]
        return [(values.detach()[self.members.start], is_hidden) for values, is_hidden in parts]

    def load(self) -> None:
        """Takes the ensemble's weights over."""
        for own, flat in self._shared:
            flat[...] = own

    def store(self) -> None:
        """Writes the weights into the ensemble."""
        for own, flat in self._shared:
            own[...] = flat
