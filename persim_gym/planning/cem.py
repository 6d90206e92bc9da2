"""The cross-entropy method for continuous actions, as in the thesis."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persim_gym.planning.base import Plan, Planner, PlanningRows, shifted, unit_box
from persim_gym.planning.scoring import best_first


@dataclass(frozen=True)
class CEM(Planner):
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

    def _search(self, rows: PlanningRows, action_space: Any) -> list[Plan]:
        """The mean of the last elites; shifted, it starts the next decision."""
        box = unit_box(action_space, "CEM")
        starts = (None if before is None else before.start for before in rows.previous)
        idle = np.zeros((self.horizon, box.size))
        mean = np.stack([idle if start is None else shifted(start, 0.0) for start in starts])  # [E, H, A]
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
