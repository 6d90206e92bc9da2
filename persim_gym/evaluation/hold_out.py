"""What is kept from a training to measure it on: the end of every trajectory, and whole agents."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from persim_gym.simulator.diagnostics.open_loop import Windows, cut_windows
from persim_gym.transitions import Transitions

LATER_SHARE = 0.2
"""Of every trajectory that is trained on, the last transitions are held out."""
AGENTS_SHARE = 0.1
"""So many agents are held out whole."""
FIRST_SHARE = 0.2
"""Of a held-out agent's log, the first transitions tell its factors; the others are predicted."""
MIN_AGENTS = 10
"""Of fewer agents none is held out."""
MIN_WINDOWS = 20
"""An error is told where so many rollouts reach its horizon, of half of the agents."""
MAX_WINDOWS = 1000
"""Rollouts that errors are measured on."""
MAX_STEPS = 128
"""Longest horizon."""


@dataclass(frozen=True)
class DataParts:
    """Logged data in parts.

    Attributes:
        kept: What is trained on.
        later: Ends of trajectories of the agents that are trained on; None where there are too few.
        strangers: First transitions of the agents that are held out; None where no agent is.
        strangers_later: Their other transitions.
        said: What was not possible, one line each.
    """

    kept: Transitions
    later: Transitions | None
    strangers: Transitions | None
    strangers_later: Transitions | None
    said: list[str]


def hold_out(data: Transitions, seed: int, agents: bool = True) -> DataParts:
    """Parts data into what is trained on and what is kept from it.

    Args:
        data: Logged data in memory.
        seed: Chooses the agents.
        agents: Whether agents are held out; only a factored model can be told of them.
    """
    said, present = list[str](), np.unique(data.agent)
    count = round(AGENTS_SHARE * len(present)) if agents and len(present) >= MIN_AGENTS else 0
    chosen = np.sort(np.random.default_rng([seed, 22]).choice(present, count, replace=False))
    stranger = np.isin(data.agent, chosen)
    first = stranger & (_place(data.agent) < np.ceil(FIRST_SHARE * _size(data.agent)))
    place, size = _place(data.trajectory), _size(data.trajectory)
    late = ~stranger & (place >= size - np.floor(LATER_SHARE * size))
    if agents and not count:
        said.append(f"no agent was held out: of {len(present)} agents none is spared, of {MIN_AGENTS} or more a tenth")
    if late.sum() < MIN_WINDOWS:
        said.append(
            f"no end of a trajectory was held out: a fifth of each is {int(late.sum())} transitions in all, fewer than "
            f"{MIN_WINDOWS}"
        )
        late[:] = False
    if count and (stranger & ~first).sum() < MIN_WINDOWS:
        said.append(f"no agent was held out: their logs are too short, {int(stranger.sum())} transitions in all")
        stranger[:] = False
    kept = ~stranger & ~late
    rest = stranger & ~first
    return DataParts(
        data.select(kept),
        data.select(late) if late.any() else None,
        data.select(first) if stranger.any() else None,
        data.select(rest) if stranger.any() else None,
        said,
    )


def rollouts(data: Transitions, present: int) -> Windows:
    """Pieces of logged runs to predict without correction: from the start of each run, and from rows in between.

    A run is what was logged without a break; where a transition is missing, another run begins.

    Args:
        data: What is predicted.
        present: Columns of observations that are of one time, not remembered.

    Returns:
        At most `MAX_WINDOWS` of at most `MAX_STEPS` steps, in order.
    """
    runs = np.cumsum(~follows(data, present))
    begin = np.flatnonzero(np.diff(runs, prepend=-1))
    if len(begin) > MAX_WINDOWS:
        begin = begin[np.linspace(0, len(begin) - 1, MAX_WINDOWS).astype(np.int64)]
    between = np.setdiff1d(np.arange(len(data)), begin)
    room = min(MAX_WINDOWS - len(begin), len(between))
    spread = between[np.linspace(0, len(between) - 1, room).astype(np.int64)] if room else between[:0]
    starts = np.sort(np.concatenate([begin, spread]))
    longest = int(np.bincount(runs).max())
    return cut_windows(replace(data, trajectory=runs.astype(np.int64)), starts, min(MAX_STEPS, longest))


def follows(data: Transitions, present: int) -> NDArray[np.bool_]:
    """Whether a transition begins where the one before it ended, in the same trajectory, bool [K]; see `rollouts`."""
    same = data.next_obs[:-1, :present] == data.obs[1:, :present]
    joined = same.all(axis=1) & (np.diff(data.trajectory) == 0)
    return np.append(False, joined)


def lengths(windows: Windows) -> NDArray[np.int64]:
    """Logged steps of each window, [B]."""
    there = ~np.isnan(windows.following).all(axis=2)  # [B, T]
    steps = np.arange(1, there.shape[1] + 1)
    last: NDArray[np.int64] = np.where(there, steps, 0).max(axis=1)
    return last


def horizons(windows: Windows) -> list[int]:
    """Powers of two that enough of the windows reach, of at least half of the agents; always 1."""
    reached, steps, agents = lengths(windows), [1], len(np.unique(windows.agent))
    while (step := 2 * steps[-1]) <= windows.actions.shape[1]:
        far = reached >= step
        if far.sum() < MIN_WINDOWS or 2 * len(np.unique(windows.agent[far])) < agents:
            break
        steps.append(step)
    return steps


def _place(group: NDArray[np.int64]) -> NDArray[np.int64]:
    """Place of each row among those of its group, in the order in which they stand, [K]."""
    order = np.argsort(group, kind="stable")
    ordered = group[order]
    first = np.searchsorted(ordered, ordered)
    place = np.empty(len(group), dtype=np.int64)
    place[order] = np.arange(len(group)) - first
    return place


def _size(group: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows of the group of each row, [K]."""
    _, inverse, count = np.unique(group, return_inverse=True, return_counts=True)
    size: NDArray[np.int64] = count[inverse]
    return size
