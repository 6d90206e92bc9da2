"""Model predictive control behind Stable-Baselines3's `predict`."""

from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from persim_gym.planning.shooting import RandomShooting
from persim_gym.task import Dynamics, PeakBonus, Task


class PlanState(NamedTuple):
    """What a row of MPC carries from one decision to the next.

    Attributes:
        plan: The last plan, [H].
        rng: The row's own random stream.
    """

    plan: NDArray[Any] | None
    rng: np.random.Generator


class MPCPolicy:
    """Replans at every step and executes the first action of the best plan.

    `predict` has Stable-Baselines3's signature, so that its `evaluate_policy` takes this policy. Pass the returned
    state back in, as for a recurrent policy: it holds the last plan, which warm-starts the next. When it is left out,
    the policy goes on from its own last call.

    Attributes:
        dynamics: Model bound to one agent, learned or true.
        task: Known reward and termination.
        action_space: Space of one action.
        planner: Draws and ranks candidates.
        bonus: Planning objective added to returns.
    """

    def __init__(
        self,
        dynamics: Dynamics,
        task: Task,
        action_space: spaces.Discrete,
        *,
        planner: RandomShooting | None = None,
        bonus: PeakBonus | None = None,
        seed: int = 0,
    ) -> None:
        """Binds a planner to one agent's dynamics.

        Args:
            dynamics: Model bound to one agent; an ensemble says its size in `members`, anything else counts as 1.
            task: Known reward and termination.
            action_space: Space of one action.
            planner: Planner; random shooting with the thesis's sizes by default.
            bonus: Planning objective, `Domain.peak_bonus` for a domain's own.
            seed: Seeds the streams of all rows: row i draws the same candidates alone and in a batch.
        """
        self.dynamics = dynamics
        self.task = task
        self.action_space = action_space
        self.planner = planner or RandomShooting()
        self.bonus = bonus
        self._members = int(getattr(dynamics, "members", 1))
        self._seed = seed
        self._last: tuple[PlanState, ...] | None = None

    def predict(
        self,
        observation: NDArray[Any],
        state: tuple[PlanState, ...] | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[Any], tuple[PlanState, ...]]:
        """Plans the next action of each row.

        Args:
            observation: [D] or [B, D].
            state: What the last call returned, or None to go on from it.
            episode_start: bool [B]; true rows forget their plan.
            deterministic: Ignored; candidates are drawn either way.

        Returns:
            Actions, [] or [B], and the state for the next call.

        Raises:
            ValueError: If an observation is not finite.
        """
        obs = np.atleast_2d(np.asarray(observation))
        if not np.isfinite(obs).all():
            raise ValueError(f"cannot plan from an observation that is not finite: {observation!r}")
        rows = state or self._last
        if rows is None or len(rows) != len(obs):
            rows = tuple(PlanState(None, np.random.default_rng([self._seed, row])) for row in range(len(obs)))
        if episode_start is not None:
            rows = tuple(
                PlanState(None, r.rng) if start else r
                for r, start in zip(rows, np.atleast_1d(episode_start), strict=True)
            )
        planned = tuple(self._plan(o, row) for o, row in zip(obs, rows, strict=True))
        self._last = planned
        actions = np.array([row.plan[0] for row in planned if row.plan is not None])
        return (actions if np.ndim(observation) > 1 else actions[0]), planned

    def reset(self) -> None:
        """Forgets the last plans and starts the random streams anew."""
        self._last = None

    def _plan(self, obs: NDArray[Any], row: PlanState) -> PlanState:
        plan = self.planner.plan(
            self.dynamics,
            self.task,
            obs,
            self.action_space,
            row.rng,
            members=self._members,
            previous=row.plan,
            bonus=self.bonus,
        )
        return PlanState(plan, row.rng)
