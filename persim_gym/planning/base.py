"""What planners have in common: plans, rows of observations, and actions between -1 and 1."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from persim_gym.actions import ActionLayout, layout_of
from persim_gym.planning.scoring import PLAIN, Objective, rollout_returns
from persim_gym.task import Dynamics, Task


class Plan(NamedTuple):
    """A planner's decision, and what it starts its next one from.

    Attributes:
        sequence: Actions, int64 [H] or float32 [H, A]; the first is to be executed.
        start: What warm-starts the next decision, in the planner's own units; None if that is the sequence.
        elites: Sequences that the next decision considers again, in the planner's own units, [K, H, A].
    """

    sequence: NDArray[Any]
    start: NDArray[Any] | None = None
    elites: NDArray[Any] | None = None


class PlanningRows(NamedTuple):
    """What a planner searches for, row by row.

    Attributes:
        score: Maps candidates [E, C, H] or [E, C, H, A] to returns [E, C].
        rngs: Random stream of each row, E.
        previous: The plan before, of each row, E.
    """

    score: Callable[[NDArray[Any]], NDArray[np.float64]]
    rngs: tuple[np.random.Generator, ...]
    previous: tuple[Plan | None, ...]


@dataclass(frozen=True)
class Planner(ABC):
    """Chooses action sequences; each planner is a frozen dataclass that adds how it searches.

    Attributes:
        candidates: Sequences C.
        horizon: Planning steps H.
    """

    candidates: int
    horizon: int

    def __post_init__(self) -> None:
        """Checks the fields that planners have in common.

        Raises:
            ValueError: If one is impossible.
        """
        sizes, kind = vars(self), type(self).__name__
        for name in ("candidates", "horizon", "iterations", "elites"):
            if sizes.get(name, 1) < 1:
                raise ValueError(f"{kind} needs at least one of {name}, got {sizes[name]}")
        if sizes.get("elites", 1) > self.candidates:
            raise ValueError(
                f"{kind} cannot choose {sizes['elites']} elites of {self.candidates} candidates; take fewer elites or "
                "more candidates"
            )
        if not 0 <= sizes.get("smoothing", 0) < 1:
            raise ValueError(f"{kind} needs a smoothing from 0 to less than 1, got {sizes['smoothing']}")
        for name in ("decay", "shrink", "temperature"):
            if not 0 < sizes.get(name, 1) < np.inf:
                raise ValueError(f"{kind} needs a positive {name}, got {sizes[name]}")

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
        """Plans from one observation or from several at once.

        Args:
            dynamics: Model bound to one agent, or one for each observation; see `rollout_returns`.
            task: Known reward and termination.
            obs: Current observations, [E, D], or one, [D].
            action_space: Space of one action.
            rng: Source of candidates; one for each observation, so that a row planned alone or among others draws the
                same candidates.
            previous: The plan of the decision before, or one for each observation; None to start afresh.
            objective: How members' returns become one number.

        Returns:
            A plan for each observation.

        Raises:
            ValueError: If the planner cannot draw such actions, a previous plan has another horizon, or no candidate
                has a finite return.
        """
        obs = np.atleast_2d(obs)
        rngs = (rng,) if isinstance(rng, np.random.Generator) else tuple(rng)
        before = (previous,) * len(obs) if previous is None or isinstance(previous, Plan) else tuple(previous)
        if not len(obs) == len(rngs) == len(before):
            raise ValueError(
                f"{len(obs)} observations, {len(rngs)} random streams and {len(before)} plans: give one a row"
            )
        for plan in before:
            if plan is not None and len(plan.sequence) != self.horizon:
                raise ValueError(
                    f"the previous plan has {len(plan.sequence)} steps, this planner's have {self.horizon}; leave it "
                    "out"
                )
        score = partial(rollout_returns, dynamics, task, obs, objective=objective)
        return self._search(PlanningRows(score, rngs, before), action_space)

    @abstractmethod
    def _search(self, rows: PlanningRows, action_space: Any) -> list[Plan]:
        """Draws candidates, scores them and chooses a plan for each row."""


def shifted(sequence: NDArray[Any], last: Any) -> NDArray[Any]:
    """The sequence one step later, [..., H, A] or [H]; `last` is its new last action."""
    axis = 0 if sequence.ndim == 1 else -2
    moved = np.roll(sequence, -1, axis=axis)
    if axis == 0:
        moved[-1] = last
    else:
        moved[..., -1, :] = last
    return moved


class UnitBox(NamedTuple):
    """A bounded box of actions, and the units from -1 to 1 that continuous planners draw in.

    Attributes:
        middle: [A].
        half: Half of the width, [A].
        low: Smallest float32 inside, [A].
        high: Largest float32 inside, [A].
        layout: Parts that are scores of choices; None where all are amounts.
    """

    middle: NDArray[np.float64]
    half: NDArray[np.float64]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    layout: ActionLayout | None = None

    @property
    def size(self) -> int:
        """A."""
        return len(self.middle)

    def actions(self, unit: NDArray[np.float64]) -> NDArray[np.float32]:
        """Actions of unit actions, float32, same shape."""
        rounded = (self.middle + self.half * unit).astype(np.float32)
        inside = np.clip(rounded, self.low, self.high, out=rounded)
        return inside if self.layout is None else self.layout.settled(inside)


def discrete_space(action_space: Any, planner: str) -> spaces.Discrete:
    """The space of discrete actions.

    Raises:
        ValueError: If it is none.
    """
    if not isinstance(action_space, spaces.Discrete):
        raise ValueError(f"{planner} draws discrete actions, not {action_space}; plan those by CEM, ICEM or MPPI")
    return action_space


def unit_box(action_space: Any, planner: str) -> UnitBox:
    """The units of an action space.

    Raises:
        ValueError: If it is not a bounded box, [A].
    """
    if not isinstance(action_space, spaces.Box) or len(action_space.shape) != 1 or not action_space.is_bounded():
        raise ValueError(
            f"{planner} draws actions from a bounded Box of shape (A,), not from {action_space}; give a Box its "
            "bounds, and plan discrete actions by RandomShooting or CategoricalCEM"
        )
    low, high = action_space.low.astype(np.float64), action_space.high.astype(np.float64)
    return UnitBox((low + high) / 2, (high - low) / 2, _inside(low, 1), _inside(high, -1), layout_of(action_space))


def _inside(bound: NDArray[np.float64], direction: int) -> NDArray[np.float32]:
    """The float32 next to a bound, above it (direction 1) or below it (-1)."""
    near = bound.astype(np.float32)
    return np.where((near - bound) * direction < 0, np.nextafter(near, np.float32(direction * np.inf)), near)
