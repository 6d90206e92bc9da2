"""Random shooting for discrete actions."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from persim_gym.planning.rollout import best_candidate, rollout_returns
from persim_gym.task import Dynamics, PeakBonus, Task


@dataclass(frozen=True)
class RandomShooting:
    """Draws action sequences uniformly and executes the start of the best; thesis sections 4.2.2 and A.1.

    Attributes:
        candidates: Number of sequences C, the shifted last plan among them.
        horizon: Planning steps H.
    """

    candidates: int = 1000
    horizon: int = 50

    def plan(
        self,
        dynamics: Dynamics,
        task: Task,
        obs: NDArray[Any],
        action_space: spaces.Discrete,
        rng: np.random.Generator,
        *,
        members: int,
        previous: NDArray[np.int64] | None = None,
        bonus: PeakBonus | None = None,
    ) -> NDArray[np.int64]:
        """Plans from one observation.

        Args:
            dynamics: Model bound to one agent.
            task: Known reward and termination.
            obs: Current observation, [D].
            action_space: Discrete actions.
            rng: Source of candidates.
            members: Ensemble size M; 1 for the true environment.
            previous: The plan of the decision before, [H]; shifted by one step it is candidate 0.
            bonus: Planning objective added to the return.

        Returns:
            The best sequence, int64 [H]; execute its first action.

        Raises:
            ValueError: If actions are not discrete, or no candidate has a finite return.
        """
        if not isinstance(action_space, spaces.Discrete):
            raise ValueError(f"random shooting draws discrete actions, not {action_space}")
        actions = action_space.start + rng.integers(action_space.n, size=(self.candidates, self.horizon))
        if previous is not None:
            actions[0, :-1] = previous[1:]
        returns = rollout_returns(dynamics, task, obs, actions, members, bonus)
        return actions[best_candidate(returns)]  # type: ignore[no-any-return]
