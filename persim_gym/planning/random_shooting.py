"""Planners of discrete actions: random shooting, and the cross-entropy method over categorical distributions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from persim_gym.planning.base import Plan, check_sizes, planning_rows, shifted
from persim_gym.planning.scoring import PLAIN, Objective, best_first
from persim_gym.task import Dynamics, Task


@dataclass(frozen=True)
class RandomShooting:
    """Draws action sequences uniformly and executes the start of the best; thesis sections 4.2.2 and A.1.

    Attributes:
        candidates: Number of sequences C, the shifted last plan among them.
        horizon: Planning steps H.
    """

    candidates: int = 1000
    horizon: int = 50

    def __post_init__(self) -> None:
        """Checks the sizes.

        Raises:
            ValueError: If one is impossible.
        """
        check_sizes(self)

    def plan(
        self,
        dynamics: Dynamics | Sequence[Dynamics],
        task: Task,
        obs: NDArray[Any],
        action_space: Any,
        rng: np.random.Generator | Sequence[np.random.Generator],
        *,
        previous: Plan | Sequence[Plan | None] | None = None,
        objective: Objective = PLAIN,
    ) -> list[Plan]:
        """Plans; arguments as `Planner.plan`. The last plan, shifted by one step, is candidate 0."""
        space = _discrete(action_space, "random shooting")
        rows = planning_rows(self.horizon, dynamics, task, obs, rng, previous, objective)
        actions = np.stack([self._draw(space, *row) for row in zip(rows.rngs, rows.previous, strict=True)])
        returns = rows.score(actions)
        return [Plan(row[best_first(r, 1)[0]]) for row, r in zip(actions, returns, strict=True)]

    def _draw(self, space: spaces.Discrete, rng: np.random.Generator, previous: Plan | None) -> NDArray[np.int64]:
        actions = space.start + rng.integers(space.n, size=(self.candidates, self.horizon))
        if previous is not None:
            actions[0] = shifted(previous.sequence, actions[0, -1])
        return actions


def _discrete(action_space: Any, planner: str) -> spaces.Discrete:
    if not isinstance(action_space, spaces.Discrete):
        raise ValueError(f"{planner} draws discrete actions, not {action_space}; plan those by CEM, ICEM or MPPI")
    return action_space
