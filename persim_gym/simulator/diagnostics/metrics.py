"""What a card tells of a simulator: its error on logged transitions, and what it knows of its agents."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from persim_gym.labels import NO_LABELS
from persim_gym.simulator.dynamics.bind import bind_agent
from persim_gym.simulator.inference.posterior import FactorPosterior
from persim_gym.simulator.model.ensemble import FactoredEnsemble
from persim_gym.transitions import Transitions

SUMMARY_AGENTS = 200
ERROR_EPISODES = 200
PREDICTED_ROWS = 4096  # So many rows are predicted together.
OPEN_LOOP_STEPS = (1, 5, 10, 20, 50)


def logged_error(
    model: FactoredEnsemble,
    logged: Transitions,
    data: str = "training data",
    held_out: Transitions | None = None,
    names: Sequence[str] = (),
) -> dict[str, Any]:
    """Measures the error of the ensemble's mean.

    Args:
        model: The ensemble.
        logged: Whole episodes; at most the first `ERROR_EPISODES` are used.
        data: What the transitions are, for the card.
        held_out: Transitions that it was not trained on, if there are any.
        names: What predicted columns are called, [D + 2]; by default observations have numbers.

    Returns:
        JSON-plain, None for what is not finite: of each of `columns`, `one_step_rmse` in raw units and `one_step_r2` of
        the change (None where nothing changes); `open_loop`, the root mean square over episodes and dimensions of the
        error after each of `steps`, in standard deviations of the logged observations. With `held_out`, under that
        name: the number of its `transitions`, and for each component of the observations the `rmse` one step ahead and
        that of predicting no change, `no_change_rmse`, in raw units.
    """
    logged = logged.select(np.isin(logged.trajectory, np.unique(logged.trajectory)[:ERROR_EPISODES]))
    error, change = one_step(model, logged)
    spread = known_std(change)
    rmse = np.sqrt(known_mean(np.square(error), axis=0))
    size, learned = model.config.obs_dim, model.config.learned_dim
    names = names or NO_LABELS.predicted(size)
    steps, open_loop = _open_loop(model, logged)
    return {
        "data": data,
        "transitions": len(logged),
        "columns": [*names[:learned], *names[size : size + model.config.extra_dim]],
        "one_step_rmse": [_round(x) for x in rmse],
        "one_step_r2": [_round(1 - (r / s) ** 2) if s > 1e-8 else None for r, s in zip(rmse, spread, strict=True)],
        "steps": steps,
        "open_loop": open_loop,
        **({"held_out": _held_out_error(model, held_out)} if held_out is not None else {}),
    }


def _held_out_error(model: FactoredEnsemble, held_out: Transitions) -> dict[str, Any]:
    """Errors one step ahead on transitions that were not trained on, beside those of predicting no change."""
    error, change = one_step(model, held_out)
    squares = (np.square(e, dtype=np.float64)[:, : model.config.learned_dim] for e in (error, change))
    ours, idle = (np.sqrt(known_mean(each, axis=0)) for each in squares)
    return {
        "transitions": len(held_out),
        "rmse": [_round(x) for x in ours],
        "no_change_rmse": [_round(x) for x in idle],
    }


def known_mean(values: NDArray[Any], axis: int | None = None) -> NDArray[np.float64]:
    """Mean of those values that are not NaN; NaN where all are."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):  # 0 / 0
        mean: NDArray[np.float64] = np.where(known, values, 0.0).sum(axis=axis) / known.sum(axis=axis)
    return mean


def known_std(values: NDArray[Any]) -> NDArray[np.float64]:
    """Standard deviation of the known values of each column, [C] of [K, C]; NaN where there are none."""
    wide = values.astype(np.float64)
    return np.sqrt(known_mean(np.square(wide - known_mean(wide, axis=0)), axis=0))


