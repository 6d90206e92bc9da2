"""Returns of candidate action sequences: the hot path of every planner."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from persim_gym.task import Dynamics, PeakBonus, Task

TILE = 1024  # candidates rolled out together; larger tiles fall out of a core's cache
COMPACT_BELOW = 0.8  # share of running candidates under which finished ones are dropped


def rollout_returns(
    dynamics: Dynamics,
    task: Task,
    obs: NDArray[Any],
    actions: NDArray[Any],
    members: int,
    bonus: PeakBonus | None = None,
) -> NDArray[np.float64]:
    """Mean return over ensemble members of each candidate action sequence.

    Each member rolls out its own trajectory; the terminating transition's reward counts, rewards after it do not.

    Args:
        dynamics: Model bound to one agent; maps ([M, C, D], [C, ...]) to [M, C, D].
        task: Known reward and termination.
        obs: Current observation, [D], in the units of the domain's table.
        actions: Candidate sequences, [C, H] (discrete) or [C, H, A].
        members: Ensemble size M; 1 for the true environment.
        bonus: Planning objective added to the return.

    Returns:
        Undiscounted return of each candidate, [C]; NaN where a prediction was not finite.

    Raises:
        ValueError: If `obs` is not one-dimensional.

    Source: thesis section 4.2.2, r^(i).
    """
    if obs.ndim != 1:
        raise ValueError(f"obs must be one observation, [D], got shape {obs.shape}; plan for one at a time")
    tiles = [
        _tile_returns(dynamics, task, obs, actions[i : i + TILE], members, bonus) for i in range(0, len(actions), TILE)
    ]
    return np.concatenate(tiles)


def _tile_returns(
    dynamics: Dynamics,
    task: Task,
    obs: NDArray[Any],
    actions: NDArray[Any],
    members: int,
    bonus: PeakBonus | None,
) -> NDArray[np.float64]:
    candidates, horizon = actions.shape[:2]
    now = np.broadcast_to(obs, (members, candidates, len(obs)))
    total = np.zeros((members, candidates))
    peak = np.full((members, candidates), -np.inf)
    running = np.arange(candidates)  # candidates that `now`, `live` and `actions` still hold
    live = np.ones((members, candidates), dtype=np.bool_)
    for t in range(horizon):
        action = actions[:, t]
        following = dynamics(now, action)
        reward = np.where(live, task.reward(now, action, following), 0.0)
        reward[live & ~np.isfinite(following).all(axis=-1)] = np.nan
        total[:, running] += reward
        if bonus is not None:
            peak[:, running] = np.maximum(peak[:, running], np.where(live, bonus.feature(following), -np.inf))
        live = live & ~task.terminated(following)
        some = live.any(axis=0)
        if some.mean() < COMPACT_BELOW:  # finished candidates cost nothing more
            if not some.any():
                break
            running, actions, live, following = running[some], actions[some], live[:, some], following[:, some]
        now = following
    if bonus is not None:
        total += bonus.weight * horizon * peak
    mean: NDArray[np.float64] = total.mean(axis=0)
    return mean


def best_candidate(returns: NDArray[np.float64]) -> int:
    """Index of the largest return; NaN ranks last.

    Raises:
        ValueError: If every return is NaN.
    """
    if np.isnan(returns).all():
        raise ValueError(
            "every candidate's prediction left the finite numbers; the simulator cannot be planned in here"
        )
    return int(np.nanargmax(returns))
