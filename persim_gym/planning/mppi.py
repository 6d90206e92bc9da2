"""Model predictive path integral control."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from persim_gym.planning.base import Plan, Planner, PlanningRows, shifted, unit_box
from persim_gym.planning.scoring import best_first


@dataclass(frozen=True)
class MPPI(Planner):
    """Perturbs the last plan and averages the perturbed ones, weighted by the exponential of their returns.

    The control cost that path integrals add by themselves is left out: a task's reward already holds its own.

    Attributes:
        candidates: Sequences C an iteration; the unperturbed plan is candidate 0.
        horizon: Planning steps H.
        iterations: Rounds of drawing; one, as in the paper, by default.
        std: Standard deviation of the perturbations, in units of half the width of the action box.
        shrink: Factor of `std` from one round to the next.
        temperature: Difference of returns over which the weight falls by a factor e, in units of return.

    Source: Williams et al., Information Theoretic MPC for Model-Based Reinforcement Learning, ICRA 2017.
    """

    candidates: int = 1000
    horizon: int = 30
    iterations: int = 1
    std: float = 0.5
    shrink: float = 1.0
    temperature: float = 1.0

    def _search(self, rows: PlanningRows, action_space: Any) -> list[Plan]:
        """The weighted mean; shifted, it starts the next decision."""
        box = unit_box(action_space, "MPPI")
        starts = (None if before is None else before.start for before in rows.previous)
        idle = np.zeros((self.horizon, box.size))
        mean = np.stack([idle if start is None else shifted(start, 0.0) for start in starts])  # [E, H, A]
        for iteration in range(self.iterations):
            noise = np.stack([s.standard_normal((self.candidates, *mean.shape[1:])) for s in rows.rngs])
            noise[:, 0] = 0.0
            unit = np.clip(mean[:, None] + self.std * self.shrink**iteration * noise, -1.0, 1.0)
            for row, earned in enumerate(rows.score(box.actions(unit))):
                best = earned[best_first(earned, 1)[0]]
                weight = np.nan_to_num(np.exp((earned - best) / self.temperature))  # NaN weighs nothing.
                mean[row] = np.tensordot(weight / weight.sum(), unit[row], axes=1)
        return [Plan(action, start) for action, start in zip(box.actions(mean), mean, strict=True)]
