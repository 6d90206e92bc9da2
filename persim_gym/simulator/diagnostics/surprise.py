"""How surprising a transition is to what is believed of its agent, beside the errors on logged transitions.

The *error* of a transition is the root mean square, over the observations that say something, of the difference between
what happened and the mean of the members' predictions, in standard deviations of what the belief expects: one-step
residuals on logged data, what is not known of the agent's factor, and how far the members disagree, which they do where
nothing was logged. Its *rarity* is how few logged transitions had as large an error, in powers of ten: 1 for one in
ten, 3 for one in a thousand. The *surprise* is a running sum of rarities less `ALLOWANCE` each, which never falls below
zero: usual transitions take it down, a few rare ones in a row take it up (a CUSUM). An alarm is a surprise past a
`limit`, which is set on logged agents so that false alarms are as seldom as was asked for.

Source: CUSUM, Page 1954; a limit from exchangeable examples by rank, split conformal prediction, Vovk et al. 2005.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from persim_gym.simulator.inference.posterior import FactorPosterior, FactorPrior
from persim_gym.simulator.inference.regression import FEATURE_ROWS, features, targets, transition_statistics
from persim_gym.simulator.inference.sufficient_statistics import SufficientStatistics
from persim_gym.simulator.model.ensemble import FactoredEnsemble
from persim_gym.storage import from_plain
from persim_gym.transitions import Transitions

ALLOWANCE = 1.0
"""Rarity that a transition may have without adding to the surprise: nine in ten logged ones are below."""
EXPECTED = 3.0
"""Errors below never add to it, however rare they were under the logging policy: another one goes to other places."""
STRETCH_ALARMS = 0.1
"""Alarms that are allowed in a stretch of logged transitions, at most: stretches are as long as this makes them."""
ALARM_PAUSE = 20
"""Steps after an alarm in which there is no other one, as long as a guard's fallback acts at least."""
_CANDIDATES = 400  # Limits that are tried.
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
    change, known = (
        x[:, :d] for x in targets(model, obs, next_obs, next_obs.new_empty(len(obs), 0), beliefs.prior.clips)
    )
    each = (f @ beliefs.mean[:, agent, :, None])[..., 0]  # [M, K, L]
    different, which = np.unique(agent.numpy(), return_inverse=True)
    spread = torch.stack([beliefs.covariance(int(one)) for one in different], dim=1)[:, which]  # [M, K, R, R]
    own = beliefs.prior.noise[:, None, :d] + ((f @ spread) * f).sum(-1)  # [M, K, L]
    variance = own.mean(0) + each.var(0, unbiased=False)  # [K, L]
    predicted = each.mean(0)  # [K, L]
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

    def to_json(self) -> dict[str, Any]:
        """Plain values, for a file."""
        return asdict(self) | {"errors": list(self.errors)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "SurpriseBand":
        """Reads what `to_json` made.

        Raises:
            ValueError: If it is something else.
        """
        return from_plain(cls, stored)

    def after(self, surprise: float, error: float) -> float:
        """The surprise after one more transition: infinite where it was not finite, the same where it said nothing."""
        return max(0.0, surprise + float(_steps(np.array([error]), self.errors)[0]))


def measure_band(
    model: FactoredEnsemble,
    beliefs: FactorPosterior,
    transitions: Transitions,
    *,
    false_alarms: float = 1.0,
    seed: int = 0,
) -> SurpriseBand:
    """Measures which surprise is usual on logged trajectories.

    Of each agent one stretch of the second half of its transitions is drawn; what is believed of the agent is learned
    from all that was before, and step by step along it. The limit is the lowest one with so few alarms in all stretches
    and one more that their rate is the one that is asked for: that of a new agent of the population under the logging
    policy. It is never so low that a single transition passes it.

    Args:
        model: The ensemble, on the CPU.
        beliefs: Of its agents; only what was known before any agent plays a part.
        transitions: What the model was not trained on, of agents that need not be its own, with whole observations.
        false_alarms: Alarms allowed in 1,000 steps of an agent that has not changed.
        seed: Draws the stretches.

    Raises:
        ValueError: If the rate is impossible, or the agents are too few for it.
    """
    stretches, allowed = draw_stretches(transitions, false_alarms, seed)
    errors = _errors_along(model, beliefs.prior, transitions, stretches)
    usual = errors[~np.isnan(errors)]
    grid = np.arange(0.0, math.log10(max(len(usual), 1)) + _GRID, _GRID)
    quantiles = np.quantile(usual, 1 - np.minimum(10.0**-grid, 1.0))
    table = tuple(float(f"{e:.6g}") for e in quantiles)
    rarest = float(_steps(np.array([max(table[-1], EXPECTED) + 1.0]), table)[0])
    limit = max(_lowest_limit(_steps(errors, table), allowed), rarest)
    return SurpriseBand(table, limit, false_alarms, len(stretches))


def draw_stretches(transitions: Transitions, false_alarms: float, seed: int = 0) -> tuple[list[NDArray[np.int64]], int]:
    """One stretch of the second half of each agent's transitions, and how many alarms they may have.

    Args:
        transitions: Of agents with two transitions or more; others do not count.
        false_alarms: Alarms allowed in 1,000 steps.
        seed: Draws them.

    Returns:
        Rows of each stretch, and the number of alarms in all of them.

    Raises:
        ValueError: As `measure_band`.
    """
    if not 0 < false_alarms <= 100:
        raise ValueError(f"{false_alarms} false alarms in 1,000 steps cannot be kept; take more than 0, at most 100")
    rng, per_step = np.random.default_rng(seed), false_alarms / 1000
    longest, stretches = max(int(STRETCH_ALARMS / per_step), 1), []
    for own in _rows_by_agent(transitions):
        late = own[len(own) // 2 :]
        begin = int(rng.integers(max(len(late) - longest, 0) + 1))
        stretches.append(late[begin : begin + longest])
    steps = sum(map(len, stretches))
    # Together with one alarm in one more stretch these are at the rate.
    allowed = per_step * steps * (len(stretches) + 1) / max(len(stretches), 1) - 1
    if allowed < 0:
        raise ValueError(
            f"{len(stretches)} agents with {steps:,} steps to look at are too few to promise {false_alarms:g} false "
            "alarms in 1,000 steps; allow more of them, or take more agents"
        )
    return stretches, int(allowed)


def _rows_by_agent(transitions: Transitions) -> list[NDArray[np.int64]]:
    """Rows of each agent with at least two, in order."""
    order = np.argsort(transitions.agent, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(transitions.agent[order])) + 1)
    return [part for part in parts if len(part) > 1]


@torch.no_grad()
def _errors_along(
    model: FactoredEnsemble, prior: FactorPrior, data: Transitions, stretches: list[NDArray[np.int64]]
) -> NDArray[np.float64]:
    """Errors along one stretch an agent, [n, T], whose beliefs learn from all that was before, step by step."""
    obs, action, next_obs = (torch.from_numpy(column) for column in (data.obs, data.action, data.next_obs))

    def learned(rows: NDArray[np.int64], of: Tensor) -> SufficientStatistics:
        """What some rows, [k], say of the agents [k], which are numbered as the stretches."""
        unknown = obs.new_full((len(rows), model.config.extra_dim), torch.nan)
        parts = (obs[rows], action[rows], next_obs[rows], unknown)
        information, vector = transition_statistics(model, prior.noise, prior.clips, *parts)
        total = SufficientStatistics.none(model.config.members, len(stretches), model.config.rank)
        total.information.index_add_(1, of, information)
        total.vector.index_add_(1, of, vector)
        total.seen.index_add_(0, of, torch.ones_like(of))
        return total

    known = SufficientStatistics.none(model.config.members, len(stretches), model.config.rank)
    for number, stretch in enumerate(stretches):
        before = np.flatnonzero(data.agent[: stretch[0]] == data.agent[stretch[0]])
        for rows in np.array_split(before, len(before) // FEATURE_ROWS + 1):
            known = known + learned(rows, torch.full((len(rows),), number))
    errors = np.full((len(stretches), max(map(len, stretches))), np.nan)
    for t in range(errors.shape[1]):
        live = np.array([number for number, stretch in enumerate(stretches) if len(stretch) > t])
        rows, of = np.array([stretches[number][t] for number in live]), torch.from_numpy(live)
        beliefs = FactorPosterior(prior, known)
        errors[live, t] = transition_errors(model, beliefs, of, obs[rows], action[rows], next_obs[rows])
        known = known + learned(rows, of)
    return errors


def _steps(errors: NDArray[np.float64], table: tuple[float, ...]) -> NDArray[np.float64]:
    """What transitions with errors add to the surprise."""
    rarity = np.interp(np.nan_to_num(errors, nan=0.0, posinf=0.0), table, _GRID * np.arange(len(table)))
    steps = np.where(errors > EXPECTED, rarity - ALLOWANCE, np.minimum(rarity - ALLOWANCE, 0.0))
    return np.where(np.isnan(errors), 0.0, np.where(np.isinf(errors), np.inf, steps))


def _lowest_limit(steps: NDArray[np.float64], allowed: int) -> float:
    """The lowest of limits that, and all above which, have at most so many alarms along rows of steps, [n, T].

    After an alarm the surprise begins anew, `ALARM_PAUSE` steps later.
    """
    candidates = np.unique(np.quantile(_alarms(steps, np.inf)[1], np.linspace(0.0, 1.0, _CANDIDATES)))
    counts = np.array([_alarms(steps, limit)[0] for limit in candidates])
    highest_bad = np.flatnonzero(counts > allowed)
    return float(candidates[highest_bad[-1] + 1 if len(highest_bad) else 0])


def _alarms(steps: NDArray[np.float64], limit: float) -> tuple[int, NDArray[np.float64]]:
    """Number of alarms along rows of steps, [n, T], and the highest surprise of each row, [n]."""
    now, pause, highest, count = (np.zeros(len(steps)) for _ in range(4))
    for step in steps.T:
        pause = np.maximum(pause - 1, 0)
        now = np.where(pause > 0, 0.0, np.maximum(now + step, 0.0))
        highest = np.maximum(highest, now)
        alarm = now > limit
        now[alarm], pause[alarm] = 0.0, ALARM_PAUSE
        count += alarm
    return int(count.sum()), highest
