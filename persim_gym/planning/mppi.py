"""Model predictive path integral control."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persim_gym.planning.base import Plan, check_sizes, planning_rows, shifted, unit_box
from persim_gym.planning.scoring import PLAIN, Objective, best_first
from persim_gym.task import Dynamics, Task


@dataclass(frozen=True)
class MPPI:
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
        """Plans; arguments as `Planner.plan`. The weighted mean is returned; shifted, it starts the next."""
        box = unit_box(action_space, "MPPI")
        rows = planning_rows(self.horizon, dynamics, task, obs, rng, previous, objective)
        mean = np.zeros((len(rows.rngs), self.horizon, box.size))  # [E, H, A]
        for row, before in enumerate(rows.previous):
            if before is not None and before.start is not None:
                mean[row] = shifted(before.start, 0.0)
        for iteration in range(self.iterations):
            noise = np.stack([s.standard_normal((self.candidates, *mean.shape[1:])) for s in rows.rngs])
            noise[:, 0] = 0.0
            unit = np.clip(mean[:, None] + self.std * self.shrink**iteration * noise, -1.0, 1.0)
            for row, earned in enumerate(rows.score(box.actions(unit))):
                best = earned[best_first(earned, 1)[0]]
                weight = np.nan_to_num(np.exp((earned - best) / self.temperature))  # NaN weighs nothing
                mean[row] = np.tensordot(weight / weight.sum(), unit[row], axes=1)
        return [Plan(action, start) for action, start in zip(box.actions(mean), mean, strict=True)]
