"""The simulator over many rows at once, each row an agent of its own."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from persim_gym.simulator.kernels import predict
from persim_gym.simulator.model import AgentDynamics, FactoredEnsemble


class RowsDynamics:
    """Maps observations and actions of B rows to next observations by every member; row i is agents[i].

    Small models fold each different agent's factor into the last layer once; others look the factors up.

    Attributes:
        members: Ensemble size M.
    """

    def __init__(self, model: FactoredEnsemble, agents: Sequence[int], apart: bool = False) -> None:
        """Binds rows to agents.

        Args:
            model: The ensemble, on the CPU.
            agents: Agent of each row, [B].
            apart: Whether each row has weights of its own, so that `rebind` can change it alone.

        Raises:
            ValueError: If an agent is unknown.
        """
        self.members = model.shape.members
        self._model = model
        different = list(agents) if apart else sorted(set(agents))
        bound = [model.dynamics(agent) for agent in different]
        self._which = np.arange(len(agents)) if apart else np.searchsorted(different, np.asarray(agents))
        self._weights = _stacked(bound) if model.shape.small else None
        with torch.no_grad():
            self._factors = model.agent_encoder(torch.as_tensor(np.asarray(agents, dtype=np.int64)))  # [M, B, R]

    def rebind(self, row: int, factor: torch.Tensor) -> None:
        """Gives one row of dynamics that are `apart` another latent factor, [M, R]."""
        self._factors[:, row] = factor
        if self._weights is not None:
            _, _, last, last_bias, _, _ = AgentDynamics(self._model, factor).arrays()
            self._weights[2][row], self._weights[3][row] = last[0], last_bias[0]

    @torch.no_grad()
    def __call__(self, obs: NDArray[np.float32], action: NDArray[Any]) -> NDArray[np.float32]:
        """Next observations, [M, B, D + E].

        Args:
            obs: [B, D], or [M, B, D] where every member has its own; columns past D are ignored.
            action: int64 [B] or float32 [B, A], inside the action space.
        """
        if self._weights is not None:
            each = np.broadcast_to(obs, (self.members, *obs.shape[-2:]))
            return predict(each, action, self._which, self._weights, self._model.shape.activation == "silu")
        following = self._model.predict_with(self._factors, torch.from_numpy(obs), torch.from_numpy(action))
        result: NDArray[np.float32] = following.numpy()
        return result

    def disagreement(self, following: NDArray[np.float32]) -> NDArray[np.float32]:
        """Spread of predictions [M, B, D + E] over members, as `FactoredEnsemble.disagreement`, [B]."""
        result: NDArray[np.float32] = self._model.disagreement(following)
        return result


def _stacked(bound: list[AgentDynamics]) -> tuple[NDArray[np.float32], ...]:
    """Kernel weights of all agents: the first layer and the bounds are shared, the folded last layers stacked."""
    arrays = [one.arrays() for one in bound]
    first, first_bias, _, _, low, high = arrays[0]
    last = np.concatenate([a[2] for a in arrays])
    last_bias = np.concatenate([a[3] for a in arrays])
    return first, first_bias, last, last_bias, low, high
