"""What is known about a task: its reward, its end of episode, and its planning objective.

Everything here is a pure function of arrays that uses operators and methods only, so that the same code serves
NumPy arrays and torch tensors, one row or millions.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

Array: TypeAlias = Any
"""A NumPy array or a torch tensor of any shape."""

Dynamics: TypeAlias = Callable[[Array, Array], Array]
"""Maps (obs [..., D], action [...] or [..., A]) to next_obs [..., D], for one agent."""


class Task(NamedTuple):
    """The known reward and termination of a domain.

    Attributes:
        reward: Maps (obs [..., D], action [...] or [..., A], next_obs [..., D]) to the reward, [...].
        terminated: Maps next_obs [..., D] to whether the episode ends there, bool [...].
    """

    reward: Callable[[Array, Array, Array], Array]
    terminated: Callable[[Array], Array]


def never(next_obs: Array) -> Array:
    """Termination of a task that only its time limit ends: False, [...], but for an observation of NaN."""
    return next_obs[..., 0] != next_obs[..., 0]


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
