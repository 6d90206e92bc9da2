"""Returns of candidate action sequences: the hot path of every planner."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persim_gym.parallel import run_each
from persim_gym.task import Dynamics, Ends, PeakBonus, PlanningDynamics, Task, never, planning_dynamics

TILE_ROWS = 1024
"""Rows rolled out together where the dynamics do not say; larger tiles fall out of a core's cache."""
ROLLOUT_STEPS = 10
"""Steps that a fused rollout takes at once where it does not stop: rows that finish are moved to the last of them."""
STOPPING_ROLLOUT_STEPS = 20
"""Steps that a fused rollout takes at once where it stops rows itself, or nothing ends."""


@dataclass(frozen=True)
class Objective:
    """How the members' returns become one number a candidate.

    Attributes:
        bonus: Planning objective added to every member's return.
        pessimism: Standard deviations over members that are subtracted from their mean: a lower confidence bound.
            0, the thesis's plain mean, by default.
        trust: Steps that predictions are trusted for; candidates are compared over no more. None for their length.
    """

    bonus: PeakBonus | None = None
    pessimism: float = 0.0
    trust: int | None = None

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            ValueError: If one is impossible.
        """
        whole = self.trust is None or (isinstance(self.trust, int | np.integer) and self.trust >= 1)
        if not (0 <= self.pessimism < np.inf and whole):
            raise ValueError(
                f"pessimism must not be negative and trust at least one step, got {self.pessimism} and {self.trust}; "
                "leave them out for the plain mean over the whole horizon"
            )


PLAIN = Objective()


def rollout_returns(
    dynamics: Dynamics | Sequence[Dynamics],
    task: Task,
    obs: NDArray[Any],
    actions: NDArray[Any],
    objective: Objective = PLAIN,
) -> NDArray[np.float64]:
    """Mean return over ensemble members of each candidate action sequence.

    Each member rolls out its own trajectory; the terminating transition's reward counts, rewards after it do not.
    A candidate that every member has finished is dropped at once; by fused rollouts that stop a member at a time, by
    others every `ROLLOUT_STEPS` steps.

    Args:
        dynamics: Model bound to one agent, or one for each of the E observations: a `PlanningDynamics`, or a function
            that maps ([1, B, D], [B, ...]) to [1, B, D].
        task: Known reward and termination.
        obs: Current observation, [D] or [E, D], in the units of the domain's table.
        actions: Candidate sequences, [C, H] (discrete) or [C, H, A]; [E, C, H] or [E, C, H, A].
        objective: How members' returns become one number.

    Returns:
        Undiscounted return of each candidate, [C] or [E, C]; NaN where a prediction or a reward was not finite.

    Raises:
        ValueError: If the numbers of observations, candidates and dynamics do not match.

    Source: thesis section 4.2.2, r^(i).
    """
    if obs.ndim == 1:
        return rollout_returns(dynamics, task, obs[None], actions[None], objective)[0]  # type: ignore[no-any-return]
    if obs.ndim != 2 or len(obs) != len(actions):
        raise ValueError(f"obs must be [D] or [E, D] with candidates for each, got {obs.shape} and {actions.shape}")
    count, candidates = actions.shape[:2]
    flat = actions[:, :, : objective.trust].reshape(count * candidates, -1, *actions.shape[3:])
    returns = np.empty(len(flat))

    def score(tile: tuple[PlanningDynamics, NDArray[np.int64]]) -> None:
        model, rows = tile
        returns[rows] = _tile_returns(model, task, obs[rows // candidates], flat[rows], objective)

    tiles = _row_tiles(dynamics, count, candidates)
    if all(model.concurrent for model, _ in tiles):
        run_each(score, tiles)
    else:
        for tile in tiles:
            score(tile)
    return returns.reshape(count, candidates)


def _row_tiles(
    dynamics: Dynamics | Sequence[Dynamics], count: int, candidates: int
) -> list[tuple[PlanningDynamics, NDArray[np.int64]]]:
    """Each different dynamics with rows that it moves at once, of the E * C candidates of all episodes."""
    if not isinstance(dynamics, Sequence):
        dynamics = [dynamics] * count
    if len(dynamics) != count:
        raise ValueError(f"{len(dynamics)} dynamics for {count} observations; give one, or one an observation")
    episodes: dict[int, list[int]] = {}
    for episode, each in enumerate(dynamics):
        episodes.setdefault(id(each), []).append(episode)
    tiles = []
    for own in episodes.values():
        model = planning_dynamics(dynamics[own[0]])
        size = TILE_ROWS if model.tile is None else model.tile
        if size < 1:
            raise ValueError(f"dynamics say tile={size}; it must be a whole number of rows, at least 1, or None")
        rows = (candidates * np.array(own)[:, None] + np.arange(candidates)).reshape(-1)
        tiles += [(model, rows[i : i + size]) for i in range(0, len(rows), size)]
    return tiles


@np.errstate(over="ignore", invalid="ignore")  # What is not finite ranks last.
def _tile_returns(
    dynamics: PlanningDynamics, task: Task, obs: NDArray[Any], actions: NDArray[Any], objective: Objective
) -> NDArray[np.float64]:
    """Returns of B rows, each with a start of its own, [B]."""
    members, (rows, horizon), bonus = dynamics.members, actions.shape[:2], objective.bonus
    totals = np.zeros((1 if bonus is None else 2, members, rows))  # Sums of rewards; the highest features.
    running = np.arange(rows)  # Rows that everything below still holds.
    now = np.broadcast_to(obs, (members, *obs.shape))
    total = totals.copy()
    total[1:] = -np.inf
    live = np.ones((members, rows), dtype=np.bool_)
    span = _steps_at_once(dynamics, task)
    for start in range(0, horizon, span):
        part = actions[running, start : start + span]
        ahead = _observations_ahead(dynamics, task, now, part, live)
        now = _add_rewards(task, bonus, now, part, ahead, total, live)
        some = live.any(axis=0)
        if not some.all():
            gone, kept = np.flatnonzero(~some), np.flatnonzero(some)
            totals[..., running[gone]] = total[..., gone]
            running, now = running[kept], now.take(kept, axis=1)
            total, live = total.take(kept, axis=2), live.take(kept, axis=1)
            if not len(running):
                break
    totals[..., running] = total
    if bonus is not None:
        totals[0] += bonus.weight * horizon * totals[1]
    worth: NDArray[np.float64] = totals[0].mean(axis=0)
    if objective.pessimism:
        worth -= objective.pessimism * totals[0].std(axis=0)
    worth[~np.isfinite(worth)] = np.nan
    return worth


def _steps_at_once(dynamics: PlanningDynamics, task: Task) -> int:
    """Steps that dynamics are asked for at once."""
    if not dynamics.fused:
        return 1
    told = task.terminated is never or isinstance(task.terminated, Ends)
    return STOPPING_ROLLOUT_STEPS if dynamics.stops and told else ROLLOUT_STEPS


def _observations_ahead(
    dynamics: PlanningDynamics, task: Task, now: NDArray[Any], actions: NDArray[Any], live: NDArray[np.bool_]
) -> NDArray[Any]:
    """Observations that follow the h actions of each row, [M, B, h, D]."""
    if not dynamics.fused:
        ahead: NDArray[Any] = dynamics(now, actions[:, 0])[..., None, :]
    elif not dynamics.stops or task.terminated is never:
        ahead = dynamics.rollout(now, actions)
    else:
        ahead = dynamics.rollout(now, actions, task.terminated if isinstance(task.terminated, Ends) else None, live)
    if ahead.shape[:2] != now.shape[:2]:
        raise ValueError(
            f"dynamics of {len(now)} members made {ahead.shape[:2]} of observations {now.shape[:2]}; they must say "
            "their number of members: derive them from persim_gym.task.PlanningDynamics, or wrap them in "
            "FunctionDynamics(function, members)"
        )
    return ahead


def _add_rewards(
    task: Task,
    bonus: PeakBonus | None,
    now: NDArray[Any],
    actions: NDArray[Any],
    ahead: NDArray[Any],
    total: NDArray[np.float64],
    live: NDArray[np.bool_],
) -> NDArray[Any]:
    """Adds what h steps pay to `total`, and takes members that end out of `live`; both change in place.

    Returns:
        Observations after the last step that counts, [M, B, D].
    """
    finite = bool(np.isfinite(ahead).all())
    for t in range(actions.shape[1]):
        following = ahead[:, :, t]
        reward = np.asarray(task.reward(now, actions[:, t], following), dtype=np.float64)
        if not finite:
            reward = np.where(np.isfinite(following).all(axis=-1), reward, np.nan)
        np.add(total[0], reward, out=total[0], where=live)
        if bonus is not None:
            np.maximum(total[1], bonus.feature(following), out=total[1], where=live)
        live &= ~task.terminated(following)
        now = following
        if not live.any():
            break
    return now


def best_first(returns: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Indices of the `count` largest of [C] returns, best first; fewer where fewer are numbers: NaN ranks last.

    Raises:
        ValueError: If every return is NaN.
    """
    known = int((~np.isnan(returns)).sum())
    if not known:
        raise ValueError(
            "every candidate's prediction left the finite numbers, or its reward did; trust fewer steps, or train the "
            "simulator on data from around this observation"
        )
    return np.argsort(-returns, kind="stable")[: min(count, known)]  # NumPy sorts NaN to the end.
