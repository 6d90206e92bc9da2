"""Random shooting, for discrete actions."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from persim_gym.planning.base import Plan, Planner, PlanningRows, discrete_space, shifted
from persim_gym.planning.scoring import best_first


@dataclass(frozen=True)
class RandomShooting(Planner):
    """Draws action sequences uniformly and executes the start of the best; thesis sections 4.2.2 and A.1.

    Attributes:
        candidates: Number of sequences C, the shifted last plan among them.
        horizon: Planning steps H.
    """

    candidates: int = 1000
    horizon: int = 50

    def _search(self, rows: PlanningRows, action_space: Any) -> list[Plan]:
        """The best of all sequences; the last plan, shifted by one step, is candidate 0."""
        space = discrete_space(action_space, "random shooting")
        actions = np.stack([self._draw(space, *row) for row in zip(rows.rngs, rows.previous, strict=True)])
        return [Plan(row[best_first(r, 1)[0]]) for row, r in zip(actions, rows.score(actions), strict=True)]

    def _draw(self, space: spaces.Discrete, rng: np.random.Generator, previous: Plan | None) -> NDArray[np.int64]:
        actions = space.start + rng.integers(space.n, size=(self.candidates, self.horizon))
        if previous is not None:
            actions[0] = shifted(previous.sequence, actions[0, -1])
        return actions
