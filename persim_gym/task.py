"""What is known about a task: its reward, its end of episode, and its planning objective.

Everything here is a pure function of arrays that uses operators and methods only, so that the same code serves
NumPy arrays and torch tensors, one row or millions.
"""

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from persim_gym.history import History

Array: TypeAlias = Any
"""A NumPy array or a torch tensor of any shape."""

Dynamics: TypeAlias = Callable[[Array, Array], Array]
"""Maps (obs [..., D], action [...] or [..., A]) to next_obs [..., D], for one agent."""


class Task(NamedTuple):
    """The known reward and termination of a domain.

    Attributes:
        reward: Maps (obs [..., D], action [...] or [..., A], next_obs [..., D]) to the reward, [...].
        terminated: Maps next_obs [..., D] to whether the episode ends there, bool [...]. Best an `Ends`, where the
            rule is one.
    """

    reward: Callable[[Array, Array, Array], Array]
    terminated: Callable[[Array], Array]


def never(next_obs: Array) -> Array:
    """Termination of a task that only its time limit ends: False, [...], but for an observation of NaN."""
    return next_obs[..., 0] != next_obs[..., 0]


SENSES: dict[str, Callable[[Array, float], Array]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class Ends:
    """A termination told by comparisons of the next observation, which compiled rollouts can therefore apply.

    No comparison holds of NaN: "any" and "all" do not end there, "not all" does.

    Attributes:
        where: The episode ends where "any" comparison holds, where "all" of them do, or where "not all" do.
        comparisons: Component of the observation, or a range of them, each of which is compared; one of <, <=, > and
            >=; a number. Such as `(0, ">=", 0.5)`.
    """

    where: Literal["any", "all", "not all"]
    comparisons: tuple[tuple[int | range, str, float], ...]

    def __post_init__(self) -> None:
        """Checks the rule.

        Raises:
            ValueError: If it is not one.
        """
        try:
            plain = tuple(_comparison(*comparison) for comparison in self.comparisons)
            known = self.where in ("any", "all", "not all") and len(plain) > 0
        except (TypeError, ValueError, OverflowError):
            known = False
        if not known:
            raise ValueError(
                f'{self.where!r} of {self.comparisons!r} is no end; write "any", "all" or "not all" of comparisons '
                'such as ((0, ">=", 0.5), (range(2, 11), "<", 100.0)), components counted from 0'
            )
        object.__setattr__(self, "comparisons", plain)

    @property
    def each(self) -> list[tuple[int, str, float]]:
        """The comparisons of single components."""
        return [
            (component, sense, number)
            for of, sense, number in self.comparisons
            for component in (of if isinstance(of, range) else (of,))
        ]

    def __call__(self, next_obs: Array) -> Array:
        """Whether the episode ends at next_obs [..., D], bool [...].

        Raises:
            ValueError: If it compares a range of components that are not all there; IndexError for a single one.
        """
        found = reduce(operator.or_ if self.where == "any" else operator.and_, self._holding(next_obs))
        return ~found if self.where == "not all" else found

    def _holding(self, next_obs: Array) -> Iterator[Array]:
        """Whether each comparison holds, of a range any or all of its components, bool [...]."""
        for of, sense, number in self.comparisons:
            if isinstance(of, range):
                if of.stop > next_obs.shape[-1]:  # A slice would not mind.
                    raise ValueError(f"{self} compares more components than the {next_obs.shape[-1]} of observations")
                holds = SENSES[sense](next_obs[..., of.start : of.stop], number)
                yield holds.any(-1) if self.where == "any" else holds.all(-1)
            else:
                yield SENSES[sense](next_obs[..., of], number)


def _comparison(of: Any, sense: Any, number: Any) -> tuple[int | range, str, float]:
    """A comparison with Python's own numbers, which take the precision of whatever array they are compared with.

    Raises:
        ValueError: If it is none, or TypeError.
    """
    span = isinstance(of, range)
    least = of.start if span else operator.index(of)
    if isinstance(of, bool) or isinstance(number, str) or least < 0 or (span and (of.step != 1 or not of)):
        raise ValueError
    if sense not in SENSES or math.isnan(number):
        raise ValueError
    return of if span else int(least), sense, float(number)


class PeakBonus(NamedTuple):
    """A planning objective added to the return of a candidate; never part of the task's reward.

    A candidate of H steps earns `weight * H * max_t feature(next_obs_t)` on top of its return, so that a planner whose
    horizon does not reach the reward still prefers candidates that come closer to it.

    Attributes:
        weight: Bonus a horizon step and unit of the feature.
        feature: Maps next_obs [..., D] to the quantity whose largest value counts, [...].

    Source: the published PerSim code, MountainCar; the thesis does not mention it.
    """

    weight: float
    feature: Callable[[Array], Array]


class PlanningDynamics:
    """A `Dynamics` of one agent that says what planners may ask of it; subclasses state what differs from the defaults.

    Attributes:
        members: Ensemble size M.
        fused: Whether it has a `rollout`, which takes many steps at once; it is called step by step otherwise.
        stops: Whether `rollout` is best told where episodes end.
        concurrent: Whether it may be called from several threads at once; then so may the functions of the task.
        tile: Rows that it is best given at once; None for what suits a processor's cache.
        memory: Last steps of the agent that it wants to be told, see `given`; 0 for none.
        exogenous: Columns of observations whose next values it does not predict but hold.
    """

    members: int = 1
    fused: bool = False
    stops: bool = False
    concurrent: bool = False
    tile: int | None = None
    memory: int = 0
    exogenous: Sequence[int] = ()

    def given(self, history: History) -> "PlanningDynamics":
        """The dynamics of an agent that has just done this: themselves where its number says all.

        Args:
            history: Of one episode, whose dynamics then serve any rows, or of each of B rows.
        """
        return self

    def __call__(self, obs: Array, action: Array) -> Array:
        """Next observations, [M, B, D], of obs [M, B, D] and actions [B] or [B, A], the same for all members."""
        raise NotImplementedError

    def rollout(self, obs: Array, actions: Array, ends: Ends | None = None, live: Array = None) -> Array:
        """Observations that follow h actions, as h calls one after the other, but faster; only where it is `fused`.

        Args:
            obs: [M, B, D].
            actions: [B, h] or [B, h, A]; the same for all members.
            ends: Where the episode ends. A member moves a row that has ended no further: where it ended is repeated.
            live: Which rows a member moves at all, bool [M, B]; None for all of them.

        Returns:
            [M, B, h, D]; of rows that are not moved at all, any finite number.
        """
        raise NotImplementedError


class ForeseenDynamics(PlanningDynamics):
    """Dynamics whose exogenous columns follow a known series; behind its end they hold their last value.

    A column behind those of `dynamics` counts the steps, so that what comes out can go in again as it is.
    """

    def __init__(self, dynamics: PlanningDynamics, ahead: Array) -> None:
        """Puts a series in.

        Args:
            dynamics: Of one agent.
            ahead: Values of its exogenous columns, from the next step on, [h, X] with h >= 1.
        """
        self.members, self.concurrent, self.tile = dynamics.members, dynamics.concurrent, dynamics.tile
        self._dynamics, self._ahead, self._width = dynamics, ahead, 0

    def __call__(self, obs: Array, action: Array) -> Array:
        """Next observations, [M, B, D + E + 1], of obs [M, B, D] or of what came out before."""
        counted = self._width and obs.shape[-1] == self._width
        step = int(obs[0, 0, -1]) if counted else 0
        following = np.asarray(self._dynamics(obs[..., :-1] if counted else obs, action))
        following[..., list(self._dynamics.exogenous)] = self._ahead[min(step, len(self._ahead) - 1)]
        self._width = following.shape[-1] + 1
        return np.concatenate([following, np.full_like(following[..., :1], step + 1)], axis=-1)


@dataclass(frozen=True)
class FunctionDynamics(PlanningDynamics):
    """A plain function as dynamics that planners may ask.

    Attributes:
        function: Maps ([M, B, D], [B] or [B, A]) to [M, B, D].
        members: Ensemble size M.
    """

    function: Dynamics
    members: int = 1

    def __call__(self, obs: Array, action: Array) -> Array:
        """Next observations, [M, B, D]."""
        return self.function(obs, action)


def planning_dynamics(dynamics: Dynamics) -> PlanningDynamics:
    """The dynamics themselves where planners may ask them; else wrapped, as those of one member."""
    return dynamics if isinstance(dynamics, PlanningDynamics) else FunctionDynamics(dynamics)
