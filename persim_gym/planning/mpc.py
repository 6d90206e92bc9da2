"""Model predictive control behind Stable-Baselines3's `predict`."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from persim_gym.actions import ActionSpace, model_size
from persim_gym.history import History
from persim_gym.planning.base import Plan, Planner
from persim_gym.planning.cem import CEM
from persim_gym.planning.random_shooting import RandomShooting
from persim_gym.planning.scoring import Objective
from persim_gym.planning.searched import searched_actions
from persim_gym.task import Dynamics, ForeseenDynamics, PeakBonus, Task, planning_dynamics

Foresight = Callable[[int], NDArray[Any] | None]
"""Maps the number of a row to the known next values of its exogenous columns, [h, X]; None where nothing is known."""


class PlanState(NamedTuple):
    """What a row of MPC carries from one decision to the next.

    Attributes:
        plan: The last plan.
        rng: The row's own random stream.
        row: Number of the row when its stream began; says which dynamics are its own.
        obs: Observation that the last plan was made from, [D]; None before the first.
        history: What the agent did last, as it was told to dynamics that want to know; None for others.
    """

    plan: Plan | None
    rng: np.random.Generator
    row: int
    obs: NDArray[Any] | None = None
    history: History | None = None


class MPC:
    """Replans at every step and executes the first action of the best plan.

    `predict` has Stable-Baselines3's signature, so that its `evaluate_policy` takes this policy. Pass the returned
    state back in, as for a recurrent policy: it holds the last plan, which warm-starts the next. When it is left out,
    the policy goes on from its own last call, or starts afresh where that had another number of rows. Dynamics that
    want to know what the agent did last are told what was observed and chosen here since the episode started.

    Attributes:
        dynamics: Model bound to one agent, learned or true; or one for each row.
        task: Known reward and termination.
        action_space: Space of one action.
        searched: What the planner draws of it.
        planner: Draws and ranks candidates.
        objective: How members' returns become one number.
        foresight: Known next values of exogenous columns; None for plans that hold the present ones.
    """

    def __init__(
        self,
        dynamics: Dynamics | Sequence[Dynamics],
        task: Task,
        action_space: ActionSpace,
        *,
        planner: Planner | None = None,
        bonus: PeakBonus | None = None,
        pessimism: float = 0.0,
        trust: int | None = None,
        foresight: Foresight | None = None,
        seed: int = 0,
    ) -> None:
        """Binds a planner to one agent's dynamics, or to those of the agents of its rows.

        Args:
            dynamics: Model bound to one agent; see `rollout_returns`. Or one for each row of a batch; all rows, of
                different agents then, are planned in one call.
            task: Known reward and termination.
            action_space: Space of one action.
            planner: Planner; the thesis's by default: random shooting for discrete actions, CEM for continuous ones.
            bonus: Planning objective, `Domain.peak_bonus` for a domain's own.
            pessimism: See `Objective`.
            trust: See `Objective`.
            foresight: Known next values of a row's exogenous columns, such as `PersimEnv.exogenous_ahead`; None for
                plans that hold the present ones.
            seed: Seeds the streams of all rows: row i draws the same candidates alone and in a batch.
        """
        self.dynamics = dynamics
        self.task = task
        self.action_space = action_space
        self.searched = searched_actions(action_space)
        discrete = isinstance(self.searched.space, spaces.Discrete)
        self.planner: Planner = planner or (RandomShooting() if discrete else CEM())
        self.objective = Objective(bonus, pessimism, trust)
        self.foresight, self._seed = foresight, seed
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
            Actions of the action space, [] or [A], [B] or [B, A], and the state for the next call.

        Raises:
            ValueError: If an observation is not finite, or there are not as many rows of everything.
        """
        obs = np.atleast_2d(np.asarray(observation))
        if obs.ndim != 2 or not len(obs):
            raise ValueError(f"observations must be [D] or [B, D] with at least one row, got {np.shape(observation)}")
        if not np.isfinite(obs).all():
            raise ValueError(f"cannot plan from an observation that is not finite: {observation!r}")
        rows = self._rows(len(obs), state)
        if episode_start is not None:
            starts = np.atleast_1d(episode_start)
            if len(starts) != len(obs):
                raise ValueError(f"{len(starts)} episode_start for {len(obs)} observations; give one a row")
            rows = tuple(PlanState(None, r.rng, r.row) if start else r for r, start in zip(rows, starts, strict=True))
        models = [self.dynamics[r.row] if isinstance(self.dynamics, Sequence) else self.dynamics for r in rows]
        rows = tuple(self._observed(*each) for each in zip(rows, obs, models, strict=True))
        plans = self.planner.plan(
            self.searched.dynamics([self._foreseen(r, _told(r, model)) for r, model in zip(rows, models, strict=True)]),
            self.searched.task(self.task),
            obs,
            self.searched.space,
            [r.rng for r in rows],
            previous=[r.plan for r in rows],
            objective=self.objective,
        )
        self._last = tuple(r._replace(plan=plan) for r, plan in zip(rows, plans, strict=True))
        actions = self.searched.shown(np.stack([plan.sequence[0] for plan in plans]))
        return (actions if np.ndim(observation) > 1 else actions[0]), self._last

    def _foreseen(self, row: PlanState, dynamics: Dynamics) -> Dynamics:
        """Dynamics that know what comes from outside, as far as that is known."""
        known = planning_dynamics(dynamics)
        if self.foresight is None or not known.exogenous:
            return dynamics
        ahead = self.foresight(row.row)
        return dynamics if ahead is None or not len(ahead) else ForeseenDynamics(known, ahead)

    def _observed(self, row: PlanState, obs: NDArray[Any], dynamics: Dynamics) -> PlanState:
        """A row once its agent is observed, [D]."""
        history, memory = row.history, planning_dynamics(dynamics).memory
        if not memory:
            return row
        if history is None:
            history = History.none(1, memory, len(obs), model_size(self.action_space))
        elif row.plan is not None and row.obs is not None:
            history = history.after(row.obs[None], self.searched.seen(row.plan.sequence[:1]), obs[None])
        return row._replace(obs=obs, history=history)

    def _rows(self, count: int, state: tuple[PlanState, ...] | None) -> tuple[PlanState, ...]:
        """What each row goes on from."""
        if state is not None:
            if len(state) != count:
                raise ValueError(
                    f"a state of {len(state)} rows for {count} observations; pass on the entries of the rows that go on"
                )
            return state
        if self._last is not None and len(self._last) == count:
            return self._last
        if isinstance(self.dynamics, Sequence) and len(self.dynamics) != count:
            raise ValueError(
                f"{len(self.dynamics)} dynamics for {count} observations: begin with one observation for each, then "
                "pass on the state of the rows that go on"
            )
        return tuple(PlanState(None, np.random.default_rng([self._seed, row]), row) for row in range(count))

    def reset(self) -> None:
        """Forgets the last plans and starts the random streams anew."""
        self._last = None


def _told(row: PlanState, dynamics: Dynamics) -> Dynamics:
    """Dynamics that know what a row's agent did last, where they want to."""
    return dynamics if row.history is None else planning_dynamics(dynamics).given(row.history)
