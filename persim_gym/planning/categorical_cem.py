"""The cross-entropy method over categorical distributions, for discrete actions."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persim_gym.planning.base import Plan, Planner, PlanningRows, discrete_space, shifted
from persim_gym.planning.scoring import best_first


@dataclass(frozen=True)
class CategoricalCEM(Planner):
    """Cross-entropy method for discrete actions: a categorical distribution a step, moved towards the elites.

    With the defaults it rolls out as many sequences as random shooting.

    Attributes:
        candidates: Sequences C an iteration, the best one so far among them.
        horizon: Planning steps H.
        iterations: Rounds of drawing.
        elites: Best sequences of a round that the distribution moves to.
        smoothing: Share of the old distribution that is kept.

    Source: Rubinstein and Kroese, The Cross-Entropy Method, 2004, section 4.
    """

    candidates: int = 200
    horizon: int = 50
    iterations: int = 5
    elites: int = 20
    smoothing: float = 0.1

    def _search(self, rows: PlanningRows, action_space: Any) -> list[Plan]:
        """The best sequence of all rounds."""
        space = discrete_space(action_space, "categorical CEM")
        chances = [np.full((self.horizon, space.n), 1.0 / space.n) for _ in rows.rngs]
        best: list[NDArray[np.int64] | None] = [
            None if before is None else shifted(before.sequence - space.start, stream.integers(space.n))
            for before, stream in zip(rows.previous, rows.rngs, strict=True)
        ]
        for _ in range(self.iterations):
            kinds = np.stack([self._draw(*row) for row in zip(chances, rows.rngs, best, strict=True)])  # [E, C, H]
            returns = rows.score(space.start + kinds)
            for row, (drawn, earned) in enumerate(zip(kinds, returns, strict=True)):
                order = best_first(earned, self.elites)
                best[row] = drawn[order[0]]
                share = (drawn[order][..., None] == np.arange(space.n)).mean(axis=0)
                chances[row] = self.smoothing * chances[row] + (1 - self.smoothing) * share
        return [Plan(space.start + sequence) for sequence in best if sequence is not None]

    def _draw(
        self, chances: NDArray[np.float64], rng: np.random.Generator, best: NDArray[np.int64] | None
    ) -> NDArray[np.int64]:
        edges = chances.cumsum(axis=-1)[:, :-1]  # The last edge is 1.
        kinds: NDArray[np.int64] = (rng.random((self.candidates, self.horizon, 1)) >= edges).sum(axis=-1)
        if best is not None:
            kinds[0] = best
        return kinds
