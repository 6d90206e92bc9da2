"""Policies act in the true environment: the one loop behind returns, prediction errors, films and logged data."""

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from persim_gym.actions import ActionSpace
from persim_gym.envs import Domain
from persim_gym.envs.domain import Physics
from persim_gym.envs.spaces import random_actions
from persim_gym.observation_layout import ObservationLayout, action_components


class Policy(Protocol):
    """Anything with Stable-Baselines3's `predict`: its algorithms, `MPC`, `PolicyNetwork`."""

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[Any, Any]:
        """Actions of a batch of observations, [B, D], and the state for the next call."""


class RandomPolicy:
    """Uniformly random actions; the floor that every policy is measured against."""

    def __init__(self, action_space: ActionSpace, seed: int | np.random.Generator = 0) -> None:
        """Draws from one stream, given or seeded by `seed`."""
        self.action_space = action_space
        self._rng = np.random.default_rng(seed)

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Any, Any]:
        """Random actions, one a row of [B, D], or one for [D]."""
        actions = random_actions(self.action_space, self._rng, len(np.atleast_2d(observation)))
        return (actions if np.ndim(observation) > 1 else actions[0]), None


class RowMemory(NamedTuple):
    """What `WithPast` carries of one row.

    Attributes:
        own: The policy's own state of the row; None where it has none.
        obs: Whole observation that it saw last, [D].
        action: What it did then.
    """

    own: Any
    obs: NDArray[np.float32]
    action: NDArray[Any]


class WithPast:
    """A policy of observations that hold their past, in an environment that shows the present alone.

    It remembers what it saw and did since the episode began; where that is nothing, see `ObservationLayout.begin`.
    """

    def __init__(self, policy: Policy, layout: ObservationLayout, n_actions: int) -> None:
        """Wraps a policy.

        Args:
            policy: Takes whole observations.
            layout: What these hold.
            n_actions: Number of discrete actions; 0 for continuous ones.
        """
        self.policy, self._layout, self._n_actions = policy, layout, n_actions
        self._last: tuple[RowMemory, ...] | None = None

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Any, Any]:
        """Actions of what is observed now, [B, P] or [P], and the state for the next call.

        Raises:
            ValueError: If the state of the policy is not one of rows.
        """
        present = np.atleast_2d(np.asarray(observation, dtype=np.float32))
        rows = self._last if state is None and self._last and len(self._last) == len(present) else state
        begun = np.zeros(len(present), dtype=np.bool_) if episode_start is None else np.atleast_1d(episode_start)
        wide, own = self._layout.begin(present), None
        if rows is not None:
            before = np.stack([row.obs for row in rows])
            taken = action_components(np.stack([row.action for row in rows]), self._n_actions)
            wide = np.where(begun[:, None], wide, self._layout.after(before, taken, present))
            own = tuple(row.own for row in rows) if rows[0].own is not None else None
        action, own = self.policy.predict(wide, own, begun if rows is not None else episode_start, deterministic)
        if own is not None and not isinstance(own, tuple):
            raise ValueError(f"a policy with a state of {type(own).__name__} cannot be given a past; it takes a tuple")
        each = [None] * len(wide) if own is None else own
        self._last = tuple(RowMemory(*row) for row in zip(each, wide, action, strict=True))
        return (action if np.ndim(observation) > 1 else action[0]), self._last


class Step(NamedTuple):
    """One step of a batch in the true environment.

    Attributes:
        rows: Numbers of the rows that took it, int64 [B].
        obs: Observations before it, float64 [B, D]; policies see them as float32.
        action: int64 [B] or float32 [B, A].
        next_obs: Observations after it, float64 [B, D].
        terminated: Whether the task ends there, bool [B].
    """

    rows: NDArray[np.int64]
    obs: NDArray[np.float64]
    action: NDArray[Any]
    next_obs: NDArray[np.float64]
    terminated: NDArray[np.bool_]


def act(
    policy: Policy,
    domain: Domain,
    physics: Physics,
    state: NDArray[np.float64],
    steps: int,
    *,
    drop_finished: bool = False,
) -> Iterator[Step]:
    """Lets a policy act in the true environment, all rows in step.

    Args:
        policy: Chooses actions.
        domain: The domain.
        physics: The domain's, of the agents' covariates.
        state: Initial full physical states, [B, S].
        steps: Number of steps, whether or not episodes end before.
        drop_finished: Whether rows that have terminated take no more steps, and the last of them ends all. Else the
            physics goes on behind the end.
    """
    rows, started, memory = np.arange(len(state)), np.ones(len(state), dtype=np.bool_), None
    obs = domain.observe(state)
    for _ in range(steps):
        action, memory = policy.predict(obs.astype(np.float32), state=memory, episode_start=started, deterministic=True)
        state = physics(state, action)
        next_obs = domain.observe(state)
        terminated = np.asarray(domain.task.terminated(next_obs))
        yield Step(rows, obs, action, next_obs, terminated)
        if drop_finished and terminated.any():
            rows, state, memory = rows[~terminated], state[~terminated], select_rows(memory, ~terminated)
            if not len(rows):
                return
            next_obs = domain.observe(state)
        obs, started = next_obs, np.zeros(len(rows), dtype=np.bool_)


def select_rows(memory: Any, keep: NDArray[np.bool_]) -> Any:
    """The rows of a policy's state that go on: tuples hold one entry a row, arrays one row a row."""
    if memory is None:
        return None
    if isinstance(memory, tuple):
        return tuple(row for row, kept in zip(memory, keep, strict=True) if kept)
    return memory[keep]
