"""The cross-entropy method for continuous actions, as in the thesis."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persim_gym.planning.base import Plan, check_sizes, planning_rows, shifted, unit_box
from persim_gym.planning.scoring import PLAIN, Objective, best_first
from persim_gym.task import Dynamics, Task


@dataclass(frozen=True)
class CEM:
    """Draws from a normal distribution cut to the box, and moves it to the elites; thesis sections 4.2.2 and A.1.

    Where the thesis is silent the defaults are those of its published code. All spreads are in units of half the
    width of the action box.

    Attributes:
        candidates: Sequences C an iteration.
        horizon: Planning steps H.
        iterations: Rounds of drawing; the published code counts them as one and five more.
        elites: Best sequences of a round that the distribution moves to.
        smoothing: Share of the old mean and standard deviation that is kept.
        first_std: Range of the standard deviation of the first round, one draw a decision.
    """

    candidates: int = 200
    horizon: int = 30
    iterations: int = 6
    elites: int = 50
    smoothing: float = 0.1
    first_std: tuple[float, float] = (0.3, 0.6)

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
        """Plans; arguments as `Planner.plan`. The mean of the last elites is returned; shifted, it starts the next."""
        box = unit_box(action_space, "CEM")
        rows = planning_rows(self.horizon, dynamics, task, obs, rng, previous, objective)
        mean = np.zeros((len(rows.rngs), self.horizon, box.size))  # [E, H, A]
        for row, before in enumerate(rows.previous):
            if before is not None and before.start is not None:
                mean[row] = shifted(before.start, 0.0)
        std = np.stack([np.full(mean.shape[1:], stream.uniform(*self.first_std)) for stream in rows.rngs])
        centre = mean
        for _ in range(self.iterations):
            unit = np.stack([_truncated(*row, self.candidates) for row in zip(mean, std, rows.rngs, strict=True)])
            returns = rows.score(box.actions(unit))
            elites = [drawn[best_first(r, self.elites)] for drawn, r in zip(unit, returns, strict=True)]
            centre = np.stack([chosen.mean(axis=0) for chosen in elites])
            spread = np.stack([chosen.std(axis=0) for chosen in elites])
            mean = self.smoothing * mean + (1 - self.smoothing) * centre
            std = self.smoothing * std + (1 - self.smoothing) * spread
        return [Plan(action, start) for action, start in zip(box.actions(centre), centre, strict=True)]


def _truncated(
    mean: NDArray[np.float64], std: NDArray[np.float64], rng: np.random.Generator, count: int
) -> NDArray[np.float64]:
    """Normal draws, [count, H, A], drawn again until they lie in [-1, 1]; `mean` lies there."""
    drawn = mean + std * rng.standard_normal((count, *mean.shape))
    outside = np.nonzero(np.abs(drawn) > 1.0)
    while len(outside[0]):
        again = mean[outside[1:]] + std[outside[1:]] * rng.standard_normal(len(outside[0]))
        drawn[outside] = again
        still = np.abs(again) > 1.0
        outside = tuple(index[still] for index in outside)
    return drawn
