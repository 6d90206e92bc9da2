"""How surprising a transition is to what is believed of its agent, beside the errors on logged transitions.

The *error* of a transition is the root mean square, over the observations that say something, of the difference between
what happened and the mean of the members' predictions, in standard deviations of what the belief expects: one-step
residuals on logged data, and what is not known of the agent's factor. Its *rarity* is how few logged transitions had as large an error, in powers of ten: 1 for one in ten, 3 for one in a
thousand. The *surprise* is a running sum of rarities less `ALLOWANCE` each, which never falls below zero: usual
transitions take it down, a few rare ones in a row take it up (a CUSUM). An alarm is a surprise past a `limit`, which is
set on logged agents so that false alarms are as seldom as was asked for.

Source: CUSUM, Page 1954; a limit from exchangeable examples by rank, split conformal prediction, Vovk et al. 2005.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from persim_gym.simulator.inference.posterior import FactorPosterior
from persim_gym.simulator.inference.regression import FEATURE_ROWS, features, gather_statistics, targets
from persim_gym.simulator.model.ensemble import FactoredEnsemble
from persim_gym.transitions import Transitions

ALLOWANCE = 1.0
"""Rarity that a transition may have without adding to the surprise: nine in ten logged ones stay below."""
STRETCH_ALARMS = 0.1
"""Share of logged stretches that may have an alarm, at most: stretches are short enough that few would have a second."""
CALIBRATION_AGENTS = 400
_GRID = 0.05  # Rarities between those whose errors are kept.


@torch.no_grad()
def transition_errors(
    model: FactoredEnsemble,
    beliefs: FactorPosterior,
    agent: Tensor,
    obs: Tensor,
    action: Tensor,
    next_obs: Tensor,
) -> NDArray[np.float64]:
    """Errors of K transitions as this module defines them.

    Args:
        model: The ensemble, on the CPU.
        beliefs: Of N agents.
        agent: Numbers of the agents in there, int64 [K].
        obs: Observations before the action, [K, D].
        action: int64 [K] or float32 [K, A].
        next_obs: What followed, [K, D].

    Returns:
        [K]; NaN where the transition says nothing of its agent (all of it was set by bounds or walls), infinite where
        it is not finite.
    """
    d = model.config.learned_dim
    finite = torch.stack([x.isfinite().flatten(1).all(1) for x in (obs, action.reshape(len(obs), -1), next_obs)]).all(0)
    f = features(model, obs, action)[:, :, :d]  # [M, K, L, R]
    change, known = (x[:, :d] for x in targets(model, obs, next_obs, next_obs.new_empty(len(obs), 0), beliefs.prior.clips))
    predicted = (f @ beliefs.mean[:, agent, :, None])[..., 0].mean(0)  # [K, L]
    different, which = agent.unique(return_inverse=True)
    spread = torch.stack([beliefs.covariance(int(one)) for one in different], dim=1)[:, which]  # [M, K, R, R]
    variance = (beliefs.prior.noise[:, None, :d] + ((f @ spread) * f).sum(-1)).mean(0)  # [K, L]
    squared = torch.where(known, (predicted - change).square() / variance, 0.0).sum(1) / known.sum(1)
    return torch.where(finite, squared.sqrt(), torch.inf).numpy()


@dataclass(frozen=True)
class SurpriseBand:
    """What surprise is usual, measured on logged agents.

    Attributes:
        errors: Errors that logged transitions passed with rarity 0, `_GRID`, 2 `_GRID`, …, ascending.
        limit: Surprise past which there is an alarm.
        false_alarms: Alarms in 1,000 steps of an agent that has not changed that the limit allows, on average.
        agents: Number of agents that it was measured on.
    """

    errors: tuple[float, ...]
    limit: float
    false_alarms: float
    agents: int

    def after(self, surprise: float, error: float) -> float:
        """The surprise after one more transition: infinite where it was not finite, the same where it said nothing."""
        return float(_cusum(np.array([[error]]), self.errors, surprise)[0, 0])


def measure_band(
    model: FactoredEnsemble,
    beliefs: FactorPosterior,
    transitions: Transitions,
    *,
    false_alarms: float = 1.0,
    seed: int = 0,
) -> SurpriseBand:
    """Measures which surprise is usual, on the second halves of logged trajectories after their first ones.

    Half of the agents say how rare errors are. Of each other agent one stretch of its second half is drawn; the limit is
    that which all but so many of these stay below that a new stretch of such an agent, under the logging policy, has an
    alarm with at most the stated probability. Its beliefs are those of the first half and learn no further.

    Args:
        model: The ensemble, on the CPU.
        beliefs: Of its agents; only what was known before any agent plays a part.
        transitions: Of agents that need not be the model's, with whole observations.
        false_alarms: Alarms allowed in 1,000 steps of an agent that has not changed.
        seed: Chooses agents and stretches.

    Raises:
        ValueError: If the rate is impossible, or the logged agents are too few for it.
    """
    if not 0 < false_alarms <= 100:
        raise ValueError(f"{false_alarms} false alarms in 1,000 steps cannot be promised; ask for more than 0, at most 100")
    rng, per_step = np.random.default_rng(seed), false_alarms / 1000
    count = np.bincount(transitions.agent)
    chosen = rng.permutation(np.flatnonzero(count >= 2))[:CALIBRATION_AGENTS]
    data = transitions.select(np.isin(transitions.agent, chosen))
    early = _rank_within(data.agent) < count[data.agent] // 2
    known = FactorPosterior(beliefs.prior, gather_statistics(model, beliefs.prior.noise, data.select(early), beliefs.prior.clips))
    late = data.select(~early)
    errors = _errors_of(model, known, late)
    scale, judged = np.split(chosen, [len(chosen) // 2])
    usual = errors[np.isin(late.agent, scale) & ~np.isnan(errors)]
    longest = max(int(STRETCH_ALARMS / per_step), 1)
    stretches = np.full((len(judged), longest), np.nan)
    lengths = np.empty(len(judged))
    for row, agent in enumerate(judged):
        own = errors[late.agent == agent]
        begin = int(rng.integers(max(len(own) - longest, 0) + 1))
        lengths[row] = len(piece := own[begin : begin + longest])
        stretches[row, : len(piece)] = piece
    allowed = per_step * lengths.mean() if len(judged) else 0.0
    rank = math.ceil((len(judged) + 1) * (1 - allowed))
    if rank > len(judged) or not len(usual):
        raise ValueError(
            f"{len(chosen)} logged agents with {int(count[chosen].sum()):,} steps are too few to promise {false_alarms:g} "
            "false alarms in 1,000 steps; allow more of them, or log more agents"
        )
    grid = np.arange(0.0, math.log10(len(usual)) + _GRID, _GRID)
    table = tuple(float(f"{e:.6g}") for e in np.quantile(usual, 1 - np.minimum(10.0**-grid, 1.0)))
    highest = np.sort(_cusum(stretches, table).max(axis=1))
    return SurpriseBand(table, float(highest[rank - 1]), false_alarms, len(chosen))


def _rank_within(agent: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many earlier rows are of the same agent, [K]."""
    order = np.argsort(agent, kind="stable")
    begin = np.searchsorted(agent[order], agent)
    rank = np.empty_like(agent)
    rank[order] = np.arange(len(agent))
    result: NDArray[np.int64] = rank - begin
    return result


def _errors_of(model: FactoredEnsemble, beliefs: FactorPosterior, data: Transitions) -> NDArray[np.float64]:
    """Errors of logged transitions, [K]."""
    columns = [torch.from_numpy(np.ascontiguousarray(c)) for c in (data.agent, data.obs, data.action, data.next_obs)]
    parts = zip(*(column.split(FEATURE_ROWS) for column in columns), strict=True)
    return np.concatenate([transition_errors(model, beliefs, *part) for part in parts])


def _cusum(errors: NDArray[np.float64], table: tuple[float, ...], start: float = 0.0) -> NDArray[np.float64]:
    """Surprises along rows of errors, [B, T]."""
    rarity = np.interp(np.nan_to_num(errors, nan=0.0, posinf=0.0), table, _GRID * np.arange(len(table)))
    steps = np.where(np.isnan(errors), 0.0, np.where(np.isinf(errors), np.inf, rarity - ALLOWANCE))
    now, result = np.full(len(errors), start), np.empty_like(steps)
    for t, step in enumerate(steps.T):
        now = result[:, t] = np.maximum(now + step, 0.0)
    return result
