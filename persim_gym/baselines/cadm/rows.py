"""A context-aware dynamics model over the rows of an environment: each slides its own history along."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from persim_gym.baselines.cadm.dynamics import action_tensor, context_of, predicted_obs
from persim_gym.baselines.cadm.model import CadmModel
from persim_gym.history import History
from persim_gym.simulator.dynamics.batch import believable_change
from persim_gym.simulator.kernels.small_step import combine_members


class CadmRows:
    """Steps B rows by every member, each under the context of the row's last steps.

    A member predicts the mean of its Gaussian: an environment draws no noise of its own.

    Attributes:
        members: Models M.
        columns: Numbers of a prediction.
    """

    def __init__(self, model: CadmModel, rows: int) -> None:
        """Begins all rows."""
        self.members, self.columns = model.shape.members, model.shape.obs_dim
        self._model = model
        self._history = History.none(rows, model.history, model.shape.obs_dim, model.shape.action_dim)
        self._unit = model.logged_std.numpy()
        self._reach = believable_change(self._unit)

    def begin(self, rows: NDArray[np.int64]) -> None:
        """Forgets what some rows did: they start an episode."""
        self._history.forget(rows)

    @torch.no_grad()
    def step(
        self, obs: NDArray[np.float32], action: NDArray[Any], member: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Predictions, [B, D], and their spread over members, [B]; as `BatchDynamics.step`.

        Args:
            obs: [B, D].
            action: int64 [B] or float32 [B, A], inside the action space.
            member: Member that predicts each row, or `MEAN_MEMBER`, [B].
        """
        model, members = self._model, self.members
        now = torch.from_numpy(np.ascontiguousarray(obs, dtype=np.float32))
        seen = torch.cat(
            [model.scaled_inputs(now), model.scaled_action(action_tensor(action, model.shape.n_actions))], 1
        )
        predicted = model.predict(seen.expand(members, *seen.shape), context_of(model, self._history)).mean
        each = predicted_obs(model, now, predicted).transpose(1, 2).contiguous().numpy()
        following, spread = combine_members(each, obs, member, self._unit, self._reach)
        self._history = self._history.after(obs, action, following)
        return following, spread
