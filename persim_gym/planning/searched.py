"""What planners search in place of several choices at once: their combinations, or scores of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from persim_gym.actions import ActionLayout, ActionSpace
from persim_gym.history import History
from persim_gym.task import Array, Dynamics, Ends, PlanningDynamics, Task, planning_dynamics

MAX_NUMBERED_ACTIONS = 1000
"""Combinations of choices that planners number; of more they search scores."""


@dataclass(frozen=True)
class SearchedActions:
    """Actions as a planner draws them, and back.

    Attributes:
        space: What the planner draws in.
        layout: Parts of the actions where environments take several choices; None where they take what is drawn.
        table: What models see of each combination, [n, A], where these are drawn by number; None where they see what is
            drawn.
    """

    space: spaces.Discrete | spaces.Box
    layout: ActionLayout | None = None
    table: NDArray[np.float32] | None = None

    def seen(self, drawn: NDArray[Any]) -> NDArray[Any]:
        """What a model sees of drawn actions."""
        return drawn if self.table is None else self.table[drawn]

    def shown(self, drawn: NDArray[Any]) -> NDArray[Any]:
        """What an environment takes of drawn actions."""
        return drawn if self.layout is None else self.layout.decoded(self.seen(drawn))

    def task(self, task: Task) -> Task:
        """A task of drawn actions."""
        if self.table is None:
            return task
        return Task(lambda obs, drawn, next_obs: task.reward(obs, self.seen(drawn), next_obs), task.terminated)

    def dynamics(self, each: Sequence[Dynamics]) -> list[Dynamics]:
        """Dynamics of drawn actions; the same object for the same dynamics."""
        if self.table is None:
            return list(each)
        made = {id(one): _OfDrawn(planning_dynamics(one), self.table) for one in each}
        return [made[id(one)] for one in each]


def searched_actions(space: ActionSpace) -> SearchedActions:
    """What planners search of an action space."""
    if not isinstance(space, spaces.MultiDiscrete):
        return SearchedActions(space)
    layout = ActionLayout(tuple(space.nvec.tolist()))
    if layout.combinations > MAX_NUMBERED_ACTIONS:
        return SearchedActions(layout.scores(), layout)
    return SearchedActions(spaces.Discrete(layout.combinations), layout, layout.table)


class _OfDrawn(PlanningDynamics):
    """Dynamics that are given combinations of choices by number."""

    def __init__(self, inner: PlanningDynamics, table: NDArray[np.float32]) -> None:
        self.inner, self.table = inner, table
        self.members, self.fused, self.stops = inner.members, inner.fused, inner.stops
        self.concurrent, self.tile, self.memory = inner.concurrent, inner.tile, inner.memory
        self.exogenous = inner.exogenous

    def given(self, history: History) -> PlanningDynamics:
        return _OfDrawn(self.inner.given(history), self.table)

    def __call__(self, obs: Array, action: Array) -> Array:
        return self.inner(obs, self.table[action])

    def rollout(self, obs: Array, actions: Array, ends: Ends | None = None, live: Array = None) -> Array:
        return self.inner.rollout(obs, self.table[actions], ends, live)
