"""The simulator over many rows at once, each row an agent of its own."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from persim_gym.simulator.dynamics.agent import AgentDynamics
from persim_gym.simulator.dynamics.deep_batch import BlockPredictions
from persim_gym.simulator.kernels.small_forward import SmallWeights, predict_small
from persim_gym.simulator.kernels.small_step import combine_members, step_small
from persim_gym.simulator.model.ensemble import FactoredEnsemble

MEAN_MEMBER = -1
"""Stands for the mean of all members where a member's index is wanted."""

MAX_BELIEVED_CHANGE = 1e4
"""A change of an observation by this many logged standard deviations in one step is not believed."""

_MIN_UNIT = 1e-6  # A dimension with a smaller standard deviation counts as constant, and sets no scale.


def believable_change(unit: NDArray[np.float32]) -> NDArray[np.float32]:
    """Largest change of each component that is believed, [D], where they have the standard deviations `unit`, [D]."""
    return np.where(unit > _MIN_UNIT, np.float32(MAX_BELIEVED_CHANGE) * unit, np.finfo(np.float32).max)


class BatchDynamics:
    """Steps B rows by every member; row i is agents[i]. One row and many take the same path.

    Small models fold each different agent's factor into the last layer once; others look the factors up. Torch takes
    no part in a step, so that its threads cannot stall a forked worker; but for the unfactorized variant's.

    Attributes:
        members: Ensemble size M.
        columns: Numbers D + E of a prediction.
    """

    def __init__(self, model: FactoredEnsemble, agents: Sequence[int], apart: bool = False) -> None:
        """Binds rows to agents.

        Args:
            model: The ensemble, on the CPU.
            agents: Agent of each row, [B].
            apart: Whether each row has weights of its own, so that `rebind` can change it alone.

        Raises:
            ValueError: If an agent is unknown, or the model on another device.
        """
        model.check_on_cpu()
        self.members, self.columns = model.config.members, model.config.prediction_dim
        model.check_agents(agents)
        different = list(agents) if apart else sorted(set(agents))
        self._model = model
        self._unit = model.logged_std.numpy()
        far = np.finfo(np.float32).max
        others = model.config.prediction_dim - model.config.learned_dim
        self._reach = np.append(believable_change(self._unit), np.full(others, far, dtype=np.float32))
        rows = np.asarray(agents, dtype=np.int64)
        self._which = np.arange(len(rows)) if apart else np.searchsorted(different, rows)
        with torch.no_grad():
            self._factors = model.agent_encoder(torch.from_numpy(rows))  # [M, B, R]
            factors = model.agent_encoder(torch.as_tensor(different)) if model.config.small else self._factors[:, :0]
        bound = [AgentDynamics(model, factor) for factor in factors.unbind(1)]
        self._weights = _stacked(bound) if model.config.small else None
        self._blocks: BlockPredictions | None = None
        if not model.config.small and model.head is None and not model.config.context:
            self._blocks = BlockPredictions(model, self._factors)

    def begin(self, rows: NDArray[np.int64]) -> None:
        """Nothing: what a row did before its episode began plays no part."""

    def rebind(self, row: int, factor: torch.Tensor) -> None:
        """Gives one row of dynamics that are `apart` another latent factor, [M, R]."""
        self._factors[:, row] = factor
        if self._weights is not None:
            own = AgentDynamics(self._model, factor).kernel_weights()
            self._weights.last[row], self._weights.last_bias[row] = own.last[0], own.last_bias[0]
        elif self._blocks is not None:
            self._blocks.rebind(row, factor)

    @torch.no_grad()
    def __call__(self, obs: NDArray[np.float32], action: NDArray[Any]) -> NDArray[np.float32]:
        """Next observations by every member, [M, B, D + E].

        Args:
            obs: [B, D], or [M, B, D] where every member has its own; columns past D are ignored.
            action: int64 [B] or float32 [B, A], inside the action space.
        """
        if self._weights is not None:
            each = np.broadcast_to(obs, (self.members, *obs.shape[-2:]))
            return predict_small(each, action, self._which, self._weights)
        following = self._model.predict_with(self._factors, torch.from_numpy(obs), torch.from_numpy(action))
        result: NDArray[np.float32] = following.numpy()
        return result

    def disagreement(self, following: NDArray[np.float32]) -> NDArray[np.float32]:
        """Spread of predictions [M, B, D + E] over members, as `FactoredEnsemble.disagreement`, [B]."""
        result: NDArray[np.float32] = self._model.disagreement(following)
        return result

    def step(
        self, obs: NDArray[np.float32], action: NDArray[Any], member: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Predictions, [B, D + E], and the ensemble's spread in standard deviations of the logged observations, [B].

        Where a member's prediction is not finite, or moves further than `MAX_BELIEVED_CHANGE`, the observation stays as
        it was, the quantities beside it are zero and the spread is infinite.

        Args:
            obs: [B, D or D + E], contiguous; columns past D are ignored.
            action: int64 [B] or float32 [B, A], contiguous, inside the action space.
            member: Member that predicts each row, or `MEAN_MEMBER`, [B].
        """
        if self._weights is not None:
            return step_small(obs, action, self._which, member, self._weights, self._unit, self._reach)
        if self._blocks is not None:
            each = self._blocks(obs, action)
        else:
            each = np.ascontiguousarray(self(obs, action).transpose(0, 2, 1))
        following, spread = combine_members(each, obs, member, self._unit, self._reach)
        if self._model.config.context and not (believed := np.isfinite(spread)).all():
            following[~believed, : self._model.config.obs_dim] = obs[~believed, : self._model.config.obs_dim]
        return following, spread


def _stacked(bound: list[AgentDynamics]) -> SmallWeights:
    """Kernel weights of all agents: the first layer, bounds and walls are shared, the folded last layers stacked."""
    each = [one.kernel_weights() for one in bound]
    last, last_bias = (np.concatenate(parts) for parts in zip(*((w.last, w.last_bias) for w in each), strict=True))
    return each[0]._replace(last=last, last_bias=last_bias)
