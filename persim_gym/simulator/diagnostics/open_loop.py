"""Open-loop rollouts along pieces of logged trajectories: errors, and what the ensemble and the beliefs do not know."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persim_gym.simulator.diagnostics.nearest_residuals import NearestResiduals
from persim_gym.simulator.dynamics.batch import BatchDynamics
from persim_gym.simulator.inference.posterior import FactorPosterior
from persim_gym.simulator.model.ensemble import FactoredEnsemble
from persim_gym.simulator.model.walls import stop, walls_of
from persim_gym.transitions import Transitions


@dataclass(frozen=True)
class Windows:
    """Pieces of logged trajectories, of at most T steps.

    Attributes:
        agent: [B].
        obs: Where they start, [B, D].
        actions: [B, T] or [B, T, A]; repeats of the last one behind the end.
        following: Logged next observations, [B, T, D]; NaN behind the end, and where a value is not known.
    """

    agent: NDArray[np.int64]
    obs: NDArray[np.float32]
    actions: NDArray[Any]
    following: NDArray[np.float32]

    @property
    def logged(self) -> NDArray[np.bool_]:
        """Whether a step was logged, or a later one, [B, T]."""
        known = np.asarray(~np.isnan(self.following).all(axis=2))
        logged: NDArray[np.bool_] = np.maximum.accumulate(known[:, ::-1], axis=1)[:, ::-1]
        return logged


def cut_windows(transitions: Transitions, starts: NDArray[np.int64], steps: int) -> Windows:
    """Cuts windows out of trajectories.

    Args:
        transitions: Logged data.
        starts: Row that each window starts at, [B].
        steps: Longest window T.
    """
    # The last row of each piece of consecutive steps.
    ends = np.append(np.flatnonzero(np.diff(transitions.pieces)), len(transitions) - 1)
    last = ends[np.searchsorted(ends, starts)]
    rows = np.minimum(starts[:, None] + np.arange(steps), last[:, None])  # [B, T]
    inside = starts[:, None] + np.arange(steps) <= last[:, None]
    following = np.where(inside[..., None], transitions.next_obs[rows], np.float32(np.nan))
    return Windows(transitions.agent[starts], transitions.obs[starts], transitions.action[rows], following)


def open_loop(
    model: FactoredEnsemble,
    beliefs: FactorPosterior,
    windows: Windows,
    seed: int = 0,
    logged: NearestResiduals | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rolls every member out along the windows' actions, with its factor and with a draw of its belief.

    The squared spread is the variance over members plus their mean squared distance to the rollout of their draw: what
    the ensemble does not know of the dynamics, and what it does not know of the agent. Each step of a draw's rollout
    can be set off by the residual of a logged transition close by, each member's of another one: what all members get
    wrong alike then spreads as the dynamics have it.

    Args:
        model: The ensemble.
        beliefs: Of its agents' factors.
        windows: Starts and actions; of B agents that may repeat.
        seed: Of the draws.
        logged: Residuals to set draws off by; None for draws that predictions alone move.

    Returns:
        Errors of the members' mean, over those dimensions that were logged, and spreads, each [B, T]; errors are NaN
        where none was.
    """
    rng, agents = np.random.default_rng(seed), windows.agent.tolist()
    settled, drawn = BatchDynamics(model, agents), BatchDynamics(model, agents, apart=True)
    for row, agent in enumerate(agents):
        drawn.rebind(row, beliefs.sample(agent, rng).float())
    scale, size = model.logged_std.numpy(), model.config.obs_dim
    learned, held = model.config.learned_dim, model.config.held
    now = other = np.repeat(windows.obs[None], model.config.members, axis=0)
    errors, spreads = [], []
    low, high, walls = model.obs_low[:learned].numpy(), model.obs_high[:learned].numpy(), walls_of(model.walls)
    for t in range(windows.actions.shape[1]):
        action = np.ascontiguousarray(windows.actions[:, t])
        mean = now[..., :size].mean(axis=0, dtype=np.float64)
        now, other = settled(now, action), drawn(other, action)  # [M, B, D]
        if logged is not None:
            moved = np.clip(other[..., :learned] + logged(mean, action), low, high)
            stop(walls, moved)
            other = np.concatenate([moved, other[..., learned:size]], axis=-1)
        if held:  # What comes from outside was logged too.
            for rows in (now, other):
                rows[..., held] = windows.following[:, t, held]
        with np.errstate(invalid="ignore", over="ignore"):
            apart = (now[..., :learned].mean(axis=0, dtype=np.float64) - windows.following[:, t, :learned]) / scale
            known = ~np.isnan(windows.following[:, t, :learned])
            errors.append(np.sqrt(np.square(np.where(known, apart, 0.0)).sum(axis=1) / known.sum(axis=1)))
            unknown = np.square((other[..., :learned] - now[..., :learned]) / scale).mean(axis=(0, 2), dtype=np.float64)
            spreads.append(np.sqrt(np.square(settled.disagreement(now)) + unknown))
    error, spread = np.stack(errors, axis=1), np.stack(spreads, axis=1)
    seen = ~np.isnan(windows.following[..., :learned]).all(axis=2)
    error = np.where(seen & ~np.isfinite(error), np.inf, error)
    return error, np.where(np.isfinite(spread), spread, np.inf)