@torch.no_grad()
def one_step(model: FactoredEnsemble, logged: Transitions) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Errors of the members' mean one step ahead, and the logged changes (and reward and end), each [K, L + E].

    Both are NaN where what followed is not known.
    """
    s = model.config
    following = logged.next_obs[:, : s.learned_dim]
    target = np.column_stack([following, logged.reward, logged.terminated])[:, : s.out_dim]
    base = np.zeros_like(target)
    base[:, : s.learned_dim] = logged.obs[:, : s.learned_dim]
    device = model.obs_mean.device
    columns = [torch.from_numpy(values).to(device) for values in (logged.agent, logged.obs, logged.action)]
    predicted = [
        model.predict(*rows).double().mean(dim=0)
        for rows in zip(*(c.split(PREDICTED_ROWS) for c in columns), strict=True)
    ]
    known = [*range(s.learned_dim), *range(s.obs_dim, s.prediction_dim)]  # The others follow exactly.
    return torch.cat(predicted).cpu().numpy()[:, known] - target, target - base


def _open_loop(model: FactoredEnsemble, logged: Transitions) -> tuple[list[int], list[float | None]]:
    """Errors after `OPEN_LOOP_STEPS` steps from the first observation of each episode that is so long.

    Of an episode that lacks steps the longest piece counts.
    """
    first, length = _longest_pieces(logged)
    unit = np.maximum(model.logged_std.cpu().double().numpy(), 1e-6)
    held, learned = model.config.held, model.config.learned_dim
    steps, errors = [], []
    bound = [bind_agent(model, int(agent)) for agent in logged.agent[first]]
    now = [np.broadcast_to(logged.obs[i], (model.config.members, 1, model.config.obs_dim)) for i in first]
    for step in range(1, max(OPEN_LOOP_STEPS) + 1):
        running = np.flatnonzero(length >= step)
        if not len(running):
            break
        for row in running:
            last = first[row] + step - 1
            now[row] = bound[row](now[row], logged.action[last][None])
            if held:
                now[row][..., held] = logged.next_obs[last, held]
        if step in OPEN_LOOP_STEPS:
            following = np.stack([now[row][:, 0, :learned].mean(axis=0) for row in running])
            error = (following - logged.next_obs[first[running] + step - 1, :learned]) / unit
            steps.append(step)
            errors.append(_round(np.sqrt(known_mean(np.square(error.astype(np.float64))))))
    return steps, errors


def _longest_pieces(logged: Transitions) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First row of the longest piece of consecutive steps of each episode, and its length, [E] each."""
    first = np.flatnonzero(np.diff(logged.pieces, prepend=-1))
    length = np.diff(np.append(first, len(logged)))
    episode = np.cumsum(np.diff(logged.trajectory[first], prepend=logged.trajectory[0]) != 0)
    order = np.lexsort((first, -length, episode))
    longest = order[np.flatnonzero(np.diff(episode[order], prepend=-1))]
    return first[longest], length[longest]


def agents_summary(beliefs: FactorPosterior) -> dict[str, Any]:
    """What is known of the agents: least, median and most over at most `SUMMARY_AGENTS` of them, evenly spaced.

    Returns:
        JSON-plain: `agents` looked at, their `transitions_seen`, and the latent `directions_left_open`, to which their
        data say less than the prior.
    """
    some = np.unique(np.linspace(0, beliefs.n_agents - 1, min(SUMMARY_AGENTS, beliefs.n_agents)).astype(np.int64))
    seen = beliefs.statistics.seen.numpy()[some]
    left = [beliefs.undetermined(int(agent)) for agent in some]
    return {
        "agents": len(some),
        "transitions_seen": [int(x) for x in (seen.min(), np.median(seen), seen.max())],
        "directions_left_open": [_round(x) for x in (np.min(left), np.median(left), np.max(left))],
    }


def _round(value: Any) -> float | None:
    """Five digits: a card is read by people. None where it is not finite, which JSON cannot say."""
    return float(f"{float(value):.5g}") if np.isfinite(value) else None
