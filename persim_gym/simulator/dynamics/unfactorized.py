"""The unfactorized variant bound to one agent."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from persim_gym.simulator.dynamics.agent import checked_discrete
from persim_gym.simulator.model.ensemble import FactoredEnsemble
from persim_gym.simulator.model.walls import walls_of
from persim_gym.task import PlanningDynamics


class PerceptronDynamics(PlanningDynamics):
    """Dynamics of one agent of the unfactorized variant; as `AgentDynamics`, NumPy or torch in and out."""

    def __init__(self, model: FactoredEnsemble, agent: int) -> None:
        """Binds a model to an agent."""
        self.members, self.exogenous = model.config.members, model.config.held
        self._model, self._walls = model, walls_of(model.walls)
        with torch.no_grad():
            self._factor = model.agent_encoder(torch.tensor([agent], device=model.obs_mean.device))  # [M, 1, R]

    @torch.no_grad()
    def __call__(self, obs: Any, action: Any) -> Any:
        """Next observations, [M, C, D + E]; [M, D + E] of a single one.

        Args:
            obs: [M, C, D], or [C, D] or [D] for all members the same; columns past D are ignored.
            action: int64 [C] or float32 [C, A], or of a single observation [] or [A]; the same for all members.

        Raises:
            ValueError: If a discrete action is not one of the model's.
        """
        if np.ndim(obs) == 1:
            alone = action if isinstance(action, Tensor) else np.asarray(action)
            return self(obs[None] if isinstance(obs, Tensor) else np.asarray(obs)[None], alone[None])[:, 0]
        if isinstance(obs, Tensor):
            return self._model.predict_with(self._factor, obs, action, self._walls)
        n_actions, device = self._model.config.n_actions, self._factor.device
        if n_actions:
            action = checked_discrete(action, np.shape(obs)[-2], n_actions)
        now = torch.tensor(np.asarray(obs), dtype=torch.float32, device=device)
        action = torch.as_tensor(action, dtype=torch.int64 if n_actions else torch.float32, device=device)
        following = self._model.predict_with(self._factor, now, action, self._walls)
        result: NDArray[np.float32] = following.cpu().numpy()
        return result
